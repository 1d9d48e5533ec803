"""Judgements and reasons: what an open verdict claims, and what a measured reason rests on."""

from promptreach.certificate import Evidence
from promptreach.diagnosis.verdict import Attempt, measured, undecided
from promptreach.report.verdict import TuningVerdict


def test_an_open_verdict_claims_nothing_and_may_still_name_a_run() -> None:
    reasons = (measured("a gap", "attempt"),)
    for chosen in (None, "lora rank 8"):
        judgement = undecided("Too close to call.", reasons, "Use more rows.", chosen)
        assert (judgement.verdict, judgement.evidence) == (TuningVerdict.UNDECIDED, Evidence.UNKNOWN)
        assert (judgement.headline, judgement.reasons, judgement.advice) == (
            "Too close to call.",
            reasons,
            "Use more rows.",
        )
        assert judgement.chosen == chosen


def test_a_measured_reason_names_its_finding() -> None:
    assert measured("it fell").check == "training"
    reason = measured("it moved", "initialisation")
    assert (reason.text, reason.evidence, reason.check) == ("it moved", Evidence.MEASURED, "initialisation")


def test_settings_that_are_not_known_are_left_open() -> None:
    attempt = Attempt("prefix", tokens=4)
    assert [attempt.learning_rate, attempt.init, attempt.steps, attempt.pooling] == [None] * 4
