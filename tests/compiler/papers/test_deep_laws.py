"""Paper A's transformer: whole numbers all the way, so the module must agree with fractions exactly."""

import dataclasses
import itertools
from fractions import Fraction

import pytest
import torch

from helpers.compiler_attack import attack
from helpers.compiler_cases import attention_weights, random_inputs, small
from helpers.exact_deep import exact_output
from promptreach import reference
from promptreach.certificate import Certificate, Evidence, Side
from promptreach.compiler import PlanTooLargeError, build_backbone, load_backbone, plan_backbone
from promptreach.compiler.gallery import gallery_function, random_function
from promptreach.compiler.papers.codebook import Codebook
from promptreach.compiler.papers.deep import HardmaxHeads, base_of, highest, id_heights, is_exact, lift_of, shifted
from promptreach.compiler.parts.blocks import Stream
from promptreach.compiler.verify import measure
from promptreach.errors import InputError
from promptreach.prompt import SoftPrompt

NAME = "deep"
CASES = [(1, 1, 0.1, {}), (1, 1, 0.25, {}), (1, 2, 0.42, {}), (2, 1, 0.42, {"form": "wide"})]


@pytest.mark.parametrize(("dim", "tokens", "tol", "options"), CASES)
def test_measured_is_below_certified_is_below_tol_for_many_prompts_of_one_backbone(dim, tokens, tol, options):
    backbone = small(dim, tokens, tol, NAME, **options)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    for seed in range(10 if dim * tokens == 1 else 3):
        target = random_function(dim, tokens, 1.0, seed)
        prompt = backbone.prompt_for(target)
        seen = measure(backbone, prompt, target, 1000, seed=100 + seed)
        assert seen.error.value <= prompt.certificate.value <= tol
        assert seen.largest <= backbone.sup_certificate(prompt).value
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.state_dict().items())


@pytest.mark.parametrize(("dim", "tokens", "tol", "options"), [*CASES, (1, 2, 0.35, {"form": "wide"})])
def test_the_module_computes_what_fractions_compute(dim, tokens, tol, options):
    """Plain loops over fractions, layer by layer: the same levels exactly, then one product with the rounded 1 / q."""
    backbone = small(dim, tokens, tol, NAME, **options)
    target = random_function(dim, tokens, 1.0, 1)
    prompt, levels = backbone.prompt_for(target), backbone.codebook.levels
    table = backbone.codebook.encode(target.at(backbone.points()))
    for x in random_inputs(dim, tokens, 1 if tol == 0.35 else 3, seed=5):
        exact = exact_output(backbone, [[Fraction(entry) for entry in row] for row in x.tolist()], table)
        whole = [[entry * levels - Fraction(1, 2) for entry in row] for row in exact]
        assert all(entry.denominator == 1 for row in whole for entry in row)
        assert backbone(x[None], prompt)[0].tolist() == [
            [(float(e) + 0.5) * (1 / levels) for e in row] for row in whole
        ]


def test_on_a_ramp_fractions_stay_in_the_cube_and_so_does_the_module():
    backbone = small(1, 1, 0.25, NAME)
    target = gallery_function("reverse", 1, 1, 1.0)
    prompt, table = backbone.prompt_for(target), backbone.codebook.encode(target.at(backbone.points()))
    low, high = backbone.edges()[1:3].tolist()
    for share in (0.1, 0.5, 0.9):
        x = low + share * (high - low)
        assert 0 <= exact_output(backbone, [[Fraction(x)]], table)[0][0] <= 1
        assert 0 <= float(backbone(torch.tensor([[[x]]], dtype=torch.float64), prompt)) <= 1


def test_every_context_ends_where_the_recursion_says_and_nowhere_else():
    """All contexts of a small codebook through all layers, in fractions: different, and as `shifted` has them."""
    codebook = Codebook(1, 2, 1.0, 1, 3, 2.0**-30)
    base, rows = base_of(codebook), codebook.prompt_length + codebook.tokens
    backbone = small(1, 2, 0.5, NAME)
    assert (backbone.codebook.cells, backbone.codebook.levels) == (1, 3)
    seen = set()
    for codes in itertools.product(range(base), repeat=rows):
        states = torch.zeros(1, rows, backbone.stream.size, dtype=torch.float64)
        numbers = torch.tensor([base * row + code for row, code in enumerate(codes)])
        states[0, :, backbone.stream.blocks["token"]] = numbers[:, None].double()
        for item in backbone.passes:
            if isinstance(item, HardmaxHeads) and item.name != "lift":
                states, _ = item(states, None)
        found = states[0, :, backbone.stream.blocks["token"]].flatten().long()
        assert torch.equal(found, shifted(numbers, base + 1))
        assert int(found.max()) <= highest(codebook) < lift_of(codebook)
        seen.add(int(found.max()))
    assert len(seen) == base**rows


@pytest.mark.parametrize("size", [(1, 1, 4, 8), (1, 2, 2, 2), (2, 1, 1, 4)])
def test_ids_are_different_and_whole(size):
    dim, tokens, cells, levels = size
    codebook = Codebook(dim, tokens, 1.0, cells, levels, 2.0**-30)
    assert is_exact(codebook, "float64")
    ids, heights = id_heights(codebook)
    assert int(ids.diff().min()) >= 1
    assert len(ids) == len(heights) == len(codebook.tables(10**6)) * codebook.prompt_length


def test_a_shift_moves_the_rows_at_its_value_and_no_others():
    stream = Stream(token=1)
    heads = HardmaxHeads(
        "shift 3", stream, torch.tensor([2.5, 3.5], dtype=torch.float64), torch.tensor([10.0, -10.0]).double()
    )
    states = torch.tensor([[[3.0], [1.0], [7.0], [3.0], [7.0]]], dtype=torch.float64)
    moved, _ = heads(states.clone(), None)
    assert moved.flatten().tolist() == [63.0, 1.0, 7.0, 63.0, 7.0]
    # Hardmax is the limit of the softmax heads that `attention_weights` writes down.
    soft = states[0] + reference.attend(attention_weights(heads), states[0])
    torch.testing.assert_close(soft, moved[0], rtol=1e-12, atol=1e-12)
    # Rows in front, one copy for all inputs, are read like any others.
    split, front = heads(states[:, 2:].clone(), states[:, :2].clone(), update_prompt=True)
    assert torch.equal(torch.cat([front, split], dim=1), moved)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_both_certificates_are_proved_survive_a_file_and_are_confirmed(dtype):
    backbone = small(1, 1, 0.25, NAME, dtype=dtype)
    prompt = backbone.prompt_for(gallery_function("reverse", 1, 1, 1.0))
    assert measure(backbone, prompt, gallery_function("reverse", 1, 1, 1.0), 2000).holds
    for certificate in (prompt.certificate, backbone.sup_certificate(prompt)):
        assert (certificate.side, certificate.evidence) == (Side.UPPER, Evidence.PROVED)
        assert Certificate.from_dict(certificate.to_dict()).recheck()
        assert not dataclasses.replace(certificate, value=0.8 * certificate.value).recheck()
        witness = {**certificate.witness, "weights": "0" * 64}
        assert not dataclasses.replace(certificate, witness=witness).recheck()


def test_climbs_never_exceed_the_sup_certificate():
    backbone = small(1, 1, 0.25, NAME)
    for seed in range(3):
        target = random_function(1, 1, 1.0, seed)
        prompt = backbone.prompt_for(target)
        worst, _ = attack(backbone, prompt, target, starts=40, rounds=20, seed=seed)
        assert 0 < worst <= backbone.sup_certificate(prompt).value


def test_a_backbone_survives_a_file(tmp_path):
    backbone = small(1, 1, 0.25, NAME)
    prompt = backbone.prompt_for(gallery_function("reverse", 1, 1, 1.0))
    backbone.save(tmp_path / "deep.safetensors")
    x = random_inputs(1, 1, 20)
    assert torch.equal(load_backbone(tmp_path / "deep.safetensors")(x, prompt), backbone(x, prompt))


def test_what_does_not_fit_is_refused_with_a_tol_that_does():
    for tol, reason in ((0.05, "outgrow"), (1e-12, "outgrow")):
        with pytest.raises(PlanTooLargeError, match=reason) as error:
            plan_backbone(1, 1, 1.0, tol, NAME)
        assert plan_backbone(1, 1, 1.0, error.value.nearest_tol, NAME).bound <= error.value.nearest_tol
    with pytest.raises(PlanTooLargeError, match="float32 holds exactly"):
        plan_backbone(1, 1, 1.0, 0.1, NAME, dtype=torch.float32)
    with pytest.raises(PlanTooLargeError):
        plan_backbone(768, 512, 1.0, 0.1, NAME)


def test_every_bad_option_is_named():
    with pytest.raises(InputError, match="form"):
        plan_backbone(1, 1, 1.0, 0.3, NAME, form="round")


def test_changed_prompts_and_weights_get_no_certificate():
    backbone = build_backbone(1, 1, 1.0, 0.25, NAME)
    prompt = backbone.prompt_for(gallery_function("reverse", 1, 1, 1.0))
    rows = prompt.embeddings.clone()
    rows[0, backbone.stream.blocks["token"]] += 1
    with pytest.raises(InputError, match="prompt"):
        backbone.sup_certificate(SoftPrompt(rows))
    with torch.no_grad():
        backbone.passes[3].query_bias += 1
    with pytest.raises(InputError, match="weights"):
        backbone.prompt_for(gallery_function("reverse", 1, 1, 1.0))
