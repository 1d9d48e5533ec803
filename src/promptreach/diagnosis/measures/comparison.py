"""Runs as numbers that rules can read, and the paired difference between two of them.

Two methods answer the same rows, so an interval is over their disagreements and much narrower than the two scores' own
intervals. One seed is trained; the interval covers the choice of rows, not the luck of a seed, and the rules keep a
margin for that.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from scipy.stats import t as student

from promptreach.diagnosis.numbers import Comparison, RunNumbers
from promptreach.training.runs import Run
from promptreach.training.task.metric_names import Metric, ScoreMetric
from promptreach.training.task.metrics import bootstrap, is_known, score
from promptreach.training.task.objective import Outcomes

NORMAL_90 = 1.6449
"""Standard errors of a normal quantity to either side that make a 90 % interval."""
MEANS = ("exact_match", "token_f1", "rouge_l")
"""The metrics of written answers that are a mean over rows."""


def paired(
    first: Outcomes, second: Outcomes, metric: Metric, *, every_row: bool = False, positive: int = 1
) -> Comparison:
    """The gain of `first` over `second` on the same rows, with a 90 % interval.

    In accuracy, in nats per answer saved, or in another metric. For accuracy of one answer a row, and for exact match,
    the interval is the one of a paired difference with one disagreement more on either side, so that a few rows which
    happen to agree are not taken for certainty; for ratios of sums and means over rows the standard error is that of
    the residuals around the ratio, with Student's quantile.

    Args:
        first, second: outcomes on the same rows.
        metric: ``"accuracy"``, ``"loss"``, a mean over rows (`MEANS`), or another, whose interval is that of a paired
            bootstrap.
        every_row: the rows are all that the question is about, not a sample of others: the interval is a point.
        positive: the label that F1 and average precision are about.

    Reference: Bonett and Price, "Adjusted Wald confidence interval for a difference of binomial proportions based on
    paired data", 2012.
    """
    answers = first.answers.double()
    if metric in MEANS:
        assert first.judged is not None
        assert second.judged is not None
        weight = torch.ones_like(answers) if first.weight is None else first.weight.double()
        gain, answers = weight * (first.judged - second.judged).double()[:, 0], weight
    elif metric == "accuracy" or metric == "loss":
        gain = (first.right - second.right if metric == "accuracy" else second.loss - first.loss).double()
    else:
        return _bootstrapped(first, second, metric, every_row=every_row, positive=positive)
    ratio = float(gain.sum() / answers.sum())
    if every_row:
        return Comparison(ratio, ratio, ratio, 0.0)
    rows = len(gain)
    if metric in ("accuracy", "exact_match") and bool((answers == 1).all()):
        better, worse = ((float((side * gain > 0).sum()) + 1) / (rows + 2) for side in (1, -1))
        centre, error = better - worse, math.sqrt((better + worse - (better - worse) ** 2) / (rows + 2))
        half = NORMAL_90 * error
    else:
        centre = ratio
        error = float((gain - ratio * answers).std() / answers.mean() / math.sqrt(rows)) if rows > 1 else math.inf
        half = float(student.ppf(0.95, rows - 1)) * error if rows > 1 else math.inf
    return Comparison(ratio, centre - half, centre + half, error)


def _bootstrapped(
    first: Outcomes, second: Outcomes, metric: ScoreMetric, *, every_row: bool, positive: int
) -> Comparison:
    """The difference of two scores that are no mean over rows, with the interval of a paired bootstrap."""
    gain = score(metric, first, positive) - score(metric, second, positive)
    if every_row:
        return Comparison(gain, gain, gain, 0.0)
    draws = bootstrap(metric, first, second, positive)
    low, high = torch.quantile(draws, torch.tensor([0.05, 0.95], dtype=draws.dtype)).tolist()
    return Comparison(gain, low, high, float(draws.std()))


def scores_of(outcomes: Outcomes, beside: ScoreMetric | None = None, positive: int = 1) -> dict[str, Any]:
    """The fields of `Scores`, for the records that add others to them; their `value` is the score in `beside`, its
    error that of a bootstrap."""
    value = error = None
    if beside is not None and is_known(beside, outcomes):
        value = score(beside, outcomes, positive)
        error = float(bootstrap(beside, outcomes, None, positive).std())
    return {
        "value": value,
        "value_error": error,
        "loss": outcomes.mean_loss,
        "accuracy": outcomes.accuracy,
        "accuracy_error": outcomes.standard_error(),
        "all_right": outcomes.all_right,
    }


def held_out(run: Run) -> Outcomes:
    """The outcomes of a full run on the rows judged; a trial has none."""
    assert run.held_out is not None
    return run.held_out


def run_numbers(
    run: Run,
    outcomes: Outcomes,
    largest_rate: float = math.inf,
    starts: Sequence[str] = (),
    beside: ScoreMetric | None = None,
    positive: int = 1,
) -> RunNumbers:
    """The numbers of one full run that rules read.

    Args:
        run: no trial.
        outcomes: of it, on the rows that it is judged by.
        largest_rate: of those tried for this run.
        starts: those tried; none means its own alone.
        beside, positive: as for `scores_of`.
    """
    losses = [look.validation_loss for look in run.curve]
    fitted = [look.train_loss for look in run.curve if math.isfinite(look.train_loss)]
    return RunNumbers(
        **scores_of(outcomes, beside, positive),
        method=run.config.method,
        tokens=run.config.tokens,
        rank=run.config.rank,
        init=run.config.init,
        learning_rate=run.config.learning_rate,
        parameters=run.parameters,
        status=run.status,
        seconds=run.seconds,
        steps=run.steps,
        schedule=run.config.steps,
        best_step=run.best_step,
        train_fell=fitted[0] - fitted[-1] if fitted else 0.0,
        train_loss=run.train_loss if math.isfinite(run.train_loss) else None,
        validation_loss=run.validation.mean_loss,
        start_loss=losses[0],
        rate_at_edge=run.config.learning_rate >= largest_rate,
        still_falling=max(0.0, min(losses[1:-1]) - losses[-1]) if len(losses) > 2 else 0.0,
        starts_tried=tuple(starts) or (run.config.init,),
    )
