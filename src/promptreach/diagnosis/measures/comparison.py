"""Runs as numbers that rules can read, and the paired difference between two of them.

Two methods answer the same rows, so an interval is over their disagreements and much narrower than the two scores' own
intervals. One seed is trained; the interval covers the choice of rows, not the luck of a seed, and the rules keep a
margin for that.
"""

import math
from typing import Any

from promptreach.training.runs import Run
from promptreach.training.task.objective import Outcomes

NORMAL_90 = 1.6449


def paired(first: Outcomes, second: Outcomes, metric: str, *, every_row: bool = False) -> dict[str, float]:
    """How much better `first` is than `second` on the same rows, with a 90 % interval.

    In accuracy, or in nats per answer saved. For accuracy of one answer a row the interval is the one of a paired
    difference with one disagreement more on either side, so that a few rows which happen to agree are not taken for
    certainty; for ratios of sums the standard error is that of the residuals around the ratio, with Student's quantile.

    Args:
        first, second: outcomes on the same rows.
        metric: ``"accuracy"`` or ``"loss"``.
        every_row: the rows are all that the question is about, not a sample of others: the interval is a point.

    Reference: Bonett and Price, "Adjusted Wald confidence interval for a difference of binomial proportions based on
    paired data", 2012.
    """
    gain = (first.right - second.right if metric == "accuracy" else second.loss - first.loss).double()
    answers = first.answers.double()
    ratio = float(gain.sum() / answers.sum())
    if every_row:
        return {"gain": ratio, "low": ratio, "high": ratio, "error": 0.0}
    rows = len(gain)
    if metric == "accuracy" and bool((answers == 1).all()):
        better, worse = ((float((side * gain > 0).sum()) + 1) / (rows + 2) for side in (1, -1))
        centre, error = better - worse, math.sqrt((better + worse - (better - worse) ** 2) / (rows + 2))
        half = NORMAL_90 * error
    else:
        centre = ratio
        error = float((gain - ratio * answers).std() / answers.mean() / math.sqrt(rows)) if rows > 1 else math.inf
        half = _student_90(rows - 1) * error
    return {"gain": ratio, "low": centre - half, "high": centre + half, "error": error}


def _student_90(freedom: int) -> float:
    """The 95 % quantile of Student's t from `freedom` = 2 on, by the first terms of its expansion at the normal's."""
    z = NORMAL_90
    if freedom < 2:
        return math.inf
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def score_values(outcomes: Outcomes) -> dict[str, Any]:
    """The scores of one run."""
    return {
        "loss": outcomes.mean_loss,
        "accuracy": outcomes.accuracy,
        "accuracy_error": outcomes.standard_error(),
        "all_right": outcomes.all_right,
    }


def run_values(run: Run, largest_rate: float = math.inf) -> dict[str, Any]:
    """The numbers of one full run that rules read.

    Args:
        run: with held-out outcomes.
        largest_rate: of those tried for this method.
    """
    assert run.held_out is not None
    losses = [look.validation_loss for look in run.curve]
    return score_values(run.held_out) | {
        "method": run.config.method,
        "tokens": run.config.tokens,
        "rank": run.config.rank,
        "init": run.config.init,
        "learning_rate": run.config.learning_rate,
        "parameters": run.parameters,
        "status": run.status,
        "seconds": run.seconds,
        "steps": run.steps,
        "train_loss": run.train_loss if math.isfinite(run.train_loss) else None,
        "validation_loss": run.validation.mean_loss,
        "start_loss": losses[0],
        "rate_at_edge": run.config.learning_rate >= largest_rate,
        "still_falling": max(0.0, losses[-2] - losses[-1]) if len(losses) > 2 else 0.0,
    }
