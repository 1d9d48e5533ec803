"""The planner: the cheapest method that holds, exact attention where none does, and the same choice every time."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from helpers.attention_problems import exact_of, smooth_head
from promptreach.evidence import Evidence
from promptreach.fast_attention import planner, problem
from promptreach.fast_attention.measure import deviation_error, range_error
from promptreach.fast_attention.polynomial import method
from promptreach.fast_attention.problem import checked_problem
from promptreach.fast_attention.sampled import clustered, landmark, rows
from promptreach.fast_attention.tolerance import Request
from promptreach.inference import attend


@pytest.fixture
def small_pilots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans at sizes that a test can afford."""
    monkeypatch.setattr(planner, "LEAST_ROWS", 2**11)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def peaked_head(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Every query looks for one key, and values are unrelated: no method but the exact one helps."""
    generator = torch.Generator().manual_seed(0)
    key = torch.randn(n, 16, generator=generator)
    query = 20 * key[torch.randperm(n, generator=generator)]
    return query, key, torch.randn(n, 3, generator=generator)


def test_small_problems_are_exact_without_a_plan() -> None:
    query, key, value = smooth_head(64, 64)
    output, report = attend(query, key, value)
    assert report.method == "exact"
    assert report.plan == ()
    torch.testing.assert_close(output, exact_of(query, key, value).float(), rtol=1e-4, atol=1e-5)


def test_half_precision_is_exact() -> None:
    query, key, value = (item.bfloat16() for item in smooth_head(2100, 2100))
    output, report = attend(query, key, value)
    assert report.method == "exact"
    assert output.dtype == torch.bfloat16


@pytest.mark.usefixtures("small_pilots")
@pytest.mark.parametrize(("size", "tol"), [(0.6, 0.05), (2.0, 0.05), (0.1, 0.01)])
def test_the_plan_keeps_to_the_tolerance(size: float, tol: float) -> None:
    query, key, value = smooth_head(8192, 8192, size)
    output, report = attend(query, key, value, tol, relative_to="deviation")
    assert report.error.value <= tol
    assert deviation_error(output[::7], exact_of(query[::7], key, value)) <= tol
    again, same = attend(query, key, value, tol, relative_to="deviation")
    assert torch.equal(output, again)
    assert same.method == report.method
    assert same.plan == report.plan


@pytest.mark.usefixtures("small_pilots")
def test_hard_heads_fall_back_to_exact_and_say_why() -> None:
    query, key, value = peaked_head(4096)
    output, report = attend(query, key, value, 1e-3, relative_to="deviation")
    assert report.method == "exact"
    assert report.plan[-1].method == "exact"
    assert report.reasons
    assert deviation_error(output, exact_of(query, key, value)) <= 1e-3


@pytest.mark.usefixtures("small_pilots")
def test_every_head_gets_its_own_method() -> None:
    easy, hard = smooth_head(4096, 4096, 0.3), peaked_head(4096)
    query = torch.stack([torch.nn.functional.pad(easy[0], (0, 8)) * 2**0.5, hard[0]])
    key = torch.stack([torch.nn.functional.pad(easy[1], (0, 8)), hard[1]])
    value = torch.stack([easy[2][:, :3], hard[2]])
    output, report = attend(query, key, value, 0.05, relative_to="deviation")
    assert report.method == "auto"
    assert "exact 1" in report.reasons[0]
    for head in range(2):
        assert deviation_error(output[head], exact_of(query[head], key[head], value[head])) <= 0.05


@pytest.mark.usefixtures("small_pilots")
def test_causal_problems_are_answered() -> None:
    query, key, value = smooth_head(2500, 2500, 0.5)
    output, report = attend(query, key, value, 0.01, causal=True)
    truth = scaled_dot_product_attention(
        *(item.double()[None, None] for item in (query, key, torch.nn.functional.pad(value, (0, 4)))), is_causal=True
    )[0, 0, :, :4]
    assert report.error.value <= 0.01
    assert range_error(output, truth, value.amax(dim=0) - value.amin(dim=0)) <= 0.01


def test_easy_scores_are_offered_to_the_polynomial() -> None:
    query, key, value = smooth_head(3000, 3000, 0.1)
    _, report = attend(query, key, value, 1e-3)
    assert report.plan[0].method == "polynomial"
    assert report.plan[0].seconds < 0.3 * attend(50 * query, 50 * key, value, 1e-3)[1].plan[-1].seconds
    _, report = attend(50 * query, 50 * key, value, 1e-3)
    assert [entry.method for entry in report.plan] == ["exact"]


def test_few_directions_are_offered_to_the_polynomial_however_large_their_scores() -> None:
    """The rank of queries and keys decides before their sizes: such scores are cheap in two directions, not in 32."""
    lift = torch.linalg.qr(torch.randn(32, 2, generator=seeded())).Q
    generator = seeded()
    query, key = ((torch.rand(3000, 2, generator=generator) * 4 - 2) @ lift.mT for _ in range(2))
    query, key = (item + 1e-6 * torch.randn(3000, 32, generator=generator) for item in (query, key))
    value = torch.randn(3000, 4, generator=generator)
    output, report = attend(query, key, value, 1e-3, scale=1.0)
    assert float((query @ key.mT).abs().max()) > 7
    assert report.method == "polynomial"
    assert report.error.evidence is Evidence.PROVED
    truth = exact_of(query * 32**0.5, key, value)
    assert range_error(output, truth, value.amax(dim=0) - value.amin(dim=0)) <= report.error.value <= 1e-3
    full = [torch.randn(3000, 32, generator=generator) for _ in range(2)]
    _, report = attend(full[0], full[1], value, 1e-3, scale=7 / float((full[0] @ full[1].mT).abs().max()))
    assert [entry.method for entry in report.plan] == ["exact"]


def test_entries_are_scanned_once_whatever_the_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planner cuts heads out of a problem that was checked; it does not check them again."""
    scanned = []
    monkeypatch.setattr(method, "QUICK_WORK", 0)  # a second path begins from the tensors again
    heads = 3
    monkeypatch.setattr(problem, "entry_faults", lambda named, *_: scanned.append(tuple(named)) or [])
    query, key, value = (item.expand(heads, -1, -1) for item in smooth_head(2100, 2100, 0.1))
    _, report = attend(query, key, value, 1e-3)
    assert report.plan
    # Once here, and by the statements of certificates, which trust no witness: of each head, and of all together.
    assert scanned == [("query", "key", "value")] * (1 + 2 * heads)


@pytest.mark.usefixtures("small_pilots")
def test_pilots_are_charged_and_end_early_where_their_first_rows_say_no(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    exact = rows.SampledHead.exact
    monkeypatch.setattr(rows.SampledHead, "exact", lambda self, some: looked.append(len(some)) or exact(self, some))
    fitted: list[int] = []
    fit = landmark.fit_landmarks
    monkeypatch.setattr(
        landmark,
        "fit_landmarks",
        lambda head, slots, *args, **options: fitted.append(slots) or fit(head, slots, *args, **options),
    )
    for name in ("AT_RISK", "WORTH"):
        monkeypatch.setattr(planner, name, 10.0)
    monkeypatch.setattr(clustered, "NEAR", (0.0, 0.5))  # all groups near would be exact
    query, key, value = peaked_head(4096)
    context = planner.HeadContext(
        checked_problem(query[None], key[None], value[None]), Request(1e-3, "deviation", seeded(), 2**26)
    )
    assert list(planner._plans(context)) == []
    # An eighth of the landmarks' rows, a quarter of the trial rows, and a quarter of the clusters' blocks.
    assert fitted == [64]
    assert sum(looked) == rows.FIRST_ROWS + clustered.FIRST_BLOCKS * clustered.PILOT_ROWS
    assert 0 < context.charged < context.pairs


@pytest.mark.usefixtures("small_pilots")
def test_what_pilots_cost_stands_in_every_plan_behind_them_and_is_taken_off_what_may_be_tried() -> None:
    query, key, value = smooth_head(8192, 8192, 0.6)
    problem = checked_problem(query[None], key[None], value[None])
    context = planner.HeadContext(problem, Request(0.05, "deviation", seeded(), 2**26))
    before = planner._left(context)
    plan = planner.LANDMARK.plan(context)
    assert plan is not None
    assert context.charged >= (landmark.SIZES[0][1] + rows.TRIAL_ROWS) * 8192
    assert planner._left(context) == before - context.charged
    assert plan.entry(context.charged).seconds > plan.entry().seconds
