"""Tasks whose true cause is known by construction: one function per kind.

What is expected of a task follows from how it is made, and stands here before anything is diagnosed; `truth.py` checks
it by training that has nothing to do with it. Rows (see `rows.py`) change with the seed, what they hide does not.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backbones import LETTERS, SKILLS, VALUES

from promptreach.data import Completions, TaskData
from promptreach.diagnosis.verdict import Attempt
from promptreach.hf import OpenModel
from promptreach.tuning import Limits
from rows import (
    CLOTHES,
    FOODS,
    LETTER_LIMITS,
    TEXT_LIMITS,
    animal_or_tool,
    food_or_clothes,
    labelled,
    letters_labelled,
    phrases,
    place_or_thing_first,
    spelled,
    words,
    written_by,
)

HALVES = ("tuning", "reported")


@dataclass(frozen=True)
class Task:
    """One task of the suite.

    Attributes:
        name: unique; the diagnosis never sees it.
        kind: how it is made.
        model: a key of `backbones.MODELS`.
        expected: the verdicts that are right.
        why: the reason, in a sentence.
        rows: makes the data for a seed.
        options: for `diagnose`.
        hidden: the tokens of the prompt that solves it, where one was planted.
        truth: the trainings that `truth.py` checks the construction with, as (method, size, steps).
        plain: whether those are made with torch, transformers and PEFT alone (see `plain.py`).
    """

    name: str
    kind: str
    model: str
    expected: tuple[str, ...]
    why: str
    rows: Callable[[OpenModel, int], TaskData]
    options: Mapping[str, Any] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()
    truth: tuple[tuple[str, int, int], ...] = ()
    plain: bool = False


# The kinds ------------------------------------------------------------------------------------------------------------

MARKERS = {skill: (f"<{skill}>",) * 4 for skill in SKILLS}
SHORT = {"tokens": (2, 4, 8), "steps": 200, "limits": LETTER_LIMITS}
PHRASES = {"tokens": (2, 4), "steps": 80, "batch_size": 16, "limits": TEXT_LIMITS}


def planted() -> Iterator[Task]:
    """FITS: the frozen model wrote the answers itself, behind a hidden prompt that nobody is told of."""
    why = "A prompt of so many tokens exists: it wrote the answers."
    truth = (("head", 0, 0), ("prompt", 4, 600))
    for skill in ("max", "first", "next"):
        rows = written_by(MARKERS[skill])
        yield Task(f"planted-{skill}", "planted", "small_gpt", ("FITS",), why, rows, SHORT, MARKERS[skill], truth)
    for name, skill, model in (("last", "last", "other_three"), ("upper", "upper", "other_two")):
        rows = written_by(MARKERS[skill])
        yield Task(f"planted-{name}", "planted", model, ("FITS",), why, rows, SHORT, MARKERS[skill], truth)
    why_noisy = "The prompt that wrote them gets all but the 50 rows right that were spoilt."
    for name, skill, model in (("planted-noisy", "min", "small_gpt"), ("planted-noisy-last", "last", "other_two")):
        noisy = written_by(MARKERS[skill], noise=50)
        yield Task(name, "planted", model, ("FITS",), why_noisy, noisy, SHORT, MARKERS[skill], truth)
    why = "The kind of the thing is linear in the last state, and the trained prompt of `truth.py` names it."
    truth = (("head", 0, 0), ("prompt", 4, 300))
    for name, found in (("animal-or-tool", animal_or_tool), ("food-or-clothes", food_or_clothes)):
        yield Task(name, "planted", "smollm2", ("FITS",), why, found, PHRASES, truth=truth)


def crippled() -> Iterator[Task]:
    """OPTIMISER: a prompt exists, as above, and the attempt could not have found it."""
    why = "A prompt of that length exists; the attempt's {} keeps it from moving there."
    truth = (("head", 0, 0), ("prompt", 4, 600))
    slow = Attempt("prompt", 4, learning_rate=1e-5, init="vocabulary", steps=200)
    short = Attempt("prompt", 4, learning_rate=0.01, init="vocabulary", steps=3)
    far = "start, five times too far out, at its learning rate"
    attempts = {
        "max": ("small_gpt", "learning rate", slow),
        "first": ("small_gpt", far, PEFT_DEFAULT),
        "next": ("small_gpt", "three steps", short),
        "upper": ("other_three", "learning rate", slow),
        "last": ("other_two", far, PEFT_DEFAULT),
        "min": ("other_three", "three steps", short),
    }
    for skill, (model, what, attempt) in attempts.items():
        rows, options = written_by(MARKERS[skill]), {**SHORT, "attempt": attempt}
        text = why.format(what)
        yield Task(f"crippled-{skill}", "crippled", model, ("OPTIMISER",), text, rows, options, MARKERS[skill], truth)
    truth = (("head", 0, 0), ("prompt", 4, 300))
    options = {**PHRASES, "attempt": Attempt("prompt", 4, learning_rate=1e-5, init="random", steps=80)}
    text = why.format("learning rate and start")
    for name, found in (("crippled-phrases", animal_or_tool), ("crippled-clothes", food_or_clothes)):
        yield Task(name, "crippled", "smollm2", ("OPTIMISER",), text, found, options, truth=truth)
    attempt = Attempt("prompt", 16, learning_rate=1e-3, init="random", steps=10, pooling="first")
    options = {**PHRASES, "tokens": (4, 16), "attempt": attempt}
    text = "Vocabulary rows leave the head what it reads; a random start drowns it, and ten steps do not undo that."
    truth = (("head", 0, 0), ("prompt", 16, 80))
    yield Task("crippled-head", "crippled", "minilm", ("OPTIMISER",), text, place_or_thing_first, options, truth=truth)


PEFT_DEFAULT = Attempt("prompt", 4, learning_rate=1e-3, init="random", steps=200)
"""What a first try with PEFT looks like: its random start, and a rate at which such a start hardly turns."""


def new_attention() -> Iterator[Task]:
    """FORM: the answer needs attention that the frozen layer does not have and a LoRA update can learn.

    Within one layer a prompt or a prefix adds to what a token reads from the content, and scales it, but leaves the
    ratio of any two of its attention weights as it is (Petrov et al. 2024): theorem key ``mixture-identity``.
    """
    why = "One layer's attention neither counts nor looks there; `truth.py`: LoRA does it, prompts and prefixes do not."
    truth = (("head", 0, 0), ("prompt", 8, 2000), ("prompt", 32, 1000), ("prefix", 8, 2000), ("lora", 8, 2000))
    limits = Limits(train=1500, validation=150, held_out=300, max_length=32)
    options = {"tokens": (2, 4, 8), "rank": 8, "steps": 400, "limits": limits}

    def picked(place: int) -> Callable[[OpenModel, int], TaskData]:
        def rows(model: OpenModel, seed: int) -> TaskData:
            found = words(2500, LETTERS[:8], seed, 5, 6)
            return spelled(found, [word[place] for word in found])

        return rows

    def counted(model: OpenModel, seed: int) -> TaskData:
        found = words(2500, LETTERS[:4], seed, 6, 8)
        return letters_labelled(found, [str(min(3, word[:-1].count(word[-1]))) for word in found])

    def compared(model: OpenModel, seed: int) -> TaskData:
        found = words(2500, LETTERS[:4], seed, 6, 8)
        return letters_labelled(found, [str(min(3, word.count(word[0]))) for word in found])

    kinds = {"third-letter": picked(-3), "second-letter": picked(-2), "count-last": counted, "count-first": compared}
    for name, rows in kinds.items():
        yield Task(name, "new attention", "one_layer_gpt", ("FORM",), why, rows, options, truth=truth)


LOOKUP = (("prompt", 4, 800), ("prefix", 2, 800), ("prefix", 8, 800), ("lora", 16, 600))
LOOKUP_OWN = (("prefix", 1, 800), ("prefix", 8, 800))
"""Where somebody's own prefix of one slot is asked about, that and a longer one are what counts."""
PAIRS = (("prompt", 8, 800), ("prompt", 32, 600), ("prefix", 16, 800), ("lora", 8, 600))


def lookup() -> Iterator[Task]:
    """MORE_TOKENS: a random table of the last letter, of which a few tokens or slots hold a part and more hold it all.

    A slot has a key that the last letter may match and a value that tells the answer, in one layer as in several. In
    three layers 2 slots keep up with LoRA, trained long (`truth.py`), so that FITS is right there as well, unless
    somebody's own prefix of one slot is asked about.
    """
    why = "A letter of 36, an answer of 50: `truth.py` (PEFT alone) shows 4 tokens and 2 slots short of 8 slots."
    limits = Limits(train=1200, validation=150, held_out=300, max_length=32)
    options = {"tokens": (1, 2, 4), "rank": 16, "limits": limits}
    own = {"attempt": Attempt("prefix", 1, learning_rate=0.5, init="text", steps=600)}
    # The deeper, the longer LoRA takes; where it is not done, it is no measure of what a few slots fall short of.
    shallow = ("one_layer_gpt", "other_one")
    kinds: dict[str, tuple[str, int, dict[str, Any]]] = {
        "lookup-three-a": ("small_gpt", 11, {}),
        "lookup-three-b": ("small_gpt", 12, {}),
        "lookup-three-own": ("small_gpt", 13, own),
        "lookup-two-a": ("two_layer_gpt", 14, {}),
        "lookup-two-b": ("two_layer_gpt", 15, {}),
        "lookup-two-c": ("two_layer_gpt", 16, {"goal": "memorise"}),
        "lookup-two-own": ("two_layer_gpt", 17, own),
        "lookup-one-a": ("one_layer_gpt", 18, {}),
        "lookup-one-b": ("one_layer_gpt", 19, {}),
        "lookup-one-own": ("one_layer_gpt", 20, own),
        "table-two-a": ("two_layer_gpt", 21, {}),
        "table-two-b": ("two_layer_gpt", 22, {}),
        "lookup-two-d": ("other_two", 31, {}),
        "lookup-two-e": ("other_two", 32, {}),
        "lookup-two-f": ("other_two", 33, {"goal": "memorise"}),
        "lookup-two-other-own": ("other_two", 34, own),
        "lookup-one-c": ("other_one", 35, {}),
        "lookup-three-other-own": ("other_three", 36, own),
    }

    def rows(number: int) -> Callable[[OpenModel, int], TaskData]:
        draw = random.Random(number)
        answers = {letter: draw.choice(VALUES) for letter in LETTERS[:36]}

        def made(model: OpenModel, seed: int) -> TaskData:
            found = words(1650, LETTERS[:36], seed)
            return spelled(found, [answers[word[-1]] for word in found])

        return made

    for name, (model, number, more) in kinds.items():
        given = {**options, "steps": 400 if model in shallow else 600, **more}
        kind, both = name.split("-")[0], model == "small_gpt" and "attempt" not in more
        expected = ("FITS", "MORE_TOKENS") if both else ("MORE_TOKENS",)
        truth = LOOKUP_OWN if "attempt" in more else LOOKUP
        yield Task(name, kind, model, expected, why, rows(number), given, truth=truth, plain=True)


def pairwise() -> Iterator[Task]:
    """FORM: two letters are to be compared, by models that were trained to look at one.

    The narrow GPTs answer with the last letter or the next one; nothing in their attention tells any other letter from
    the rest. A prompt or a prefix adds to what is read there; LoRA changes what is looked at.
    """
    why = "The frozen layers look at one letter; `truth.py` (PEFT alone): LoRA does it, prompts and prefixes do not."
    limits = Limits(train=1500, validation=150, held_out=300, max_length=32)
    options = {"tokens": (2, 4, 8), "rank": 8, "steps": 400, "limits": limits}
    own = {"attempt": Attempt("prompt", 8, learning_rate=0.3, init="vocabulary", steps=400)}
    asked: dict[str, Callable[[str], str]] = {
        "larger": lambda word: max(word[-2:]),
        "smaller": lambda word: min(word[-2:]),
        "before": lambda word: word[-2],
        "largest": lambda word: max(word[-3:]),
        "least": lambda word: min(word[-3:]),
        "middle": lambda word: sorted(word[-3:])[1],
    }
    kinds: dict[str, tuple[str, str, dict[str, Any]]] = {
        "pair-two-larger": ("narrow_two", "larger", {}),
        "pair-two-smaller": ("narrow_two", "smaller", {}),
        "pair-two-before": ("narrow_two", "before", {}),
        "pair-two-largest": ("narrow_two", "largest", {}),
        "pair-two-own": ("narrow_two", "larger", own),
        "pair-three-larger": ("narrow_three", "larger", {}),
        "pair-three-smaller": ("narrow_three", "smaller", {}),
        "pair-three-before": ("narrow_three", "before", {}),
        "pair-one-larger": ("one_layer_gpt", "larger", {}),
        "pair-one-smaller": ("one_layer_gpt", "smaller", {}),
        "pair-one-least": ("one_layer_gpt", "least", {}),
        "pair-one-own": ("one_layer_gpt", "larger", own),
        "pair-two-middle": ("other_narrow_two", "middle", {}),
        "pair-two-least": ("other_narrow_two", "least", {}),
        "pair-two-smaller-own": ("other_narrow_two", "smaller", own),
        "pair-three-largest": ("other_narrow_three", "largest", {}),
        "pair-three-middle": ("other_narrow_three", "middle", {}),
        "pair-one-largest": ("other_one", "largest", {}),
    }

    def rows(answer: Callable[[str], str]) -> Callable[[OpenModel, int], TaskData]:
        def made(model: OpenModel, seed: int) -> TaskData:
            found = words(2500, LETTERS[:8], seed, 5, 6)
            return spelled(found, [answer(word) for word in found])

        return made

    for name, (model, question, more) in kinds.items():
        yield Task(
            name, "pairwise", model, ("FORM",), why, rows(asked[question]), options | more, truth=PAIRS, plain=True
        )


def contradicted() -> Iterator[Task]:
    """DATA: nearly all inputs stand twice in the data, once with each answer."""
    why = "Of two rows with one input and two answers no method gets both: half of them, plus the few single ones."

    def doubled(inputs: Callable[[int, int], list[str]], make: Callable[..., TaskData], answers: tuple[str, str]):
        def rows(model: OpenModel, seed: int) -> TaskData:
            found = inputs(420, seed)
            single = [answers[index % 2] for index in range(20)]
            return make(found + found[20:], single + [answers[0]] * 400 + [answers[1]] * 400)

        return rows

    def spaced(count: int, seed: int) -> list[str]:
        return words(count, LETTERS, seed)

    def garments(count: int, seed: int) -> list[str]:
        return phrases(count, seed, FOODS + CLOTHES)

    def asked(texts: Sequence[str], answers: Sequence[str]) -> Completions:
        return Completions(tuple(texts), tuple(answers))

    kinds = (
        ("contradicted-letters", "small_gpt", doubled(spaced, letters_labelled, ("no", "yes")), SHORT),
        ("contradicted-answers", "small_gpt", doubled(spaced, spelled, ("A", "B")), SHORT),
        ("contradicted-phrases", "minilm", doubled(phrases, labelled, ("no", "yes")), PHRASES),
        ("contradicted-completions", "smollm2", doubled(phrases, asked, (" no", " yes")), PHRASES),
        ("contradicted-garments", "minilm", doubled(garments, labelled, ("left", "right")), PHRASES),
        ("contradicted-values", "other_two", doubled(spaced, spelled, ("C", "D")), SHORT),
    )
    for name, model, rows, options in kinds:
        yield Task(name, "contradicted", model, ("DATA",), why, rows, options)


def shuffled() -> Iterator[Task]:
    """DATA: the labels are drawn without looking at the inputs."""
    why = "The labels are independent of the inputs, so no method beats the most frequent one on rows it has not seen."

    def drawn(inputs: Callable[[int, int], list[str]], count: int, names: str):
        def rows(model: OpenModel, seed: int) -> TaskData:
            draw = random.Random(seed + 1000)
            found = inputs(count, seed)
            return labelled(found, [draw.choice(names) for _ in found])

        return rows

    def spaced(count: int, seed: int) -> list[str]:
        return [" ".join(word) for word in words(count, LETTERS, seed)]

    def garments(count: int, seed: int) -> list[str]:
        return phrases(count, seed, FOODS + CLOTHES)

    kinds = (
        ("shuffled-letters", "small_gpt", drawn(spaced, 1050, "ny"), SHORT),
        ("shuffled-classes", "small_gpt", drawn(spaced, 1050, "abcd"), SHORT),
        ("shuffled-phrases", "minilm", drawn(phrases, 750, "ny"), PHRASES),
        ("shuffled-states", "smollm2", drawn(phrases, 750, "ny"), PHRASES),
        ("shuffled-garments", "smollm2", drawn(garments, 750, "abc"), PHRASES),
        ("shuffled-words", "other_three", drawn(spaced, 1050, "abc"), SHORT),
    )
    for name, model, rows, options in kinds:
        yield Task(name, "shuffled", model, ("DATA",), why, rows, options)


def few() -> Iterator[Task]:
    """UNDECIDED: so few rows that no interval on the held-out ones is narrower than what counts as a difference."""
    why = "Of 20 rows about 5 are held out: 5 agreements in a row still leave a difference of 40 points possible."

    def drawn(inputs: Callable[[int, int], list[str]]) -> Callable[[OpenModel, int], TaskData]:
        def rows(model: OpenModel, seed: int) -> TaskData:
            draw = random.Random(seed + 2000)
            found = inputs(20, seed)
            return labelled(found, draw.sample(["no", "yes"] * 10, 20))

        return rows

    def spaced(count: int, seed: int) -> list[str]:
        return [" ".join(word) for word in words(count, LETTERS, seed)]

    kinds = (
        ("few-letters", "small_gpt", drawn(spaced), SHORT),
        ("few-phrases", "minilm", drawn(phrases), PHRASES),
        ("few-states", "smollm2", drawn(phrases), PHRASES),
        ("few-words", "other_two", drawn(spaced), SHORT),
        ("few-others", "minilm", drawn(spaced), PHRASES),
    )
    for name, model, rows, options in kinds:
        yield Task(name, "few", model, ("UNDECIDED",), why, rows, options)


KINDS = (planted, crippled, lookup, new_attention, pairwise, contradicted, shuffled, few)
TASKS = {task.name: task for kind in KINDS for task in kind()}


DRAW = "2026-11-29 12:50"
"""When the reported half was drawn: after the last change of the rules, before anything of it was diagnosed."""
REPORTED = frozenset(
    (
        "planted-last",
        "planted-upper",
        "planted-noisy-last",
        "food-or-clothes",
        "crippled-upper",
        "crippled-last",
        "crippled-min",
        "crippled-clothes",
        "lookup-two-d",
        "lookup-two-e",
        "lookup-two-f",
        "lookup-two-other-own",
        "lookup-one-c",
        "lookup-three-other-own",
        "pair-two-middle",
        "pair-two-least",
        "pair-two-smaller-own",
        "pair-three-largest",
        "pair-three-middle",
        "pair-one-largest",
        "contradicted-garments",
        "contradicted-values",
        "shuffled-garments",
        "shuffled-words",
        "few-words",
        "few-others",
    )
)
"""The tasks of that draw, on models, rows and questions of their own. An earlier reported half was looked at while
rules were changed, and tunes them now."""


def half_of(name: str) -> str:
    """``"reported"`` for what no rule was changed after, otherwise ``"tuning"``."""
    return "reported" if name in REPORTED else "tuning"
