"""Greedy writing: the same in a batch and alone, and with a cache as by reading everything at every step."""

import pytest
import torch

from helpers.models import DECODERS, tiny_model
from helpers.pairs import pair_model
from promptreach.backbone import Prepended
from promptreach.hf import OpenModel
from promptreach.training.task import writing
from promptreach.training.task.writing import even_length, greedy

LENGTHS = (3, 9, 5, 14, 2)


def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(4, 28, (length,), generator=generator).tolist() for length in LENGTHS]


def joined_of(kind: str, model: OpenModel) -> Prepended | None:
    generator = torch.Generator().manual_seed(1)
    if kind == "bare":
        return None
    if kind == "prompt":
        return Prepended(prompt=torch.randn(4, model.embedding_size, generator=generator))
    shape = (model.num_layers, model.num_kv_heads, 4, model.head_dim)
    keys, values = (torch.randn(shape, generator=generator) for _ in range(2))
    return Prepended(prefix_keys=keys, prefix_values=values)


@pytest.mark.parametrize("kind", ["bare", "prompt", "prefix"])
@pytest.mark.parametrize("family", DECODERS)
def test_a_batch_is_written_as_every_prompt_alone_and_as_without_a_cache(
    family: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(family)
    joined, together = joined_of(kind, model), prompts()
    found = greedy(model, together, 6, {5}, joined)
    assert [greedy(model, [one], 6, {5}, joined)[0] for one in together] == found
    monkeypatch.setattr(writing, "_may_use_cache", lambda *rest: False)
    assert greedy(model, together, 6, {5}, joined) == found


def test_the_cache_is_used_where_it_gives_the_same_and_not_behind_a_window_that_padding_shifts() -> None:
    used = {}
    for family in ("gpt2", "llama", "mistral"):
        model = tiny_model(family)
        order = sorted(range(len(LENGTHS)), key=LENGTHS.__getitem__)
        used[family] = writing._may_use_cache(model, prompts(), order, joined_of("prefix", model), 6)
    assert used == {"gpt2": True, "llama": True, "mistral": False}


def test_an_encoder_decoder_writes_the_same_in_a_batch_and_alone() -> None:
    model = pair_model("t5")
    together = prompts()
    found = greedy(model, together, 5, {1})
    assert [greedy(model, [one], 5, {1})[0] for one in together] == found


def test_an_answer_ends_before_the_first_stop_and_where_the_context_ends() -> None:
    model = tiny_model("llama")
    whole = greedy(model, [[4, 5, 6]], 8, ())[0]
    assert len(whole) == 8
    stop = whole[3]
    assert greedy(model, [[4, 5, 6]], 8, {stop})[0] == whole[: whole.index(stop)]
    long = [4 + place % 20 for place in range(model.max_positions - 2)]
    assert len(greedy(model, [long, [4, 5]], 8, ())[0]) == 2


def test_positions_are_alike_up_to_the_context_or_the_window() -> None:
    assert even_length(tiny_model("llama")) == 64
    assert even_length(tiny_model("mistral")) == 5
