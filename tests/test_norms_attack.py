"""Attempts to break the certified matrix norms: nothing may lie beyond a bound, without any slack."""

import dataclasses
import json
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.tolerances import TOLERANCES
from promptreach.certificate import Certificate, Evidence, Side
from promptreach.errors import InputError
from promptreach.norms import frobenius, max_norm, spectral_lower, spectral_upper
from promptreach.theorems import THEOREMS


def gaussian(rows, columns, seed):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ill_conditioned(size, seed):
    """Singular values from 1 down to 1e-16."""
    left, _, right = torch.linalg.svd(gaussian(size, size, seed))
    return left @ torch.diag(torch.logspace(0, -16, size, dtype=torch.float64)) @ right


def nearly_rank_one(size, seed):
    return torch.outer(gaussian(size, 1, seed)[:, 0], gaussian(size, 1, seed + 1)[:, 0]) + 1e-15 * gaussian(
        size, size, seed
    )


MATRICES = {
    "1x1": torch.tensor([[-0.1]], dtype=torch.float64),
    "zero": torch.zeros(3, 2, dtype=torch.float64),
    "identity": torch.eye(5, dtype=torch.float64),
    "row": gaussian(1, 40, 0),
    "column": gaussian(40, 1, 0),
    "square": gaussian(20, 20, 1),
    "wide": gaussian(5, 60, 2),
    "tall": gaussian(60, 5, 3),
    "ill conditioned": ill_conditioned(12, 4),
    "nearly rank one": nearly_rank_one(12, 5),
    "repeated top value": torch.diag(torch.tensor([3.0, 3.0, 3.0, 1.0], dtype=torch.float64)),
    "huge entries": 1e99 * torch.tanh(gaussian(6, 6, 6)),
    "tiny entries": 1e-99 * (2 + torch.tanh(gaussian(6, 6, 7))),
    "one entry far above the rest": torch.tensor([[1e8, 1e-8], [1e-8, -1e-8]], dtype=torch.float64),
    "half precision": gaussian(8, 8, 8).to(torch.bfloat16),
}


def exact_ratio_squared(matrix, vector) -> Fraction:
    """|A v|^2 / |v|^2 without any rounding."""
    v = [Fraction(x) for x in vector.tolist()]
    image = [sum(Fraction(a) * x for a, x in zip(row, v, strict=True)) for row in matrix.double().tolist()]
    return sum(x * x for x in image) / sum(x * x for x in v)


def assert_not_above(matrix, vector, bound: Certificate) -> None:
    assert exact_ratio_squared(matrix, vector) <= Fraction(bound.value) ** 2


def climb(matrix, vector, steps=3):
    """Power iteration: the steepest way up |A v| / |v|."""
    for _ in range(steps):
        vector = matrix.mT @ (matrix @ vector)
        vector = vector / vector.norm()
    return vector


@pytest.mark.parametrize("name", MATRICES)
def test_no_vector_passes_the_upper_bound(name):
    matrix = MATRICES[name]
    bound = spectral_upper(matrix)
    exact = matrix.double()
    candidates = [*torch.eye(matrix.shape[1], dtype=torch.float64)[:4], *torch.linalg.svd(exact)[2][:2]]
    candidates += [gaussian(matrix.shape[1], 1, seed)[:, 0] for seed in range(3)]
    if exact.any():
        start = exact / exact.abs().max()
        candidates += [climb(start, candidate, 60) for candidate in candidates if (start @ candidate).any()]
    for candidate in candidates:
        assert_not_above(matrix, candidate, bound)


@settings(max_examples=40)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32), st.sampled_from([1.0, 1e-8, 1e8]))
def test_no_random_climb_passes_the_upper_bound(rows, columns, seed, spread):
    matrix = gaussian(rows, columns, seed) * spread ** gaussian(rows, columns, seed + 1).clamp(-2, 2)
    vector = climb(matrix / matrix.abs().max(), gaussian(columns, 1, seed + 2)[:, 0], 30)
    assert_not_above(matrix, vector, spectral_upper(matrix))
    assert_not_above(matrix, torch.linalg.svd(matrix)[2][0], spectral_upper(matrix))


def test_the_attack_sees_a_bound_that_is_one_part_in_1e13_too_low():
    matrix = MATRICES["square"]
    true = torch.linalg.matrix_norm(matrix, 2).item()
    too_low = dataclasses.replace(spectral_upper(matrix), value=true * (1 - 1e-13))
    with pytest.raises(AssertionError):
        assert_not_above(matrix, torch.linalg.svd(matrix)[2][0], too_low)


@pytest.mark.parametrize("name", MATRICES)
def test_lower_never_passes_upper_and_both_are_tight(name):
    matrix = MATRICES[name]
    upper, lower, frobenius_bound = spectral_upper(matrix), spectral_lower(matrix), frobenius(matrix)
    assert exact_ratio_squared(matrix, lower.witness["vector"]) >= Fraction(lower.value) ** 2
    assert lower.value <= upper.value
    slack = TOLERANCES["spectral norm slack", torch.float64][0]
    true = torch.linalg.matrix_norm(matrix.double(), 2).item()
    assert upper.value <= true * (1 + slack)
    assert lower.value >= true * (1 - slack)
    squares = sum(Fraction(entry) ** 2 for entry in matrix.double().flatten().tolist())
    assert Fraction(frobenius_bound.value) ** 2 >= squares
    assert frobenius_bound.value <= math.sqrt(squares) * (1 + slack)


@pytest.mark.parametrize("norm", [max_norm, frobenius, spectral_upper, spectral_lower])
@pytest.mark.parametrize("name", MATRICES)
def test_every_certificate_survives_a_file_and_its_second_path(norm, name):
    certificate = norm(MATRICES[name])
    assert certificate.evidence is Evidence.PROVED
    assert certificate.theorem in THEOREMS
    assert certificate.recheck()
    assert Certificate.from_dict(json.loads(json.dumps(certificate.to_dict()))).recheck()


@pytest.mark.parametrize(
    ("norm", "wrong"), [(max_norm, 1.1), (frobenius, 1 - 1e-9), (spectral_upper, 1 - 1e-9), (spectral_lower, 1 + 1e-9)]
)
@pytest.mark.parametrize("name", [name for name in MATRICES if name != "zero"])
def test_the_second_path_refuses_a_wrong_value(norm, wrong, name):
    certificate = norm(MATRICES[name])
    assert not dataclasses.replace(certificate, value=certificate.value * wrong).recheck()


def test_the_second_path_refuses_nonsense():
    matrix = MATRICES["square"]
    for value in (-1e6, 0.0, 1e300):
        assert not dataclasses.replace(spectral_upper(matrix), value=value).recheck()
    lower = spectral_lower(matrix)
    nothing = {"matrix": lower.witness["matrix"], "vector": torch.zeros(20, dtype=torch.float64)}
    assert not dataclasses.replace(lower, value=0.0, witness=nothing).recheck()


def test_sides_are_said():
    matrix = MATRICES["square"]
    sides = [norm(matrix).side for norm in (max_norm, frobenius, spectral_upper, spectral_lower)]
    assert sides == [Side.EXACT, Side.UPPER, Side.UPPER, Side.LOWER]


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e101, 1e-101])
@pytest.mark.parametrize("norm", [max_norm, frobenius, spectral_upper, spectral_lower])
def test_matrices_outside_the_account_are_refused(norm, bad):
    with pytest.raises(InputError, match="largest absolute entry"):
        norm(torch.tensor([[bad]], dtype=torch.float64))
    with pytest.raises(InputError, match="nothing empty"):
        norm(torch.zeros(0, 3))
