"""The sequence of measurements that `promptreach.tuning.diagnose` and `promptreach.audit` share.

A later step may use what an earlier one left in the experiment: its trained runs, the user's own, its findings.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from promptreach.certificate import Evidence
from promptreach.diagnosis.experiment import Experiment, Measured, Skipped
from promptreach.diagnosis.measures import (
    _ablation,
    baselines,
    brought,
    floors,
    forgetting,
    one_layer,
    parts,
    planted,
    pooling,
    seeds,
    start,
    user_run,
)
from promptreach.diagnosis.rules.rules import judge
from promptreach.diagnosis.verdict import Judgement

Finding = TypeVar("Finding", bound=Measured[object], covariant=True)


@dataclass(frozen=True)
class DiagnosisStep(Generic[Finding]):
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


DATA = DiagnosisStep("data", floors.measure)
PARTS = DiagnosisStep("parts", parts.measure)
BARE_MODEL = DiagnosisStep("bare_model", baselines.measure_control)
TRAINING = DiagnosisStep("training", baselines.measure)
SEEDS = DiagnosisStep("seeds", seeds.measure)
INITIALISATION = DiagnosisStep("initialisation", start.measure)
BROUGHT = DiagnosisStep("brought", brought.measure)
READING = DiagnosisStep("reading", pooling.measure)
ATTEMPT = DiagnosisStep("attempt", _ablation.measure)
COLLAPSE = DiagnosisStep("collapse", user_run.collapse)
ONE_LAYER = DiagnosisStep("one_layer", one_layer.measure)
PLANTED = DiagnosisStep("planted", planted.measure)
FORGETTING = DiagnosisStep("drift", forgetting.measure)
AFTER_DATA: tuple[DiagnosisStep[Measured[object]], ...] = (
    PARTS,
    BARE_MODEL,
    TRAINING,
    BROUGHT,
    SEEDS,
    INITIALISATION,
    READING,
    ATTEMPT,
    COLLAPSE,
    ONE_LAYER,
    PLANTED,
    FORGETTING,
)


def measure_and_judge(
    experiment: Experiment, enter: Callable[[str, int, int], object] = lambda name, number, of: None
) -> Judgement:
    """All that a verdict may need, one step after the other, and the verdict; the data alone where they prove it.

    Args:
        experiment: what is examined.
        enter: told the name of each step, its number from 1, and how many there are, before it is taken.
    """
    steps = (DATA, *AFTER_DATA)
    enter(DATA.name, 1, len(steps))
    DATA.take(experiment)
    judgement = judge(experiment.numbers)
    if judgement.evidence is Evidence.PROVED:
        return judgement
    for number, step in enumerate(AFTER_DATA, start=2):
        enter(step.name, number, len(steps))
        step.take(experiment)
    return judge(experiment.numbers)
