"""Measuring says what it saw, on what, and whether the certificate held."""

import dataclasses

import pytest
import torch

from helpers.compiler_cases import small
from promptreach.certificate import Evidence, Side
from promptreach.compiler.gallery import gallery_function
from promptreach.compiler.verify import measure
from promptreach.errors import InputError
from promptreach.prompt import SoftPrompt


def test_the_error_is_the_root_of_the_mean_of_summed_squares():
    backbone, target = small(1, 2), gallery_function("lookup", 1, 2, 1.0)
    prompt = backbone.prompt_for(target)
    seen = measure(backbone, prompt, target, 300, seed=4)
    x = torch.rand(300, 2, 1, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    squares = [float(((backbone(item[None], prompt)[0] - target.at(item[None])[0]) ** 2).sum()) for item in x]
    assert seen.error.value == pytest.approx((sum(squares) / 300) ** 0.5, rel=1e-12)
    assert seen.largest == pytest.approx(max(squares) ** 0.5, rel=1e-9)
    assert seen.in_ramps == 0
    assert (seen.error.evidence, seen.error.side) == (Evidence.MEASURED, Side.EXACT)
    assert "300 points" in seen.error.sample
    assert measure(backbone, prompt, target, 300, seed=4).error == seen.error


def test_a_certificate_below_what_was_seen_does_not_hold():
    backbone, target = small(1, 2), gallery_function("ridge", 1, 2, 1.0)
    prompt = backbone.prompt_for(target)
    assert measure(backbone, prompt, target, 300).holds
    low = dataclasses.replace(prompt.certificate, value=0.3 * prompt.certificate.value)
    assert not measure(backbone, SoftPrompt(prompt.embeddings, low), target, 300).holds


def test_what_cannot_be_measured_is_refused():
    backbone, target = small(1, 2), gallery_function("ridge", 1, 2, 1.0)
    prompt = backbone.prompt_for(target)
    with pytest.raises(InputError, match="at least 1"):
        measure(backbone, prompt, target, 0)
    with pytest.raises(InputError, match="no certificate"):
        measure(backbone, SoftPrompt(prompt.embeddings), target, 10)
