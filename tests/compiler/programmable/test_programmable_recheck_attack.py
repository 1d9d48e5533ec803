"""Damaged witnesses of `programmable`: no weight or row that matters changes unseen."""

import dataclasses

import pytest
import torch

from helpers.compiler_cases import small
from promptreach.compiler import build_backbone
from promptreach.compiler.gallery import gallery_function
from promptreach.errors import InputError


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
