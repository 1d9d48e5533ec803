"""The sequence of measurements that `promptreach.tuning.diagnose` and `promptreach.audit` share.

A later step may use what an earlier one left in the experiment: its trained runs, the user's own, its findings.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from promptreach.certificate import Evidence
from promptreach.diagnosis.experiment import Experiment, Measured, Skipped
from promptreach.diagnosis.measures import _ablation, baselines, floors, forgetting, planted, pooling, start, user_run
from promptreach.diagnosis.rules.rules import judge
from promptreach.diagnosis.verdict import Judgement

Finding = TypeVar("Finding", bound=Measured[object], covariant=True)


@dataclass(frozen=True)
class Step(Generic[Finding]):
    """One measurement.

    Attributes:
        name: its key in findings, in reasons and in the report.
        measure: makes it.
    """

    name: str
    measure: Callable[[Experiment], Finding | Skipped]

    def take(self, experiment: Experiment) -> Finding | Skipped:
        """Measure, and keep what was found in the experiment."""
        found = experiment.found[self.name] = self.measure(experiment)
        return found


DATA = Step("data", floors.measure)
BARE_MODEL = Step("bare_model", baselines.measure_control)
TRAINING = Step("training", baselines.measure)
INITIALISATION = Step("initialisation", start.measure)
READING = Step("reading", pooling.measure)
ATTEMPT = Step("attempt", _ablation.measure)
COLLAPSE = Step("collapse", user_run.collapse)
PLANTED = Step("planted", planted.measure)
FORGETTING = Step("drift", forgetting.measure)
AFTER_DATA: tuple[Step[Measured[object]], ...] = (
    BARE_MODEL,
    TRAINING,
    INITIALISATION,
    READING,
    ATTEMPT,
    COLLAPSE,
    PLANTED,
    FORGETTING,
)


def measure_and_judge(experiment: Experiment) -> Judgement:
    """All that a verdict may need, one step after the other, and the verdict; the data alone where they prove it."""
    DATA.take(experiment)
    judgement = judge(experiment.numbers)
    if judgement.evidence is Evidence.PROVED:
        return judgement
    for step in AFTER_DATA:
        step.take(experiment)
    return judge(experiment.numbers)
