"""The estimate that opens an audit, and what the audit then took.

An estimate is a courtesy: where it cannot be made (a step that does not fit into memory uncut, say), the audit says why
and goes on without one.
"""

import logging
import time
from dataclasses import dataclass, field

import torch

from promptreach.audit.plan import AuditPlan
from promptreach.audit.planning import planned
from promptreach.audit.settings import Settings
from promptreach.data import TaskData
from promptreach.errors import InputError
from promptreach.hf import OpenModel
from promptreach.memory import is_shortage, peak_memory
from promptreach.progress_log import duration

_LOG = logging.getLogger("promptreach")


@dataclass(frozen=True)
class Opening:
    """What was expected of an audit when it began.

    Attributes:
        plan: the estimate, or None.
        reason: why there is none; otherwise empty.
        known_runs: runs that an earlier call had finished in the same folder, which the estimate counts as well.
        on_cpu: whether the model computes there.
        began, worked: the monotonic clock and the seconds of work when the estimate was made.
    """

    plan: AuditPlan | None
    reason: str = ""
    known_runs: int = 0
    on_cpu: bool = True
    began: float = field(default_factory=time.monotonic)
    worked: float = field(default_factory=time.process_time)

    @property
    def text(self) -> str:
        """The estimate as a sentence."""
        if self.plan is None:
            return f"How long this takes could not be estimated: {self.reason}"
        runs = ", ".join(run.name.replace("lora", "LoRA") for run in self.plan.runs)
        settings = self.plan.settings
        cases = []
        if self.plan.least_minutes < self.plan.minutes:
            cases.append(
                f"{duration(60 * self.plan.least_minutes)} where the first prompt fits and the rest is left out"
            )
        if self.plan.extra:
            most = duration(60 * self.plan.most_minutes)
            cases.append(f"up to {most} where {self.plan.hangs_on} may be to blame")
        said = "".join(f", {case}" for case in cases) + "," * bool(cases)
        return (
            f"This takes about {duration(60 * self.plan.minutes)}{said} and {gib(self.plan.memory_bytes)} here "
            f"(PREDICTED, from steps timed just now): {runs}, {settings['steps']} steps of {settings['batch_size']} "
            f"rows each. A first look comes before anything is trained."
        )

    def taken(self) -> "Taken":
        """What the audit took since."""
        seconds = time.monotonic() - self.began
        if self.on_cpu:
            return Taken(seconds, time.process_time() - self.worked, peak_memory())
        cards = range(torch.cuda.device_count())
        return Taken(seconds, seconds, sum(map(torch.cuda.max_memory_allocated, cards)))


@dataclass(frozen=True)
class Taken:
    """What an audit took.

    Attributes:
        seconds: by the clock.
        work_seconds: of the processor, where the model is on it; by the clock elsewhere.
        memory_bytes: the most that the process held at once; on an accelerator, there.
    """

    seconds: float
    work_seconds: float
    memory_bytes: int


def estimated(model: OpenModel, data: TaskData, settings: Settings, known_runs: int = 0) -> Opening:
    """The estimate of the audit of `data` on `model`, or why there is none; takes about two seconds.

    Raises:
        InputError: what is wrong with the rows or the settings, as the audit itself would.
    """
    on_cpu = next(model.release().parameters()).device.type == "cpu"
    plan, reason = None, ""
    try:
        plan = planned(model, data, settings)
    except InputError:
        raise
    except Exception as error:
        reason = "a training step at this batch and length does not fit into memory; it will be cut into slices."
        if not is_shortage(error):
            _LOG.error("the estimate broke", exc_info=error)
            reason = f"something that nobody foresaw happened in it ({type(error).__name__}); the log has it."
    return Opening(plan, reason, known_runs, on_cpu)


def gib(count: int | float) -> str:
    """Bytes in words."""
    return f"{count / 2**30:.2f} GiB"
