"""Attacks on the certificate of one head: raised values are refused."""

import dataclasses
import json

import torch

from helpers.oracle_problems import normal, random_sequences, random_weights
from promptreach.certificate import Certificate, Evidence, Side
from promptreach.limits import memorisable


def problem(hidden, count, seed):
    head_dim = max(2, hidden // (1 + seed % 2))
    out = (None, hidden, 3)[seed % 3]
    weights = random_weights(hidden, head_dim, seed, out=out, bias=seed % 2 == 0, size=(1.0, 3.0)[seed % 2])
    return weights, random_sequences(hidden, count, seed)


def test_the_floor_survives_a_file_and_the_second_path_refuses_a_raised_one():
    weights, sequences = problem(8, 6, 11)
    floor = memorisable(weights, sequences, normal(11)(6, weights.output_size)).floor
    assert (floor.side, floor.evidence) == (Side.LOWER, Evidence.PROVED)
    assert Certificate.from_dict(json.loads(json.dumps(floor.to_dict()))).recheck()
    assert not dataclasses.replace(floor, value=floor.value * (1 + 1e-6)).recheck()
    group = floor.witness["groups"][0]
    holed = {**floor.witness, "groups": [{**group, "boxes": torch.cat([group["boxes"][:3], group["boxes"][4:]])}]}
    assert not dataclasses.replace(floor, witness=holed).recheck()
