"""Texts to token sequences: what is cut, what never is, and what is refused."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors

from helpers.models import WORDS, tiny_module, tiny_tokenizer
from helpers.tasks import END, completer, model_of
from promptreach.data import Completions, LabelledTexts
from promptreach.errors import DataError
from promptreach.hf import OpenModel
from promptreach.training.task.encoding import Encoded, encode

A, THE, CAT, DOG, SAT, RAN, ON = range(4, 11)
CLS, SEP = 2, 3


def texts(*lines: str) -> LabelledTexts:
    return LabelledTexts(lines, (0,) * len(lines), ("only",))


def with_opening_token() -> OpenModel:
    """A causal model whose tokenizer puts [CLS] in front of a text, as Llama's puts its beginning token."""
    tokenizer = tiny_tokenizer("llama")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", CLS)]
    )
    return OpenModel(tiny_module("llama"), tokenizer)


def test_texts_that_fit_stay_whole() -> None:
    encoded = encode(model_of("bert"), texts("a the", "cat"), 4)
    assert encoded.sequences == ((CLS, A, THE, SEP), (CLS, CAT, SEP))
    assert encoded.labels is not None
    assert encoded.labels.tolist() == [0, 0]
    assert encoded.answer_lengths is None
    assert (encoded.truncated, len(encoded)) == (0, 2)


def test_a_long_text_loses_its_end_but_an_encoder_keeps_the_closing_token() -> None:
    line = texts("a the cat dog sat", "a")
    assert encode(model_of("bert"), line, 5).sequences == ((CLS, A, THE, CAT, SEP), (CLS, A, SEP))
    assert encode(model_of("gpt2"), line, 3).sequences == ((A, THE, CAT), (A,))
    assert encode(model_of("gpt2"), line, 3).truncated == 1


def test_a_long_prompt_loses_its_beginning() -> None:
    data = Completions(("a the cat dog sat", "a"), ("ran on", "on"))
    encoded = encode(model_of("gpt2"), data, 5)
    assert encoded.sequences == ((CAT, DOG, SAT, RAN, ON), (A, ON))
    assert encoded.answer_lengths == (2, 1)
    assert encoded.truncated == 1
    assert encoded.labels is None


def test_a_long_prompt_keeps_the_token_that_opens_it() -> None:
    model = with_opening_token()
    data = Completions(("a the cat dog sat",), ("ran on",))
    assert encode(model, data, 5).sequences == ((CLS, DOG, SAT, RAN, ON),)
    assert encode(model, data, 3).sequences == ((SAT, RAN, ON),)  # no room for both: the neighbour stays


def test_completions_end_with_the_end_token_once() -> None:
    data = Completions(("a", "a"), ("on", "on [SEP]"))
    encoded = encode(completer(), data, 8)
    assert encoded.sequences == ((A, ON, END), (A, ON, END))
    assert encoded.answer_lengths == (2, 2)
    assert encode(model_of("gpt2"), Completions(("a",), ("on",)), 8).sequences == ((A, ON),)


def test_classified_texts_get_no_end_token() -> None:
    assert encode(completer(), texts("a"), 8).sequences == ((A,),)


lines = st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join)


@settings(max_examples=50)
@given(pairs=st.lists(st.tuples(lines, lines), min_size=1, max_size=5), max_length=st.integers(11, 20))
def test_a_completion_that_fits_is_whole(pairs: list[tuple[str, str]], max_length: int) -> None:
    model = completer()
    prompts, answers = zip(*pairs, strict=True)
    encoded = encode(model, Completions(prompts, answers), max_length)
    assert encoded.answer_lengths is not None
    cut = 0
    for sequence, length, prompt, answer in zip(
        encoded.sequences, encoded.answer_lengths, model.tokenize(prompts), model.tokenize(answers), strict=True
    ):
        whole = (*prompt, *answer, END)
        assert length == len(answer) + 1
        assert sequence == whole[-max_length:]
        cut += len(whole) > max_length
    assert encoded.truncated == cut


def test_a_completion_longer_than_the_room_loses_its_end_and_is_counted() -> None:
    data = Completions(("a dog sat", "a"), ("the cat dog sat ran on", "on"))
    encoded = encode(completer(), data, 4)
    # A quarter of the room, one token, stays the prompt's; the end token goes with the end.
    assert encoded.sequences == ((SAT, THE, CAT, DOG), (A, ON, END))
    assert encoded.answer_lengths == (3, 2)
    assert (encoded.truncated, encoded.cut_answers) == (1, 1)
    # With the end token one too long: it alone goes, and the prompt is one token anyway.
    alone = encode(completer(), Completions(("a",), ("the cat dog",)), 4)
    assert (alone.sequences, alone.cut_answers) == (((A, THE, CAT, DOG),), 1)


@settings(max_examples=50)
@given(pairs=st.lists(st.tuples(lines, lines), min_size=1, max_size=5), max_length=st.integers(2, 10))
def test_every_completion_fits_some_room(pairs: list[tuple[str, str]], max_length: int) -> None:
    model = completer()
    prompts, answers = zip(*pairs, strict=True)
    encoded = encode(model, Completions(prompts, answers), max_length)
    assert encoded.answer_lengths is not None
    whole = [(*answer, END) for answer in model.tokenize(answers)]
    for sequence, length, prompt, answer in zip(
        encoded.sequences, encoded.answer_lengths, model.tokenize(prompts), whole, strict=True
    ):
        assert 0 < length < len(sequence) <= max_length
        assert sequence[-length:] == answer[:length]
        assert sequence[:-length] == tuple(prompt[-(len(sequence) - length) :])
        assert length == len(answer) or len(sequence) == max_length
    assert encoded.cut_answers == sum(len(answer) >= max_length for answer in whole)


def test_inputs_without_tokens_are_named_by_their_rows() -> None:
    with pytest.raises(DataError, match="memory, row 2, text: no tokens"):
        encode(model_of("gpt2"), texts("a", " ", "the"), 8)
    with pytest.raises(DataError) as caught:
        encode(completer(), Completions((" ", "a"), ("on", "")), 8)
    assert [fault.where for fault in caught.value.faults] == ["memory, row 1, prompt", "memory, row 2, completion"]


def test_at_most_twenty_rows_are_named() -> None:
    with pytest.raises(DataError) as caught:
        encode(model_of("gpt2"), texts(*[" "] * 50), 8)
    assert len(caught.value.faults) == 20


def test_the_digest_follows_the_content() -> None:
    base = Encoded(((1, 2), (3,)), torch.tensor([0, 1]), None, 0)
    assert base.digest == Encoded(((1, 2), (3,)), torch.tensor([0, 1]), None, 0).digest
    others = [
        replace(base, sequences=((1, 2), (4,))),
        replace(base, sequences=((1,), (2, 3))),
        replace(base, sequences=((3,), (1, 2))),
        replace(base, targets=torch.tensor([1, 1])),
        replace(base, targets=None),
        replace(base, targets=None, answer_lengths=(1, 1)),
        replace(base, targets=None, answer_lengths=(0, 1)),
    ]
    assert len({base.digest, *(other.digest for other in others)}) == 8
