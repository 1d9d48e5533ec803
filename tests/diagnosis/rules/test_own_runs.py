"""What is said of the prompt or adapter that the user brought: its settings, its length, and what it beats."""

from dataclasses import replace
from typing import Any

import pytest

from helpers.rule_cases import changed, compared, judged, numbers
from promptreach.diagnosis.numbers import (
    USER,
    ChangedSetting,
    Setting,
    TrainingNumbers,
    numbers_of,
)
from promptreach.diagnosis.rules.rules import judge
from promptreach.report.verdict import TuningVerdict


def step(setting: str, before: Setting, after: Setting, gain: float) -> ChangedSetting:
    return ChangedSetting(setting, before, after, compared(gain), 0.8)


def test_the_length_of_your_prefix_is_judged_by_prefixes() -> None:
    given: dict[str, Any] = {"user": -0.2, "own": {"method": "prefix"}}
    alone = judged(prompt_gain=-0.2, **given)
    assert alone.verdict is TuningVerdict.UNDECIDED
    assert "Lengths of a prefix that finished training: 16" in alone.reasons[0].text
    seen = numbers(prompt_gain=-0.2, **given)
    training = numbers_of(seen, TrainingNumbers)
    assert training is not None
    runs = dict(training.methods)
    shorter = {f"prefix {tokens} tokens": replace(runs["prefix 16 tokens"], tokens=tokens) for tokens in (1, 4)}
    runs |= shorter
    over: dict[str, Any] = {
        key: {**getattr(training, key), **dict.fromkeys(shorter, getattr(training, key)["prefix 16 tokens"])}
        for key in ("against_lora", "against_head", "against_user")
    }
    form = judge(changed(seen, TrainingNumbers, methods=runs, **over))
    assert form.verdict is TuningVerdict.FORM
    assert "the best prefix" in form.headline
    assert form.reasons[1].text.startswith("At prefix lengths 1, 4, 16")
    runs["prefix 16 tokens"] = replace(runs["prefix 16 tokens"], validation_loss=0.4, train_loss=0.3)
    over["against_lora"]["prefix 16 tokens"] = compared(-0.1)
    over["against_shorter"] = {"prefix 16 tokens": {"prefix 4 tokens": compared(0.1)}}
    longer = judge(changed(seen, TrainingNumbers, methods=runs, **over))
    assert longer.verdict is TuningVerdict.MORE_TOKENS
    assert longer.headline.startswith("A longer prefix is needed: from 4 to 16 slots")
    assert "64 slots," in longer.advice


def test_your_adapter_short_of_a_fitting_prompt_is_the_optimiser() -> None:
    judgement = judged(prompt_gain=0.0, user=-0.2)
    assert judgement.verdict is TuningVerdict.OPTIMISER
    assert any("7.5 times" in reason.text for reason in judgement.reasons)


def test_your_adapter_that_keeps_up_changes_nothing() -> None:
    assert judged(prompt_gain=0.0, user=0.0).verdict is TuningVerdict.FITS


def test_your_adapter_is_not_blamed_where_no_prompt_fits() -> None:
    assert judged(prompt_gain=-0.2, user=-0.2).verdict is TuningVerdict.FORM
    assert judged(prompt_gain=-0.2, user=-0.4).verdict is TuningVerdict.FORM


def test_your_own_short_prompt_may_be_the_short_one() -> None:
    gains = {"prompt 4 tokens": -0.39, "prompt 16 tokens": -0.15}
    methods = {"prompt 16 tokens": {"validation_loss": 0.3, "train_loss": 0.2, "still_falling": 0.2}}
    judgement = judged(gains=gains, prompt_gain=-0.45, methods=methods, user=-0.4, own={"tokens": 4})
    assert judgement.verdict is TuningVerdict.MORE_TOKENS


def test_your_own_below_the_control_is_told() -> None:
    seen = numbers(prompt_gain=0.0, user=-0.3)
    training = numbers_of(seen, TrainingNumbers)
    assert training is not None
    below = judge(changed(seen, TrainingNumbers, against_head={**training.against_head, USER: compared(-0.2)}))
    assert any("Your attempt ends below the head alone" in reason.text for reason in below.reasons)
    assert not any("ends below" in reason.text for reason in judge(seen).reasons)


def test_the_costliest_setting_comes_first() -> None:
    path = (
        step("learning_rate", 1e-3, 0.02, 0.03),
        step("pooling", "first", "mean", 0.15),
        step("init", "random", "vocabulary", 0.02),
    )
    judgement = judged(prompt_gain=0.0, user=-0.2, path=path)
    assert judgement.verdict is TuningVerdict.OPTIMISER
    assert [reason.text.split(":")[0] for reason in judgement.reasons[:3]] == [
        "The read-out",
        "The learning rate",
        "The start",
    ]
    assert "+15.0 points" in judgement.reasons[0].text


def test_what_an_adapter_does_not_tell_is_ranked_by_what_is_left() -> None:
    path = (step("pooling", "first", "mean", 0.05),)
    judgement = judged(prompt_gain=0.0, user=-0.2, own={"kind": "adapter"}, path=path)
    assert "accounts for 15.0 points" in judgement.reasons[0].text
    assert judgement.reasons[1].text.startswith("The read-out: the same adapter")


def test_more_tokens_are_the_answer_where_no_setting_helps_at_your_length() -> None:
    gains = {"prompt 1 token": -0.3, "prompt 4 tokens": -0.2, "prompt 16 tokens": 0.0, "prefix 16 tokens": 0.0}
    judgement = judged(gains=gains, user=-0.25, own={"tokens": 4})
    assert judgement.verdict is TuningVerdict.MORE_TOKENS
    assert judgement.chosen == "prompt 16 tokens"
    assert judgement.headline.startswith("4 virtual tokens are too few")


@pytest.mark.parametrize(("longer", "chosen"), [(0.3, "prompt 16 tokens"), (0.01, "prompt 4 tokens")])
def test_of_enough_tokens_the_fewest_that_keep_up_with_the_longer_are_advised(longer: float, chosen: str) -> None:
    """LoRA that both lengths beat says nothing of which of them is long enough."""
    gains = {"prompt 1 token": -0.3, "prompt 4 tokens": 0.05, "prompt 16 tokens": 0.05 + longer}
    judgement = judged(gains=gains, user=-0.25, own={"tokens": 1})
    assert (judgement.verdict, judgement.chosen) == (TuningVerdict.MORE_TOKENS, chosen)
    assert judgement.headline.startswith("1 virtual token is too few")


def test_the_larger_part_of_the_gap_decides_between_settings_and_tokens() -> None:
    gains = {"prompt 4 tokens": -0.06, "prompt 16 tokens": 0.0}
    assert judged(gains=gains, user=-0.25, own={"tokens": 4}).verdict is TuningVerdict.OPTIMISER


def test_a_gap_to_lora_that_is_not_settled_does_not_hide_a_larger_one_to_yours() -> None:
    assert judged(prompt_gain=-0.02, error=0.02, user=-0.15).verdict is TuningVerdict.OPTIMISER
    assert judged(prompt_gain=-0.02, error=0.02, user=-0.03).verdict is TuningVerdict.UNDECIDED


def test_a_prefix_is_another_form_than_your_prompt() -> None:
    judgement = judged(user=-0.1, gains={"prefix 16 tokens": 0.0})
    assert judgement.verdict is TuningVerdict.FORM
    assert judgement.chosen == "prefix 16 tokens"


def test_your_prompt_may_be_better_than_ours() -> None:
    judgement = judged(prompt_gain=-0.1, user=0.0)
    assert judgement.verdict is TuningVerdict.FITS
    assert judgement.chosen is None


def test_a_diverged_attempt_is_the_optimiser_whatever_its_start_scores() -> None:
    judgement = judged(prompt_gain=0.0, user=0.0, own={"status": "diverged"})
    assert judgement.verdict is TuningVerdict.OPTIMISER
    assert "after 7 steps" in judgement.reasons[0].text


def test_your_lora_is_measured_by_ours() -> None:
    judgement = judged(user=-0.2, own={"method": "lora", "tokens": 0, "rank": 8})
    assert judgement.verdict is TuningVerdict.OPTIMISER
    assert judgement.chosen == "lora rank 8"


@pytest.mark.parametrize(("prompt_gain", "verdict"), [(0.0, TuningVerdict.FITS), (-0.2, TuningVerdict.FORM)])
def test_a_rank_that_is_too_low_leaves_the_verdict_to_the_prompts(prompt_gain: float, verdict: TuningVerdict) -> None:
    """A LoRA has a rank and no tokens to be too few."""
    judgement = judged(prompt_gain=prompt_gain, user=-0.3, own={"method": "lora", "tokens": 0, "rank": 1})
    assert judgement.verdict is verdict
    assert not any("too few" in text for text in (judgement.headline, *(reason.text for reason in judgement.reasons)))


def test_the_setting_that_costs_most_is_told_first_where_the_control_does() -> None:
    path = (step("pooling", "first", "mean", 0.15),)
    own = {"kind": "adapter"}
    judgement = judged(prompt_gain=0.0, user=-0.2, own=own, path=path, head_gain=0.0, lora_over_head=0.0)
    assert (judgement.verdict, judgement.chosen) == (TuningVerdict.OPTIMISER, "head")
    assert judgement.reasons[0].text.startswith("The read-out")
    assert judgement.reasons[1].text.startswith("The head alone against yours")
    assert len([reason for reason in judgement.reasons if reason.text.startswith("The read-out")]) == 1
