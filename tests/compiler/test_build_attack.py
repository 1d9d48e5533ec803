"""Certificates of every construction that somebody changed: none passes that claims something false."""

import dataclasses
import functools

import pytest
import torch

from helpers.tampering import damaged, said_otherwise
from promptreach.certificate import Certificate, Evidence
from promptreach.checkers import find
from promptreach.compiler.build import CONSTRUCTIONS, build_backbone

ASKED = {
    "programmable": {"dim": 1, "tokens": 2, "tol": 0.3},
    "multilinear": {"dim": 1, "tokens": 1, "tol": 0.5, "curvature": 1.0},
    "single_layer": {"dim": 1, "tokens": 1, "tol": 0.5},
    "deep": {"dim": 1, "tokens": 1, "tol": 0.7},
    "kernel": {"dim": 1, "tokens": 2, "tol": 0.3},
    "one_for_all": {"dim": 1, "tokens": 2, "tol": 0.3},
}


@functools.cache
def made(construction: str, everywhere: bool = False) -> Certificate:
    backbone = build_backbone(lipschitz=1.0, construction=construction, **ASKED[construction])
    prompt = backbone.prompt_for(lambda x: 0.5 + 0 * x)
    return backbone.sup_certificate(prompt) if everywhere else prompt.certificate


def test_every_construction_is_looked_at() -> None:
    assert ASKED.keys() == CONSTRUCTIONS.keys()


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("construction", ASKED)
def test_what_was_changed_is_refused(construction: str, everywhere: bool) -> None:
    certificate = made(construction, everywhere)
    assert certificate.rechecked  # asked before it was said
    assert [name for name, changed in said_otherwise(certificate) if changed.recheck()] == []
    assert [name for name, changed in damaged(certificate) if changed.recheck()] == []


@pytest.mark.parametrize("construction", ASKED)
def test_steeper_functions_and_other_problems_need_a_certificate_of_their_own(construction: str) -> None:
    """The same number for other functions, dtypes, cells and sizes, with the claim that goes with them."""
    certificate = made(construction)
    witness, question = certificate.witness, certificate.witness.get("question", {})
    others = [{"lipschitz": 2.0}, {"dim": 2}, {"tokens": 3}, {"curvature": 9.0}, {"dtype": "float32"}]
    others += [{"cells": count} for count in (1, 2, 3) if count != witness.get("cells")]
    for other in others:
        (name,) = other
        if name in witness:
            changed = {**witness, **other}
        elif name in question:
            changed = {**witness, "question": {**question, **other}}
        else:
            continue
        assert not dataclasses.replace(certificate, witness=changed).recheck()
        try:
            rewritten = Certificate.stated(find(certificate.checker), certificate.value, changed)
        except ValueError:
            continue
        assert not rewritten.recheck(), other


@pytest.mark.parametrize("construction", ASKED)
def test_lower_numbers_and_changed_weights_are_refused(construction: str) -> None:
    certificate = made(construction)
    assert not dataclasses.replace(certificate, value=0.5 * certificate.value).recheck()
    assert not dataclasses.replace(certificate, value=-certificate.value).recheck()
    prompt = certificate.witness["prompt"].clone()
    prompt[-1, -1 if construction in ("single_layer", "deep") else 0] += 0.25
    assert not dataclasses.replace(certificate, witness={**certificate.witness, "prompt": prompt}).recheck()
    weights = certificate.witness["weights"]
    for name in weights if isinstance(weights, dict) else ():
        moved = {**certificate.witness, "weights": {**weights, name: -1 - weights[name]}}
        assert not weights[name].numel() or not dataclasses.replace(certificate, witness=moved).recheck(), name
    if isinstance(weights, dict):
        more = {**weights, "passes.2.more": torch.zeros(1, dtype=torch.float64)}
        assert not dataclasses.replace(certificate, witness={**certificate.witness, "weights": more}).recheck()


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 0.3), (torch.float64, 0.3), (torch.float64, 0.05)])
@pytest.mark.parametrize(("tokens", "curvature"), [(1, 0.0), (1, 1.0)])
def test_right_certificates_of_interpolation_are_confirmed(tokens, curvature, tol, dtype) -> None:
    """The knots of the tilt are those that the rounded weights make, so both paths speak of the same function."""
    backbone = build_backbone(1, tokens, 1.0, tol, "multilinear", dtype=dtype, curvature=curvature)
    certificate = backbone.prompt_for(lambda x: 0.5 + 0 * x).certificate
    assert (certificate.evidence, certificate.rechecked) == (Evidence.PROVED, True)
