"""Whether the length or the form of a prompt is blamed, and what has to be shown before either is."""

from dataclasses import replace
from typing import Any

import pytest

from helpers.rule_cases import SOFT, changed, compared, judged, numbers
from promptreach.certificate import Evidence
from promptreach.diagnosis.controls import OneLayerNumbers
from promptreach.diagnosis.numbers import (
    TrainingNumbers,
    numbers_of,
)
from promptreach.diagnosis.rules.rules import depends_on, judge
from promptreach.diagnosis.verdict import Judgement
from promptreach.report.verdict import TuningVerdict


def longer(
    short: float, long: float, most: int = 400, prefix: float = -0.7, first: float = -0.6, **methods: dict[str, Any]
) -> Judgement:
    """The judgement on a prompt of 4 and one of 16 tokens that gain so much over LoRA, in a context of that room."""
    fell = {"prompt 16 tokens": {"validation_loss": 0.3, "train_loss": 0.2}}
    fell |= {name: {**fell.get(name, {}), **changes} for name, changes in methods.items()}
    gains = {"prompt 1 token": first, "prompt 4 tokens": short, "prompt 16 tokens": long, "prefix 16 tokens": prefix}
    seen = numbers(gains=gains, methods=fell)
    return judge(changed(seen, TrainingNumbers, most_tokens=most))


def test_a_gap_that_length_still_narrows_asks_for_more_tokens() -> None:
    longer = {"prompt 16 tokens": {"validation_loss": 0.4, "train_loss": 0.3}}
    judgement = judged(methods=longer, gains={"prompt 4 tokens": -0.2})
    assert judgement.verdict is TuningVerdict.MORE_TOKENS
    assert "64 virtual tokens, or a prefix" in judgement.advice


def test_a_lower_validation_loss_without_a_better_fit_is_no_capacity() -> None:
    assert judged(methods={"prompt 16 tokens": {"validation_loss": 0.4}}).verdict is TuningVerdict.FORM


def test_a_settled_gap_at_every_length_is_the_form_and_only_measured() -> None:
    judgement = judged()
    assert judgement.verdict is TuningVerdict.FORM
    assert judgement.evidence is Evidence.MEASURED
    assert judgement.chosen == "lora rank 8"
    assert judgement.headline.endswith("at every length tried.")
    assert judgement.reasons[1].text.startswith("At prompt lengths 1, 4, 16 the loss no longer falls")
    assert "not a proof" in judgement.advice


@pytest.mark.parametrize("lost", [SOFT[:1], SOFT[:2]])
def test_the_form_is_not_blamed_where_no_three_lengths_finished(lost: tuple[str, ...]) -> None:
    """A prefix of the same length is no second length of a prompt."""
    judgement = judged(methods={name: {"status": "diverged"} for name in lost})
    assert judgement.verdict is TuningVerdict.UNDECIDED
    finished = "1, 16" if len(lost) == 1 else "1"
    assert (
        judgement.reasons[0].text
        == f"Lengths of a prompt that finished training: {finished}; a comparison needs three."
    )
    assert judgement.chosen == "lora rank 8"


@pytest.mark.parametrize(("share", "said"), [(0.2, "found 20%"), (None, "not measured"), (-0.1, "found 0%")])
def test_the_form_is_not_blamed_where_training_misses_prompts_that_exist(share: float | None, said: str) -> None:
    judgement = judged(planted=share)
    assert judgement.verdict is TuningVerdict.UNDECIDED
    assert said in judgement.reasons[0].text
    assert judgement.reasons[0].check == "planted"


def test_only_a_gap_that_nothing_else_explains_asks_for_the_planted_prompt() -> None:
    assert depends_on("planted", numbers(planted=None))
    assert not depends_on("planted", numbers(planted=None, prompt_gain=0.0))
    assert not depends_on("planted", numbers(planted=None, data={"best_accuracy": 0.5, "conflicting_rows": 2000}))


def test_a_gap_that_more_training_would_not_close_is_no_excuse() -> None:
    falling = {name: {"still_falling": 0.03, "validation_loss": 0.9} for name in SOFT}
    assert judged(methods=falling).verdict is TuningVerdict.FORM
    assert judged(methods={name: {"still_falling": 0.03} for name in SOFT}).verdict is TuningVerdict.UNDECIDED


def test_length_must_close_the_gap_within_the_lengths_that_fit() -> None:
    assert longer(-0.40, -0.20).verdict is TuningVerdict.MORE_TOKENS
    assert longer(-0.40, -0.20, most=20).verdict is TuningVerdict.FORM
    assert longer(-0.40, -0.20, first=-1.2).verdict is TuningVerdict.FORM  # doublings save less and less
    slow = longer(-0.40, -0.37)
    assert slow.verdict is TuningVerdict.FORM
    assert "closes so slowly" in slow.reasons[1].text


@pytest.mark.parametrize(
    ("falling", "verdict"), [(0.0, TuningVerdict.FORM), (0.021, TuningVerdict.FORM), (0.09, TuningVerdict.UNDECIDED)]
)
def test_what_the_longest_run_would_still_gain_is_not_blamed_on_the_form(
    falling: float, verdict: TuningVerdict
) -> None:
    """Doublings save less and less, and leave 0.12 more than counts as closed at the longest length that fits."""
    found = {"still_falling": falling, "validation_loss": 0.9, "train_loss": 0.8}
    shorter = {"validation_loss": 1.3, "train_loss": 1.2}
    judgement = longer(-0.80, -0.35, most=40, first=-1.6, **{"prompt 16 tokens": found, "prompt 4 tokens": shorter})
    assert judgement.verdict is verdict
    if verdict is TuningVerdict.UNDECIDED:
        assert "was not at its end" in judgement.headline


@pytest.mark.parametrize(("first", "tokens"), [(-0.6, "about 49 "), (-0.65, "about 79 ")])
def test_the_length_that_is_enough_is_extrapolated_from_doublings(first: float, tokens: str) -> None:
    """From 16 tokens on a gap of 0.20 has to fall to 0.04. The two doublings before saved 0.10 each: as much as those
    before them, or 0.8 times that."""
    assert tokens in longer(-0.40, -0.20, first=first).reasons[2].text


def test_a_gain_of_length_within_the_interval_is_none() -> None:
    seen = numbers(error=0.08, gains={"prompt 4 tokens": -0.4, "prompt 16 tokens": -0.3}, prompt_gain=-0.4)
    fell = {"prompt 16 tokens": {"validation_loss": 0.3, "train_loss": 0.2}}
    training = numbers_of(seen, TrainingNumbers)
    assert training is not None
    runs = {name: replace(run, **fell.get(name, {})) for name, run in training.methods.items()}
    assert training.against_shorter["prompt 16 tokens"]["prompt 4 tokens"].low < 0
    assert judge(changed(seen, TrainingNumbers, methods=runs)).verdict is not TuningVerdict.MORE_TOKENS


@pytest.mark.parametrize("unsettled", [{"still_falling": 0.2}, {"rate_at_edge": True}, {"best_step": 0}])
def test_length_has_no_effect_where_the_shorter_one_had_not_settled(unsettled: dict[str, Any]) -> None:
    both = {"prompt 4 tokens": unsettled, "prompt 1 token": unsettled}
    assert longer(-0.40, -0.20, **both).verdict is not TuningVerdict.MORE_TOKENS
    assert longer(-0.40, -0.20, **{"prompt 4 tokens": unsettled}).verdict is TuningVerdict.MORE_TOKENS  # against 1


def test_length_has_no_effect_where_the_shorter_one_is_no_better_than_the_control() -> None:
    seen = numbers(gains={"prompt 1 token": -0.4, "prompt 4 tokens": -0.4, "prompt 16 tokens": -0.2}, head_gain=0.0)
    training = numbers_of(seen, TrainingNumbers)
    assert training is not None
    runs = dict(training.methods)
    runs["prompt 16 tokens"] = replace(runs["prompt 16 tokens"], validation_loss=0.3, train_loss=0.2)
    assert judge(changed(seen, TrainingNumbers, methods=runs)).verdict is TuningVerdict.FORM


@pytest.mark.parametrize(("long", "verdict"), [(-0.15, TuningVerdict.MORE_TOKENS), (-0.34, TuningVerdict.UNDECIDED)])
def test_an_unfinished_longer_run_counts_where_it_closes_half_of_the_gap(long: float, verdict: TuningVerdict) -> None:
    assert longer(-0.40, long, **{"prompt 16 tokens": {"still_falling": 0.2}}).verdict is verdict


def test_an_unfinished_longer_run_counts_when_memorising_too() -> None:
    methods = {
        "lora rank 8": {"accuracy": 1.0},
        "prompt 4 tokens": {"accuracy": 0.5, "validation_loss": 1.0, "train_loss": 1.0},
        "prompt 16 tokens": {"accuracy": 0.8, "still_falling": 0.2},
    }
    gains = {"prompt 4 tokens": -0.5, "prompt 16 tokens": -0.2}
    judgement = judged(goal="memorise", methods=methods, gains=gains, prompt_gain=-0.6)
    assert judgement.verdict is TuningVerdict.MORE_TOKENS


def test_a_prefix_that_ends_where_the_prompt_does_speaks_for_the_form() -> None:
    """A shorter one, and where the longer prompt has not closed half of the gap."""
    shorter = {"prefix 16 tokens": {"tokens": 8}}
    assert longer(-0.40, -0.21, most=800, prefix=-0.5, **shorter).verdict is TuningVerdict.MORE_TOKENS
    assert longer(-0.40, -0.21, most=800, prefix=-0.22, **shorter).verdict is TuningVerdict.FORM
    assert longer(-0.40, -0.15, most=800, prefix=-0.15, **shorter).verdict is TuningVerdict.MORE_TOKENS


def test_a_prompt_below_the_control_was_harmed_by_its_start_and_is_not_compared() -> None:
    seen = numbers(prompt_gain=-0.3)
    training = numbers_of(seen, TrainingNumbers)
    assert training is not None
    harmed = {name: compared(-0.1) for name in SOFT}
    runs = {name: replace(run, starts_tried=("vocabulary", "text")) for name, run in training.methods.items()}
    every = judge(changed(seen, TrainingNumbers, methods=runs, against_head={**training.against_head, **harmed}))
    assert every.verdict is TuningVerdict.UNDECIDED
    assert "its start did harm" in every.headline
    assert "tried: vocabulary, text" in every.reasons[0].text
    one = {"prompt 16 tokens": compared(-0.1)}
    some = judge(changed(seen, TrainingNumbers, against_head={**training.against_head, **one}))
    assert some.verdict is TuningVerdict.UNDECIDED
    assert "finished training: 1, 4;" in some.reasons[0].text
    assert any("harmed by its start" in reason.text for reason in some.reasons)


def test_one_length_more_is_asked_for_where_it_decides() -> None:
    """Two lengths are no curve; nor do three decide where the gap closes too slowly to tell."""
    slow = numbers(gains={"prompt 1 token": -0.45, "prompt 4 tokens": -0.40, "prompt 16 tokens": -0.37})
    training = numbers_of(slow, TrainingNumbers)
    assert training is not None
    runs = dict(training.methods)
    runs["prompt 16 tokens"] = replace(runs["prompt 16 tokens"], validation_loss=0.3, train_loss=0.2)
    assert not depends_on("lengths", changed(slow, TrainingNumbers, methods=runs))
    assert depends_on("lengths", changed(slow, TrainingNumbers, methods=runs, longer_possible=("prompt",)))
    assert not depends_on("lengths", changed(numbers(), TrainingNumbers, longer_possible=("prompt",)))
    assert depends_on("lengths", numbers(methods={"prompt 1 token": {"status": "diverged"}}))


def test_in_one_layer_the_floor_is_evidence_enough_for_the_form() -> None:
    seen = changed(numbers(planted=0.1), TrainingNumbers, layers=1)
    assert depends_on("one_layer", seen)
    assert not depends_on("one_layer", numbers(planted=0.1))
    bound = judge([*seen, OneLayerNumbers(1.0, 0.8, 0.8, 200, 4)])
    assert bound.verdict is TuningVerdict.FORM
    assert any("at least 80%" in reason.text for reason in bound.reasons)
    assert judge([*seen, OneLayerNumbers(1.0, 0.2, 0.2, 200, 4)]).verdict is TuningVerdict.UNDECIDED


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_in_one_layer_every_prompt_may_have_been_harmed(share: float) -> None:
    training = numbers_of(numbers(), TrainingNumbers)
    assert training is not None
    worse = dict.fromkeys(training.against_head, compared(-0.3))
    seen = changed(numbers(), TrainingNumbers, layers=1, against_head=worse, longer_possible=("prompt", "prefix"))
    found = judge([*seen, OneLayerNumbers(1.0, share, share, 200, 4)])
    assert found.verdict is (TuningVerdict.FORM if share > 0.5 else TuningVerdict.UNDECIDED)


def test_tokens_bind_where_longer_prompts_leave_an_untrained_rival_behind() -> None:
    methods = {
        "lora rank 8": {"still_falling": 0.3, "validation_loss": 1.0},
        "prompt 4 tokens": {"accuracy": 0.5, "validation_loss": 0.7},
        "prompt 16 tokens": {"accuracy": 0.8, "validation_loss": 0.3, "train_loss": 0.2},
    }
    judgement = judged(gains={"prompt 4 tokens": 0.1, "prompt 16 tokens": 0.4}, methods=methods)
    assert judgement.verdict is TuningVerdict.MORE_TOKENS
    assert judgement.chosen == "prompt 16 tokens"
