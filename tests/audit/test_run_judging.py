"""The audit judges by the rules of `promptreach.tuning.diagnosis`; what it adds is the report's side of them."""

from helpers.diagnosis_cases import experiment_of
from promptreach.audit.checks import CHECKS
from promptreach.audit.run import NEEDED, judge_findings
from promptreach.certificate import Evidence
from promptreach.diagnosis.steps import AFTER_DATA, DATA, READING
from promptreach.report.findings import Finding
from promptreach.report.result import TuningVerdict
from promptreach.report.verdict import EXIT_STATUS


def failed(check: str) -> Finding:
    return Finding(
        check=check, title="Matched training", status="failed", evidence=Evidence.UNKNOWN, summary="", reason="boom"
    )


def test_a_broken_check_is_undecided_with_its_reason() -> None:
    judgement = judge_findings([failed("training")], experiment_of())
    assert judgement.verdict is TuningVerdict.UNDECIDED
    assert "boom" in judgement.reasons[0].text


def test_a_check_that_no_verdict_needs_may_break() -> None:
    assert judge_findings([failed("drift")], experiment_of()).reasons == ()


def test_every_check_has_its_own_name_and_the_needed_ones_exist() -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    assert set(NEEDED) <= set(names)


def test_the_audit_takes_the_steps_of_the_diagnosis_in_their_order() -> None:
    names = [check.name for check in CHECKS]
    steps = [step.name for step in (DATA, *AFTER_DATA) if step is not READING]
    assert [name for name in names if name in steps] == steps


def test_every_verdict_has_an_exit_status() -> None:
    assert {verdict: EXIT_STATUS[verdict] for verdict in TuningVerdict}.keys() == set(TuningVerdict)
    assert EXIT_STATUS[TuningVerdict.FITS] == 0
    assert EXIT_STATUS[TuningVerdict.FORM] == 1
    assert EXIT_STATUS[TuningVerdict.UNDECIDED] == 3
