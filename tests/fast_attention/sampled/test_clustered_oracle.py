"""Clustered attention against exact attention: risks, near keys and gradients."""

import pytest
import torch

from helpers.attention_problems import exact_of, sampled_head, smooth_head
from helpers.tolerances import assert_close
from promptreach.fast_attention.fused import fused_attention
from promptreach.fast_attention.measure import deviation_error
from promptreach.fast_attention.sampled.clustered import attend_clustered, cluster


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_groups_near_is_exact_attention(dtype: torch.dtype) -> None:
    query, key, value = smooth_head(150, 333, 2.0, dtype)
    problem = cluster(query * 8**-0.5, key - key.mean(dim=0), value, 8, 16)
    seen, _ = attend_clustered(problem, 10_000, 2**24)
    assert_close(seen.mean, exact_of(query, key, value).to(dtype), "fused statistic")
    masses = torch.logsumexp((query @ (key - key.mean(dim=0)).mT).double() * 8**-0.5, dim=1)
    assert_close(seen.lse, masses.to(dtype), "fused statistic")


def test_near_keys_lower_the_error_and_risk_finds_the_rows() -> None:
    query, key, value = smooth_head(2000, 3000, 3.0)
    exact = exact_of(query, key, value)
    problem = cluster(query * 8**-0.5, key - key.mean(dim=0), value, 16, 64)
    errors = []
    for near in (0, 500, 1500):
        seen, risk = attend_clustered(problem, near, 2**28)
        output = seen.mean
        errors.append(deviation_error(output, exact))
        squares = (output - exact).square().sum(dim=1)
        risky = risk.topk(200).indices
        assert float(squares[risky].mean()) > 2 * float(squares.mean())
    assert errors[0] > errors[1] > errors[2]
    sampled = sampled_head(query, key, value)
    mended = sampled.with_exact_rows(output, risky)
    assert_close(mended[risky], exact[risky].float(), "fused statistic")
    assert deviation_error(mended, exact) < errors[2]


def test_workspace_changes_nothing() -> None:
    query, key, value = smooth_head(1000, 1500)
    problem = cluster(query, key - key.mean(dim=0), value, 16, 64)
    small, _ = attend_clustered(problem, 200, 2**20)
    large, _ = attend_clustered(problem, 200, 2**28)
    assert_close(small.mean, large.mean, "fused statistic")
    assert_close(small.lse, large.lse, "fused statistic")


def test_gradients_with_all_groups_near_are_exact() -> None:
    """What is approximate is only the value of a slot; nothing between inputs and output is cut off."""
    inputs = [item.requires_grad_() for item in smooth_head(120, 250, 1.0, torch.float64)]
    target = torch.randn(120, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    problem = cluster(inputs[0] * 8**-0.5, inputs[1], inputs[2], 8, 16)
    gradients = torch.autograd.grad((attend_clustered(problem, 10_000, 2**22)[0].mean * target).sum(), inputs)
    truths = torch.autograd.grad((fused_attention(inputs[0] * 8**-0.5, *inputs[1:]) * target).sum(), inputs)
    for gradient, truth in zip(gradients, truths, strict=True):
        assert_close(gradient, truth, "attention gradient")


def test_gradients_flow_through_slots() -> None:
    inputs = [item.requires_grad_() for item in smooth_head(500, 600, 0.3, torch.float64)]
    target = torch.randn(500, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    problem = cluster(inputs[0] * 8**-0.5, inputs[1], inputs[2], 16, 64)
    gradients = torch.autograd.grad((attend_clustered(problem, 100, 2**24)[0].mean * target).sum(), inputs)
    truths = torch.autograd.grad((fused_attention(inputs[0] * 8**-0.5, *inputs[1:]) * target).sum(), inputs)
    for gradient, truth in zip(gradients, truths, strict=True):
        off = (gradient - truth).norm() / truth.norm()
        assert_close(off, torch.zeros_like(off), "approximate gradient")
