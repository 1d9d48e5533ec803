"""Landmarks, and both sampled methods by name, against exact attention: the error they state is there."""

import pytest
import torch

from helpers.attention_problems import exact_of, sampled_head, smooth_head
from helpers.tolerances import assert_close
from promptreach.fast_attention.fused import fused_attention
from promptreach.fast_attention.measure import deviation_error
from promptreach.fast_attention.sampled.landmark import fit_landmarks
from promptreach.inference import ToleranceNotReachedError, attend


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
    with pytest.raises(ToleranceNotReachedError, match="no number of slots"):
        attend(query, key, value, 0.05, method, causal=True)
    with pytest.raises(ToleranceNotReachedError):
        attend(query[:100], key, value, 0.05, method)
    with pytest.raises(ToleranceNotReachedError):
        attend(50 * query, key, value, 1e-9, method)


def test_outputs_stay_in_the_range_of_the_values() -> None:
    query, key, value = smooth_head(2000, 2000)
    sampled = sampled_head(query, key, value)
    landmarks, _, _ = fit_landmarks(sampled, 64, 128)
    far = landmarks(40 * sampled.query)
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
