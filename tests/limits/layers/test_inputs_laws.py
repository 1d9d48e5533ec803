"""Layers in a witness: what is taken, what is refused, and the size that says how long a second path takes."""

import dataclasses
import math

import pytest
import torch

from helpers.lipschitz_cases import contracting
from promptreach.errors import InputError
from promptreach.limits.layers.inputs import ball_faults, formed_bytes, layer_faults, witnessed_layers


def test_layers_come_back_in_float64() -> None:
    layer = contracting(0)
    half = dataclasses.replace(layer, attention=layer.attention.to(torch.float32), feed_forward=None)
    (found,) = witnessed_layers([half.packed()])
    assert found.attention.query.dtype == torch.float64
    assert layer_faults([found]) == []


@pytest.mark.parametrize(("radius", "tokens"), [(0.0, 1), (-1.0, 1), (math.inf, 1), (math.nan, 1), (1.0, 0)])
def test_balls_that_are_none_have_a_fault(radius: float, tokens: int) -> None:
    assert len(ball_faults(radius, tokens)) == 1
    assert ball_faults(1.0, 1) == []


@pytest.mark.parametrize(
    ("name", "damage"), [("causal", 7), ("rotary", None), ("scale", math.nan), ("query", [1.0]), ("key", "x")]
)
def test_a_field_of_another_kind_is_refused(name: str, damage: object) -> None:
    packed = contracting(0).packed()
    packed["attention"] = {**packed["attention"], name: damage}
    with pytest.raises(InputError, match=name):
        witnessed_layers([packed])


def test_wide_layers_with_thin_heads_are_as_large_as_what_is_formed() -> None:
    packed = contracting(0).packed()
    packed["attention"] = {**packed["attention"], "query": torch.zeros(3, 1, 10**6)}
    assert formed_bytes({"layer": packed}) > 3 * 8 * 10**12
    assert formed_bytes({"layers": [packed] * 2}) > 2 * 3 * 8 * 10**12
