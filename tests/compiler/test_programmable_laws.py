"""The certificates of `programmable`: above every measured error, below tol, re-checked, lost when tampered with."""

import dataclasses

import numpy as np
import pytest
import torch

from helpers.compiler_cases import SIZES, random_inputs, small
from helpers.tolerances import assert_close
from promptreach.certificate import Certificate, Evidence, Side
from promptreach.compiler import TargetFunction, build_backbone, load_backbone
from promptreach.compiler.gallery import gallery_function, random_function
from promptreach.compiler.target import as_target
from promptreach.compiler.verify import measure
from promptreach.errors import InputError
from promptreach.prompt import SoftPrompt


@pytest.mark.parametrize(("dim", "tokens"), SIZES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_measured_is_below_certified_is_below_tol_for_many_prompts_of_one_backbone(dim, tokens, dtype):
    tol = 0.1
    backbone = small(dim, tokens, tol, dtype=dtype)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    for seed in range(10):
        target = random_function(dim, tokens, 1.0, seed)
        prompt = backbone.prompt_for(target)
        seen = measure(backbone, prompt, target, 2000, seed=100 + seed)
        sup = backbone.sup_certificate(prompt)
        assert seen.error.value <= prompt.certificate.value <= tol
        assert seen.holds
        assert seen.largest <= sup.value
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.state_dict().items())


@pytest.mark.parametrize(("dim", "tokens", "tol"), [(1, 1, 0.003), (1, 2, 0.03), (1, 3, 0.1), (2, 1, 0.1), (2, 2, 0.1)])
def test_certificates_are_tight_where_the_function_is_as_steep_as_declared(dim, tokens, tol):
    backbone = small(dim, tokens, tol)
    target = gallery_function("ridge", dim, tokens, 1.0)
    prompt = backbone.prompt_for(target)
    assert prompt.certificate.value <= 1.3 * measure(backbone, prompt, target, 2000).error.value


@pytest.mark.parametrize(("dim", "tokens"), SIZES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_both_certificates_are_proved_survive_a_file_and_are_confirmed(dim, tokens, dtype):
    backbone = small(dim, tokens, 0.2, dtype=dtype)
    prompt = backbone.prompt_for(gallery_function("reverse", dim, tokens, 1.0))
    for certificate in (prompt.certificate, backbone.sup_certificate(prompt)):
        assert (certificate.side, certificate.evidence) == (Side.UPPER, Evidence.PROVED)
        assert Certificate.from_dict(certificate.to_dict()).recheck()
        assert not dataclasses.replace(certificate, value=0.999 * certificate.value).recheck()


def test_the_plan_foretells_the_certificate():
    for dim, tokens in SIZES:
        backbone = small(dim, tokens)
        prompt = backbone.prompt_for(gallery_function("average", dim, tokens, 1.0))
        assert prompt.certificate.value <= backbone.plan.bound <= backbone.plan.tol


def test_a_flatter_function_gets_a_smaller_certificate():
    backbone = small(1, 2)
    steep = backbone.prompt_for(gallery_function("ridge", 1, 2, 1.0))
    flat = backbone.prompt_for(gallery_function("ridge", 1, 2, 0.25))
    assert flat.certificate.value < 0.3 * steep.certificate.value
    assert flat.certificate.recheck()


def test_a_changed_weight_is_seen_unless_it_changes_nothing():
    """Each weight tensor in turn, in its first, last and a middle entry."""
    backbone = build_backbone(2, 2, 1.0, 0.2)
    prompt = backbone.prompt_for(gallery_function("sort", 2, 2, 1.0))
    centres, certificate = backbone.points(), prompt.certificate
    right = backbone(centres, prompt)
    weights = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    harmless = 0
    for name, tensor in weights.items():
        for place in {0, tensor.numel() // 2, tensor.numel() - 1}:
            changed = {key: value.clone() for key, value in weights.items()}
            changed[name].view(-1)[place] += 1.0
            witness = {**certificate.witness, "weights": changed}
            if dataclasses.replace(certificate, witness=witness).recheck():
                harmless += 1
                backbone.load_state_dict(changed)
                assert torch.equal(backbone(centres, prompt), right), (name, place)
    assert harmless <= 3


def test_no_prompt_row_can_be_changed_unseen():
    backbone = small(1, 2)
    certificate = backbone.prompt_for(gallery_function("sort", 1, 2, 1.0)).certificate
    stream = backbone.stream
    for block, value in (
        ("slot", 7.5),
        ("slot_square", 1.0),
        ("row", 1.5),
        ("row", -0.1),
        ("row", float("nan")),
        ("filed", 1.0),
    ):
        prompt = certificate.witness["prompt"].clone()
        prompt[1, stream.blocks[block].start] = value
        changed = dataclasses.replace(certificate, witness={**certificate.witness, "prompt": prompt})
        assert not changed.recheck(), block
        with pytest.raises(InputError):
            backbone.certify(prompt, 1.0)


def test_results_do_not_depend_on_the_batch():
    backbone = small(1, 3)
    prompt = backbone.prompt_for(gallery_function("lookup", 1, 3, 1.0))
    x = random_inputs(1, 3, 40)
    whole = backbone(x, prompt)
    assert_close(torch.cat([backbone(x[i : i + 1], prompt) for i in range(40)]), whole, "transformer output")
    assert backbone(x[:0], prompt).shape == (0, 3, 1)


def test_blocks_of_inputs_join_up(monkeypatch):
    backbone = small(1, 2)
    prompt = backbone.prompt_for(gallery_function("lookup", 1, 2, 1.0))
    x = random_inputs(1, 2, 50)
    whole = backbone(x, prompt)
    monkeypatch.setattr(type(backbone), "rows_at_once", lambda self, length: 7)
    assert_close(backbone(x, prompt), whole, "transformer output")


def test_plain_functions_of_one_input_in_numpy_or_torch():
    backbone = small(2, 2)
    by_numpy = backbone.prompt_for(lambda x: np.flip(x, axis=0) * 0.5)
    by_torch = backbone.prompt_for(lambda x: torch.flip(x, (0,)) * 0.5)
    assert torch.equal(by_numpy.embeddings, by_torch.embeddings)
    assert by_numpy.certificate.value == by_torch.certificate.value


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_saved_backbone_is_the_same_backbone(tmp_path, dtype):
    backbone = small(1, 2, dtype=dtype)
    backbone.save(tmp_path / "backbone.safetensors")
    again = load_backbone(tmp_path / "backbone.safetensors")
    assert again.plan == backbone.plan
    prompt = backbone.prompt_for(gallery_function("ridge", 1, 2, 1.0))
    x = random_inputs(1, 2, 20)
    assert torch.equal(backbone(x, prompt), again(x, prompt))


def test_a_file_that_is_no_backbone_is_refused(tmp_path):
    import safetensors.torch

    path = tmp_path / "backbone.safetensors"
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"a file that CompiledBackbone\.save wrote"):
        load_backbone(path)
    with pytest.raises(InputError, match=r"a file that CompiledBackbone\.save wrote"):
        load_backbone(tmp_path / "absent.safetensors")
    safetensors.torch.save_file({"x": torch.zeros(1)}, path, {"promptreach": '{"dtype": "float64", "options": {}}'})
    with pytest.raises(InputError, match=r"a file that CompiledBackbone\.save wrote"):
        load_backbone(path)
    backbone = small(1, 1)
    backbone.save(path)
    tensors = safetensors.torch.load_file(path)
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors["position"] = tensors["position"] + 1
    safetensors.torch.save_file(tensors, path, metadata)
    with pytest.raises(InputError, match="weights that the plan does not lead to"):
        load_backbone(path)


def test_weights_are_frozen_and_a_prompt_can_still_be_trained():
    backbone = small(1, 2)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    embeddings = backbone.prompt_for(gallery_function("average", 1, 2, 1.0)).embeddings.clone().requires_grad_()
    backbone(random_inputs(1, 2, 8), SoftPrompt(embeddings)).sum().backward()
    assert bool((embeddings.grad[:, backbone.stream.blocks["row"]] != 0).any())


def test_bad_inputs_are_named_all_at_once():
    backbone = small(1, 2)
    prompt = backbone.prompt_for(gallery_function("average", 1, 2, 1.0))
    x = random_inputs(1, 2, 3)
    for bad in (x + 1, x * float("nan"), -x):
        with pytest.raises(InputError, match=r"entries in \[0, 1\]"):
            backbone(bad, prompt)
    with pytest.raises(InputError) as error:
        backbone(random_inputs(2, 2, 3), SoftPrompt(torch.zeros(3, 5)))
    assert [fault.where for fault in error.value.faults] == ["x", "prompt"]
    narrow = build_backbone(1, 2, 1.0, 0.2).to(torch.float32)
    with pytest.raises(InputError, match="certified"):
        narrow(x, prompt)


def test_a_function_steeper_than_the_backbone_allows_is_refused():
    with pytest.raises(InputError, match=r"0 to 1, for which the backbone was built"):
        small(1, 1).prompt_for(TargetFunction(lambda x: x, 1, 1, 2.0))
    with pytest.raises(InputError, match="dim 1, tokens 2"):
        small(1, 1).prompt_for(TargetFunction(lambda x: x, 1, 2, 1.0))
    with pytest.raises(InputError, match="a function or a TargetFunction"):
        as_target(3, 1, 1, 1.0)
