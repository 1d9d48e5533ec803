"""From findings to the verdict: the rules are those of `promptreach.tuning.diagnose`, and read the same numbers."""

from collections.abc import Sequence

from promptreach.certificate import Evidence
from promptreach.diagnosis.experiment import Study
from promptreach.diagnosis.rules.rules import judge
from promptreach.diagnosis.verdict import Judgement
from promptreach.report.findings import Finding
from promptreach.report.verdict import Reason

NEEDED = ("data", "training")
"""The checks without which there is nothing to judge."""


def judge_findings(findings: Sequence[Finding], study: Study) -> Judgement:
    """The verdict on what `study` holds; UNDECIDED, and why, when a check that it needs broke."""
    broken = [
        Reason(
            text=f"The check “{finding.title}” broke: {finding.reason}", evidence=Evidence.UNKNOWN, check=finding.check
        )
        for finding in findings
        if finding.status == "failed" and finding.check in NEEDED
    ]
    return judge(study.values, broken)
