"""When a verdict hangs on runs that were not at their end, and what is said once all were trained longer."""

from typing import Any

import pytest

from helpers.rule_cases import SOFT, changed
from helpers.rule_cases import numbers as whole_numbers
from promptreach.diagnosis.numbers import TrainingNumbers
from promptreach.diagnosis.rules.rules import depends_on, judge
from promptreach.report.verdict import TuningVerdict


def numbers(**given: Any) -> list[object]:
    """Numbers of runs that may be trained longer."""
    return changed(whole_numbers(**given), TrainingNumbers, more_steps_possible=True)


FALLING = {"still_falling": 0.2, "validation_loss": 0.9}


def keeping_up(prompt: dict[str, Any], lora: dict[str, Any]) -> list[object]:
    """Numbers in which a prompt keeps up with LoRA by its score, both runs changed."""
    return numbers(prompt_gain=0.0, methods={"prompt 16 tokens": prompt, "lora rank 8": lora}, head_gain=0.2)


def test_a_prompt_that_keeps_up_while_both_fall_on_fits_for_now_and_the_verdict_hangs_on_more_steps() -> None:
    soft = {name: {**FALLING, "accuracy": 0.8} for name in ("prompt 1 token", "prompt 4 tokens", "prefix 16 tokens")}
    found = numbers(
        prompt_gain=0.0,
        head_gain=0.2,
        methods={**soft, "prompt 16 tokens": FALLING, "lora rank 8": {**FALLING, "validation_loss": 1.2}},
    )
    judgement = judge(found)
    assert judgement.verdict is TuningVerdict.FITS
    assert depends_on("steps", found)
    assert any("Neither was at its end" in reason.text for reason in judgement.reasons)


@pytest.mark.parametrize(
    ("prompt", "lora"),
    [
        ({}, {}),  # both settled
        (FALLING, {"validation_loss": 0.5}),  # the rival is done
        ({}, {**FALLING, "validation_loss": 0.9}),  # the prompt is done, and LoRA is told apart by another rule
        ({**FALLING, "accuracy": 0.99}, FALLING),  # nothing is left to gain
        ({"still_falling": 0.2, "validation_loss": 0.04}, FALLING),  # LoRA cannot pass below the floor
    ],
)
def test_otherwise_more_steps_decide_nothing_for_what_fits(prompt: dict[str, Any], lora: dict[str, Any]) -> None:
    judgement = judge(keeping_up(prompt, lora))
    assert not any("Neither was at its end" in reason.text for reason in judgement.reasons)


def test_a_best_prompt_that_falls_on_leaves_a_gap_open_until_it_was_trained_longer() -> None:
    found = numbers(methods={name: {"still_falling": 0.2} for name in SOFT})
    assert judge(found).verdict is TuningVerdict.UNDECIDED
    assert depends_on("steps", found)


@pytest.mark.parametrize("falling", [SOFT, ("lora rank 8",), ()])
def test_what_is_too_close_to_call_wants_more_steps_where_either_run_falls_on(falling: tuple[str, ...]) -> None:
    found = numbers(prompt_gain=-0.03, error=0.03, methods={name: {"still_falling": 0.1} for name in falling})
    judgement = judge(found)
    assert "too close to call" in judgement.headline
    assert depends_on("steps", found) == bool(falling)
    assert any("still fell" in reason.text for reason in judgement.reasons) == bool(falling)


def test_rows_that_nobody_memorised_want_more_steps_only_where_lora_falls_on() -> None:
    done = numbers(goal="memorise", prompt_gain=-0.1)
    falling = numbers(goal="memorise", prompt_gain=-0.1, methods={"lora rank 8": {"still_falling": 0.2}})
    assert judge(done).verdict is TuningVerdict.UNDECIDED
    assert not depends_on("steps", done)
    assert depends_on("steps", falling)


def test_longer_training_is_told_with_both_numbers() -> None:
    longer = changed(numbers(), TrainingNumbers, steps_asked=100)
    texts = [reason.text for reason in judge(longer).reasons]
    assert any("At the 100 steps asked for" in text and "200 were trained" in text for text in texts)
    same = changed(numbers(), TrainingNumbers, steps_asked=200)
    assert not any("steps asked for" in reason.text for reason in judge(same).reasons)


def test_once_no_more_steps_are_to_be_had_nothing_hangs_on_them() -> None:
    found = changed(
        numbers(methods={name: {"still_falling": 0.2} for name in SOFT}), TrainingNumbers, more_steps_possible=False
    )
    assert judge(found).verdict is TuningVerdict.UNDECIDED
    assert not depends_on("steps", found)


@pytest.mark.parametrize("train_loss", [0.6, 0.1])
def test_where_nobody_fitted_even_the_rows_trained_on_more_steps_decide(train_loss: float) -> None:
    found = numbers(
        prompt_gain=-0.2,
        gains={"head": 0.0},
        head_gain=0.0,
        lora_over_head=0.0,
        methods={
            "head": {"accuracy": 0.6, "validation_loss": 0.65},
            "lora rank 8": {"accuracy": 0.6, "train_loss": train_loss},
        },
    )
    assert depends_on("steps", found) is (train_loss > 0.5)
