"""The estimate that opened the audit beside what it took: how far off the time and the memory were."""

from promptreach.audit.check import Outcome, Shown
from promptreach.audit.context import AuditContext
from promptreach.audit.estimate import Taken, gib
from promptreach.audit.plan import AuditPlan
from promptreach.certificate import Evidence
from promptreach.diagnosis.experiment import Measured, Skipped
from promptreach.progress_log import duration
from promptreach.report.findings import Cell, Table


def measure(context: AuditContext) -> Outcome:
    """Compare the estimate with the clock, the processor and the memory of this process."""
    opening = context.opening
    if opening is None or opening.plan is None:
        return Skipped("nothing was estimated" if opening is None else opening.reason)
    if opening.known_runs:
        return Skipped(
            f"{opening.known_runs:,} runs were finished by an earlier call: the estimate counts them, the clock not"
        )
    plan, taken = opening.plan, opening.taken()
    expected = 60 * plan.minutes
    values = {
        "expected_seconds": expected,
        "seconds": taken.seconds,
        "expected_work_seconds": plan.work_seconds,
        "work_seconds": taken.work_seconds,
        "expected_memory_bytes": plan.memory_bytes,
        "memory_bytes": taken.memory_bytes,
    }
    summary = f"Expected: {duration(expected)} and {gib(plan.memory_bytes)}. Taken: {duration(taken.seconds)}" + (
        f" and {gib(taken.memory_bytes)}." if taken.memory_bytes else "."
    )
    return Measured(values, "this audit, on this machine", Evidence.MEASURED), Shown(
        summary, [_table(plan, taken, opening.on_cpu)]
    )


def _table(plan: AuditPlan, taken: Taken, on_cpu: bool) -> Table:
    """Time by the clock and of work, and memory where the system tells it."""
    pairs = [
        ("seconds by the clock", 60 * plan.minutes, taken.seconds),
        (f"seconds of the {'processor' if on_cpu else 'accelerator'}", plan.work_seconds, taken.work_seconds),
        ("GiB of memory", plan.memory_bytes / 2**30, taken.memory_bytes / 2**30),
    ]
    rows: list[list[Cell]] = [
        [name, round(expected, 3), round(found, 3), found / expected] for name, expected, found in pairs if found
    ]
    return Table(
        title="Expected and taken",
        columns=["", "expected", "taken (to this line)", "taken over expected"],
        rows=rows,
        note="The memory is the most that the process held at once, what it held before the audit included.",
    )
