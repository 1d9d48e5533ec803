"""Words that the page and the terminal share."""

from typing import get_args

import pytest

from helpers.sample_report import sample_result, summary_of
from promptreach.certificate import Evidence
from promptreach.report.findings import Finding
from promptreach.report.html import render_html
from promptreach.report.result import MethodName, Recommendation, TuningVerdict
from promptreach.report.verdict import VERDICT_WORDS
from promptreach.report.wording import EVIDENCE_MEANING, METHOD_NAMES, settings


@pytest.mark.parametrize("verdict", list(TuningVerdict))
def test_every_verdict_has_its_words(verdict: TuningVerdict) -> None:
    result = sample_result(verdict, 2, 2)
    assert summary_of(result).startswith(f"{verdict.value}: ")
    assert f"<strong>{verdict.value}</strong> {VERDICT_WORDS[verdict].name}" in render_html(result)
    assert set(EVIDENCE_MEANING) == set(Evidence)


def test_a_result_with_nothing_but_a_verdict_is_shown() -> None:
    result = sample_result(TuningVerdict.UNDECIDED).model_copy(
        update={"findings": [], "reasons": [], "model": {}, "data": {}, "settings": {}, "environment": {}}
    )
    assert result.headline in render_html(result)
    assert "Why" not in summary_of(result)


def test_a_skipped_finding_without_a_reason_says_so() -> None:
    finding = Finding(check="c", title="t", status="skipped", evidence=Evidence.UNKNOWN, summary="")
    result = sample_result().model_copy(update={"findings": [finding]})
    assert "no reason was given" in summary_of(result)
    assert "no reason was given" in render_html(result)


@pytest.mark.parametrize("method", get_args(MethodName))
def test_every_method_that_may_be_recommended_has_a_name(method: MethodName) -> None:
    named = settings(Recommendation(method=method, text="do it"))
    assert named == [("method", METHOD_NAMES[method])]
