"""Weight records taken apart into plain dictionaries, and put together again."""

import json

import pytest
import torch

from helpers.lipschitz_cases import random_case
from promptreach.certificate import Certificate, Evidence, Side
from promptreach.weights import LayerWeights


def same(left, right) -> bool:
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)
    return torch.equal(left, right) if isinstance(left, torch.Tensor) else left == right


@pytest.mark.parametrize("seed", range(8))
def test_a_packed_layer_survives_a_witness_in_a_file(seed):
    layer = random_case(seed).layer
    layer.attention.query.requires_grad_()
    packed = layer.packed()
    assert not packed["attention"]["query"].requires_grad
    kept = Certificate("kept", 0.0, Side.EXACT, Evidence.UNKNOWN, witness=packed, reason="only the witness matters")
    read = Certificate.from_dict(json.loads(json.dumps(kept.to_dict()))).witness
    assert same(LayerWeights.unpacked(read).packed(), packed)
