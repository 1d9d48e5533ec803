"""The kernel smoother: certificate against measurement, its variance bound against the integral, its passes."""

import dataclasses
import math

import pytest
import torch

from helpers.compiler_attack import attack
from helpers.compiler_cases import SIZES, random_inputs, reference_layers, small
from helpers.tolerances import assert_close
from promptreach import reference
from promptreach.certificate import Certificate, Evidence, Side
from promptreach.compiler import PlanTooLargeError, build_backbone, load_backbone, plan_backbone
from promptreach.compiler.gallery import gallery_function, random_function
from promptreach.compiler.papers.kernel import KernelSizes, bound
from promptreach.compiler.verify import measure
from promptreach.errors import InputError
from promptreach.prompt import SoftPrompt


@pytest.mark.parametrize(("dim", "tokens", "tol"), [(1, 1, 0.1), (1, 1, 0.003), (1, 2, 0.1), (2, 1, 0.1), (1, 3, 0.15)])
def test_measured_is_below_certified_is_below_tol_for_ten_prompts_of_one_backbone(dim, tokens, tol):
    backbone = small(dim, tokens, tol, "kernel")
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    for seed in range(10):
        target = random_function(dim, tokens, 1.0, seed)
        prompt = backbone.prompt_for(target)
        seen = measure(backbone, prompt, target, 20_000 if dim * tokens == 1 else 4000, seed=100 + seed)
        assert seen.error.value <= prompt.certificate.value <= tol
        assert seen.in_ramps == 0
        assert seen.largest <= backbone.sup_certificate(prompt).value
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.state_dict().items())


@pytest.mark.parametrize(("dim", "tokens"), [(1, 1), (1, 2), (2, 1)])
def test_climbs_never_exceed_the_sup_certificate(dim, tokens):
    backbone = small(dim, tokens, 0.2, "kernel")
    for seed in range(3):
        target = random_function(dim, tokens, 1.0, seed)
        prompt = backbone.prompt_for(target)
        worst, _ = attack(backbone, prompt, target, starts=60, rounds=30, seed=seed)
        assert 0 < worst <= backbone.sup_certificate(prompt).value


@pytest.mark.parametrize("cells", [1, 2, 5, 20])
@pytest.mark.parametrize("sharpness", [1.0, 4.0, 32.0])
def test_the_variance_bound_is_above_the_integral_and_not_far(cells, sharpness):
    sizes = KernelSizes(1, 1, cells, sharpness * cells**2, 1, 700)
    x = (torch.arange(4000 * cells, dtype=torch.float64) + 0.5) / (4000 * cells)
    centres = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
    squares = (x[:, None] - centres).square()
    spread = ((-sizes.beta * squares).softmax(dim=1) * squares).sum(dim=1)
    assert float(spread.mean().sqrt()) <= bound(sizes, 1.0, "float64")
    assert float(spread.max().sqrt()) <= bound(sizes, 1.0, "float64", everywhere=True)
    if sharpness == 32:
        assert bound(sizes, 1.0, "float64") <= 1.02 * float(spread.mean().sqrt())


@pytest.mark.parametrize(("dim", "tokens"), SIZES)
def test_all_passes_agree_with_the_plain_loops_of_the_reference(dim, tokens):
    backbone = small(dim, tokens, 0.5, "kernel")
    prompt = backbone.prompt_for(gallery_function("ridge", dim, tokens, 1.0))
    layers = reference_layers(backbone)
    for x in random_inputs(dim, tokens, 4):
        states = reference.transformer(layers, backbone.embed(x[None])[0], prompt)
        assert_close(backbone(x[None], prompt)[0], states @ backbone.readout.T, "layer output")


def test_gather_and_smooth_do_what_their_names_say():
    backbone = small(1, 3, 0.3, "kernel")
    plan, stream, sizes = backbone.plan, backbone.stream, backbone.sizes
    prompt = backbone.prompt_for(gallery_function("ridge", 1, 3, 1.0))
    x = random_inputs(1, 3, 5)
    content, rows = backbone.embed(x), prompt.embeddings[None]
    for item in backbone.passes:
        content = item(content, rows)[0] if item.name != "own" else item(content)
    gathered = content[:, :, stream.blocks["gathered"]]
    leak = (plan.slots + plan.tokens) * math.exp(-sizes.apart)
    assert float((gathered - x.flatten(1)[:, None]).abs().max()) <= leak < 1e-6
    floor = sizes.below + math.ceil(sizes.sharpness * sizes.size / 4)
    values = prompt.embeddings[:, stream.blocks["value"]]
    for row in range(len(x)):
        for token in range(plan.tokens):
            point = gathered[row, token]
            scores = [float(2 * sizes.beta * point @ c - sizes.beta * c @ c) for c in backbone.points().flatten(1)]
            weights = [math.exp(score - max(scores)) for score in scores]
            mass = sum(weights) + plan.tokens * math.exp(-floor - max(scores))
            mean = sum(weight * value for weight, value in zip(weights, values, strict=True)) / mass
            assert_close(content[row, token, stream.blocks["output"]], mean[token : token + 1], "kernel smoother")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_both_certificates_are_proved_survive_a_file_and_are_confirmed(dtype):
    backbone = small(1, 2, 0.3, "kernel", dtype=dtype)
    prompt = backbone.prompt_for(gallery_function("reverse", 1, 2, 1.0))
    for certificate in (prompt.certificate, backbone.sup_certificate(prompt)):
        assert (certificate.side, certificate.evidence) == (Side.UPPER, Evidence.PROVED)
        assert Certificate.from_dict(certificate.to_dict()).recheck()
        assert not dataclasses.replace(certificate, value=0.5 * certificate.value).recheck()
        other = {**certificate.witness, "weights": "0" * 64}
        assert not dataclasses.replace(certificate, witness=other).recheck()


def test_more_slots_buy_a_smaller_error_at_the_rate_of_the_grid():
    tols = [0.3, 0.1, 0.03, 0.01]
    slots = [plan_backbone(1, 1, 1.0, tol, "kernel").slots for tol in tols]
    assert slots == sorted(slots)
    assert all(slot <= 1.1 / (12**0.5 * tol) + 2 for slot, tol in zip(slots, tols, strict=True))


def test_a_backbone_survives_a_file(tmp_path):
    backbone = small(1, 2, 0.3, "kernel")
    prompt = backbone.prompt_for(gallery_function("sort", 1, 2, 1.0))
    backbone.save(tmp_path / "kernel.safetensors")
    x = random_inputs(1, 2, 20)
    assert torch.equal(load_backbone(tmp_path / "kernel.safetensors")(x, prompt), backbone(x, prompt))


def test_what_does_not_fit_is_refused_with_a_tol_that_does():
    with pytest.raises(PlanTooLargeError) as error:
        plan_backbone(1, 1, 1.0, 1e-12, "kernel")
    assert error.value.plan.slots > 10**11
    plan_backbone(1, 1, 1.0, error.value.nearest_tol, "kernel")
    with pytest.raises(PlanTooLargeError):
        plan_backbone(768, 512, 1.0, 0.1, "kernel")
    with pytest.raises(InputError, match="float32"):
        plan_backbone(1, 1, 1.0, 0.001, "kernel", dtype=torch.float32)


def test_changed_prompts_and_weights_get_no_certificate():
    backbone = build_backbone(1, 1, 1.0, 0.3, "kernel")
    prompt = backbone.prompt_for(gallery_function("reverse", 1, 1, 1.0))
    for block, value in (("centre", 0.3), ("value", 1.5)):
        rows = prompt.embeddings.clone()
        rows[0, backbone.stream.blocks[block]] = value
        with pytest.raises(InputError, match="prompt"):
            backbone.sup_certificate(SoftPrompt(rows))
    with pytest.raises(InputError, match="shape"):
        backbone.sup_certificate(SoftPrompt(prompt.embeddings.repeat(2, 1)))
    with torch.no_grad():
        backbone.passes[0].key[0, 0] += 1
    with pytest.raises(InputError, match="weights"):
        backbone.prompt_for(gallery_function("reverse", 1, 1, 1.0))
