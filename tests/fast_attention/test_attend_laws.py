"""Gradients through the fast path: those of exact attention, up to the error that the output may have."""

import pytest
import torch

from helpers.tolerances import assert_close
from promptreach.inference import attend


def inputs(causal: bool, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    shapes = ((2, 4, 40, 3), (2, 2, 50, 3), (2, 2, 50, 2))
    tensors = [0.5 * torch.randn(*shape, generator=generator, dtype=dtype) for shape in shapes]
    tensors[1] += 1  # a mean key and a mean query, so that the free moves have work to do
    tensors[0] += 1
    mask = torch.ones(2, 50, dtype=torch.bool)
    mask[1, :7] = False
    weights = torch.randn(2, 4, 40, 2, generator=generator, dtype=dtype)
    return [tensor.requires_grad_() for tensor in tensors], mask, weights


def gradients(method: str, causal: bool, tol: float):
    tensors, mask, weights = inputs(causal)
    output, _ = attend(*tensors, tol, method, causal, mask=mask)
    return torch.autograd.grad((output * weights).sum(), tensors)


@pytest.mark.parametrize("causal", [False, True])
def test_polynomial_gradients_are_those_of_attention(causal, monkeypatch):
    monkeypatch.setattr("promptreach.fast_attention.polynomial._causal.CHUNK", 16)
    for found, wanted in zip(gradients("polynomial", causal, 1e-8), gradients("exact", causal, 1e-8), strict=True):
        assert_close(found, wanted, "polynomial gradient")


def test_a_prompt_trains_through_the_polynomial_method():
    """Prompt keys and values as parameters: the loss falls, as it does through exact attention."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (0.3 * torch.randn(60, 4, generator=generator) for _ in range(3))
    target = value.mean(dim=0) + 0.2
    prompt = [torch.zeros(3, 4, requires_grad=True) for _ in range(2)]
    optimiser = torch.optim.Adam(prompt, 0.3)
    losses = []
    for _ in range(12):
        output, report = attend(query, torch.cat([prompt[0], key]), torch.cat([prompt[1], value]), 1e-3, "polynomial")
        assert report.error.value <= 1e-3
        loss = (output - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_no_graph_is_kept_where_none_is_asked_for():
    tensors, mask, _ = inputs(False)
    with torch.no_grad():
        output, _ = attend(*tensors, 1e-3, "polynomial", mask=mask)
    assert not output.requires_grad
