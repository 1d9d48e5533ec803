"""Rules about the data: contradictions that no method gets past, and labels that nothing could be learnt from."""

from statistics import NormalDist

from promptreach.certificate import Evidence
from promptreach.diagnosis.numbers import DataNumbers
from promptreach.diagnosis.rules.measurements import Measurements
from promptreach.diagnosis.verdict import Judgement, measured, undecided
from promptreach.evidence import Side
from promptreach.report.verdict import Reason, TuningVerdict
from promptreach.rounding import shown_bound
from promptreach.training.task.metric_names import in_words

ENOUGH_ROWS = 200
"""Training rows from which "nothing was learnt" says something about the data."""
ENOUGH_ROWS_A_CLASS = 20
"""Training rows of each class from which "nothing was learnt" says something about the data."""


def conflicting_labels(data: DataNumbers) -> Judgement | None:
    """DATA, PROVED: contradictions alone take most of what any method could gain over the most frequent label."""
    if not data.classes or not mostly_conflicting(data):
        return None
    return _conflicts(
        data,
        "Contradictions stand in the way of every method: equal inputs carry different labels, and no function of the "
        f"input gets more than {shown_bound(data.best_accuracy, Side.UPPER, percent=True)}% of the rows right (the "
        f"most frequent label alone: {data.majority_share:.1%}).",
        "Mend the labels listed under “The data” before training anything.",
    )


def conflicting_completions(seen: Measurements) -> Judgement | None:
    """DATA, PROVED: most rows contradict each other, and that is most of the loss which the best method leaves."""
    floor, best = seen.data.loss_floor, min(run.loss for run in seen.runs.values())
    if seen.metric != "loss" or not mostly_conflicting(seen.data) or floor < best / 2:
        return None
    return _conflicts(
        seen.data,
        "Contradictions stand in the way of every method: equal prompts carry different completions, and no function "
        f"of the prompt gives more than {shown_bound(seen.data.best_accuracy, Side.UPPER, percent=True)}% of them, or "
        f"gets below {shown_bound(floor, Side.LOWER)} nats per token.",
        "Give each prompt one completion, or accept the floor, before training anything.",
    )


def nothing_learnt(seen: Measurements) -> Judgement | None:
    """DATA or UNDECIDED: no method, LoRA included, beats the best answer that ignores its input."""
    constant = seen.constant
    if constant is None or seen.training.goal == "memorise":
        return None
    tried = [*seen.runs.values(), *([seen.user] if seen.user else [])]
    # One run among many that learnt nothing is easily lucky: together they get the 5 % that one alone would.
    surely = NormalDist().inv_cdf(1 - 0.05 / len(tried))
    if any(seen.value(run) - surely * seen.value_error(run) > constant for run in tried):
        return None
    rows, needed = seen.training.train_rows, max(ENOUGH_ROWS, ENOUGH_ROWS_A_CLASS * seen.data.classes)
    best = max(map(seen.value, seen.runs.values()))
    reason = measured(
        f"The best of {len(seen.runs)} methods is right on {best:.1%} of {seen.rows}; always answering the most "
        f"frequent label on {constant:.1%}."
        if seen.metric == "accuracy" and seen.data.classes
        else f"The best of {len(seen.runs)} methods has {in_words(seen.metric)} {best:.3f} on {seen.rows}; the best "
        f"answer that ignores its input {constant:.3f}."
    )
    if rows < needed:
        return undecided(
            "Nothing was learnt, but there are too few rows to blame the data.",
            (reason,),
            f"Collect at least {needed:,} training rows (there are {rows:,}) and ask again.",
        )
    return Judgement(
        TuningVerdict.DATA,
        Evidence.MEASURED,
        f"No method learnt anything from these {seen.answers}, LoRA and a linear head included.",
        (reason,),
        None,
        f"Check that the {seen.answers} belong to these texts; look at rows by hand before training anything.",
    )


def _conflicts(data: DataNumbers, headline: str, advice: str) -> Judgement:
    text = f"{data.conflicting_rows:,} of {data.rows:,} rows contradict each other."
    reason = Reason(text, Evidence.PROVED, "data")
    return Judgement(TuningVerdict.DATA, Evidence.PROVED, headline, (reason,), None, advice)


def mostly_conflicting(data: DataNumbers) -> bool:
    """Whether contradictions take at least half of what any function could gain over the most frequent answer."""
    majority = data.majority_share
    return data.conflicting_rows > 0 and data.best_accuracy - majority <= (1 - majority) / 2
