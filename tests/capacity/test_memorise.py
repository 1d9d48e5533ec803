"""Training side by side: how a text grows, when it stops, what is kept, and that texts do not disturb each other."""

import math
from typing import Any

import pytest
import torch

from helpers.capacity_cases import OPENING, no_step, texts_of, tiny_model
from promptreach.backbone import Prepended
from promptreach.capacity import memorise as memorising
from promptreach.capacity.measure import bare_scores
from promptreach.capacity.memorise import (
    BITS,
    FIRST_LENGTH,
    MEMORY_METHODS,
    RECALL,
    MemoryJob,
    MemorySettings,
    MemoryTrainer,
    memorise,
)
from promptreach.capacity.scoring import TextScores, blanked, scored
from promptreach.capacity.texts import MemoryText
from promptreach.training.methods.methods import Trainable


def learned(method: str, texts: list[MemoryText], share: float = RECALL, **changes: Any) -> list[MemoryTrainer]:
    model = tiny_model("llama")
    job = MemoryJob(method, 2, tuple(texts), OPENING, MemorySettings(**{"steps": 60, **changes}))
    return memorise(model, job, bare_scores(model, texts, OPENING), share, no_step)


@pytest.mark.parametrize("method", MEMORY_METHODS)
def test_what_is_kept_recalls_what_it_is_said_to(method: str) -> None:
    model = tiny_model("llama")
    texts = texts_of([20] if method == "one_pass" else [20, 12])
    for trainer in learned(method, texts, steps=200 if method == "one_pass" else 100):
        front = blanked(trainer.recaller()) if method == "one_pass" else trainer.recaller()
        again = scored(model, [trainer.text.ids[: trainer.length]], OPENING, front)[0]
        assert again.recalled >= trainer.recalled >= 2
        assert trainer.recalled < trainer.length


def test_a_text_that_is_recalled_whole_ends_its_training() -> None:
    short, long = learned("prompt", texts_of([2, 20]), steps=200)
    assert (short.whole, short.recalled) == (True, 2)
    assert short.steps < long.steps == 200
    assert not long.whole


@pytest.mark.parametrize(("share", "what"), [(RECALL, "recalled"), (BITS, "held")])
def test_of_several_starts_the_best_counts_text_by_text(
    share: float, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = texts_of([14, 12])
    made: list[MemoryTrainer] = []
    own = memorising.MemoryTrainer

    def kept(*given: Any) -> MemoryTrainer:
        made.append(own(*given))
        return made[-1]

    monkeypatch.setattr(memorising, "MemoryTrainer", kept)
    found = learned("prompt", texts, share, steps=40, starts=3)
    assert [one.text for one in found] == texts
    assert [id(one.text) for one in made] == [id(text) for text in texts for _ in range(3)]
    for at, best in enumerate(found):
        of_text = made[3 * at : 3 * at + 3]
        assert getattr(best, what) == max(getattr(one, what) for one in of_text)
        assert len({one.held for one in of_text}) == 3


def test_starts_take_their_rates_in_turn_text_by_text(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[list[float]] = []
    own = memorising.MemoryTrainer

    def kept(trainable: Trainable, given: list[float], *others: Any) -> MemoryTrainer:
        rates.append(given)
        return own(trainable, given, *others)

    monkeypatch.setattr(memorising, "MemoryTrainer", kept)
    learned("prefix", texts_of([9, 9]), steps=1, starts=4, learning_rate=1e-3)
    (first,) = {tuple(one) for one in rates[::4]}
    for given, times in zip(rates, 2 * (1, 3, 10, 1), strict=True):
        assert given == pytest.approx([times * rate for rate in first])


def test_a_start_that_recalls_all_ends_the_others_of_its_text() -> None:
    short, long = learned("prompt", texts_of([2, 20]), steps=120, starts=4)
    assert short.whole
    assert short.steps < long.steps == 120


@pytest.mark.parametrize("share", [RECALL, BITS])
def test_texts_trained_together_learn_what_they_learn_alone(share: float) -> None:
    texts = texts_of([14, 14])
    together = learned("prompt", texts, share, steps=25)
    (alone,) = learned("prompt", texts[:1], share, steps=25)
    assert alone.length == together[0].length
    # 25 steps multiply the rounding of another batch shape.
    assert alone.held == pytest.approx(together[0].held, rel=1e-3)


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others() -> None:
    (first,), (again,), (other,) = (learned("prefix", texts_of([9]), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.recalling["keys"], again.recalling["keys"])
    assert (first.held, first.steps) == (again.held, again.steps)
    assert other.held != first.held


def test_a_loss_that_is_no_number_ends_one_text_and_keeps_what_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = learned("prompt", texts_of([12, 12]), steps=30)
    calls: list[int] = []

    def breaking(model: Any, texts: Any, *rest: Any, **options: Any) -> list[TextScores]:
        found = scored(model, texts, *rest, **options)
        calls.append(len(texts))
        return [TextScores(found[0].nats * math.nan, found[0].right), *found[1:]] if len(calls) == 10 else found

    monkeypatch.setattr(memorising, "scored", breaking)
    broken, whole = learned("prompt", texts_of([12, 12]), steps=30)
    assert calls == [2] * 10 + [1] * 20
    assert (broken.diverged, broken.steps, whole.diverged, whole.steps) == (True, 10, False, 30)
    assert math.isfinite(broken.held)
    assert broken.held <= undisturbed[0].held
    assert whole.held == pytest.approx(undisturbed[1].held, rel=1e-3)


def test_virtual_tokens_that_never_had_a_loss_take_nothing_off() -> None:
    trainer = trainer_of(40, RECALL)
    trainer.update(scores([True] * 4, math.nan))
    assert (trainer.diverged, trainer.recalled, trainer.hits) == (True, 0, 0)
    assert trainer.bits_after == trainer.bare.bits(FIRST_LENGTH)


def scores(right: list[bool], nats: float = 1.0) -> TextScores:
    return TextScores(torch.full((len(right),), nats, dtype=torch.float64), torch.tensor(right))


def one_number() -> Trainable:
    """A virtual token that no model reads."""
    own = torch.nn.Parameter(torch.zeros(1))
    return Trainable({"own": own}, Prepended, 1.0, lambda: {"own": own.detach().clone()}, lambda state: None)


def trainer_of(
    available: int, share: float, bare_right: bool = False, source: float | None = None, **settings: Any
) -> MemoryTrainer:
    text = MemoryText("natural" if source is None else "random", 0, tuple(range(available)), source)
    bare = scores([bare_right] * available, 5.0)
    return MemoryTrainer(one_number(), [0.01], text, bare, share, MemorySettings(**settings))


def test_recall_grows_only_when_all_is_right() -> None:
    trainer = trainer_of(40, RECALL)
    trainer.update(scores([True, True, True, False]))
    assert (trainer.length, trainer.recalled) == (FIRST_LENGTH, 3)
    trainer.trainable.parameters["own"].data.fill_(2.0)
    trainer.update(scores([True] * 4))
    assert (trainer.length, trainer.recalled, float(trainer.recalling["own"])) == (5, 4, 2.0)
    trainer.length = 30
    trainer.update(scores([True] * 30))
    assert trainer.length == 33


def test_bits_grow_with_two_fifths_of_what_the_bare_model_does_not_know() -> None:
    trainer = trainer_of(40, BITS)
    trainer.length = 10
    trainer.update(scores([True] * 3 + [False] * 7))
    assert trainer.length == 10
    trainer.update(scores([False] * 6 + [True] * 4))
    assert trainer.length == 11
    knowing = trainer_of(40, BITS, bare_right=True)
    knowing.bare.right[:5] = False
    knowing.length = 10
    knowing.update(scores([False] * 4 + [True] * 6))  # one of the five, all others as before
    assert knowing.length == 10
    knowing.update(scores([False] * 3 + [True] * 7))
    assert knowing.length == 11


def test_a_fixed_length_never_grows_and_ends_with_recall() -> None:
    trainer = trainer_of(40, RECALL, length=6)
    assert trainer.length == 6
    trainer.update(scores([True] * 5 + [False]))
    assert (trainer.length, trainer.is_over, trainer.recalled) == (6, False, 5)
    trainer.update(scores([True] * 6))
    assert (trainer.length, trainer.is_over, trainer.whole) == (6, True, True)


def test_bits_held_count_below_the_source_where_it_is_known() -> None:
    natural = trainer_of(4, RECALL)
    natural.update(scores([False] * 4, math.log(2)))
    assert natural.held == pytest.approx(4 * 5.0 / math.log(2) - 4)
    random = trainer_of(4, RECALL, source=3.0)
    random.update(scores([False] * 4, math.log(2)))
    assert random.held == pytest.approx(4 * 3.0 - 4)


def test_steps_are_reported_in_full_also_when_training_ends_early() -> None:
    seen: list[int] = []

    def step(advance: int = 1, note: str = "") -> None:
        seen.append(advance)

    model, texts = tiny_model("gpt2"), texts_of([2])
    job = MemoryJob("prompt", 2, tuple(texts), OPENING, MemorySettings(steps=300))
    memorise(model, job, bare_scores(model, texts, OPENING), RECALL, step)
    assert sum(seen) == 300
    assert len(seen) < 300


@pytest.mark.parametrize(("growth", "longer"), [(1.001, 5), (1.6, 6), (1e308, 100)])
def test_a_text_grows_by_a_token_at_least_and_never_beyond_its_end(growth: float, longer: int) -> None:
    assert MemorySettings(growth=growth).next(4, 100) == longer
