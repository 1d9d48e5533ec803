"""Kernel logistic regression on log odds: what training reaches if the scores move as their first derivative says.

Notation (after Rasmussen and Williams, Gaussian Processes for Machine Learning, chapter 3):
    r    log odds of each row at the start            c    answers that a row stands for
    K    kernel of the rows                           m    log odds at the minimum
    u    pull of each row on the parameters, c sigmoid(-m); at the minimum m = r + K u
    W    curvature of each row's loss, the diagonal matrix of c sigmoid(m) sigmoid(-m)
    G    (K + W^-1)^-1
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

_STEPS = 50
_TOLERANCE = 1e-12
"""The relative decrease of the objective below which Newton's method stops."""
_HALVINGS = 30
_LEAST_ROOT = 1e-150
"""The square root of the smallest curvature that can still be divided by."""


@dataclass(frozen=True, eq=False)
class Fit:
    """The minimiser of sum_i c_i softplus(-m_i) + u' K u / 2 over m = r + K u.

    Attributes:
        pull: u, so that the log odds of a new row with start r and kernel row k are r + k u.
        log_odds: m of the rows that were fitted.
        precision: G.
    """

    pull: Float[Tensor, " rows"]
    log_odds: Float[Tensor, " rows"]
    precision: Float[Tensor, "rows rows"]


def fit_log_odds(
    kernel: Float[Tensor, "rows rows"], start: Float[Tensor, " rows"], answers: Float[Tensor, " rows"]
) -> Fit:
    """The fit by Newton's method with step halving; the objective is convex, so the minimum is the only one.

    Args:
        kernel: K, symmetric and positive semidefinite, float64, the penalty divided into it.
        start: r.
        answers: c, positive.
    """
    pull, log_odds = torch.zeros_like(start), start.clone()
    value = _objective(log_odds, answers, pull, log_odds - start)
    for _ in range(_STEPS):
        root, factor = _curvature(kernel, log_odds, answers)
        target = root.square() * (log_odds - start) + answers * torch.sigmoid(-log_odds)
        ahead = target - root * _solve(factor, root * (kernel @ target))
        before = value
        for halving in range(_HALVINGS):
            trial = pull + 0.5**halving * (ahead - pull)
            shift = kernel @ trial
            reached = _objective(start + shift, answers, trial, shift)
            # The last step is right to more digits than the objective shows.
            if reached <= value + _TOLERANCE * abs(value):
                pull, log_odds, value = trial, start + shift, reached
                break
        if before - value <= _TOLERANCE * abs(value):
            break
    root, factor = _curvature(kernel, log_odds, answers)
    return Fit(pull, log_odds, root[:, None] * torch.cholesky_inverse(factor) * root)


def left_out(
    fit: Fit,
    example: Int[Tensor, " rows"],
    start: Float[Tensor, " others"],
    kernel: Float[Tensor, "others rows"],
    left: Int[Tensor, " others"],
) -> Float[Tensor, " others"]:
    """The log odds of rows in the fit that leaves out the example they belong to.

    Without the rows S of an example, u loses G_S G_SS^-1 u_S. That is one Newton step back from the minimum, and exact
    where the loss is quadratic with curvature W.

    Args:
        fit: on the training rows.
        example: of each training row, ascending.
        start, kernel: of the rows asked for, as for any new row.
        left: of each row asked for, the example that is left out for it.
    """
    loss = torch.empty_like(fit.pull)
    for rows in _alike(example):
        among = fit.precision[rows[:, :, None], rows[:, None, :]]
        loss[rows] = torch.linalg.solve(among, fit.pull[rows][..., None])[..., 0]
    own = left[:, None] == example
    return start + kernel @ fit.pull - ((kernel @ fit.precision) * own) @ loss


def nats(log_odds: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
    """The loss per answer of rows with these log odds."""
    return softplus(-log_odds)


def reachable_share(kernel: Float[Tensor, "rows rows"], residual: Float[Tensor, " rows"], tol: float = 1e-8) -> float:
    """The share of the squared `residual` that lies in the range of `kernel`, in [0, 1].

    Directions whose eigenvalue is below `tol` times the mean one count as out of reach, by degrees: a direction with
    eigenvalue s is reached to the share 1 - (tol / (s + tol))^2, s in units of the mean.
    """
    scale = kernel.diagonal().mean()
    total = residual.square().sum()
    if not scale > 0 or not total > 0:
        return 0.0
    floor = tol * scale
    factor = torch.linalg.cholesky(kernel + floor * torch.eye(len(kernel), dtype=kernel.dtype))
    missed = floor * _solve(factor, residual)
    return float(1 - missed.square().sum() / total)


def _objective(log_odds: Tensor, answers: Tensor, pull: Tensor, shift: Tensor) -> float:
    return float((answers * nats(log_odds)).sum() + pull @ shift / 2)


def _curvature(kernel: Tensor, log_odds: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
    """W^1/2, and the Cholesky factor of 1 + W^1/2 K W^1/2, whose eigenvalues are at least 1."""
    root = (0.5 * (logsigmoid(log_odds) + logsigmoid(-log_odds) + answers.log())).exp().clamp(min=_LEAST_ROOT)
    system = root[:, None] * kernel * root
    system.diagonal().add_(1.0)
    return root, torch.linalg.cholesky(system)


def _solve(factor: Tensor, right: Tensor) -> Tensor:
    return torch.cholesky_solve(right[:, None], factor)[:, 0]


def _alike(example: Tensor) -> Iterator[Tensor]:
    """The rows of every example, (examples, rows each), examples with equally many rows together."""
    counts = torch.unique_consecutive(example, return_counts=True)[1]
    first = counts.cumsum(0) - counts
    for count in counts.unique().tolist():
        yield first[counts == count][:, None] + torch.arange(count)
