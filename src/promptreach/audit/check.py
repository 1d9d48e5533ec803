"""A check of the audit: a measurement with a title, and what the report shows of it."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeVar

from promptreach.audit.context import AuditContext
from promptreach.certificate import Evidence
from promptreach.diagnosis.experiment import Measured, Skipped
from promptreach.diagnosis.steps import DiagnosisStep
from promptreach.errors import MemoryShortError, OutputError, PromptreachError, WorkerError
from promptreach.memory import is_shortage, shortage_text
from promptreach.report.certificates import finished
from promptreach.report.findings import Block, Finding

Found = TypeVar("Found", bound=Measured[object])


@dataclass(frozen=True)
class Shown:
    """The part of a finding that a check shows of its numbers.

    Attributes:
        summary: one or two plain sentences.
        blocks: tables, pictures and text.
        more: values by name, JSON types only, beside the numbers that were measured.
    """

    summary: str
    blocks: Sequence[Block] = ()
    more: Mapping[str, Any] = field(default_factory=dict)


Outcome = tuple[Measured[object], Shown] | Skipped


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: its key in findings, rules and the report.
        title: its heading in the report.
        measure: measures, and says what to show of it; or why there is nothing to measure.
        nothing: the summary where there is nothing to measure.
        tell: whether progress tells the summary as soon as it is there.
    """

    name: str
    title: str
    measure: Callable[[AuditContext], Outcome]
    nothing: str = "Not measured."
    tell: bool = False

    def run(self, context: AuditContext, needed: bool = False) -> Finding:
        """The finding; a check that breaks becomes one that says so, and the report stays whole.

        Args:
            needed: without it there is nothing to judge, so that a fault of ours in it is no verdict either: it passes.

        Raises:
            MemoryShortError: an allocation that cannot be had says nothing of model or data.
            OutputError, WorkerError: nothing more can be kept or trained, and going on would end in a report that lacks
                what a resumed audit finds.
        """
        began = monotonic()
        try:
            finding = finished(self._finding(self.measure(context)))
        except (OutputError, WorkerError):
            raise
        except Exception as error:
            if is_shortage(error):
                raise MemoryShortError(shortage_text(f"measuring “{self.title}”", error)) from error
            if needed and not isinstance(error, PromptreachError):
                raise
            finding = Finding(
                check=self.name,
                title=self.title,
                status="failed",
                evidence=Evidence.UNKNOWN,
                summary="This check broke; the others are not affected.",
                reason=str(error) if isinstance(error, PromptreachError) else _unforeseen(self.name, error),
            )
        return finding.model_copy(update={"seconds": monotonic() - began})

    def _finding(self, outcome: Outcome) -> Finding:
        if isinstance(outcome, Skipped):
            return Finding(
                check=self.name,
                title=self.title,
                status="skipped",
                evidence=outcome.evidence,
                summary=self.nothing,
                reason=outcome.reason,
            )
        found, shown = outcome
        return Finding(
            check=self.name,
            title=self.title,
            evidence=found.evidence,
            sample=found.sample,
            summary=shown.summary,
            values={**found.values, **shown.more},
            blocks=list(shown.blocks),
            certificates=list(found.certificates),
        )


def _unforeseen(check: str, error: Exception) -> str:
    """What the report says of an error that nobody raised on purpose; its traceback goes to the log."""
    logging.getLogger("promptreach").error("the check %r broke", check, exc_info=error)
    return (
        f"Something that nobody foresaw happened in it ({type(error).__name__}); its traceback is in the log of this "
        "call. It says nothing about the model or the data."
    )


def shows(
    step: DiagnosisStep[Found], show: Callable[[AuditContext, Found], Shown], without_user: str = ""
) -> Callable[[AuditContext], Outcome]:
    """A step of the diagnosis as a check measures it: taken, and shown.

    Args:
        step: measures.
        show: says what to show.
        without_user: why it is not taken where the user brought nothing; empty takes it all the same.
    """

    def measure(context: AuditContext) -> Outcome:
        if without_user and context.user_run is None:
            return Skipped(without_user)
        found = step.take(context)
        return found if isinstance(found, Skipped) else (found, show(context, found))

    return measure
