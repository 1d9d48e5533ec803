"""The race between methods: what is trained first, and when what is left cannot change the verdict.

LoRA, one prompt and what is of the user's own size come first: the rules ask whether a soft prompt keeps up with LoRA,
and where that prompt does, neither other lengths nor a prefix can undo it. So the rules themselves are asked, with the
validation rows in the place of the rows judged, and where they find that it fits, the rest is left out and named.

Guarantees: no held-out row is looked at to leave anything out. Of the `LOOKS` times that validation rows are looked at
in a race, none is wrong with a confidence of 95 %: each interval shares the 5 % with the others, and wrong means that
the prompt falls short of LoRA by more than the margin. If it is wrong nevertheless, the rows judged do not bear the
verdict out, and what was left out is trained after all (`baselines.measure`): what a wrong look costs is time. So FITS
is never said of runs of which training all of them would not have said it.

A few hundred rows seldom tell a margin. Where the data have more validation rows than runs are chosen by, scoring them
costs less than one search for a rate.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import NormalDist

from promptreach.diagnosis.measures.comparison import NORMAL_90
from promptreach.diagnosis.numbers import BareNumbers, Comparison, TrainingNumbers
from promptreach.diagnosis.rules.measurements import MARGIN
from promptreach.diagnosis.rules.rules import judge
from promptreach.report.verdict import TuningVerdict
from promptreach.training.runs import Run, RunConfig, applied
from promptreach.training.task.objective import Outcomes, gather
from promptreach.training.task.task import Task

LOOKS = 3
"""The looks at validation rows in one race: once LoRA and a prompt are trained, again at more rows where those that
every run is chosen by leave it open, and before prompts grow longer."""
SHARE = NormalDist().inv_cdf(1 - 0.05 / LOOKS) / NORMAL_90
"""How much wider an interval is that shares its 5 % on either side with the other looks."""
CLOSE = 0.25
"""The share of the margin by which a prompt may lie behind LoRA while nothing else is tried: what is recommended should
be as good as anything that was left out, not merely good enough."""
BORNE_OUT = (TuningVerdict.FITS, TuningVerdict.OPTIMISER)
"""The verdicts that more runs would not undo: a soft prompt keeps up, whatever else does."""


def on_validation(run: Run) -> Outcomes:
    """The outcomes of a run on the rows that choices may look at."""
    return run.validation


def on_more_validation(task: Task) -> Callable[[Run], Outcomes] | None:
    """The outcomes of a run on all validation rows that there are, also on those that no run was chosen by.

    None where there are no more of them, and where answers are written: to write them costs more than a run.
    """
    if task.more_validation is None or task.judging.metric is not None:
        return None
    further = replace(task, encoded={**task.encoded, "validation": task.more_validation})
    seen, more = len(task.encoded["validation"]), len(task.more_validation)

    def outcomes(run: Run) -> Outcomes:
        objective = task.objective()
        objective.load_head(run.head)
        with applied(task.backbone, run) as joined:
            found = further.evaluate("validation", objective, joined)
        return gather([run.validation, found], [range(seen), range(seen, seen + more)])

    return outcomes


def within_reach(numbers: TrainingNumbers) -> bool:
    """Whether a soft prompt is close enough to LoRA for more rows to settle it."""
    return any(
        numbers.against_lora[name].gain >= -MARGIN[numbers.metric]
        for name, run in numbers.methods.items()
        if run.method in ("prompt", "prefix") and name in numbers.against_lora
    )


def shared(comparison: Comparison) -> Comparison:
    """The comparison with the interval that holds for all looks of a race together."""
    low = comparison.gain - SHARE * (comparison.gain - comparison.low)
    high = comparison.gain + SHARE * (comparison.high - comparison.gain)
    return replace(comparison, low=low, high=high)


def split(configs: Sequence[RunConfig], decides: Callable[[RunConfig], bool]) -> tuple[list[RunConfig], ...]:
    """The runs that decide, and the others, both in their order."""
    return [config for config in configs if decides(config)], [config for config in configs if not decides(config)]


def settling(found: Sequence[object], numbers: TrainingNumbers) -> str:
    """The name of the run on which the verdict rests whatever else is trained; empty where there is none.

    Args:
        found: all that was measured before training.
        numbers: of what was trained so far, compared on the validation rows, with `shared` intervals.
    """
    # What the control's answers are worth is known of the rows judged alone.
    judgement = judge([*(one for one in found if not isinstance(one, BareNumbers)), numbers])
    runs = numbers.methods
    soft = [name for name, run in runs.items() if run.method in ("prompt", "prefix") and run.status == "finished"]
    close = -CLOSE * MARGIN[numbers.metric]
    near = [name for name in soft if name in numbers.against_lora and numbers.against_lora[name].gain >= close]
    if judgement.verdict is not TuningVerdict.FITS or not near:
        return ""
    return judgement.chosen if judgement.chosen in near else near[0]
