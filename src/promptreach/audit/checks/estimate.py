"""The estimate that opened the audit beside what it took: how far off the time and the memory were."""

from collections.abc import Mapping

from promptreach.audit.check import Outcome, Shown
from promptreach.audit.context import AuditContext
from promptreach.audit.estimate import gib
from promptreach.audit.plan import PLANTED_PROMPT, over
from promptreach.certificate import Evidence
from promptreach.diagnosis.controls import PlantedNumbers
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
    early = any(not run.comes_first and run.name in context.not_needed for run in plan.runs)
    done = _trained_beyond(context)
    beyond = [run for run in plan.extra if run.name in done]
    expected = 60 * (plan.least_minutes if early else plan.minutes) + plan.slowness * sum(run.seconds for run in beyond)
    expected_work = expected / plan.slowness
    values = {
        "expected_seconds": expected,
        "seconds": taken.seconds,
        "expected_work_seconds": expected_work,
        "work_seconds": taken.work_seconds,
        "expected_memory_bytes": plan.memory_bytes,
        "memory_bytes": taken.memory_bytes,
    }
    case = " where the first prompt fits" if early else ""
    case += f" with {', '.join(run.name for run in beyond)}" if beyond else ""
    summary = f"Expected{case}: {duration(expected)} and {gib(plan.memory_bytes)}. Taken: {duration(taken.seconds)}" + (
        f" and {gib(taken.memory_bytes)}." if taken.memory_bytes else "."
    )
    return Measured(values, "this audit, on this machine", Evidence.MEASURED), Shown(
        summary, [_table(values, opening.on_cpu)]
    )


def _trained_beyond(context: AuditContext) -> set[str]:
    """Names of all that was trained, as a plan's `extra` has them."""
    planted = any(isinstance(numbers, PlantedNumbers) for numbers in context.numbers)
    names = {*context.sweeps, *([PLANTED_PROMPT] if planted else [])}
    steps = context.steps
    while steps > context.steps_asked:
        names.add(over(steps))
        steps //= 2
    return names


def _table(values: Mapping[str, float], on_cpu: bool) -> Table:
    """Time by the clock and of work, and memory where the system tells it."""
    units = {
        "seconds": ("seconds by the clock", 1),
        "work_seconds": (f"seconds of the {'processor' if on_cpu else 'accelerator'}", 1),
        "memory_bytes": ("GiB of memory", 2**30),
    }
    pairs = [(name, values[f"expected_{key}"] / unit, values[key] / unit) for key, (name, unit) in units.items()]
    rows: list[list[Cell]] = [
        [name, round(expected, 3), round(found, 3), found / expected] for name, expected, found in pairs if found
    ]
    return Table(
        title="Expected and taken",
        columns=["", "expected", "taken (to this line)", "taken over expected"],
        rows=rows,
        note="The memory is the most that the process held at once, what it held before the audit included.",
    )
