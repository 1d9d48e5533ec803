"""Values, queries and keys at both ends of what numbers hold: a certificate is right there, or there is none."""

import math

import pytest
import torch
from torch import Tensor

from helpers.tampering import damaged, said_otherwise
from promptreach.certificate import Certificate, Evidence
from promptreach.fast_attention.measure import RELATIVE_TO, deviation_error, exact_rows, range_error
from promptreach.fast_attention.problem import AttentionProblem
from promptreach.inference import ToleranceNotReachedError, attend

TOL = 1e-3


def inputs(seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    query, key, value = (
        torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in ((7, 2), (30, 2), (30, 2))
    )
    return (0.5 * query).to(dtype), (0.5 * key).to(dtype), value.to(dtype)


def error(output: Tensor, value: Tensor, query: Tensor, key: Tensor, relative_to: str, power: Tensor) -> float:
    """The true error: values and output are brought back to ordinary sizes by powers of two, which round nothing."""
    normal = torch.ldexp(torch.ldexp(value.double(), -(power // 2)), -(power - power // 2))
    found = torch.ldexp(torch.ldexp(output.double(), -(power // 2)), -(power - power // 2))
    head = next(AttentionProblem(query.double(), key.double(), normal).heads())
    exact = exact_rows(head, torch.arange(len(query))).mean
    if relative_to == "range":
        return range_error(found, exact, normal.amax(dim=0) - normal.amin(dim=0))
    # In the values' own sizes: coordinates far below the largest count as little as they do there.
    weight = torch.ldexp(torch.ones(2, dtype=torch.float64), (power - power.max()).clamp_min(-500))
    return deviation_error(found * weight, exact * weight)


def answer(value: Tensor, query: Tensor, key: Tensor, relative_to: str) -> tuple[Tensor, Certificate] | None:
    try:
        output, report = attend(query, key, value, TOL, "polynomial", relative_to=relative_to)
    except ToleranceNotReachedError:
        return None
    return output, report.error


@pytest.mark.parametrize("relative_to", RELATIVE_TO)
@pytest.mark.parametrize("powers", [(-1040, -1040), (-700, -700), (-540, -540), (-600, 0), (180, 180), (-700, 190)])
def test_values_of_any_size_have_no_smaller_error_than_certified(relative_to: str, powers: tuple[int, int]) -> None:
    answered = 0
    for seed in range(3):
        query, key, plain = inputs(seed)
        power = torch.tensor(powers)
        value = torch.ldexp(torch.ldexp(plain, power // 2), power - power // 2)
        if (found := answer(value, query, key, relative_to)) is None:
            continue
        answered += 1
        output, certificate = found
        assert certificate.evidence is Evidence.PROVED
        assert 0 < error(output, value, query, key, relative_to, power) <= certificate.value <= TOL
        assert certificate.recheck()
    # Only subnormal values, of which rounding alone moves a share, are refused.
    assert bool(answered) is (min(powers) > -1000)


@pytest.mark.parametrize("relative_to", RELATIVE_TO)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_values_with_a_large_offset_are_certified_and_confirmed(relative_to: str, dtype: torch.dtype) -> None:
    query, key, value = inputs(3, dtype)
    found = answer(value + (1e9 if dtype == torch.float64 else 300.0), query, key, relative_to)
    assert found is not None
    assert found[1].rechecked


@pytest.mark.parametrize(("left", "right"), [(1e-160, 1e-160), (1e-60, 1e60), (1e60, 1e-60), (1e-200, 1.0)])
def test_queries_and_keys_of_any_size_are_certified(left: float, right: float) -> None:
    query, key, value = inputs(4)
    found = answer(value, left * query, right * key, "range")
    assert found is not None
    assert found[1].rechecked


@pytest.mark.parametrize("relative_to", RELATIVE_TO)
def test_what_was_changed_is_refused(relative_to: str) -> None:
    query, key, value = inputs(5)
    mask = torch.arange(30) < 29
    _, report = attend(query, key, value, TOL, "polynomial", mask=mask, relative_to=relative_to)
    _, heads = attend(query[None].expand(2, -1, -1), key.expand(2, -1, -1), value.expand(2, -1, -1), TOL, "polynomial")
    for certificate in (report.error, heads.error):
        assert certificate.recheck()
        assert [name for name, changed in said_otherwise(certificate) if changed.recheck()] == []
        assert [name for name, changed in damaged(certificate) if changed.recheck()] == []


def test_deviations_are_compared_at_any_size() -> None:
    exact = torch.tensor([[0.0, 1.0], [3.0, -1.0]], dtype=torch.float64)
    for size in (1e-300, 1e-165, 1.0, 1e200):
        assert math.isclose(deviation_error(size * (exact + 1), size * exact), deviation_error(exact + 1, exact))
