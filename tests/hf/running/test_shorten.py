"""Shortening on a model: queries are the model's own, keys move with the content, and the folder loads in PEFT."""

from pathlib import Path

import peft
import pytest
import torch
from transformers import DynamicCache

from helpers.models import DECODERS, tiny_model, tiny_module
from helpers.tolerances import assert_close
from promptreach.attention import Statistics, merge, statistics
from promptreach.backbone import Prepended
from promptreach.certificate import Evidence
from promptreach.errors import InputError, UnsupportedModelError
from promptreach.hf import (
    OpenModel,
    capture,
    load_adapter,
    precompute,
    rerotated,
    sample_queries,
    save_adapter,
    shorten,
    text_loss,
)
from promptreach.prompt import Prefix, SoftPrompt

TEXTS = [[4, 5, 6, 7, 8, 9], [10, 11, 12], [13, 14, 15, 16], [17, 18], [19, 20, 21, 22, 23]]
HELD_OUT = [[5, 4, 7, 6], [9, 8, 10]]
ROTARY = [family for family in DECODERS if family != "gpt2"]


def prefix_of(model: OpenModel, copies: int = 4) -> Prefix:
    """Three slots, each standing there several times."""
    generator = torch.Generator().manual_seed(2)
    shape = (model.num_layers, model.num_kv_heads, 3, model.head_dim)
    return Prefix(*(torch.randn(shape, generator=generator).repeat_interleave(copies, 2) for _ in range(2)))


@pytest.mark.parametrize("family", DECODERS)
def test_sampled_queries_give_the_outputs_of_the_model(family: str) -> None:
    model = tiny_model(family, **({"sliding_window": 64} if family == "mistral" else {}))
    prefix = prefix_of(model)
    asked = sample_queries(model, prefix, TEXTS)
    assert asked.queries.shape == (2, model.num_heads, sum(map(len, TEXTS)), model.head_dim)
    joined = Prepended(prefix_keys=prefix.keys, prefix_values=prefix.values)
    start = 0
    for text in TEXTS:  # one text at a time: another batch than the sampling's
        span = slice(start, start + len(text))
        start += len(text)
        for seen in capture(model, model.batch([text]), joined):
            content = Statistics(*(part[seen.layer][:, span] for part in asked.content))
            slots = statistics(
                asked.queries[seen.layer][:, span], prefix.keys[seen.layer], prefix.values[seen.layer], asked.scale
            )
            assert_close(merge(content, slots).mean, seen.output[0], "reordered states")


@pytest.mark.parametrize("family", ROTARY)
def test_moving_keys_is_what_another_position_does(family: str) -> None:
    model = tiny_model(family)
    here, there = model.cache_of([7, 5, 6]), model.cache_of([9, 9, 7, 5, 6])
    # In the first layer a key depends on its token and its position alone.
    shifted = rerotated(here, model, 2)
    assert_close(shifted.keys[0], there.keys[0][:, 2:], "captured attention")
    assert torch.equal(shifted.values, here.values)
    assert_close(rerotated(shifted, model, -2).keys, here.keys, "captured attention")
    assert float((shifted.keys - here.keys).abs().max()) > 0.1


@pytest.mark.parametrize("family", ROTARY)
def test_a_moved_prefix_is_the_same_prefix_to_content_that_starts_later(family: str) -> None:
    model = tiny_model(family, **({"sliding_window": 64} if family == "mistral" else {}))
    prefix, by = prefix_of(model), 5
    later = rerotated(prefix, model, by)
    ids = torch.tensor([[4, 5, 6, 7]])

    def logits(first: int, keys: torch.Tensor) -> torch.Tensor:
        cache = DynamicCache([(key[None], value[None]) for key, value in zip(keys, prefix.values, strict=True)])
        mask = torch.ones(1, prefix.length + 4, dtype=torch.long)
        places = torch.arange(first, first + 4)[None]
        with torch.no_grad():
            out: torch.Tensor = model.release()(
                input_ids=ids, attention_mask=mask, position_ids=places, past_key_values=cache
            ).logits
        return out

    here = logits(prefix.length, prefix.keys)
    assert_close(logits(prefix.length + by, later.keys), here, "reordered states")
    with pytest.raises(AssertionError):
        assert_close(logits(prefix.length + by, prefix.keys), here, "reordered states")


def test_where_nothing_rotates_nothing_moves() -> None:
    model = tiny_model("gpt2")
    prefix = model.cache_of([7, 5, 6])
    assert rerotated(prefix, model, 3) is prefix


def test_rotation_that_depends_on_the_length_is_refused() -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    model = tiny_model("llama", rope_parameters=rope)
    with pytest.raises(UnsupportedModelError, match="dynamic"):
        rerotated(model.cache_of([7, 5]), model, 1)


def test_repeated_slots_shrink_to_one_each_and_the_content_hardly_notices() -> None:
    model = tiny_model("llama")
    full = prefix_of(model)
    texts = [[4 + (3 * i + j) % 25 for j in range(8)] for i in range(12)]
    short = shorten(model, full, 3, texts, HELD_OUT, steps=150)
    assert short.prefix.length == 3

    def loss(prefix: Prefix | None) -> float:
        return text_loss(model, prefix, HELD_OUT)

    assert short.loss.value == loss(full)
    assert short.shortened_loss.value == loss(short.prefix)
    assert short.bare_loss.value == loss(None)
    assert all(part.evidence is Evidence.MEASURED for part in (short.loss, short.shortened_loss, short.bare_loss))
    off = abs(short.shortened_loss.value - short.loss.value)
    assert off < 0.25 * abs(short.bare_loss.value - short.loss.value)
    assert abs(text_loss(model, Prefix(full.keys[:, :, :3], full.values[:, :, :3]), HELD_OUT) - short.loss.value) > off


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("budgets", ["equal", "by head"])
def test_the_shorter_prefix_goes_through_a_peft_folder(budgets: str, tmp_path: Path) -> None:
    model = tiny_model("qwen2")
    generator = torch.Generator().manual_seed(0)
    short = shorten(
        model, SoftPrompt(torch.randn(12, 32, generator=generator)), 4, TEXTS, HELD_OUT, budgets=budgets, steps=2
    )
    folder = save_adapter(tmp_path / "short", model, short.prefix)
    loaded = load_adapter(folder, model)
    assert isinstance(loaded, Prefix)
    assert torch.equal(loaded.keys, short.prefix.keys)
    oracle = peft.PeftModel.from_pretrained(tiny_module("qwen2"), str(folder)).eval()
    ids = torch.tensor([[4, 5, 6, 7]])
    with torch.no_grad():
        expected = oracle(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        actual = model.release()(**precompute(model, loaded).inputs(ids)).logits
    assert_close(actual, expected, "joined states")


def test_wrong_texts_and_models_are_refused() -> None:
    model = tiny_model("llama")
    with pytest.raises(InputError) as caught:
        shorten(model, prefix_of(model), 3, [[4, 5], [6]], [])
    assert [fault.where for fault in caught.value.faults] == ["texts, text 1", "held_out"]
    with pytest.raises(InputError, match="fewer than the prefix has"):
        shorten(model, prefix_of(model), 12, TEXTS, HELD_OUT)
    with pytest.raises(InputError, match="an encoder"):
        shorten(tiny_model("bert"), SoftPrompt(torch.zeros(3, 32)), 2, TEXTS, HELD_OUT)
    with pytest.raises(InputError, match="at most 64"):
        shorten(model, prefix_of(model), 3, [[4] * 60], HELD_OUT)
