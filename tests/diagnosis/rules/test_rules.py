"""Rules judge made-up numbers: each verdict is reached by the numbers that should reach it, and by no others."""

import pytest

from helpers.rule_cases import SOFT, changed, judged, numbers
from promptreach.certificate import Evidence
from promptreach.diagnosis.controls import SeedNumbers
from promptreach.diagnosis.numbers import (
    Geometry,
    StartNumbers,
)
from promptreach.diagnosis.rules.rules import RULES, judge
from promptreach.report.verdict import Reason, TuningVerdict

STUCK = {"best_step": 0, "train_fell": 0.0}


def test_a_prompt_within_the_margin_fits_and_is_chosen() -> None:
    judgement = judged(prompt_gain=-0.01)
    assert judgement.verdict is TuningVerdict.FITS
    assert judgement.chosen == "prompt 4 tokens"
    assert "80.0%" in judgement.headline


def test_among_fitting_prompts_the_better_validation_loss_is_chosen() -> None:
    judgement = judged(prompt_gain=0.0, methods={"prompt 16 tokens": {"validation_loss": 0.4}})
    assert judgement.chosen == "prompt 16 tokens"


def test_a_prefix_fits_where_no_prompt_does() -> None:
    judgement = judged(prompt_gain=-0.2, gains={"prefix 16 tokens": 0.0})
    assert judgement.verdict is TuningVerdict.FITS
    assert judgement.chosen == "prefix 16 tokens"
    assert judgement.headline.startswith("A prefix fits: a prefix of 16 slots from the cache of real text")
    assert "16 slots" in judgement.advice
    assert any("falls short" in reason.text for reason in judgement.reasons)


@pytest.mark.parametrize(("lora_over_head", "told"), [(0.0, "neither"), (0.03, "LoRA if that gain matters")])
def test_a_prompt_no_better_than_the_head_is_not_recommended(lora_over_head: float, told: str) -> None:
    judgement = judged(prompt_gain=0.0, head_gain=0.0, lora_over_head=lora_over_head)
    assert judgement.verdict is TuningVerdict.FITS
    assert judgement.chosen == "head"
    assert told in judgement.headline + judgement.advice


def test_a_prefix_no_better_than_the_head_is_called_a_prefix() -> None:
    judgement = judged(prompt_gain=-0.2, gains={"prefix 16 tokens": 0.0}, head_gain=0.0)
    assert judgement.chosen == "head"
    assert "a prefix (80.0%) adds nothing" in judgement.headline


def test_an_interval_that_allows_both_is_undecided_and_says_how_many_rows_decide() -> None:
    judgement = judged(prompt_gain=-0.03, error=0.03)
    assert judgement.verdict is TuningVerdict.UNDECIDED
    assert judgement.evidence is Evidence.UNKNOWN
    assert "held-out rows" in judgement.advice


def test_a_gap_while_training_still_improves_is_undecided() -> None:
    falling = {name: {"still_falling": 0.1} for name in SOFT}
    judgement = judged(methods=falling)
    assert judgement.verdict is TuningVerdict.UNDECIDED
    assert "last stretch" in judgement.reasons[0].text
    assert judgement.chosen == "lora rank 8"


def test_a_gap_at_the_edge_of_the_rates_tried_is_undecided() -> None:
    edge = {name: {"rate_at_edge": True} for name in SOFT}
    judgement = judged(methods=edge)
    assert judgement.verdict is TuningVerdict.UNDECIDED
    assert "largest tried" in judgement.reasons[0].text


@pytest.mark.parametrize(("method", "told"), [("prompt", True), ("prefix", False)])
def test_only_a_prompt_is_told_of_where_a_prompt_starts(method: str, told: bool) -> None:
    seen = numbers(prompt_gain=0.0, user=-0.2, own={"method": method})
    far = {"far_out": ("random (start)",), "geometry": {"random (start)": Geometry(9.5, 1.0, 0.1)}}
    judgement = judge(changed(seen, StartNumbers, **far))
    assert judgement.verdict is TuningVerdict.OPTIMISER
    assert any("9.5 times" in reason.text for reason in judgement.reasons) is told


def test_completions_are_judged_in_nats() -> None:
    judgement = judged(prompt_gain=-0.04, metric="loss")
    assert judgement.verdict is TuningVerdict.UNDECIDED
    assert judged(prompt_gain=-0.02, metric="loss").verdict is TuningVerdict.FITS
    assert judged(prompt_gain=-0.30, metric="loss").verdict is TuningVerdict.FORM
    assert "nats" in judged(prompt_gain=-0.30, metric="loss").reasons[0].text


def test_diverged_prompts_are_not_compared() -> None:
    lost = {name: {"status": "diverged"} for name in SOFT}
    judgement = judged(prompt_gain=0.0, methods=lost)
    assert judgement.verdict is TuningVerdict.UNDECIDED


def test_a_rival_that_never_left_its_start_makes_no_fit() -> None:
    judgement = judged(prompt_gain=0.0, methods={"lora rank 8": STUCK})
    assert judgement.verdict is TuningVerdict.UNDECIDED
    assert "never left its start" in judgement.reasons[0].text


def test_a_rival_that_falls_on_makes_no_fit_unless_the_prompt_does_so_too() -> None:
    falls = {"still_falling": 0.1}
    assert judged(prompt_gain=0.0, methods={"lora rank 8": falls}).verdict is TuningVerdict.UNDECIDED
    both = {name: falls for name in ("lora rank 8", *SOFT)}
    assert judged(prompt_gain=0.0, methods=both).verdict is TuningVerdict.FITS


def test_where_no_rival_could_be_better_an_untrained_one_does_not_matter() -> None:
    perfect = {"prompt 4 tokens": {"accuracy": 0.99}, "lora rank 8": STUCK}
    judgement = judged(prompt_gain=-0.3, gains={"prompt 4 tokens": 0.1}, methods=perfect)
    assert judgement.verdict is TuningVerdict.FITS


def test_nothing_whose_best_look_is_the_start_is_recommended_as_trained() -> None:
    untrained = {name: {"best_step": 0} for name in SOFT}
    judgement = judged(prompt_gain=0.0, methods=untrained)
    assert judgement.verdict is TuningVerdict.UNDECIDED
    assert judgement.chosen is None
    some = judged(prompt_gain=0.0, methods={"prompt 4 tokens": {"best_step": 0, "validation_loss": 0.1}})
    assert some.verdict is TuningVerdict.FITS
    assert some.chosen == "prompt 16 tokens"
    blamed = judged(prompt_gain=0.0, user=-0.2, methods=untrained)
    assert blamed.verdict is TuningVerdict.OPTIMISER
    assert blamed.chosen is None
    assert "before any step" in blamed.headline


def test_the_steps_of_the_advice_are_those_that_were_verified() -> None:
    methods = {"prompt 4 tokens": {"steps": 150, "schedule": 200, "best_step": 50}}
    assert "over 200 steps, keeping the state of step 50" in judged(prompt_gain=0.0, methods=methods).advice
    assert "over 200 steps" in judged(prompt_gain=0.0, user=-0.3, methods=methods).advice


@pytest.mark.parametrize(
    ("gain", "chosen", "told"),
    [(0.01, "head", "does this task already"), (0.03, "head", "A tie"), (0.05, "prompt 4 tokens", "fits:")],
)
def test_training_and_the_control_part_by_the_margin_that_counts_elsewhere(gain: float, chosen: str, told: str) -> None:
    judgement = judged(prompt_gain=0.0, head_gain=gain)
    assert judgement.verdict is TuningVerdict.FITS
    assert judgement.chosen == chosen
    assert told in judgement.headline


def test_the_control_does_where_it_keeps_up_and_no_prompt_does() -> None:
    judgement = judged(prompt_gain=-0.2, gains={"head": 0.0})
    assert judgement.verdict is TuningVerdict.FITS
    assert judgement.chosen == "head"


@pytest.mark.parametrize(
    ("accuracy", "train_loss", "verdict"),
    [
        (0.6, 0.6, TuningVerdict.UNDECIDED),
        (0.6, 0.5, TuningVerdict.FITS),  # LoRA fits its own rows better than the control does
        (0.6, 0.1, TuningVerdict.FITS),  # LoRA knows its own rows by heart: more training would not help
        (0.8, 0.6, TuningVerdict.FITS),  # the control has most of what can be had
    ],
)
@pytest.mark.parametrize("prompt_gain", [-0.2, 0.0], ids=["the control alone keeps up", "a prompt keeps up too"])
def test_as_good_as_a_rival_that_learnt_nothing_says_nothing(
    accuracy: float, train_loss: float, verdict: TuningVerdict, prompt_gain: float
) -> None:
    methods = {
        "head": {"accuracy": accuracy, "validation_loss": 0.65},
        "lora rank 8": {"accuracy": accuracy, "train_loss": train_loss},
    }
    judgement = judged(prompt_gain=prompt_gain, gains={"head": 0.0}, head_gain=0.0, lora_over_head=0.0, methods=methods)
    assert judgement.verdict is verdict
    if verdict is TuningVerdict.UNDECIDED:
        assert "even the rows that LoRA was trained on" in judgement.headline
        assert judgement.chosen is None
    else:
        assert judgement.chosen == "head"


def test_what_a_seed_is_worth_widens_the_margin_and_never_narrows_it() -> None:
    seen = numbers(prompt_gain=-0.06)
    assert judge(seen).verdict is TuningVerdict.FORM
    wide = judge([*seen, SeedNumbers((0, 1), {"lora rank 8": (0.8, 0.7)}, 0.1)])
    assert wide.verdict is TuningVerdict.FITS
    assert any("up to 10.0 points; the margin is 10 points" in reason.text for reason in wide.reasons)
    assert judge([*seen, SeedNumbers((0, 1), {"lora rank 8": (0.8, 0.8)}, 0.0)]).verdict is TuningVerdict.FORM


def test_without_training_there_is_no_verdict() -> None:
    judgement = judge(numbers()[:1])
    assert (judgement.verdict, judgement.evidence) == (TuningVerdict.UNDECIDED, Evidence.UNKNOWN)


def test_what_broke_is_told() -> None:
    judgement = judge(numbers(), [Reason("boom", Evidence.UNKNOWN, "training")])
    assert judgement.verdict is TuningVerdict.UNDECIDED
    assert judgement.reasons[0].text == "boom"


def test_the_last_rule_always_decides() -> None:
    assert RULES[-1].__name__ == "form_falls_short"
