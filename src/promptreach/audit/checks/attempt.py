"""The user's adapter, taken apart: what its read-out costs, and what is left to how it was trained."""

from promptreach.audit.context import AuditContext
from promptreach.certificate import Evidence
from promptreach.diagnosis.experiment import Study
from promptreach.diagnosis.measures import ablation
from promptreach.diagnosis.measures import pooling as reading
from promptreach.diagnosis.rules.blame import PLACES
from promptreach.report.findings import Block, Cell, Finding, Table

_TITLE = "What your adapter lost, and where"


def run(context: AuditContext) -> Finding:
    """Read the user's adapter elsewhere, and say what that is worth."""
    study = context.study
    if context.theirs is None:
        return Finding(
            check="attempt",
            title=_TITLE,
            status="skipped",
            evidence=Evidence.UNKNOWN,
            summary="No adapter was given.",
            reason="Pass the folder of your adapter to see what it lost, and where.",
        )
    places = study.keep(reading.measure(study, context.theirs.outcomes))
    found = study.keep(ablation.measure(study))
    blocks: list[Block] = [_path_table(study)]
    if places.values.get("adapter"):
        blocks.append(_reading_table(study))
    return Finding(
        check="attempt",
        title=_TITLE,
        evidence=found.evidence,
        sample=found.sample,
        summary=_summary(study),
        values={**found.values, "reading": dict(places.values)},
        blocks=blocks,
    )


def _summary(study: Study) -> str:
    path = study.found["attempt"]["path"]
    if not path:
        return "The adapter tells neither where a head reads it nor how it was trained."
    return (
        f"The same adapter, read through a linear head on {PLACES[path[0]['after']]}, gains "
        f"{100 * path[0]['worth']['gain']:+.1f} points over its own head at {PLACES[path[0]['before']]}."
    )


def _path_table(study: Study) -> Table:
    found = study.found["attempt"]
    rows: list[list[Cell]] = [["as it is", None, None, _score(study, found["start"]), None]]
    for step in found["path"]:
        before, after = PLACES[step["before"]], PLACES[step["after"]]
        rows.append(["the read-out", before, after, step["score"], step["worth"]["gain"]])
    return Table(
        title="From your settings to the ones that fit",
        columns=["changed", "from", "to", "accuracy" if study.is_classification else "loss (nats per token)", "worth"],
        rows=rows,
        note="What is left to the run of the same form in the comparison of methods is start, rate or steps, which an "
        "adapter does not tell.",
    )


def _reading_table(study: Study) -> Table:
    found = study.found["reading"]
    rows: list[list[Cell]] = [
        [PLACES[place], accuracy, found["adapter"].get(place)] for place, accuracy in found["bare"].items()
    ]
    return Table(
        title="Your adapter through a head fitted at each place",
        columns=["read-out", "accuracy without", "accuracy with your adapter"],
        rows=rows,
        highlight=list(found["bare"]).index(found["chosen"]),
    )


def _score(study: Study, run: dict[str, float]) -> float:
    return run["accuracy"] if study.is_classification else run["loss"]
