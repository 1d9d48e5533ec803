"""The floor of the data: what contradicts is told by tokens and contexts, and no function passes what is PROVED."""

import functools
import itertools
import math
from collections import Counter, defaultdict
from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from helpers.models import tiny_module
from promptreach.certificate import Certificate, Side
from promptreach.data import Completions, LabelledTexts
from promptreach.diagnosis.measures import floors
from promptreach.hf import OpenModel

LETTERS = ("[UNK]", "</s>", "\N{LATIN SMALL LETTER E WITH ACUTE}", *"abcqxy")
Tokens = tuple[int, ...]


@functools.cache
def speller(has_end: bool) -> OpenModel:
    """A causal model whose tokens are letters, composed ones whole; perhaps with an end token."""
    tokenizer = Tokenizer(WordLevel({letter: index for index, letter in enumerate(LETTERS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    end = {"eos_token": "</s>"} if has_end else {}
    return OpenModel(
        tiny_module("gpt2"), PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", **end), "speller"
    )


def floor_of(pairs: list[tuple[str, str]], has_end: bool = False, max_length: int = 16) -> floors.Floors:
    """The floors of pairs of a prompt and its completion; the certificates hold."""
    data = Completions(tuple(prompt for prompt, _ in pairs), tuple(answer for _, answer in pairs))
    found = floors.find(speller(has_end), data, max_length)
    assert all(certificate.recheck() for certificate in found.certificates)
    return found


def numbers(found: floors.Floors) -> tuple[float, float, int]:
    return found.numbers.loss_floor, found.numbers.best_accuracy, found.numbers.conflicting_rows


NONE = (0.0, 1.0, 0)


def test_answers_that_begin_one_another_do_not_conflict_without_an_end() -> None:
    assert numbers(floor_of([("q", "a"), ("q", "a"), ("q", "ab"), ("q", "ab")])) == NONE


def test_answers_that_begin_one_another_conflict_where_one_must_end() -> None:
    """After "q a" half of the rows end and half go on: one bit for each of the four, over ten tokens."""
    loss, accuracy, rows = numbers(floor_of([("q", "a"), ("q", "a"), ("q", "ab"), ("q", "ab")], has_end=True))
    assert loss == pytest.approx(4 * math.log(2) / 10, rel=1e-15)
    assert (accuracy, rows) == (0.5, 4)


@pytest.mark.parametrize(
    "answers",
    [("y", "y</s>"), ("\N{LATIN SMALL LETTER E WITH ACUTE}", "e\N{COMBINING ACUTE ACCENT}"), ("a", "a</s>b")],
    ids=["end spelled out", "composed", "goes on behind the end"],
)
def test_strings_that_differ_in_no_token_of_a_context_do_not_conflict(answers: tuple[str, str]) -> None:
    assert numbers(floor_of([("q", answers[0]), ("q", answers[1])], has_end=True)) == NONE


def test_an_input_that_another_ones_answer_passes_through_is_one_context() -> None:
    """Behind "q a" both b and c are right: log 2 twice, over three tokens. That costs accuracy, too, uncounted."""
    found = floor_of([("qa", "b"), ("q", "ac")])
    loss, accuracy, rows = numbers(found)
    assert loss == pytest.approx(2 * math.log(2) / 3, rel=1e-15)
    assert (accuracy, rows) == (1.0, 2)
    assert [certificate.side for certificate in found.certificates] == [Side.EXACT, Side.UPPER]


def test_inputs_that_only_cutting_makes_equal_contradict_each_other() -> None:
    pairs = [("xqqq", "a"), ("yqqq", "b")]
    assert numbers(floor_of(pairs)) == NONE
    loss, accuracy, rows = numbers(floor_of(pairs, max_length=4))
    assert loss == pytest.approx(math.log(2), rel=1e-15)
    assert (accuracy, rows) == (0.5, 2)


def test_a_label_is_an_answer_of_one_token_and_its_bounds_are_exact() -> None:
    """No label is a part of a text: "q" and "qa" are two contexts."""
    data = LabelledTexts(("q", "q", "qa", "q"), (0, 1, 0, 0), ("no", "yes"))
    found = floors.find(speller(False), data, 16)
    loss, accuracy, rows = numbers(found)
    assert loss == pytest.approx((3 * math.log(3) - 2 * math.log(2)) / 4, rel=1e-15)
    assert (accuracy, rows) == (0.75, 3)
    assert {certificate.side for certificate in found.certificates} == {Side.EXACT}


TOKENS = st.integers(1, 2)
ROWS = st.lists(
    st.tuples(st.lists(TOKENS, min_size=1, max_size=2).map(tuple), st.lists(TOKENS, min_size=1, max_size=2).map(tuple)),
    min_size=1,
    max_size=6,
)


def certificates_of(rows: list[tuple[Tokens, Tokens]]) -> tuple[Certificate, Certificate]:
    contents, answers = [content for content, _ in rows], [answer for _, answer in rows]
    counts = [[len(way) for way in context] for context in floors.disputed_contexts(contents, answers)]
    disputed = floors.disputed_contents(contents, answers)
    return floors.loss_floor(counts, answers), floors.best_accuracy(disputed.values(), answers)


def contexts_of(rows: list[tuple[Tokens, Tokens]]) -> list[list[tuple[Tokens, int]]]:
    """By row the contexts that the model answers in, and what it should answer."""
    return [[(content + answer[:i], token) for i, token in enumerate(answer)] for content, answer in rows]


@given(ROWS)
def test_the_loss_floor_is_the_entropy_of_the_contexts_and_never_above_it(rows: list[tuple[Tokens, Tokens]]) -> None:
    """Sound side without slack, in 80 digits: the floor is the float64 below."""
    counts: dict[Tokens, Counter[int]] = defaultdict(Counter)
    for pairs in contexts_of(rows):
        for context, token in pairs:
            counts[context][token] += 1
    with localcontext(prec=80):
        total = sum(
            (-count * (Decimal(count) / ways.total()).ln() for ways in counts.values() for count in ways.values()),
            Decimal(0),
        )
        truth = total / sum(ways.total() for ways in counts.values())
    loss, _ = certificates_of(rows)
    assert Decimal(loss.value) <= truth
    assert Decimal(math.nextafter(loss.value, math.inf)) > truth
    assert loss.recheck()


@given(ROWS)
def test_no_function_of_the_context_gives_more_answers_than_the_bound(rows: list[tuple[Tokens, Tokens]]) -> None:
    """Every function from contexts to tokens is tried; where EXACT is claimed, one of them reaches the bound."""
    wanted = contexts_of(rows)
    contexts = sorted({context for pairs in wanted for context, _ in pairs})
    most = 0
    for outputs in itertools.product((1, 2), repeat=len(contexts)):
        says = dict(zip(contexts, outputs, strict=True))
        most = max(most, sum(all(says[context] == token for context, token in pairs) for pairs in wanted))
    _, accuracy = certificates_of(rows)
    share = Fraction(most, len(rows))
    assert share <= Fraction(accuracy.value)
    if accuracy.side is Side.EXACT:
        assert Fraction(math.nextafter(accuracy.value, 0.0)) < share
    assert accuracy.recheck()


@pytest.mark.parametrize("relative", [1e-10, -1e-10, 2.3e-16])
def test_a_value_that_was_moved_is_not_confirmed(relative: float) -> None:
    rows = [((1,), (1,)), ((1,), (1,)), ((1,), (2,))]
    for certificate in certificates_of(rows):
        assert certificate.recheck()
        assert not replace(certificate, value=certificate.value * (1 + relative)).recheck()
