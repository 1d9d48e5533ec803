"""Pieces of the claims' experiments: random heads, searches by gradients, compiled functions, times."""

import statistics
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor

from promptreach.compiler import CompiledBackbone, TargetFunction, measure
from promptreach.compiler.gallery import random_function
from promptreach.weights import AttentionWeights

Value = TypeVar("Value")


def errors_by_prompt(
    backbone: CompiledBackbone, target: TargetFunction, seed: int, points: int = 20_000
) -> tuple[float, float]:
    """The error measured where a prompt alone makes `backbone` the function `target`, and the certified one."""
    prompt = backbone.prompt_for(target)
    assert prompt.certificate is not None
    return measure(backbone, prompt, target, points, seed=seed).error.value, prompt.certificate.value


def largest_errors(backbone: CompiledBackbone, count: int, seed: int, points: int = 20_000) -> tuple[float, float]:
    """The largest measured and the largest certified error over `count` random functions of Lipschitz constant 1."""
    dim, tokens = backbone.plan.dim, backbone.plan.tokens
    targets = [random_function(dim, tokens, 1.0, seed + index) for index in range(count)]
    errors = [errors_by_prompt(backbone, target, seed + 100 + index, points) for index, target in enumerate(targets)]
    return max(measured for measured, _ in errors), max(certified for _, certified in errors)


def timed(call: Callable[[], Value], repeats: int) -> tuple[float, Value]:
    """The median of the seconds that `call` takes, and what it returned last.

    Args:
        call: deterministic.
        repeats: at least 1.
    """
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        value = call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), value


def random_head(hidden_size: int, head_dim: int, generator: torch.Generator) -> AttentionWeights:
    """One head with normal weights whose scores on normal tokens have a deviation of about one nat."""

    def draw(rows: int) -> Tensor:
        weights: Tensor = torch.randn(1, rows, hidden_size, generator=generator, dtype=torch.float64) / hidden_size**0.5
        return weights

    return AttentionWeights(draw(head_dim), draw(head_dim), draw(head_dim))


def least_error(starts: Iterable[list[Tensor]], outputs: Callable[..., Tensor], targets: Tensor, steps: int) -> float:
    """The least root-mean-square error that L-BFGS sees from any of the starts, over that of the targets.

    Args:
        starts: parameters to begin at, one list a start; they are moved in place.
        outputs: of the parameters, of the shape of `targets`.
        targets: not all 0.
        steps: of each search, at most.
    """
    size = float(targets.square().mean().sqrt())
    return min(_least_error_from(start, outputs, targets, steps) for start in starts) / size


def _least_error_from(parameters: list[Tensor], outputs: Callable[..., Tensor], targets: Tensor, steps: int) -> float:
    for parameter in parameters:
        parameter.requires_grad_()
    search = torch.optim.LBFGS(
        parameters, max_iter=steps, line_search_fn="strong_wolfe", tolerance_grad=1e-14, tolerance_change=1e-16
    )
    least = float("inf")

    def closure() -> Tensor:
        nonlocal least
        search.zero_grad()
        loss = (outputs(*parameters) - targets).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        least = min(least, float(loss.detach()) ** 0.5)
        return loss

    search.step(closure)  # type: ignore[no-untyped-call]
    return least
