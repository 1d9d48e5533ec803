"""A verdict uses what other findings know: the cut, labels that hardly occur, rows on both sides, the control."""

from typing import Any

import pytest

from helpers.rule_cases import changed, numbers
from promptreach.certificate import Evidence
from promptreach.diagnosis.numbers import BareNumbers, PartsNumbers, TrainingNumbers
from promptreach.diagnosis.rules.rules import judge
from promptreach.report.verdict import TuningVerdict


def parts(**changes: Any) -> PartsNumbers:
    plain: dict[str, Any] = {
        "train_labels": {"no": 500, "yes": 500},
        "held_out_labels": {"no": 500, "yes": 500},
        "held_out_rows": 1000,
        "known_rows": 0,
        "cut_side": "end",
        "room": 128,
        "context": 512,
    }
    return PartsNumbers(**{**plain, **changes})


def nothing_learnt(truncated: int, **more: Any) -> list[object]:
    """Every method at the most frequent label's accuracy."""
    found = numbers(0.0, data={"truncated": truncated, "max_length": 128}, **more)
    return changed(found, BareNumbers, majority_accuracy=0.8)


@pytest.mark.parametrize("truncated", [500, 1500, 2000])
@pytest.mark.parametrize("rows", [100, 10_000])
def test_where_nothing_was_learnt_the_cut_comes_first(truncated: int, rows: int) -> None:
    judgement = judge([*nothing_learnt(truncated, train_rows=rows), parts()])
    assert judgement.verdict is TuningVerdict.UNDECIDED
    assert f"{truncated:,} of 2,000 rows are cut at 128 tokens, and their end is lost" in judgement.headline
    assert "rows are cut" in judgement.reasons[0].text
    assert "deciding part in front" in judgement.advice


def test_a_completions_beginning_is_lost() -> None:
    found = numbers(0.0, metric="loss", head_gain=0.0, lora_over_head=0.0, data={"truncated": 2000})
    judgement = judge([*found, parts(cut_side="beginning", held_out_labels={}, train_labels={})])
    assert "their beginning is lost" in judgement.headline
    assert "right before the completion" in judgement.advice


def test_a_short_context_asks_for_another_model() -> None:
    judgement = judge([*nothing_learnt(2000), parts(context=130, room=128)])
    assert "a longer context than 130 tokens" in judgement.advice


@pytest.mark.parametrize(("truncated", "verdict"), [(0, TuningVerdict.DATA), (20, TuningVerdict.DATA)])
def test_without_a_cut_it_is_the_data(truncated: int, verdict: TuningVerdict) -> None:
    assert judge([*nothing_learnt(truncated), parts()]).verdict is verdict


@pytest.mark.parametrize("gain", [0.0, -0.1])
def test_rows_that_are_cut_stand_among_the_reasons_of_any_verdict(gain: float) -> None:
    judgement = judge([*numbers(gain, data={"truncated": 600}), parts()])
    assert any("600 of 2,000 rows are cut" in reason.text for reason in judgement.reasons)
    assert judgement.verdict is judge(numbers(gain)).verdict


@pytest.mark.parametrize(
    ("held_out", "train"),
    [
        ({"no": 53, "yes": 0}, {"no": 119, "yes": 1}),
        ({"no": 999, "yes": 1}, {"no": 2000, "yes": 0}),
        ({"no": 980, "yes": 12, "maybe": 8}, {"no": 990, "yes": 5, "maybe": 5}),
        ({"no": 0, "yes": 40}, {"no": 3, "yes": 200}),
    ],
)
@pytest.mark.parametrize("rows", [100, 10_000])
def test_a_held_out_part_of_one_label_tells_nothing(held_out: dict[str, int], train: dict[str, int], rows: int) -> None:
    judgement = judge([*numbers(0.0, train_rows=rows), parts(held_out_labels=held_out, train_labels=train)])
    assert judgement.verdict is TuningVerdict.UNDECIDED
    assert "Accuracy cannot tell anything here" in judgement.headline
    rare = min(held_out, key=held_out.__getitem__)
    assert f"'{rare}' on {held_out[rare]} of the held-out and {train[rare]} of the training rows" in judgement.headline
    assert "Add rows of" in judgement.advice
    assert "Collect" not in judgement.advice


def test_a_rare_label_among_others_is_a_reason() -> None:
    counts = {"no": 500, "yes": 497, "maybe": 3}
    judgement = judge([*numbers(0.0), parts(held_out_labels=counts, train_labels=counts)])
    assert judgement.verdict is TuningVerdict.FITS
    assert any("'maybe' on 3 of the held-out" in reason.text for reason in judgement.reasons)


@pytest.mark.parametrize(("known", "decides"), [(1000, True), (600, True), (100, False), (30, False)])
@pytest.mark.parametrize("gain", [0.0, -0.1])
def test_rows_that_were_trained_on_are_no_evidence(known: int, decides: bool, gain: float) -> None:
    judgement = judge([*numbers(gain), parts(known_rows=known)])
    assert ("are not held out" in judgement.headline) is decides
    assert f"{known:,} of 1,000" in judgement.headline + "".join(reason.text for reason in judgement.reasons)


@pytest.mark.parametrize("user", [-0.1, -0.2, -0.3])
@pytest.mark.parametrize("status", ["finished", "diverged"])
def test_a_control_that_is_as_good_already_is_the_advice(user: float, status: str) -> None:
    found = numbers(0.0, user=user, own={"status": status}, head_gain=0.0, lora_over_head=0.0)
    training = next(record for record in found if isinstance(record, TrainingNumbers))
    assert training.against_user["head"].gain == -user
    judgement = judge([*found, parts()])
    assert judgement.verdict is TuningVerdict.OPTIMISER
    assert judgement.chosen == "head"
    assert judgement.headline.startswith("The head alone does this task already")


def test_a_prompt_that_gains_over_the_control_is_still_advised() -> None:
    judgement = judge([*numbers(0.0, user=-0.2, head_gain=0.1, lora_over_head=0.1), parts()])
    assert judgement.verdict is TuningVerdict.OPTIMISER
    assert judgement.chosen != "head"


def test_remarks_on_the_data_are_reasons() -> None:
    judgement = judge([*numbers(0.0), parts(remarks=("The label 'nan' is taken as a class of its own.",))])
    assert judgement.reasons[-1].text.startswith("The label 'nan'")
    assert judgement.reasons[-1].evidence is Evidence.MEASURED
