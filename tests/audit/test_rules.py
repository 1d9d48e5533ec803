"""The audit judges by the rules of `promptreach.tuning.diagnosis`; what it adds is the report's side of them."""

from helpers.tasks import task_of
from promptreach.audit.checks import CHECKS
from promptreach.audit.judging import NEEDED, judge_findings
from promptreach.certificate import Evidence
from promptreach.diagnosis.experiment import Study
from promptreach.progress import Progress
from promptreach.report.findings import Finding
from promptreach.report.result import AuditVerdict
from promptreach.report.verdict import EXIT_STATUS
from promptreach.training.engines.executor import InProcess
from promptreach.training.runs import RunStore
from promptreach.training.task.task import Task


def empty_study() -> Study:
    """Nothing was measured."""
    task = task_of("bert")

    def executor_of(task: Task) -> InProcess:
        return InProcess(task, RunStore(None), Progress(quiet=True))

    return Study(task.train, task, executor_of, tokens=(4,), steps=1, batch_size=1)


def failed(check: str) -> Finding:
    return Finding(
        check=check, title="Matched training", status="failed", evidence=Evidence.UNKNOWN, summary="", reason="boom"
    )


def test_a_broken_check_is_undecided_with_its_reason() -> None:
    judgement = judge_findings([failed("training")], empty_study())
    assert judgement.verdict is AuditVerdict.UNDECIDED
    assert "boom" in judgement.reasons[0].text


def test_a_check_that_no_verdict_needs_may_break() -> None:
    assert judge_findings([failed("drift")], empty_study()).reasons == ()


def test_the_needed_checks_exist() -> None:
    assert set(NEEDED) <= {check.name for check in CHECKS}


def test_every_verdict_has_an_exit_status() -> None:
    assert {verdict: EXIT_STATUS[verdict] for verdict in AuditVerdict}.keys() == set(AuditVerdict)
    assert EXIT_STATUS[AuditVerdict.FITS] == 0
    assert EXIT_STATUS[AuditVerdict.FORM] == 1
    assert EXIT_STATUS[AuditVerdict.UNDECIDED] == 3
