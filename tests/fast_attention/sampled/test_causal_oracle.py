"""Causal heads in blocks: the pieces cover what is seen once, and answers agree with exact attention in float64."""

from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.attention_problems import smooth_head
from promptreach.fast_attention.measure import deviation_error, exact_rows
from promptreach.fast_attention.problem import AttentionProblem, Head
from promptreach.fast_attention.sampled import causal
from promptreach.fast_attention.sampled.causal import CausalHead
from promptreach.fast_attention.sampled.rows import SampledHead
from promptreach.fast_attention.tolerance import Request
from promptreach.inference import attend


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and leaves at sizes that a test can afford."""
    monkeypatch.setattr(causal, "LEAST", 1024)
    monkeypatch.setattr(causal, "LEAF", 128)


def request(relative_to: str = "deviation") -> Request:
    return Request(0.05, relative_to, torch.Generator().manual_seed(0), 2**24)


def causal_head(queries: int, keys: int, group: int = 1, hidden: int = 0) -> Head:
    query, key, value = smooth_head(queries * group, keys, 0.7)
    mask = torch.arange(keys) >= hidden
    return AttentionProblem(query.view(group, queries, 8), key[None], value[None], True, mask).head


def every_row(head: Head) -> Tensor:
    return exact_rows(head, torch.arange(len(head.rows))).mean


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("queries", "keys", "group", "hidden"), [(700, 700, 1, 0), (300, 2000, 2, 0), (900, 900, 2, 37), (1, 50, 1, 0)]
)
def test_every_query_meets_each_key_that_it_sees_once(queries: int, keys: int, group: int, hidden: int) -> None:
    head = causal_head(queries, keys, group, hidden)
    parts = CausalHead(head, request())
    met = torch.zeros(queries, len(head.key), dtype=torch.long)
    for piece in parts.pieces:
        met[piece.start : piece.stop, piece.first : piece.last] += 1
    visible = torch.arange(len(head.key)) < head.seen[:, None]
    assert bool((met[visible] == 1).all())
    # Beyond what it sees a query meets keys in leaves alone, where a mask hides them.
    for piece in parts.pieces:
        assert not piece.full or bool(visible[piece.start : piece.stop, piece.first : piece.last].all())
    torch.testing.assert_close(parts.output({}).double(), every_row(head), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("small")
def test_exact_rows_of_a_causal_head_are_those_of_the_definition_and_draws_see_something() -> None:
    head = causal_head(500, 500, 2, 40)
    sampled = SampledHead(head, request())
    assert int(sampled.seen[sampled.held].min()) > 0
    rows = torch.randperm(1000, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(sampled.exact(rows).double(), exact_rows(head, rows).mean, rtol=1e-4, atol=1e-5)
    output = sampled.with_exact_rows(torch.full((1000, 4), 7.0), rows[:10])
    torch.testing.assert_close(output[rows[:10]].double(), exact_rows(head, rows[:10]).mean, rtol=1e-4, atol=1e-5)
    assert bool((output[rows[10:]] == 7.0).all())


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("relative_to", ["deviation", "range"])
@pytest.mark.parametrize(("method", "size"), [("landmark", 0.7), ("clustered", 2.0)])
def test_causal_methods_keep_to_the_tolerance(method: str, size: float, relative_to: str) -> None:
    query, key, value = smooth_head(4096, 4096, size)
    options: dict[str, Any] = {"causal": True, "relative_to": relative_to}
    # The claims hold for 59 of 60 draws of the held-out rows, or more; this is one of them.
    drawn = torch.Generator().manual_seed(2)
    output, report = attend(query, key, value, 0.1, method, generator=drawn, **options)
    exact = every_row(AttentionProblem(query[None], key[None], value[None], True).head)
    assert report.method == method
    assert report.error.value <= 0.1
    assert "held-out" in report.error.sample
    if relative_to == "deviation":
        assert deviation_error(output, exact) <= 0.1
        missed, cap = (output - exact).norm(dim=1), report.error.witness["cap"]
        assert float((missed > cap).double().mean()) <= report.error.witness["fraction"]
        assert float(missed.clamp_max(cap).norm() / (exact - exact.mean(dim=0)).norm()) <= report.error.value
    else:
        spread = (value.amax(dim=0) - value.amin(dim=0)).double()
        errors = ((output - exact).abs() / spread).amax(dim=1)
        assert float((errors > report.error.value).double().mean()) <= report.error.witness["fraction"]
    again, _ = attend(query, key, value, 0.1, method, generator=drawn.manual_seed(2), **options)
    assert torch.equal(output, again)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("method", ["landmark", "clustered"])
def test_the_last_queries_of_a_long_cache_groups_and_padding(method: str) -> None:
    head = causal_head(2048, 4096, 2, 64)
    query, key, value = smooth_head(2 * 2048, 4096, 0.7)
    options: dict[str, Any] = {"causal": True, "mask": torch.arange(4096) >= 64, "relative_to": "deviation"}
    output, report = attend(query.view(2, 2048, 8), key[None], value[None], 0.2, method, **options)
    assert deviation_error(output.flatten(0, 1), every_row(head)) <= 0.2
    assert report.error.value <= 0.2


@pytest.mark.usefixtures("small")
def test_a_query_sees_nothing_of_later_keys_and_padding_gives_nothing() -> None:
    query, key, value = smooth_head(4096, 4096, 0.7)
    changed_key, changed_value = key.clone(), value.clone()
    changed_value[3000:] += 100.0
    mask = torch.arange(4096) >= 10
    output, _ = attend(query, changed_key, changed_value, 0.1, "landmark", causal=True, mask=mask)
    exact = exact_rows(AttentionProblem(query[None], key[None], value[None], True, mask).head, torch.arange(3000)).mean
    assert bool((output[:10] == 0).all())
    # Were any of the raised values seen, it would show by tens.
    assert float((output[:3000] - exact).abs().max()) < 10.0
