"""Starts of training: rows of the vocabulary, the cache of real text, and random draws."""

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from helpers.tasks import FAMILIES, model_of
from promptreach.errors import InputError
from promptreach.prompt import Prefix, SoftPrompt
from promptreach.training.methods.initial import (
    PREFIX_INITS,
    PROMPT_INITS,
    drawn_start,
    initial_prefix,
    initial_prompt,
    typical_entry,
)

SEQUENCES = [[4, 5, 6, 7], [8, 9, 10, 4, 5]]
USED = range(4, 11)


def tokens_of(embeddings: Tensor, vocabulary: Tensor) -> list[int]:
    """Which vocabulary row each row is, bit for bit."""
    found = [(row == vocabulary).all(1).nonzero().flatten().tolist() for row in embeddings]
    assert all(len(matches) == 1 for matches in found)
    return [matches[0] for matches in found]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_vocabulary_start_takes_distinct_tokens_of_the_task(family: str) -> None:
    model = model_of(family)
    tokens = tokens_of(initial_prompt(model, 5, "vocabulary", SEQUENCES, seed=0).embeddings, model.vocabulary)
    assert len(set(tokens)) == 5
    assert set(tokens) <= set(USED)


def test_tokens_repeat_only_when_all_are_used() -> None:
    model = model_of("gpt2")
    tokens = tokens_of(initial_prompt(model, 17, "vocabulary", SEQUENCES, seed=0).embeddings, model.vocabulary)
    counts = Counter(tokens)
    assert set(counts) == set(USED)
    assert sorted(counts.values()) == [2, 2, 2, 2, 3, 3, 3]
    assert [len(set(tokens[i : i + 7])) for i in (0, 7)] == [7, 7]


@pytest.mark.parametrize("init", PROMPT_INITS)
def test_one_seed_one_prompt(init: str) -> None:
    def start(seed: int) -> Tensor:
        return initial_prompt(model_of("gpt2"), 6, init, SEQUENCES, seed).embeddings

    before = torch.random.get_rng_state()
    assert torch.equal(start(3), start(3))
    assert any(not torch.equal(start(3), start(seed)) for seed in (4, 5, 6))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("init", PREFIX_INITS)
def test_one_seed_one_prefix(init: str) -> None:
    def start(seed: int) -> Tensor:
        prefix = initial_prefix(model_of("llama"), 6, init, SEQUENCES, seed)
        return torch.stack([prefix.keys, prefix.values])

    assert torch.equal(start(3), start(3))
    assert any(not torch.equal(start(3), start(seed)) for seed in (4, 5, 6))


def test_a_text_start_is_the_embedding_of_that_text() -> None:
    model = model_of("bert")
    one = initial_prompt(model, 6, "text", [[4, 5, 6, 7]], seed=0)
    assert torch.equal(one.embeddings, model.vocabulary[torch.tensor([4, 5, 6, 7, 4, 5])])
    seen = {
        tuple(tokens_of(initial_prompt(model, 6, "text", SEQUENCES, s).embeddings, model.vocabulary)) for s in range(9)
    }
    assert seen == {(4, 5, 6, 7, 8, 9), (8, 9, 10, 4, 5, 4)}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prefix_start_is_the_cache_of_that_text(family: str) -> None:
    model = model_of(family)
    prefix = initial_prefix(model, 6, "text", [[4, 5, 6, 7]], seed=0)
    cache = model.cache_of([4, 5, 6, 7, 4, 5])
    assert torch.equal(prefix.keys, cache.keys)
    assert torch.equal(prefix.values, cache.values)
    assert prefix.length == 6


def test_a_random_start_is_standard_normal() -> None:
    model = model_of("llama")
    embeddings = initial_prompt(model, 400, "random", SEQUENCES, seed=0).embeddings
    prefix = initial_prefix(model, 100, "random", SEQUENCES, seed=0)
    assert prefix.keys.shape == prefix.values.shape == (2, 2, 100, 8)
    for entries in (embeddings, torch.stack([prefix.keys, prefix.values])):
        # Five standard errors of the mean and of the variance.
        assert abs(entries.mean()) < 5 / math.sqrt(entries.numel())
        assert abs(entries.var() - 1) < 5 * math.sqrt(2 / entries.numel())


def test_a_start_that_no_text_decides_has_the_size_that_the_model_knows() -> None:
    model, generator = model_of("llama"), torch.Generator().manual_seed(0)
    first, second = (drawn_start(model, "prompt", 400, generator) for _ in range(2))
    assert isinstance(first, SoftPrompt)
    assert isinstance(second, SoftPrompt)
    assert not torch.equal(first.embeddings, second.embeddings)
    spread = float(model.vocabulary.std())
    assert float(first.embeddings.std()) == pytest.approx(spread, rel=0.05)
    assert abs(float(first.embeddings.mean())) < 5 * spread / math.sqrt(first.embeddings.numel())
    prefix = drawn_start(model, "prefix", 6, torch.Generator().manual_seed(1))
    ids = torch.randint(len(model.vocabulary), (6,), generator=torch.Generator().manual_seed(1)).tolist()
    assert isinstance(prefix, Prefix)
    assert torch.equal(prefix.keys, model.cache_of(ids).keys)


def test_starting_leaves_the_vocabulary_alone() -> None:
    model = model_of("gpt2")
    before = model.vocabulary.clone()
    for init in ("vocabulary", "text"):
        initial_prompt(model, 3, init, SEQUENCES, seed=0).embeddings.fill_(7.0)
    assert torch.equal(model.vocabulary, before)


def test_an_unknown_start_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"init: 'zeros'; expected one of vocabulary, text, random for a prompt"):
        initial_prompt(model_of("gpt2"), 3, "zeros", SEQUENCES, seed=0)
    with pytest.raises(InputError, match=r"init: 'vocabulary'; expected one of text, random for a prefix"):
        initial_prefix(model_of("gpt2"), 3, "vocabulary", SEQUENCES, seed=0)


def test_the_typical_entry_is_the_root_mean_square() -> None:
    assert typical_entry(torch.tensor([[3.0, -4.0], [0.0, 0.0]])) == 2.5
