"""The estimate beside what was taken: ratios of the numbers shown, and silence where they mean nothing."""

from dataclasses import replace

import pytest

from helpers.audit_cases import SETTINGS, finding_of, rows
from helpers.models import tiny_model
from promptreach.audit.context import prepared
from promptreach.audit.estimate import Opening, estimated
from promptreach.audit.plan import PLANTED_PROMPT, over
from promptreach.diagnosis.controls import PlantedNumbers
from promptreach.diagnosis.experiment import Measured
from promptreach.tables import read_task


def test_expected_and_taken_stand_side_by_side() -> None:
    model, data = tiny_model("bert"), read_task(rows(60))
    opening = estimated(model, data, SETTINGS)
    assert opening.plan is not None
    found = finding_of("estimate", prepared(model, data, SETTINGS, opening=opening))
    assert found.evidence.value == "MEASURED"
    values, table = found.values, found.blocks[0]
    assert values["expected_seconds"] == 60 * opening.plan.minutes
    assert values["seconds"] > 0
    assert [row[3] for row in table.rows] == pytest.approx(
        [
            values["seconds"] / values["expected_seconds"],
            values["work_seconds"] / values["expected_work_seconds"],
            values["memory_bytes"] / values["expected_memory_bytes"],
        ]
    )
    assert found.summary.startswith("Expected: ")


def test_an_audit_that_left_runs_out_is_compared_with_what_was_expected_of_that() -> None:
    model, data = tiny_model("bert"), read_task(rows(60))
    opening = estimated(model, data, SETTINGS)
    assert opening.plan is not None
    left = next(run.name for run in opening.plan.runs if not run.comes_first)
    context = prepared(model, data, SETTINGS, opening=opening)
    context.not_needed[left] = "a test"
    values = finding_of("estimate", context).values
    assert values["expected_seconds"] == 60 * opening.plan.least_minutes < 60 * opening.plan.minutes
    assert values["expected_work_seconds"] < opening.plan.work_seconds


def test_what_was_trained_beyond_is_expected_as_well() -> None:
    model, data = tiny_model("bert"), read_task(rows(60))
    opening = estimated(model, data, replace(SETTINGS, budget="standard"))
    assert opening.plan is not None
    context = prepared(model, data, SETTINGS, opening=opening)
    context.steps *= 2
    context.found["planted"] = Measured(PlantedNumbers("accuracy", 3, 0.1, 2, 0.5, 0.6, 1.0, 0.2, "finished"), "a test")
    found = finding_of("estimate", context)
    beyond = [run for run in opening.plan.extra if run.name in (PLANTED_PROMPT, over(context.steps))]
    assert len(beyond) == 2
    more = opening.plan.slowness * sum(run.seconds for run in beyond)
    assert found.values["expected_seconds"] == pytest.approx(60 * opening.plan.minutes + more)
    assert found.summary.startswith(f"Expected with {PLANTED_PROMPT}, {over(context.steps)}: ")


@pytest.mark.parametrize(
    ("opening", "told"), [(None, "nothing was estimated"), (Opening(None, "no room."), "no room."), ("known", "3 runs")]
)
def test_there_is_nothing_to_compare_without_an_estimate_or_after_an_earlier_call(
    opening: Opening | str | None, told: str
) -> None:
    model, data = tiny_model("bert"), read_task(rows(60))
    if isinstance(opening, str):
        opening = replace(estimated(model, data, SETTINGS), known_runs=3)
    found = finding_of("estimate", prepared(model, data, SETTINGS, opening=opening))
    assert found.status == "skipped"
    assert told in found.reason
