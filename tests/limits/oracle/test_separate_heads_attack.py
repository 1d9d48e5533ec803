"""Attacks on the floor of heads taken apart, at any condition and for any wishes."""

import dataclasses

import numpy as np
import pytest
import torch

from helpers.heads_cases import (
    errors_at,
    setting,
)
from helpers.oracle_problems import normal, prompted, random_sequences, random_weights
from promptreach.certificate import Verdict
from promptreach.limits import memorisable
from promptreach.limits.oracle.box_bound import reference
from promptreach.limits.oracle.floor_witness import unpacked
from promptreach.limits.oracle.separate_heads import combined, separate_floor, taken_apart
from promptreach.limits.oracle.single_head import head_floor, near_one


@pytest.mark.parametrize("condition", [1.0, 1e3, 1e6, 1e10])
@pytest.mark.parametrize("out", [6, 9])
def test_headstaken_apart_keep_below_every_error_at_any_condition(condition, out):
    statistics = setting(2, 6, 1, out=8)[0]
    statistics = [dataclasses.replace(item, mean=item.mean[:, :3]) for item in statistics]
    basis, _, right = torch.linalg.svd(normal(out)(out, 6), full_matrices=False)
    output = basis * torch.logspace(0, -np.log10(condition), 6, dtype=torch.float64) @ right
    outputs, z = output.split(3, dim=1), torch.tensor([0.3, 0.6], dtype=torch.float64)
    targets = torch.zeros(6, out, dtype=torch.float64)
    for item, part, share in zip(statistics, outputs, z, strict=True):
        inside = torch.sigmoid(reference(item) + torch.logit(share) - item.lse)[:, None]
        targets = targets + ((1 - inside) * item.mean + inside) @ part.mT
    for noise in (0.0, 1e-9, 1e-3):
        wanted = targets + noise * normal(1)(6, out)
        lower = separate_floor(statistics, output, wanted)[0]
        assert errors_at(statistics, outputs, wanted, z[None])[0] >= lower
        assert lower > 0 or noise < 1e-3 or condition > 1e6


@pytest.mark.parametrize(("heads", "out"), [(2, None), (2, 8), (2, 12), (6, 24)])
def test_heads_that_can_betaken_apart_are(heads, out):
    weights = random_weights(12, 4, heads, heads, out=out)
    sequences = random_sequences(12, 6, heads)
    fitted = memorisable(weights, sequences, prompted(weights, sequences, 2, heads), tol=1e-8)
    assert fitted.verdict is Verdict.POSSIBLE
    noisy = memorisable(weights, sequences, normal(heads)(6, weights.output_size))
    assert noisy.verdict is Verdict.IMPOSSIBLE
    assert noisy.floor.value <= noisy.upper.value
    assert noisy.floor.recheck()
    assert noisy.upper.recheck()
    if out is None:
        assert noisy.upper.value <= noisy.floor.value * (1 + 1e-6)


def test_the_second_path_takes_the_wishes_of_a_machine_that_factorises_otherwise(monkeypatch):
    weights, sequences = random_weights(12, 4, 2, 2), random_sequences(12, 6, 2)
    floor = memorisable(weights, sequences, normal(2)(6, 8)).floor
    assert floor.theorem == "separate-heads-bound"
    group, layer = floor.witness["groups"][0], unpacked(floor.witness)
    stored = group["wanted"]
    factorise = torch.linalg.svd

    def otherwise(matrix, full_matrices=True):
        basis, singular, right = factorise(matrix, full_matrices=full_matrices)
        return basis * (1 + 2.0**-51), singular, right

    monkeypatch.setattr(torch.linalg, "svd", otherwise)
    _, targets, _, _, _ = near_one(layer.statistics[0], layer.parts[0], None)
    assert not torch.equal(taken_apart(torch.eye(8).double(), targets).wanted, stored)
    assert floor.recheck()
    assert not dataclasses.replace(floor, value=1.01 * floor.value).recheck()


@pytest.mark.parametrize("off", [0.0, 1e-9, 1e-3, 1.0])
def test_headstaken_apart_keep_below_every_error_whatever_their_wishes(off):
    for seed in range(5):
        statistics, outputs, targets = setting(2, 6, seed, out=12)
        whole = torch.cat(outputs, dim=1)
        wanted = targets @ torch.linalg.pinv(whole).mT
        apart = taken_apart(whole, targets, wanted + off * normal(seed)(*wanted.shape))
        blocks = torch.split(apart.wanted, outputs[0].shape[1], dim=1)
        floors = [head_floor(item, block).lower for item, block in zip(statistics, blocks, strict=True)]
        lower = combined(apart, sum(floor**2 for floor in floors))
        places = torch.rand(30, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert errors_at(statistics, outputs, targets, places).min() >= lower
        assert lower > 0 or off == 1.0
