"""The first guess: which rule speaks on which numbers, and that what it is said to be worth was measured."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from promptreach.diagnosis.numbers import BareNumbers, DataNumbers
from promptreach.diagnosis.rules.likely import FIRST_LOOKS, OPEN_LOOKS, Likely, Record, likely, record_of
from promptreach.report.verdict import TuningVerdict

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"


def data(**changes: Any) -> DataNumbers:
    given: dict[str, Any] = {"rows": 1000, "classes": 2, "majority_share": 0.5, "different_inputs": 1000}
    given |= {"conflicting_rows": 0, "loss_floor": 0.0, "best_accuracy": 1.0, "truncated": 0, "median_tokens": 9}
    return DataNumbers(**given | {"longest_tokens": 20, "max_length": 32} | changes)


def bare(accuracy: float = 0.75, **changes: Any) -> BareNumbers:
    given: dict[str, Any] = {"loss": 0.5, "accuracy": accuracy, "accuracy_error": 0.02, "all_right": accuracy}
    return BareNumbers(**given | {"pooling": "mean", "majority_accuracy": 0.5, "constant": 0.5} | changes)


def guess(numbers: DataNumbers, control: BareNumbers, metric: Any = "accuracy", judged: int = 300) -> Likely:
    return likely(numbers, control, metric, judged)


@pytest.mark.parametrize(
    ("found", "rule", "verdict"),
    [
        (guess(data(), bare()), "open", None),
        (guess(data(conflicting_rows=900, best_accuracy=0.55), bare()), "contradictions", TuningVerdict.DATA),
        (guess(data(conflicting_rows=10, best_accuracy=0.99), bare()), "open", None),
        (guess(data(), bare(), judged=74), "few rows", TuningVerdict.UNDECIDED),
        (guess(data(), bare(), judged=75), "open", None),
        (guess(data(), bare(0.53)), "nothing learnt", TuningVerdict.DATA),
        (guess(data(), bare(0.96)), "nothing to gain", TuningVerdict.FITS),
        (guess(data(), bare(0.95)), "open", None),
        (guess(data(), bare(0.99, constant=0.98)), "nothing learnt", TuningVerdict.DATA),
        (guess(data(classes=0), bare(constant=None), "loss"), "open", None),
        (guess(data(), bare(0.99, value=0.4, value_error=0.05), "macro_f1"), "nothing learnt", TuningVerdict.DATA),
        (guess(data(), bare(0.5, value=0.97, value_error=0.01), "pearson"), "nothing to gain", TuningVerdict.FITS),
    ],
)
def test_the_first_rule_that_applies_speaks(found: Likely, rule: str, verdict: TuningVerdict | None) -> None:
    assert (found.rule, found.verdict) == (rule, verdict)
    assert found.text


def test_contradicting_completions_are_data_whatever_their_classes() -> None:
    numbers = data(classes=0, conflicting_rows=900, best_accuracy=0.55)
    assert guess(numbers, bare(constant=None), "loss").verdict is TuningVerdict.DATA


def test_what_a_rule_is_said_to_be_worth_was_measured() -> None:
    measured = json.loads((RESULTS / "first_look.json").read_text("utf-8"))["rules"]
    still = measured.pop("open")
    assert dict(FIRST_LOOKS) == {rule: Record(found["spoke"], found["right"]) for rule, found in measured.items()}
    assert Record(still["spoke"], still["spoke"] - still["verdicts"].get("DATA", 0)) == OPEN_LOOKS


def test_what_was_not_measured_is_said_to_be_so_without_a_number() -> None:
    assert "was not measured" in record_of("nothing to gain")
    assert not re.search(r"\d", record_of("nothing to gain"))
    assert record_of("open").startswith(f"Of {OPEN_LOOKS.spoke} such first looks")
    for rule, found in FIRST_LOOKS.items():
        assert record_of(rule).endswith(f"right {found.right} of {found.spoke} times.")


def test_where_nothing_is_left_to_gain_somebodys_own_training_may_still_fall_short() -> None:
    assert likely(data(), bare(0.97), "accuracy", 300).verdict is TuningVerdict.FITS
    assert likely(data(), bare(0.97), "accuracy", 300, own=True).verdict is None
