"""What is wrong with a call is said by name, all of it at once, before any work."""

import pytest
import torch
from jaxtyping import config as jaxtyping_config

from promptreach.errors import InputError
from promptreach.fast_attention.problem import checked_problem
from promptreach.inference import ToleranceNotReachedError, attend


@pytest.fixture(autouse=True)
def shapes_unchecked(monkeypatch):
    """Users run without the shape checks of the test run, which would speak first."""
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)


QUERY, KEY, VALUE = torch.ones(2, 5, 4), torch.ones(2, 6, 4), torch.ones(2, 6, 3)


def faults(*tensors, **options) -> list[str]:
    with pytest.raises(InputError) as caught:
        attend(*(tensors or (QUERY, KEY, VALUE)), **options)
    return [str(fault) for fault in caught.value.faults]


def entry(tensor, value):
    changed = tensor.clone()
    changed[..., 1, 2] = value
    return changed


@pytest.mark.parametrize(
    ("tensors", "options", "parts"),
    [
        ((QUERY, KEY[..., :3], VALUE), {}, ("key", "head_dim 3", "4")),
        ((QUERY, KEY, VALUE[:, :5]), {}, ("value", "n 5", "6")),
        ((QUERY, KEY, VALUE[:1]), {}, ("value", "kv_heads 1", "2")),
        ((torch.ones(3, 5, 4), KEY, VALUE), {}, ("key", "2 key/value heads", "divisor of the 3")),
        ((QUERY[None], KEY.expand(2, 2, 6, 4), VALUE[None]), {}, ("key", "batch axes (2,)", "(1,)")),
        ((QUERY[:, :0], KEY, VALUE), {}, ("query", "empty tensor of shape (2, 0, 4)")),
        ((QUERY, KEY[:, :0], VALUE[:, :0]), {}, ("key", "empty tensor")),
        ((torch.ones(4), KEY, VALUE), {}, ("query", "shape (4,)", "at least 2 axes")),
        ((QUERY.int(), KEY, VALUE), {}, ("query", "dtype torch.int32", "floating point")),
        ((entry(QUERY, torch.nan), KEY, VALUE), {}, ("query", "nan at (0, 1, 2)", "2 such entries")),
        ((QUERY, entry(KEY, torch.inf), VALUE), {}, ("key", "inf at")),
        ((QUERY, KEY, entry(VALUE, -torch.inf)), {}, ("value", "-inf at")),
        ((), {"tol": 0.0}, ("tol", "0.0", "positive")),
        ((), {"tol": -1.0}, ("tol", "-1.0", "positive")),
        ((), {"tol": float("nan")}, ("tol", "nan", "positive")),
        ((), {"method": "fast"}, ("method", "'fast'", "polynomial")),
        ((), {"relative_to": "max"}, ("relative_to", "'max'", "deviation")),
        ((), {"workspace": 10}, ("workspace", "10 bytes")),
        ((), {"scale": 0.0}, ("scale", "0.0")),
        ((), {"scale": float("inf")}, ("scale", "inf")),
        ((), {"mask": torch.zeros(6, dtype=torch.bool)}, ("mask", "no visible key", "at least one")),
        ((), {"mask": torch.ones(5, dtype=torch.bool)}, ("mask", "shape (5,)", "(6,)")),
        ((torch.ones(2, 7, 4), KEY, VALUE), {"causal": True}, ("query", "7 queries for 6 keys")),
        ((QUERY.half(), KEY.half(), VALUE.half()), {"method": "polynomial"}, ("float16", "certify", ".float()")),
        ((QUERY, KEY, VALUE.bfloat16()), {"method": "polynomial"}, ("bfloat16", "certify")),
    ],
)
def test_each_fault_is_named(tensors, options, parts):
    told = faults(*tensors, **options)
    assert any(all(part in fault for part in parts) for fault in told), told


def test_all_faults_come_at_once():
    told = faults(QUERY, KEY[..., :3], VALUE[:, :5], tol=-1.0, method="fast", relative_to="max")
    assert len(told) == 5


def test_a_mask_of_another_dtype_is_named():
    (told,) = faults(mask=torch.ones(6))
    assert "mask: dtype torch.float32" in told


def test_large_finite_entries_are_not_taken_for_infinite_ones():
    large = torch.full((2, 6, 3), 3e38)
    assert not large.sum().isfinite()
    assert checked_problem(QUERY, KEY, large).value is large


def test_a_reduced_precision_of_products_is_refused():
    torch.set_float32_matmul_precision("medium")
    try:
        (told,) = faults(method="polynomial")
    finally:
        torch.set_float32_matmul_precision("highest")
    assert "'medium'" in told


def test_an_unreachable_tolerance_is_told_with_its_reason():
    generator = torch.Generator().manual_seed(0)
    query, key, value = (3 * torch.randn(50, 16, generator=generator) for _ in range(3))
    with pytest.raises(ToleranceNotReachedError) as caught:
        attend(query, key, value, 1e-3, "polynomial")
    assert caught.value.tol == 1e-3
    assert "nats" in caught.value.reasons[0]
    assert 'method="auto"' in str(caught.value)
    with pytest.raises(ToleranceNotReachedError, match="rounding"):
        attend(query / 9, key / 9, value + 1e6, 1e-6, "polynomial")
