"""Paper B's transformer: ids that tell all contexts apart, a table that reads them exactly, certificates that hold."""

import dataclasses
import itertools
import math

import pytest
import torch

from helpers.compiler_attack import attack
from helpers.compiler_cases import random_inputs, reference_layers, small
from helpers.separations import possible_log10
from helpers.tolerances import assert_close
from promptreach import reference
from promptreach.certificate import Certificate, Evidence, Side
from promptreach.compiler import PlanTooLargeError, build_backbone, load_backbone, plan_backbone
from promptreach.compiler.gallery import gallery_function, random_function
from promptreach.compiler.verify import measure
from promptreach.errors import InputError
from promptreach.prompt import SoftPrompt

NAME = "single_layer"


CASES = [(1, 1, 0.1, {}), (1, 1, 0.1, {"form": "narrow"}), (1, 1, 0.1, {"rank": 3}), (1, 1, 0.25, {"rank": 2})]


TWO = [(1, 2, 0.42, {"rank": 2}), (2, 1, 0.42, {"form": "narrow"}), (1, 2, 0.35, {})]


@pytest.mark.parametrize(("dim", "tokens", "tol", "options"), CASES + TWO)
def test_measured_is_below_certified_is_below_tol_for_ten_prompts_of_one_backbone(dim, tokens, tol, options):
    backbone = small(dim, tokens, tol, NAME, **options)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    for seed in range(10 if dim * tokens == 1 else 3):
        target = random_function(dim, tokens, 1.0, seed)
        prompt = backbone.prompt_for(target)
        seen = measure(backbone, prompt, target, 2000, seed=100 + seed)
        assert seen.error.value <= prompt.certificate.value <= tol
        assert seen.largest <= backbone.sup_certificate(prompt).value
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.state_dict().items())


@pytest.mark.parametrize(("dim", "tokens", "tol", "options"), [*CASES, (1, 2, 0.35, {"rank": 2}), (2, 1, 0.35, {})])
def test_every_cell_of_random_functions_is_read_exactly(dim, tokens, tol, options):
    """The output is the codeword's level to the last bit, at a random point of every cell: no id meets a ramp."""
    backbone = small(dim, tokens, tol, NAME, **options)
    codebook = backbone.codebook
    x = ((codebook.corners().double() + 0.5) / codebook.cells).reshape(-1, tokens, dim)
    x = x + 0.9 * (random_inputs(dim, tokens, len(x)) - 0.5) / codebook.cells
    tables = codebook.tables(10**6)
    generator = torch.Generator().manual_seed(0)
    for index in torch.randint(0, len(tables), (15,), generator=generator).tolist():
        prompt = backbone.frame()
        levels = codebook.decode(tables[index])
        prompt[:, backbone.stream.blocks["stored"]] = levels.reshape(-1, dim)
        found = backbone(x, SoftPrompt(prompt)).flatten(1)
        expected = (tables[index].double() + 0.5) * torch.tensor(1 / codebook.levels, dtype=torch.float64)
        assert torch.equal(found, expected)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_weights_have_the_rank_asked_for_and_ids_the_separation_proved(rank):
    backbone = small(1, 2, 0.42, NAME, rank=rank)
    head = next(item for item in backbone.passes if item.name == "context")
    for matrix in (head.query, head.key, head.value):
        assert int(torch.linalg.matrix_rank(matrix)) == rank
    found = backbone.measured_separation()
    assert backbone.map.separation <= found.least
    assert found.apart_log10 <= possible_log10(found)
    row = next(row for row in backbone.plan.compared if row.what == "separation of ids")
    assert row.paper_log10 < -1000 < -20 < row.achieved_log10 == math.log10(backbone.map.separation)


def test_the_ids_in_float64_are_those_computed_exactly():
    """All contexts of a small backbone through the real passes, against the exact separation."""
    backbone = small(1, 1, 0.25, NAME, rank=2)
    codebook = backbone.codebook
    tables, x = codebook.tables(10**6), (codebook.corners().double().reshape(-1, 1, 1) + 0.5) / codebook.cells
    ids = []
    for table in tables:
        rows = backbone.frame()
        rows[:, backbone.stream.blocks["stored"]] = codebook.decode(table).reshape(-1, 1)
        content, rows = backbone.embed(x), rows[None]
        for item in list(backbone.passes)[:2]:
            content, rows = item(content), item(rows)
        content, _ = backbone.passes[2](content, rows)
        ids += content[..., backbone.stream.blocks["token"]].flatten().tolist()
    found = backbone.measured_separation()
    assert len(ids) == found.count
    assert min(b - a for a, b in itertools.pairwise(sorted(ids))) == pytest.approx(10**found.apart_log10, rel=1e-9)


@pytest.mark.parametrize("options", [{}, {"form": "narrow"}, {"rank": 3}])
def test_all_passes_agree_with_the_plain_loops_of_the_reference(options):
    backbone = small(1, 2, 0.45, NAME, **options)
    prompt = backbone.prompt_for(gallery_function("ridge", 1, 2, 1.0))
    layers = reference_layers(backbone)
    for x in random_inputs(1, 2, 4):
        states = reference.transformer(layers, backbone.embed(x[None])[0], prompt)
        assert_close(backbone(x[None], prompt)[0], states @ backbone.readout.T, "layer output")


@pytest.mark.parametrize(("dim", "tokens", "tol"), [(1, 1, 0.1), (1, 2, 0.42), (2, 1, 0.42)])
def test_climbs_never_exceed_the_sup_certificate(dim, tokens, tol):
    backbone = small(dim, tokens, tol, NAME)
    for seed in range(3):
        target = random_function(dim, tokens, 1.0, seed)
        prompt = backbone.prompt_for(target)
        worst, _ = attack(backbone, prompt, target, starts=40, rounds=20, seed=seed)
        assert 0 < worst <= backbone.sup_certificate(prompt).value


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_both_certificates_are_proved_survive_a_file_and_are_confirmed(dtype):
    backbone = small(1, 1, 0.25, NAME, dtype=dtype, rank=2)
    prompt = backbone.prompt_for(gallery_function("reverse", 1, 1, 1.0))
    assert measure(backbone, prompt, gallery_function("reverse", 1, 1, 1.0), 2000).holds
    for certificate in (prompt.certificate, backbone.sup_certificate(prompt)):
        assert (certificate.side, certificate.evidence) == (Side.UPPER, Evidence.PROVED)
        assert Certificate.from_dict(certificate.to_dict()).recheck()
        assert not dataclasses.replace(certificate, value=0.8 * certificate.value).recheck()
    for key, value in (("weights", "0" * 64), ("separation", 0.5)):
        witness = {**prompt.certificate.witness, key: value}
        assert not dataclasses.replace(prompt.certificate, witness=witness).recheck()


def test_a_backbone_survives_a_file(tmp_path):
    backbone = small(1, 1, 0.25, NAME, rank=2, form="narrow")
    prompt = backbone.prompt_for(gallery_function("reverse", 1, 1, 1.0))
    backbone.save(tmp_path / "single.safetensors")
    x = random_inputs(1, 1, 20)
    assert torch.equal(load_backbone(tmp_path / "single.safetensors")(x, prompt), backbone(x, prompt))


def test_what_does_not_fit_is_refused_with_a_tol_that_does():
    for dim, tokens, tol in ((1, 1, 0.02), (1, 2, 0.1), (1, 1, 1e-12)):
        with pytest.raises(PlanTooLargeError, match="entries") as error:
            plan_backbone(dim, tokens, 1.0, tol, NAME)
        assert plan_backbone(dim, tokens, 1.0, error.value.nearest_tol, NAME).bound <= error.value.nearest_tol
    with pytest.raises(InputError, match="float32"):
        plan_backbone(1, 1, 1.0, 0.1, NAME, dtype=torch.float32)


def test_every_bad_option_is_named():
    with pytest.raises(InputError) as error:
        plan_backbone(1, 1, 1.0, 0.3, NAME, rank=0, form="deep")
    assert [fault.where for fault in error.value.faults] == ["rank", "form"]
    for rank in (65, 1.5, True):
        with pytest.raises(InputError, match="rank"):
            plan_backbone(1, 1, 1.0, 0.3, NAME, rank=rank)


def test_changed_prompts_and_weights_get_no_certificate():
    backbone = build_backbone(1, 1, 1.0, 0.25, NAME)
    prompt = backbone.prompt_for(gallery_function("reverse", 1, 1, 1.0))
    for block, value in (("score", 0.3), ("stored", 0.4), ("stored", 1.5)):
        rows = prompt.embeddings.clone()
        rows[0, backbone.stream.blocks[block]] = value
        with pytest.raises(InputError, match="prompt"):
            backbone.sup_certificate(SoftPrompt(rows))
    rows = backbone.frame()
    rows[:, backbone.stream.blocks["stored"]] = torch.tensor([[0.5], [2.5]], dtype=torch.float64) / 3
    flat = build_backbone(1, 1, 0.2, 0.25, NAME)
    assert (backbone.plan.slots, backbone.codebook.levels) == (2, 3)
    assert flat.codebook.faults(torch.tensor([[0], [0]] if flat.plan.slots == 2 else [[0]]), "f") == []
    backbone.sup_certificate(SoftPrompt(rows))
    steep = dataclasses.replace(backbone.codebook, lipschitz=0.2).faults(torch.tensor([[0], [2]]), "f")
    assert "Lipschitz" in str(steep[0])
    with torch.no_grad():
        backbone.passes[2].key[0, 0] += 1
    with pytest.raises(InputError, match="weights"):
        backbone.prompt_for(gallery_function("reverse", 1, 1, 1.0))
