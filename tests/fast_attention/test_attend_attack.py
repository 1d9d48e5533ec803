"""Inputs at the ends of what is allowed: values that do not differ, one query, scores that overflow, answers that are
not numbers."""

import dataclasses
import math

import pytest
import torch

from promptreach.errors import InputError
from promptreach.fast_attention.measure import deviation_error, range_error
from promptreach.fast_attention.sampled.holdout import certify
from promptreach.inference import ToleranceNotReachedError, attend


def inputs(queries: int = 8, keys: int = 12, size: float = 0.1, heads: tuple[int, ...] = ()):
    generator = torch.Generator().manual_seed(0)
    shapes = ((*heads, queries, 4), (*heads, keys, 4), (*heads, keys, 3))
    query, key, value = (torch.randn(shape, generator=generator) for shape in shapes)
    return size * query, size * key, value


@pytest.mark.parametrize("relative_to", ["range", "deviation"])
def test_values_that_do_not_differ_are_answered_exactly(relative_to):
    query, key, value = inputs()
    for constant in (0 * value, value[:1].expand_as(value)):
        output, report = attend(query, key, constant, method="polynomial", relative_to=relative_to)
        assert torch.equal(output, constant[: len(query)])
        assert report.error.value == 0.0
        assert report.error.recheck()
    output, report = attend(query, key[:1], value[:1], method="polynomial", relative_to=relative_to)
    assert torch.equal(output, value[:1].expand(len(query), -1))
    assert report.error.value == 0.0
    # A constant coordinate that is not returned as it is refutes the certificate.
    wrong = {**report.error.witness, "output": output + 1e-6}
    if relative_to == "deviation":
        assert not dataclasses.replace(report.error, witness=wrong).recheck()


def test_auto_ends_where_one_head_is_constant():
    query, key, value = inputs(2304, 2304, 0.01, (2,))
    value[1] = 0
    output, report = attend(query, key, value, 0.1, relative_to="deviation")
    assert torch.equal(output[1], torch.zeros(2304, 3))
    assert report.error.value <= 0.1


def test_one_query_has_no_relative_error_and_the_tolerance_named_is_the_callers():
    query, key, value = inputs(1)
    with pytest.raises(ToleranceNotReachedError) as caught:
        attend(query, key, value, 1e-2, "polynomial", relative_to="deviation")
    assert caught.value.tol == 1e-2
    assert "was aimed at by a range error" in caught.value.reasons[-1]


@pytest.mark.parametrize("relative_to", ["range", "deviation"])
@pytest.mark.parametrize("fill", [math.nan, math.inf, -math.inf])
def test_an_answer_that_is_no_number_is_no_answer(relative_to, fill):
    query, key, value = inputs()
    value[:, 2] = 1.0
    output, report = attend(query, key, value, method="polynomial", relative_to=relative_to)
    for column in (0, 2):
        changed = output.clone()
        changed[3, column] = fill
        witness = {**report.error.witness, "output": changed}
        assert not dataclasses.replace(report.error, witness=witness).recheck()
        assert range_error(changed, output, torch.tensor([1.0, 1.0, 0.0])) == math.inf
        assert deviation_error(changed, output) == math.inf
        rows = torch.arange(64) % len(output)
        held = certify(changed[rows], output[rows], relative_to, torch.tensor([1.0, 1.0, 1.0]), 0.9)
        assert held.value == math.inf


@pytest.mark.parametrize("method", ["exact", "auto"])
@pytest.mark.parametrize("causal", [False, True])
def test_scores_beyond_float32_are_computed_rightly(method, causal):
    query, key, value = inputs(12, 12, 1e25)
    output, report = attend(query, key, value, method=method, causal=causal)
    scores = (query.double() @ key.double().mT) / 2
    if causal:
        scores = scores.masked_fill(~torch.ones(12, 12, dtype=torch.bool).tril(), -torch.inf)
    assert torch.equal(output, value[scores.argmax(dim=1)])
    assert report.error.value == 0.0


def test_sums_and_ranges_beyond_float32_are_computed_rightly():
    query, key, value = inputs()
    output, report = attend(query, key, 1e38 * value.sign() * 3, method="exact")
    assert bool(output.isfinite().all())
    assert 0 < report.error.value < 1e-6
    assert range_error(output + 1e37, output, torch.tensor([6e38] * 3, dtype=torch.float64)) > 0.01


@pytest.mark.parametrize("size", [1e160, 1e80])
def test_entries_whose_moments_float64_cannot_sum_are_refused(size):
    query, key, value = (item.double() for item in inputs())
    for named in ("query", "key", "value"):
        parts = {"query": query, "key": key, "value": value}
        parts[named] = parts[named] * size
        with pytest.raises(InputError, match=named):
            attend(**parts, method="polynomial")
    with pytest.raises(InputError, match="scale"):
        attend(query, key, value, method="polynomial", scale=size)


@pytest.mark.parametrize("size", [1e59, 1e-59])
def test_entries_just_below_are_no_crash(size):
    query, key, value = (item.double() for item in inputs())
    with pytest.raises(ToleranceNotReachedError):
        attend(query * 1e59, key * 1e59, value * size, 1e-3, "polynomial")
    output, report = attend(query / 1e59, key * 1e59, value * size, 1e-3, "polynomial")
    assert report.error.recheck()
    assert bool(output.isfinite().all())
