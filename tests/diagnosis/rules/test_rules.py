"""Rules judge made-up numbers: each verdict is reached by the numbers that should reach it, and by no others."""

from dataclasses import replace
from typing import Any

import pytest

from helpers.rule_cases import NAMES, SOFT, changed, compared, numbers
from promptreach.certificate import Evidence
from promptreach.diagnosis.controls import OneLayerNumbers, SeedNumbers
from promptreach.diagnosis.numbers import (
    USER,
    ChangedSetting,
    Geometry,
    Setting,
    StartNumbers,
    TrainingNumbers,
    numbers_of,
)
from promptreach.diagnosis.rules.rules import RULES, depends_on, judge
from promptreach.diagnosis.verdict import Judgement
from promptreach.report.verdict import Reason, TuningVerdict


def judged(**given: Any) -> Judgement:
    return judge(numbers(**given))


def step(setting: str, before: Setting, after: Setting, gain: float) -> ChangedSetting:
    return ChangedSetting(setting, before, after, compared(gain), 0.8)


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


@pytest.mark.parametrize(("method", "told"), [("prompt", True), ("prefix", False)])
def test_only_a_prompt_is_told_of_where_a_prompt_starts(method: str, told: bool) -> None:
    seen = numbers(prompt_gain=0.0, user=-0.2, own={"method": method})
    far = {"far_out": ("random (start)",), "geometry": {"random (start)": Geometry(9.5, 1.0, 0.1)}}
    judgement = judge(changed(seen, StartNumbers, **far))
    assert judgement.verdict is TuningVerdict.OPTIMISER
    assert any("9.5 times" in reason.text for reason in judgement.reasons) is told


def test_your_adapter_that_keeps_up_changes_nothing() -> None:
    assert judged(prompt_gain=0.0, user=0.0).verdict is TuningVerdict.FITS


def test_your_adapter_is_not_blamed_where_no_prompt_fits() -> None:
    assert judged(prompt_gain=-0.2, user=-0.2).verdict is TuningVerdict.FORM
    assert judged(prompt_gain=-0.2, user=-0.4).verdict is TuningVerdict.FORM


def test_contradicting_labels_are_proved_before_anything_else() -> None:
    judgement = judged(prompt_gain=0.0, data={"best_accuracy": 0.52, "conflicting_rows": 1900})
    assert judgement.verdict is TuningVerdict.DATA
    assert judgement.evidence is Evidence.PROVED


@pytest.mark.parametrize(("rows", "verdict"), [(1000, TuningVerdict.DATA), (100, TuningVerdict.UNDECIDED)])
def test_nothing_learnt_blames_the_data_only_with_enough_rows(rows: int, verdict: TuningVerdict) -> None:
    judgement = judged(methods={name: {"accuracy": 0.5} for name in NAMES}, train_rows=rows)
    assert judgement.verdict is verdict


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


def longer(
    short: float, long: float, most: int = 400, prefix: float = -0.7, first: float = -0.6, **methods: dict[str, Any]
) -> Judgement:
    """The judgement on a prompt of 4 and one of 16 tokens that gain so much over LoRA, in a context of that room."""
    fell = {"prompt 16 tokens": {"validation_loss": 0.3, "train_loss": 0.2}}
    fell |= {name: {**fell.get(name, {}), **changes} for name, changes in methods.items()}
    gains = {"prompt 1 token": first, "prompt 4 tokens": short, "prompt 16 tokens": long, "prefix 16 tokens": prefix}
    seen = numbers(gains=gains, methods=fell)
    return judge(changed(seen, TrainingNumbers, most_tokens=most))


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


def test_your_own_short_prompt_may_be_the_short_one() -> None:
    gains = {"prompt 4 tokens": -0.39, "prompt 16 tokens": -0.15}
    methods = {"prompt 16 tokens": {"validation_loss": 0.3, "train_loss": 0.2, "still_falling": 0.2}}
    judgement = judged(gains=gains, prompt_gain=-0.45, methods=methods, user=-0.4, own={"tokens": 4})
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


def test_your_own_below_the_control_is_told() -> None:
    seen = numbers(prompt_gain=0.0, user=-0.3)
    training = numbers_of(seen, TrainingNumbers)
    assert training is not None
    below = judge(changed(seen, TrainingNumbers, against_head={**training.against_head, USER: compared(-0.2)}))
    assert any("Your attempt ends below the head alone" in reason.text for reason in below.reasons)
    assert not any("ends below" in reason.text for reason in judge(seen).reasons)


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


STUCK = {"best_step": 0, "train_fell": 0.0}


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


def test_tokens_bind_where_longer_prompts_leave_an_untrained_rival_behind() -> None:
    methods = {
        "lora rank 8": {"still_falling": 0.3, "validation_loss": 1.0},
        "prompt 4 tokens": {"accuracy": 0.5, "validation_loss": 0.7},
        "prompt 16 tokens": {"accuracy": 0.8, "validation_loss": 0.3, "train_loss": 0.2},
    }
    judgement = judged(gains={"prompt 4 tokens": 0.1, "prompt 16 tokens": 0.4}, methods=methods)
    assert judgement.verdict is TuningVerdict.MORE_TOKENS
    assert judgement.chosen == "prompt 16 tokens"


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


def test_without_training_there_is_no_verdict() -> None:
    judgement = judge(numbers()[:1])
    assert (judgement.verdict, judgement.evidence) == (TuningVerdict.UNDECIDED, Evidence.UNKNOWN)


def test_what_broke_is_told() -> None:
    judgement = judge(numbers(), [Reason("boom", Evidence.UNKNOWN, "training")])
    assert judgement.verdict is TuningVerdict.UNDECIDED
    assert judgement.reasons[0].text == "boom"


def test_the_last_rule_always_decides() -> None:
    assert RULES[-1].__name__ == "form_falls_short"


def test_only_contradictions_are_proved() -> None:
    """No combination of the numbers above is called PROVED without contradictions."""
    for gain in (-0.3, -0.03, 0.0, 0.1):
        for user in (None, -0.4, 0.0):
            for goal in ("generalise", "memorise"):
                judgement = judged(prompt_gain=gain, user=user, goal=goal)
                assert judgement.evidence is not Evidence.PROVED
