"""Training side by side: how a text grows, when it stops, what is kept, and that texts do not disturb each other."""

import math
from typing import Any

import pytest
import torch

from helpers.capacity_cases import OPENING, no_step, texts_of, tiny_model
from promptreach.capacity import memorise as memorising
from promptreach.capacity.forms import FORMS, stacked
from promptreach.capacity.memorise import BITS, FIRST_LENGTH, RECALL, Aim, Learner, MemorySettings, memorise
from promptreach.capacity.points import bare_scores
from promptreach.capacity.scoring import Scores, scored
from promptreach.capacity.texts import MemoryText


def learned(method: str, lengths: list[int], aim: Aim = RECALL, **changes: Any) -> list[Learner]:
    model, texts = tiny_model("llama"), texts_of(lengths)
    bare = bare_scores(model, texts, OPENING)
    settings = MemorySettings(**{"steps": 60, **changes})
    return memorise(model, FORMS[method], 2, texts, bare, OPENING, aim, settings, no_step)


@pytest.mark.parametrize("method", list(FORMS))
def test_what_is_kept_recalls_what_it_is_said_to(method: str) -> None:
    model = tiny_model("llama")
    for learner in learned(method, [20, 12], steps=100):
        joined = FORMS[method].joined(stacked([learner.recalling]))
        again = scored(model, [learner.text.ids[: learner.length]], OPENING, joined)[0]
        assert again.recalled >= learner.recalled >= 2
        assert learner.recalled < learner.length


def test_a_text_that_is_recalled_whole_ends_its_training() -> None:
    short, long = learned("prompt", [2, 20], steps=200)
    assert (short.status, short.recalled) == ("whole text", 2)
    assert short.steps < long.steps == 200
    assert long.status == "step limit"


@pytest.mark.parametrize("aim", [RECALL, BITS])
def test_texts_trained_together_learn_what_they_learn_alone(aim: Aim) -> None:
    together = learned("prompt", [14, 14], aim, steps=25)
    model = tiny_model("llama")
    text = texts_of([14, 14])[0]
    bare = bare_scores(model, [text], OPENING)
    (alone,) = memorise(model, FORMS["prompt"], 2, [text], bare, OPENING, aim, MemorySettings(steps=25), no_step)
    assert alone.length == together[0].length
    # 25 steps multiply the rounding of another batch shape.
    assert alone.held == pytest.approx(together[0].held, rel=1e-3)


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others() -> None:
    (first,), (again,), (other,) = (learned("prefix", [9], seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.recalling[0], again.recalling[0])
    assert (first.held, first.steps) == (again.held, again.steps)
    assert other.held != first.held


def test_a_loss_that_is_no_number_ends_one_text_and_keeps_what_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = learned("prompt", [12, 12], steps=30)
    calls: list[int] = []

    def breaking(model: Any, texts: Any, *rest: Any, **options: Any) -> list[Scores]:
        found = scored(model, texts, *rest, **options)
        calls.append(len(texts))
        return [Scores(found[0].nats * math.nan, found[0].right), *found[1:]] if len(calls) == 10 else found

    monkeypatch.setattr(memorising, "scored", breaking)
    broken, whole = learned("prompt", [12, 12], steps=30)
    assert calls == [2] * 10 + [1] * 20
    assert (broken.status, broken.steps, whole.status, whole.steps) == ("diverged", 10, "step limit", 30)
    assert math.isfinite(broken.held)
    assert broken.held <= undisturbed[0].held
    assert whole.held == pytest.approx(undisturbed[1].held, rel=1e-3)


def test_virtual_tokens_that_never_had_a_loss_take_nothing_off() -> None:
    learner = learner_of(40, RECALL)
    learner.look(scores([True] * 4, math.nan), (torch.ones(1),))
    assert (learner.status, learner.recalled, learner.hits) == ("diverged", 0, 0)
    assert learner.bits_after == learner.bare.bits(FIRST_LENGTH)


def scores(right: list[bool], nats: float = 1.0) -> Scores:
    return Scores(torch.full((len(right),), nats, dtype=torch.float64), torch.tensor(right))


def learner_of(available: int, aim: Aim, bare_right: bool = False, **settings: Any) -> Learner:
    text = MemoryText("natural", 0, tuple(range(available)))
    return Learner(text, scores([bare_right] * available, 5.0), (torch.zeros(1),), aim, MemorySettings(**settings))


def test_recall_grows_only_when_all_is_right() -> None:
    learner = learner_of(40, RECALL)
    learner.look(scores([True, True, True, False]), (torch.ones(1),))
    assert (learner.length, learner.recalled) == (FIRST_LENGTH, 3)
    learner.look(scores([True] * 4), (torch.full((1,), 2.0),))
    assert (learner.length, learner.recalled, float(learner.recalling[0])) == (5, 4, 2.0)
    learner.length = 30
    learner.look(scores([True] * 30), (torch.ones(1),))
    assert learner.length == 33


def test_bits_grow_with_two_fifths_of_what_the_bare_model_does_not_know() -> None:
    learner = learner_of(40, BITS)
    learner.length = 10
    learner.look(scores([True] * 3 + [False] * 7), (torch.ones(1),))
    assert learner.length == 10
    learner.look(scores([False] * 6 + [True] * 4), (torch.ones(1),))
    assert learner.length == 11
    knowing = learner_of(40, BITS, bare_right=True)
    knowing.bare.right[:5] = False
    knowing.length = 10
    knowing.look(scores([False] * 4 + [True] * 6), (torch.ones(1),))  # one of the five, all others as before
    assert knowing.length == 10
    knowing.look(scores([False] * 3 + [True] * 7), (torch.ones(1),))
    assert knowing.length == 11


def test_a_fixed_length_never_grows_and_ends_with_recall() -> None:
    learner = learner_of(40, RECALL, length=6)
    assert learner.length == 6
    learner.look(scores([True] * 5 + [False]), (torch.ones(1),))
    assert (learner.length, learner.status, learner.recalled) == (6, None, 5)
    learner.look(scores([True] * 6), (torch.ones(1),))
    assert (learner.length, learner.status) == (6, "whole text")


def test_bits_held_count_below_the_source_where_it_is_known() -> None:
    natural = learner_of(4, RECALL)
    natural.look(scores([False] * 4, math.log(2)), (torch.ones(1),))
    assert natural.held == pytest.approx(4 * 5.0 / math.log(2) - 4)
    text = MemoryText("random", 0, (1, 2, 3, 4), source_bits=3.0)
    random = Learner(text, natural.bare, (torch.zeros(1),), RECALL, MemorySettings())
    random.look(scores([False] * 4, math.log(2)), (torch.ones(1),))
    assert random.held == pytest.approx(4 * 3.0 - 4)


def test_steps_are_reported_in_full_also_when_training_ends_early() -> None:
    seen: list[int] = []

    def step(advance: int = 1, note: str = "") -> None:
        seen.append(advance)

    model, texts = tiny_model("gpt2"), texts_of([2])
    bare = bare_scores(model, texts, OPENING)
    memorise(model, FORMS["prompt"], 2, texts, bare, OPENING, RECALL, MemorySettings(steps=300), step)
    assert sum(seen) == 300
    assert len(seen) < 300
