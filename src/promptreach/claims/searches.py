"""Searching for a prompt or an update by gradients, from many starts: what the claims set their proofs against."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from promptreach.weights import AttentionWeights


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
    return min(_search(start, outputs, targets, steps) for start in starts) / size


def _search(parameters: list[Tensor], outputs: Callable[..., Tensor], targets: Tensor, steps: int) -> float:
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
