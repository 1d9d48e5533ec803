"""Damaged witnesses of `multilinear`: no changed weight or row is confirmed."""

import dataclasses
import math

import pytest

from helpers.compiler_cases import small
from promptreach.compiler.gallery import gallery_function
from promptreach.errors import InputError


def smooth(dim, tokens, tol=0.05):
    target = gallery_function("smooth", dim, tokens, 1.0, 5)
    return small(dim, tokens, tol, "multilinear", curvature=target.curvature), target


def test_no_changed_weight_or_row_is_confirmed():
    backbone, target = smooth(2, 1)
    certificate = backbone.prompt_for(target).certificate
    for name, tensor in certificate.witness["weights"].items():
        for place in {0, tensor.numel() // 2, tensor.numel() - 1}:
            changed = {key: value.clone() for key, value in certificate.witness["weights"].items()}
            changed[name].view(-1)[place] += 1.0
            witness = {**certificate.witness, "weights": changed}
            assert not dataclasses.replace(certificate, witness=witness).recheck(), (name, place)
    for block, value in (("node", 0.5), ("node_square", 7.0), ("table", 1.5), ("table", math.nan), ("filed", 1.0)):
        prompt = certificate.witness["prompt"].clone()
        prompt[1, backbone.stream.blocks[block].start] = value
        assert not dataclasses.replace(certificate, witness={**certificate.witness, "prompt": prompt}).recheck()
        with pytest.raises(InputError):
            backbone.certify(prompt, 1.0)
