"""Rows of the suite's tasks: words of letters for the small GPTs, short phrases for the real models.

The same seed makes the same rows; what is hidden in them does not change with it.
"""

import random
from collections.abc import Callable, Sequence

import torch
from backbones import IDS, LETTERS

from promptreach.backbone import Prepended
from promptreach.data import Completions, LabelledTexts, TaskData
from promptreach.hf import OpenModel
from promptreach.tuning import Limits

LETTER_LIMITS = Limits(train=600, validation=150, held_out=300, max_length=32)
TEXT_LIMITS = Limits(train=400, validation=100, held_out=200, max_length=32)
ANIMALS = ("cat", "dog", "horse", "cow", "sheep", "lion", "wolf", "goat", "duck", "mouse", "pig", "bear")
TOOLS = ("hammer", "saw", "knife", "spoon", "shovel", "drill", "axe", "rake", "broom", "wrench", "fork", "brush")
FOODS = ("bread", "cheese", "rice", "soup", "cake", "apple", "pear", "corn", "egg", "honey", "butter", "pasta")
CLOTHES = ("shirt", "coat", "hat", "shoe", "sock", "scarf", "glove", "boot", "skirt", "belt", "dress", "jacket")
PLACES = ("kitchen", "bedroom", "hall", "office", "forest", "field", "river", "beach", "garden", "street")
QUALITIES = ("old", "small", "red", "nice", "wet", "large", "blue", "quiet", "heavy", "strange")


def words(count: int, letters: str, seed: int, shortest: int = 4, longest: int = 8) -> list[str]:
    """Different words of random letters."""
    draw = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(draw.choices(letters, k=draw.randint(shortest, longest)))] = None
    return list(found)


def phrases(count: int, seed: int, things: Sequence[str] = ANIMALS + TOOLS) -> list[str]:
    """Different short phrases: a quality, a place, a thing."""
    all_of_them = [f"{q} {place} {thing}" for q in QUALITIES for place in PLACES for thing in things]
    return random.Random(seed).sample(all_of_them, count)


def spelled(found: Sequence[str], answers: Sequence[str]) -> Completions:
    """Words letter by letter, each with one token to answer."""
    return Completions(tuple(" ".join(word) for word in found), tuple(answers))


def labelled(texts: Sequence[str], answers: Sequence[str]) -> LabelledTexts:
    names = tuple(sorted(set(answers)))
    return LabelledTexts(tuple(texts), tuple(names.index(answer) for answer in answers), names)


def letters_labelled(found: Sequence[str], answers: Sequence[str]) -> LabelledTexts:
    return labelled([" ".join(word) for word in found], answers)


def prompt_of(model: OpenModel, hidden: Sequence[str]) -> torch.Tensor:
    """The vocabulary rows of the small GPT's words `hidden`."""
    return model.vocabulary[torch.tensor([IDS[word] for word in hidden])]


def answers_of(model: OpenModel, found: Sequence[str], hidden: Sequence[str]) -> list[str]:
    """What the frozen model answers to each word behind the prompt `hidden`."""
    batch = model.batch(model.tokenize([" ".join(word) for word in found]))
    with torch.no_grad():
        states = model.hidden(batch, Prepended(prompt=prompt_of(model, hidden)))
        last = states[torch.arange(len(found)), batch.mask.sum(1) - 1]
        return model.tokenizer.convert_ids_to_tokens(model.vocabulary_logits(last).argmax(-1).tolist())


def written_by(hidden: Sequence[str], letters: str = LETTERS, noise: int = 0) -> Callable[[OpenModel, int], TaskData]:
    """Rows that the frozen model answers itself behind a hidden prompt; `noise` of them again, with wrong answers."""

    def rows(model: OpenModel, seed: int) -> TaskData:
        found = words(1050 - noise, letters, seed)
        answers = answers_of(model, found, hidden)
        most = max(map(answers.count, set(answers))) / len(answers)
        if most > 0.9:  # hardly anything to find: verdicts on such rows would be scored against the wrong truth
            raise ValueError(
                f"the model answers alike to {most:.0%} of the rows behind its hidden prompt: train it again"
            )
        draw = random.Random(seed)
        wrong = [draw.choice([value for value in sorted(set(answers)) if value != own]) for own in answers[:noise]]
        return spelled(found + found[:noise], answers + wrong)

    return rows


def animal_or_tool(model: OpenModel, seed: int) -> TaskData:
    """Completions that name the kind of the thing in a phrase."""
    found = phrases(750, seed)
    return Completions(tuple(found), tuple(f" {kind}" for kind in kinds_of(found)))


def food_or_clothes(model: OpenModel, seed: int) -> TaskData:
    """The same of other things."""
    found = phrases(750, seed, FOODS + CLOTHES)
    return Completions(tuple(found), tuple(" food" if text.split()[-1] in FOODS else " clothes" for text in found))


def place_or_thing_first(model: OpenModel, seed: int) -> TaskData:
    """Phrases with their last two words in either order; the label says which stands first."""
    draw = random.Random(seed)
    texts, answers = [], []
    for phrase in phrases(750, seed):
        quality, place, thing = phrase.split()
        swapped = draw.random() < 0.5
        texts.append(f"{quality} {thing} {place}" if swapped else phrase)
        answers.append("thing" if swapped else "place")
    return labelled(texts, answers)


def kinds_of(found: Sequence[str]) -> list[str]:
    return ["animal" if phrase.split()[-1] in ANIMALS else "tool" for phrase in found]
