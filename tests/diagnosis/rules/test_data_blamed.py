"""When the data are blamed: contradictions, nothing learnt, rows to be memorised."""

from typing import Any

import pytest

from helpers.rule_cases import NAMES, judged
from promptreach.certificate import Evidence
from promptreach.report.verdict import TuningVerdict


def test_contradicting_labels_are_proved_before_anything_else() -> None:
    judgement = judged(prompt_gain=0.0, data={"best_accuracy": 0.52, "conflicting_rows": 1900})
    assert judgement.verdict is TuningVerdict.DATA
    assert judgement.evidence is Evidence.PROVED


@pytest.mark.parametrize(("rows", "verdict"), [(1000, TuningVerdict.DATA), (100, TuningVerdict.UNDECIDED)])
def test_nothing_learnt_blames_the_data_only_with_enough_rows(rows: int, verdict: TuningVerdict) -> None:
    judgement = judged(methods={name: {"accuracy": 0.5} for name in NAMES}, train_rows=rows)
    assert judgement.verdict is verdict


def test_many_classes_need_many_rows_before_the_data_is_blamed() -> None:
    nothing = {name: {"accuracy": 0.5} for name in NAMES}
    assert judged(methods=nothing, data={"classes": 200}).verdict is TuningVerdict.UNDECIDED


def test_contradictions_that_take_half_of_what_there_is_to_gain_are_the_data() -> None:
    assert judged(prompt_gain=0.0, data={"best_accuracy": 0.74, "conflicting_rows": 900}).verdict is TuningVerdict.DATA
    assert judged(prompt_gain=0.0, data={"best_accuracy": 0.76, "conflicting_rows": 900}).verdict is TuningVerdict.FITS


def test_contradicting_completions_are_proved() -> None:
    most = {"conflicting_rows": 1900, "best_accuracy": 0.52, "loss_floor": 0.3}
    heavy = judged(prompt_gain=0.0, metric="loss", data=most)
    assert (heavy.verdict, heavy.evidence) == (TuningVerdict.DATA, Evidence.PROVED)


@pytest.mark.parametrize("less", [{"loss_floor": 0.2}, {"best_accuracy": 0.8}, {"conflicting_rows": 0}])
def test_contradicting_completions_are_not_blamed_for_what_they_do_not_cost(less: dict[str, Any]) -> None:
    most = {"conflicting_rows": 1900, "best_accuracy": 0.52, "loss_floor": 0.3}
    assert judged(prompt_gain=0.0, metric="loss", data=most | less).verdict is TuningVerdict.FITS


def test_what_was_to_be_memorised_must_be_memorised() -> None:
    """As good as LoRA is not enough; and where LoRA fails as well, nothing speaks against prompts."""
    same = judged(prompt_gain=0.0, goal="memorise")
    assert same.verdict is TuningVerdict.UNDECIDED
    assert "No method memorised" in same.headline
    fitted = {name: {"accuracy": 1.0} for name in NAMES[1:]}
    assert judged(prompt_gain=0.0, goal="memorise", methods=fitted).verdict is TuningVerdict.FITS
    lora = {"lora rank 8": {"accuracy": 1.0}}
    assert judged(prompt_gain=-0.2, goal="memorise", methods=lora).verdict is TuningVerdict.FORM


def test_random_labels_are_not_called_bad_data_where_they_are_to_be_memorised() -> None:
    nothing = {name: {"accuracy": 0.5} for name in NAMES}
    assert judged(methods=nothing, goal="memorise").verdict is TuningVerdict.UNDECIDED


def test_only_contradictions_are_proved() -> None:
    """No combination of the numbers above is called PROVED without contradictions."""
    for gain in (-0.3, -0.03, 0.0, 0.1):
        for user in (None, -0.4, 0.0):
            for goal in ("generalise", "memorise"):
                judgement = judged(prompt_gain=gain, user=user, goal=goal)
                assert judgement.evidence is not Evidence.PROVED
