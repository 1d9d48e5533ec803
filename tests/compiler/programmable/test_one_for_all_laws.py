"""One backbone for every tolerance: equal weights, certificates at three tolerances, leaks, and what is refused."""

import dataclasses
import math

import pytest
import torch

from helpers.compiler_attack import attack
from helpers.compiler_cases import SIZES, random_inputs, reference_layers, small
from helpers.tolerances import assert_close
from promptreach import reference
from promptreach.certificate import Certificate, Evidence, Side
from promptreach.compiler import plan_backbone
from promptreach.compiler.gallery import gallery_function, random_function
from promptreach.compiler.programmable.one_for_all import APART
from promptreach.compiler.verify import measure
from promptreach.errors import InputError
from promptreach.prompt import SoftPrompt


@pytest.mark.parametrize(("dim", "tokens", "tols"), [(1, 1, (0.1, 0.03, 0.01)), (1, 2, (0.2, 0.1, 0.05))])
def test_one_set_of_weights_serves_every_tolerance(dim, tokens, tols):
    planners = [small(dim, tokens, tol, "one_for_all") for tol in tols]
    assert len({item.fingerprint for item in planners}) == 1
    frozen, lengths = planners[0], []
    for planner, tol in zip(planners, tols, strict=True):
        for seed in range(3):
            target = random_function(dim, tokens, 1.0, seed)
            prompt = planner.prompt_for(target)
            assert (prompt.certificate.side, prompt.certificate.evidence) == (Side.UPPER, Evidence.PROVED)
            seen = measure(frozen, prompt, target, 2000, seed=100 + seed)
            assert seen.error.value <= prompt.certificate.value <= tol
            assert seen.largest <= planner.sup_certificate(prompt).value
        lengths.append(prompt.length)
    assert lengths == sorted(set(lengths))


def test_other_lipschitz_constants_have_the_same_weights_too():
    steep, flat = small(1, 1, 0.2, "one_for_all", lipschitz=3.0), small(1, 1, 0.2, "one_for_all")
    assert steep.fingerprint == flat.fingerprint
    assert steep.plan.slots > flat.plan.slots
    assert small(1, 1, 0.2, "kernel").fingerprint != small(1, 1, 0.1, "kernel").fingerprint


def test_it_is_the_kernel_with_its_sizes_in_the_prompt():
    backbone, kernel = small(1, 2, 0.2, "one_for_all"), small(1, 2, 0.2, "kernel")
    assert backbone.plan.slots == kernel.plan.slots
    target = gallery_function("ridge", 1, 2, 1.0)
    x = random_inputs(1, 2, 50)
    apart = backbone(x, backbone.prompt_for(target)) - kernel(x, kernel.prompt_for(target))
    # The content's share, which differs.
    assert float(apart.abs().max()) <= 2 * math.exp(-backbone.sizes.below)


@pytest.mark.parametrize(("dim", "tokens"), SIZES)
def test_all_passes_agree_with_the_plain_loops_of_the_reference(dim, tokens):
    backbone = small(dim, tokens, 0.5, "one_for_all")
    prompt = backbone.prompt_for(gallery_function("ridge", dim, tokens, 1.0))
    layers = reference_layers(backbone)
    for x in random_inputs(dim, tokens, 3):
        states = reference.transformer(layers, backbone.embed(x[None])[0], prompt)
        assert_close(backbone(x[None], prompt)[0], states @ backbone.readout.T, "interpolated output")


def test_climbs_never_exceed_the_sup_certificate():
    backbone = small(1, 2, 0.2, "one_for_all")
    target = random_function(1, 2, 1.0, 4)
    prompt = backbone.prompt_for(target)
    worst, _ = attack(backbone, prompt, target, starts=40, rounds=20, seed=0)
    assert 0 < worst <= backbone.sup_certificate(prompt).value


def test_the_content_takes_next_to_no_attention_and_collects_nothing_of_the_prompt():
    backbone = small(1, 2, 0.1, "one_for_all")
    stream, sizes = backbone.stream, backbone.sizes
    prompt, x = backbone.prompt_for(lambda x: 1.0 + 0 * x), random_inputs(1, 2, 20)
    # The prompt's values are all 1, so what is missing of 1 is the content's share.
    assert float((1 - backbone(x, prompt)).abs().max()) <= 2 * math.exp(-sizes.below) + 1e-12
    content = backbone.embed(x)
    for item in backbone.passes[:2]:
        content = item(content, prompt.embeddings[None])[0]
    assert torch.equal(content[:, :, stream.blocks["gathered"]], x.flatten(1)[:, None].expand(-1, 2, -1))
    assert sizes.apart == APART


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_certificates_survive_a_file_and_other_numbers_do_not_pass(dtype):
    backbone = small(1, 2, 0.3, "one_for_all", dtype=dtype)
    prompt = backbone.prompt_for(gallery_function("reverse", 1, 2, 1.0))
    for certificate in (prompt.certificate, backbone.sup_certificate(prompt)):
        assert Certificate.from_dict(certificate.to_dict()).recheck()
        assert not dataclasses.replace(certificate, value=0.5 * certificate.value).recheck()
    kernel = small(1, 2, 0.3, "kernel", dtype=dtype)
    other = kernel.prompt_for(gallery_function("reverse", 1, 2, 1.0))
    with pytest.raises(InputError, match="position encoding"):
        backbone.sup_certificate(SoftPrompt(other.embeddings))


def test_float32_is_refused_where_its_rounding_leaves_no_certificate():
    with pytest.raises(InputError, match="float32"):
        plan_backbone(1, 1, 1.0, 0.001, "one_for_all", dtype=torch.float32)
    assert plan_backbone(1, 1, 1.0, 1e-4, "one_for_all").bound <= 1e-4
