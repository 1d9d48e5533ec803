"""Landmarks and clusters against exact attention: the error they state is there, and the pieces do what they say."""

import pytest
import torch

from helpers.attention_problems import exact_of, smooth_head
from helpers.tolerances import assert_close
from promptreach.attention import statistics
from promptreach.errors import InputError
from promptreach.fast_attention.fused import fused_attention, fused_statistics
from promptreach.fast_attention.job import HeadJob
from promptreach.fast_attention.measure import deviation_error
from promptreach.fast_attention.moved import move_landmarks
from promptreach.fast_attention.problem import Head
from promptreach.fast_attention.sampled.centres import draw_slots
from promptreach.fast_attention.sampled.clustered import attend_clustered, cluster
from promptreach.fast_attention.sampled.groups import bisect, metric
from promptreach.fast_attention.sampled.landmark import fit_landmarks, trial_error
from promptreach.fast_attention.sampled.refit import RIDGES, Refit
from promptreach.inference import ToleranceNotReachedError, attend


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0.1, 1.0, 4.0])
def test_fused_statistics_are_the_definition(size: float, dtype: torch.dtype) -> None:
    query, key, value = smooth_head(50, 333, size, dtype)
    query, key = query * 8**-0.5, key - key.mean(dim=0)
    weight = torch.linspace(-2, 1, len(key), dtype=dtype)
    for log_weight in (None, weight):
        got = fused_statistics(query, key, value, log_weight)
        mask = None if log_weight is None else log_weight.double()[None]
        truth = statistics(query.double(), key.double(), value.double(), 1.0, mask)
        assert_close(got.log_mass, truth.log_mass, "fused statistic")
        assert_close(got.mean, truth.mean, "fused statistic")


def test_groups_hold_every_point_with_weight_one() -> None:
    points = torch.randn(1003, 5, generator=torch.Generator().manual_seed(0))
    groups = bisect(points, 64)
    assert groups.index.shape == (64, 16)
    weight = torch.zeros(1003).index_add_(0, groups.index.flatten(), groups.log_weight.flatten().exp())
    assert_close(weight, torch.ones(1003), "fused statistic")
    inside = (points[groups.index] - points[groups.index].mean(dim=1, keepdim=True)).square().sum()
    assert float(inside) < 0.5 * float((points - points.mean(dim=0)).square().sum())
    assert torch.equal(groups.index, bisect(points, 64).index)


def test_metric_measures_score_differences() -> None:
    query, key, _ = smooth_head(500, 20, dtype=torch.float64)
    centred = query - query.mean(dim=0)
    seen = (centred @ (key[0] - key[1])).square().mean().sqrt()
    assert_close(((key[0] - key[1]) @ metric(query)).norm(), seen, "fused statistic")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_groups_near_is_exact_attention(dtype: torch.dtype) -> None:
    query, key, value = smooth_head(150, 333, 2.0, dtype)
    problem = cluster(query * 8**-0.5, key - key.mean(dim=0), value, 8, 16)
    output, _ = attend_clustered(problem, 10_000, 2**24)
    assert_close(output, exact_of(query, key, value).to(dtype), "fused statistic")


def test_near_keys_lower_the_error_and_risk_finds_the_rows() -> None:
    query, key, value = smooth_head(2000, 3000, 3.0)
    exact = exact_of(query, key, value)
    problem = cluster(query * 8**-0.5, key - key.mean(dim=0), value, 16, 64)
    errors = []
    for near in (0, 500, 1500):
        output, risk = attend_clustered(problem, near, 2**28)
        errors.append(deviation_error(output, exact))
        squares = (output - exact).square().sum(dim=1)
        risky = risk.topk(200).indices
        assert float(squares[risky].mean()) > 2 * float(squares.mean())
    assert errors[0] > errors[1] > errors[2]
    job = HeadJob.of(Head(query[None], key, value, 8**-0.5), "deviation", 0.05, torch.Generator().manual_seed(0))
    mended = job.with_exact_rows(output, risky)
    assert_close(mended[risky], exact[risky].float(), "fused statistic")
    assert deviation_error(mended, exact) < errors[2]


def test_workspace_changes_nothing() -> None:
    query, key, value = smooth_head(1000, 1500)
    problem = cluster(query, key - key.mean(dim=0), value, 16, 64)
    small, _ = attend_clustered(problem, 200, 2**20)
    large, _ = attend_clustered(problem, 200, 2**28)
    assert_close(small, large, "fused statistic")


def test_refit_is_the_ridge_solution_on_either_side() -> None:
    query, key, value = smooth_head(400, 900, dtype=torch.float64)
    query, key = query * 8**-0.5, key - key.mean(dim=0)
    exact = fused_statistics(query, key, value)
    slots = draw_slots(query, exact.log_mass[:64], key, value, 60, torch.Generator().manual_seed(0))
    for rows in (30, 300):
        part = type(exact)(exact.log_mass[:rows], exact.mean[:rows])
        refit = Refit(query[:rows], part, slots, value)
        assert refit.dual == (rows < len(slots.key))
        ridge = 1e-3 * rows / 1000
        normal = refit.phi.T @ refit.phi + ridge * torch.eye(len(slots.key), dtype=torch.float64)
        wanted = refit.prior + torch.linalg.solve(normal, refit.phi.T @ refit.rest)
        landmarks = refit.landmarks(1e-3)
        assert landmarks is not None
        assert_close(landmarks.weight, wanted[:, -1] / refit.unit, "fused statistic")
        assert_close(landmarks.numerator, wanted[:, :-1] + landmarks.weight[:, None] * refit.middle, "fused statistic")


def test_slots_stand_for_all_keys() -> None:
    """Unfitted slots have about the right mass and mean at the mean query."""
    query, key, value = smooth_head(400, 3000, dtype=torch.float64)
    query, key = query * 8**-0.5, key - key.mean(dim=0)
    exact = fused_statistics(query, key, value)
    slots = draw_slots(query, exact.log_mass[:64], key, value, 500, torch.Generator().manual_seed(0))
    middle = query.mean(dim=0, keepdim=True)
    seen, truth = fused_statistics(middle, slots.key, slots.value, slots.bias), fused_statistics(middle, key, value)
    assert abs(float(seen.log_mass - truth.log_mass)) < 0.1
    assert float((seen.mean - truth.mean).abs().max()) < 0.1


def test_moved_landmarks_need_fewer_slots() -> None:
    query, key, value = smooth_head(3000, 3000)
    job = HeadJob.of(Head(query[None], key, value, 8**-0.5), "deviation", 0.05, torch.Generator().manual_seed(0))
    fitted, exact = job.fit_rows(1000)
    slots = draw_slots(fitted, exact.log_mass[:64], job.key, job.value, 24, torch.Generator().manual_seed(0))
    fits = [Refit(fitted, exact, slots, value).landmarks(ridge) for ridge in RIDGES]
    start = min(trial_error(job, found) for found in fits if found is not None)
    assert trial_error(job, move_landmarks(fitted, exact, slots, job.value)) < 0.6 * start


@pytest.mark.parametrize("relative_to", ["deviation", "range"])
@pytest.mark.parametrize(("method", "size"), [("landmark", 0.7), ("clustered", 2.0)])
def test_methods_keep_to_the_tolerance(method: str, size: float, relative_to: str) -> None:
    query, key, value = smooth_head(4096, 4096, size)
    output, report = attend(query, key, value, 0.05, method, relative_to=relative_to)
    exact = exact_of(query, key, value)
    assert report.method == method
    assert report.error.value <= 0.05
    assert report.error.confidence == 0.95
    if relative_to == "deviation":
        assert deviation_error(output, exact) <= report.error.value
    else:
        spread = (value.amax(dim=0) - value.amin(dim=0)).double()
        errors = ((output - exact).abs() / spread).amax(dim=1)
        assert float((errors > report.error.value).double().mean()) <= report.error.witness["fraction"]
    again, same = attend(query, key, value, 0.05, method, relative_to=relative_to)
    assert torch.equal(output, again)
    assert same.error.value == report.error.value


@pytest.mark.parametrize("method", ["landmark", "clustered"])
def test_batches_groups_and_masks(method: str) -> None:
    query, key, value = smooth_head(4 * 1100, 1300, 0.7)
    query = query.view(2, 2, 1100, 8)
    mask = torch.ones(2, 1300, dtype=torch.bool)
    mask[1, 1200:] = False
    output, report = attend(
        query, key.expand(2, 1, -1, -1), value.expand(2, 1, -1, -1), 0.2, method, mask=mask, relative_to="deviation"
    )
    assert output.shape == (2, 2, 1100, 4)
    for row, count in ((0, 1300), (1, 1200)):
        for head in range(2):
            exact = exact_of(query[row, head], key[:count], value[:count])
            assert deviation_error(output[row, head], exact) <= 0.2
    # Of all four heads together.
    assert report.error.confidence == 0.95


@pytest.mark.parametrize("method", ["landmark", "clustered"])
def test_what_cannot_be_is_refused(method: str) -> None:
    query, key, value = smooth_head(2048, 2048)
    with pytest.raises(ToleranceNotReachedError, match="every query sees every key"):
        attend(query, key, value, 0.05, method, causal=True)
    with pytest.raises(ToleranceNotReachedError):
        attend(query[:100], key, value, 0.05, method)
    with pytest.raises(ToleranceNotReachedError):
        attend(50 * query, key, value, 1e-9, method)


def test_more_landmarks_than_keys_are_refused_with_more_rows_than_queries() -> None:
    query, key, value = smooth_head(300, 200)
    job = HeadJob.of(Head(query[None], key, value, 8**-0.5), "deviation", 0.05, torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="201") as caught:
        fit_landmarks(job, 201, 301)
    assert len(caught.value.faults) == 2


def test_outputs_stay_in_the_range_of_the_values() -> None:
    query, key, value = smooth_head(2000, 2000)
    job = HeadJob.of(Head(query[None], key, value, 8**-0.5), "deviation", 0.05, torch.Generator().manual_seed(0))
    landmarks, _ = fit_landmarks(job, 64, 128)
    far = landmarks(40 * job.query)
    assert bool(far.mean.isfinite().all())
    assert bool(((far.mean >= value.amin(dim=0)) & (far.mean <= value.amax(dim=0))).all())


def test_gradients_through_landmarks_are_near_those_of_exact_attention() -> None:
    inputs = [item.requires_grad_() for item in smooth_head(2600, 2600, 0.7, torch.float64)]
    target = torch.randn(2600, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    output, _ = attend(*inputs, tol=0.05, method="landmark", relative_to="deviation")
    gradients = torch.autograd.grad((output * target).sum(), inputs)
    truths = torch.autograd.grad((fused_attention(inputs[0] * 8**-0.5, *inputs[1:]) * target).sum(), inputs)
    for gradient, truth in zip(gradients, truths, strict=True):
        off = (gradient - truth).norm() / truth.norm()
        assert_close(off, torch.zeros_like(off), "approximate gradient")


def test_gradients_with_all_groups_near_are_exact() -> None:
    """What is approximate is only the value of a slot; nothing between inputs and output is cut off."""
    inputs = [item.requires_grad_() for item in smooth_head(120, 250, 1.0, torch.float64)]
    target = torch.randn(120, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    problem = cluster(inputs[0] * 8**-0.5, inputs[1], inputs[2], 8, 16)
    gradients = torch.autograd.grad((attend_clustered(problem, 10_000, 2**22)[0] * target).sum(), inputs)
    truths = torch.autograd.grad((fused_attention(inputs[0] * 8**-0.5, *inputs[1:]) * target).sum(), inputs)
    for gradient, truth in zip(gradients, truths, strict=True):
        assert_close(gradient, truth, "attention gradient")


def test_gradients_flow_through_slots() -> None:
    inputs = [item.requires_grad_() for item in smooth_head(500, 600, 0.3, torch.float64)]
    target = torch.randn(500, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    problem = cluster(inputs[0] * 8**-0.5, inputs[1], inputs[2], 16, 64)
    gradients = torch.autograd.grad((attend_clustered(problem, 100, 2**24)[0] * target).sum(), inputs)
    truths = torch.autograd.grad((fused_attention(inputs[0] * 8**-0.5, *inputs[1:]) * target).sum(), inputs)
    for gradient, truth in zip(gradients, truths, strict=True):
        off = (gradient - truth).norm() / truth.norm()
        assert_close(off, torch.zeros_like(off), "approximate gradient")


def test_unusual_rows_come_first() -> None:
    query, key, value = smooth_head(500, 400)
    query[123] = 10 * query[123] + 5
    job = HeadJob.of(Head(query[None], key, value, 8**-0.5), "deviation", 0.05, torch.Generator().manual_seed(0))
    assert int(job.unusual_rows()[0]) == 123
    assert sorted(job.unusual_rows().tolist()) == list(range(500))
