"""One check: its finding where it measured, where there was nothing to measure, and where it broke."""

from pathlib import Path

import pytest

from helpers.audit_cases import trained
from promptreach.audit.check import Check, Shown, shows
from promptreach.audit.context import AuditContext
from promptreach.certificate import Certificate, Evidence, Side
from promptreach.diagnosis.experiment import Experiment, Measured, Skipped
from promptreach.diagnosis.steps import DiagnosisStep
from promptreach.errors import Fault, OutputError
from promptreach.report.findings import Text


@pytest.fixture
def context(tmp_path: Path) -> AuditContext:
    return trained(tmp_path / "model", "bert", "head")[0]


def test_what_was_measured_and_what_is_shown_make_one_finding(context: AuditContext) -> None:
    proof = Certificate("value is one", 1.0, Side.EXACT, Evidence.PROVED)
    measured = Measured({"one": 1}, "8 rows", Evidence.PROVED, (proof,))
    found = Check("any", "Any", lambda _: (measured, Shown("One.", [Text(text="1")], {"two": 2}))).run(context)
    assert (found.check, found.title, found.status, found.evidence) == ("any", "Any", "done", Evidence.PROVED)
    assert (found.sample, found.summary, found.values) == ("8 rows", "One.", {"one": 1, "two": 2})
    assert (len(found.blocks), len(found.certificates)) == (1, 1)
    assert found.seconds >= 0


def test_nothing_to_measure_is_skipped_with_its_reason(context: AuditContext) -> None:
    found = Check("any", "Any", lambda _: Skipped("No rows."), "Nothing was found.").run(context)
    assert (found.status, found.evidence, found.reason) == ("skipped", Evidence.UNKNOWN, "No rows.")
    assert found.summary == "Nothing was found."


def test_a_step_is_kept_for_later_ones_and_not_taken_where_nothing_was_brought(context: AuditContext) -> None:
    def one(experiment: Experiment) -> Measured[object]:
        return Measured({"one": 1}, experiment.judged_rows)

    def show(context: AuditContext, found: Measured[object]) -> Shown:
        return Shown(found.sample)

    step = DiagnosisStep("one", one)
    assert Check("one", "One", shows(step, show, without_user="Bring one.")).run(context).reason == "Bring one."
    assert context.found == {}
    assert Check("one", "One", shows(step, show)).run(context).summary == "24 held-out rows"
    assert context.numbers == [{"one": 1}]


def test_only_what_a_resumed_audit_would_find_may_break(context: AuditContext) -> None:
    def full(context: AuditContext) -> Skipped:
        raise OutputError(Fault("out", "the disk is full", "free space"))

    def odd(context: AuditContext) -> Skipped:
        raise ZeroDivisionError("odd")

    with pytest.raises(OutputError):
        Check("any", "Any", full).run(context)
    found = Check("any", "Any", odd).run(context)
    assert (found.status, found.evidence) == ("failed", Evidence.UNKNOWN)
    assert "ZeroDivisionError" in found.reason
    assert "Traceback" not in found.reason
