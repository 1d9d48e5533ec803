"""The certificates of `programmable`: above every measured error, below tol, re-checked, lost when tampered with."""

import dataclasses

import pytest
import torch

from helpers.compiler_cases import SIZES, small
from promptreach.certificate import Certificate, Evidence, Side
from promptreach.compiler.gallery import gallery_function, random_function
from promptreach.compiler.verify import measure


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
