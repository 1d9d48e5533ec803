"""Tasks whose true cause is known by construction: one function per kind.

What is expected of a task follows from how it is made, and stands here before anything is diagnosed. `truth.py` checks
the constructions by training that has nothing to do with the diagnosis. The rows of a task change with the seed, what
is hidden in them does not.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from backbones import IDS, LETTERS, SKILLS, VALUES

from promptreach.backbone import Prepended
from promptreach.data import Completions, LabelledTexts, TaskData
from promptreach.diagnosis.verdict import Attempt
from promptreach.hf import OpenModel
from promptreach.tuning import Limits

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


# Rows -----------------------------------------------------------------------------------------------------------------

LETTER_LIMITS = Limits(train=600, validation=150, held_out=300, max_length=32)
TEXT_LIMITS = Limits(train=400, validation=100, held_out=200, max_length=32)
ANIMALS = ("cat", "dog", "horse", "cow", "sheep", "lion", "wolf", "goat", "duck", "mouse", "pig", "bear")
TOOLS = ("hammer", "saw", "knife", "spoon", "shovel", "drill", "axe", "rake", "broom", "wrench", "fork", "brush")
PLACES = ("kitchen", "bedroom", "hall", "office", "forest", "field", "river", "beach", "garden", "street")
QUALITIES = ("old", "small", "red", "nice", "wet", "large", "blue", "quiet", "heavy", "strange")


def words(count: int, letters: str, seed: int, shortest: int = 4, longest: int = 8) -> list[str]:
    """Different words of random letters."""
    draw = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(draw.choices(letters, k=draw.randint(shortest, longest)))] = None
    return list(found)


def phrases(count: int, seed: int) -> list[str]:
    """Different short phrases: a quality, a place, a thing."""
    all_of_them = [f"{q} {place} {thing}" for q in QUALITIES for place in PLACES for thing in ANIMALS + TOOLS]
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


# The kinds ------------------------------------------------------------------------------------------------------------

MARKERS = {skill: (f"<{skill}>",) * 4 for skill in SKILLS}
SHORT = {"tokens": (2, 4, 8), "steps": 200, "limits": LETTER_LIMITS}
PHRASES = {"tokens": (2, 4), "steps": 80, "batch_size": 16, "limits": TEXT_LIMITS}


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


def planted() -> Iterator[Task]:
    """FITS: the frozen model wrote the answers itself, behind a hidden prompt that nobody is told of."""
    why = "A prompt of so many tokens exists: it wrote the answers."
    truth = (("head", 0, 0), ("prompt", 4, 600))
    for skill in ("max", "first", "next"):
        rows = written_by(MARKERS[skill])
        yield Task(f"planted-{skill}", "planted", "small_gpt", ("FITS",), why, rows, SHORT, MARKERS[skill], truth)
    noisy = written_by(MARKERS["min"], noise=50)
    why_noisy = "The prompt that wrote them gets all but the 50 rows right that were spoilt."
    yield Task("planted-noisy", "planted", "small_gpt", ("FITS",), why_noisy, noisy, SHORT, MARKERS["min"], truth)
    why = "The kind of the thing is linear in the last state, and the trained prompt of `truth.py` names it."
    truth = (("head", 0, 0), ("prompt", 4, 300))
    yield Task("animal-or-tool", "planted", "smollm2", ("FITS",), why, animal_or_tool, PHRASES, truth=truth)


def crippled() -> Iterator[Task]:
    """OPTIMISER: a prompt exists, as above, and the attempt could not have found it."""
    why = "A prompt of that length exists; the attempt's {} keeps it from moving there."
    truth = (("head", 0, 0), ("prompt", 4, 600))
    attempts = {
        "max": ("learning rate", Attempt("prompt", 4, learning_rate=1e-5, init="vocabulary", steps=200)),
        "first": ("start, five times too far out, at its learning rate", PEFT_DEFAULT),
        "next": ("three steps", Attempt("prompt", 4, learning_rate=0.01, init="vocabulary", steps=3)),
    }
    for skill, (what, attempt) in attempts.items():
        rows, options = written_by(MARKERS[skill]), {**SHORT, "attempt": attempt}
        text = why.format(what)
        yield Task(
            f"crippled-{skill}", "crippled", "small_gpt", ("OPTIMISER",), text, rows, options, MARKERS[skill], truth
        )
    truth = (("head", 0, 0), ("prompt", 4, 300))
    options = {**PHRASES, "attempt": Attempt("prompt", 4, learning_rate=1e-5, init="random", steps=80)}
    text = why.format("learning rate and start")
    yield Task("crippled-phrases", "crippled", "smollm2", ("OPTIMISER",), text, animal_or_tool, options, truth=truth)
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
    steps = {"one_layer_gpt": 400, "two_layer_gpt": 600, "small_gpt": 600}
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
    }

    def rows(number: int) -> Callable[[OpenModel, int], TaskData]:
        draw = random.Random(number)
        answers = {letter: draw.choice(VALUES) for letter in LETTERS[:36]}

        def made(model: OpenModel, seed: int) -> TaskData:
            found = words(1650, LETTERS[:36], seed)
            return spelled(found, [answers[word[-1]] for word in found])

        return made

    for name, (model, number, more) in kinds.items():
        given = {**options, "steps": steps[model], **more}
        kind, both = name.split("-")[0], model == "small_gpt" and "attempt" not in more
        expected = ("FITS", "MORE_TOKENS") if both else ("MORE_TOKENS",)
        yield Task(name, kind, model, expected, why, rows(number), given, truth=LOOKUP, plain=True)


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

    def asked(texts: Sequence[str], answers: Sequence[str]) -> Completions:
        return Completions(tuple(texts), tuple(answers))

    kinds = (
        ("contradicted-letters", "small_gpt", doubled(spaced, letters_labelled, ("no", "yes")), SHORT),
        ("contradicted-answers", "small_gpt", doubled(spaced, spelled, ("A", "B")), SHORT),
        ("contradicted-phrases", "minilm", doubled(phrases, labelled, ("no", "yes")), PHRASES),
        ("contradicted-completions", "smollm2", doubled(phrases, asked, (" no", " yes")), PHRASES),
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

    kinds = (
        ("shuffled-letters", "small_gpt", drawn(spaced, 1050, "ny"), SHORT),
        ("shuffled-classes", "small_gpt", drawn(spaced, 1050, "abcd"), SHORT),
        ("shuffled-phrases", "minilm", drawn(phrases, 750, "ny"), PHRASES),
        ("shuffled-states", "smollm2", drawn(phrases, 750, "ny"), PHRASES),
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
    )
    for name, model, rows, options in kinds:
        yield Task(name, "few", model, ("UNDECIDED",), why, rows, options)


KINDS = (planted, crippled, lookup, new_attention, pairwise, contradicted, shuffled, few)
TASKS = {task.name: task for kind in KINDS for task in kind()}


DRAW = "2026-11-29"
"""Which draw of the halves this is. It changes only together with the suite, before anything of it is diagnosed."""


def half_of(name: str) -> str:
    """Which half a task is in: within each kind the tasks take turns, in the order of the hashes of `DRAW` and their
    names."""
    kind = TASKS[name].kind
    order = sorted((t.name for t in TASKS.values() if t.kind == kind), key=_hash)
    return HALVES[(order.index(name) + _hash(kind) % 2) % 2]


def _hash(text: str) -> int:
    return int(hashlib.sha256(f"{DRAW} {text}".encode()).hexdigest(), 16)
