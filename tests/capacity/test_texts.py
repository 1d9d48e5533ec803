"""Where texts come from: passages that do not overlap, tokens that are really uniform, one opening token for all."""

import sys

import pytest

from helpers.models import VOCABULARY, WORDS, tiny_model
from helpers.tasks import completer
from promptreach.capacity.texts import inputs_of, natural_texts, opening_token, python_reference, random_texts
from promptreach.errors import InputError

TEXT = " ".join(WORDS * 4)


def test_passages_are_the_beginnings_of_equal_parts() -> None:
    model = tiny_model("llama")
    ids = model.tokenize([TEXT], special_tokens=False)[0]
    texts = natural_texts(model, TEXT, count=3, longest=10)
    part = len(ids) // 3
    assert [text.ids for text in texts] == [tuple(ids[i * part : i * part + 10]) for i in range(3)]
    assert [(text.kind, text.index, text.source_bits) for text in texts] == [("natural", i, None) for i in range(3)]
    assert [len(text.ids) for text in natural_texts(model, TEXT, count=3, longest=1000)] == [part] * 3


def test_too_little_text_is_refused_with_what_is_needed() -> None:
    with pytest.raises(InputError, match="text: 2 tokens; expected at least 2 for each of 3 sequences"):
        natural_texts(tiny_model("llama"), "the cat", count=3, longest=10)
    with pytest.raises(InputError, match="at least 9 for each of 2"):
        natural_texts(tiny_model("llama"), "the cat " * 8, count=2, longest=9, shortest=9)


def test_without_a_text_the_language_reference_is_taken() -> None:
    reference = python_reference()
    assert len(reference) > 100_000
    assert "assert" in reference
    longest = natural_texts(tiny_model("llama"), None, count=2, longest=50)
    assert [len(text.ids) for text in longest] == [50, 50]


def test_an_interpreter_without_a_reference_asks_for_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(InputError, match="a text to take passages from"):
        python_reference()


@pytest.mark.parametrize(("vocabulary", "size"), [(None, VOCABULARY), (2, 2), (8, 8)])
def test_random_texts_are_uniform_over_as_many_tokens_as_asked(vocabulary: int | None, size: int) -> None:
    texts, used = random_texts(tiny_model("gpt2"), vocabulary, count=2, longest=4000, seed=0)
    assert used == size
    tokens = [token for text in texts for token in text.ids]
    counts = {token: tokens.count(token) for token in set(tokens)}
    assert len(counts) == size
    assert min(counts) >= 0
    assert max(counts) < VOCABULARY
    # Binomial counts: five standard deviations around the mean.
    mean = len(tokens) / size
    assert all(abs(count - mean) < 5 * mean**0.5 for count in counts.values())
    assert 2 ** (texts[0].source_bits or 0) == pytest.approx(size)


def test_a_seed_decides_random_texts() -> None:
    first, again, other = (random_texts(tiny_model("gpt2"), 8, 2, 20, seed)[0] for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_the_opening_token_is_the_tokenizers_own_or_the_end_token() -> None:
    assert opening_token(completer("gpt2")) == 3
    assert opening_token(tiny_model("llama")) == 0
    assert opening_token(tiny_model("bert")) == 3  # [CLS] [SEP]: the last of what opens a text


def test_the_model_reads_a_text_one_token_late() -> None:
    assert inputs_of([(5, 6, 7), (8,)], 2) == [[2, 5, 6], [2]]
