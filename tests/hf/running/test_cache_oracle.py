"""A precomputed prompt against PEFT's own path: same choices, same logits, and nothing of the prompt is copied."""

import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor
from transformers import Cache, DynamicCache

from helpers.models import DECODERS, ENCODERS, tiny_model, tiny_module
from helpers.tolerances import assert_close
from promptreach.errors import AdapterError, InputError
from promptreach.hf import OpenModel, PromptCache, load_cache, precompute, save_adapter
from promptreach.inference import precompute as public_precompute
from promptreach.prompt import LowRankUpdate, Prefix, SoftPrompt

LENGTH = 7
SEQUENCES = [[4, 5, 6, 7, 8, 9, 10, 11], [12, 13]]
QUIET = pytest.mark.filterwarnings("ignore")  # PEFT's remarks on models without a hub id


def random_prompt(model: OpenModel, kind: str, length: int = LENGTH) -> SoftPrompt | Prefix:
    generator = torch.Generator().manual_seed(3)
    if kind == "prompt":
        return SoftPrompt(torch.randn(length, model.hidden_size, generator=generator))
    shape = (model.num_layers, model.num_kv_heads, length, model.head_dim)
    return Prefix(*(torch.randn(shape, generator=generator) for _ in range(2)))


def peft_model(model: OpenModel, prompt: SoftPrompt | Prefix, family: str, folder: Path) -> peft.PeftModel:
    save_adapter(folder, model, prompt)
    return peft.PeftModel.from_pretrained(tiny_module(family), str(folder)).eval()


def logits_of(module: Any, **inputs: Any) -> Tensor:
    with torch.no_grad():
        logits: Tensor = module(**inputs).logits
    return logits


def generated(module: Any, tokens: int = 6, **inputs: Any) -> Tensor:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        ids: Tensor = module.generate(**inputs, max_new_tokens=tokens, do_sample=False, pad_token_id=0)
    return ids[:, -tokens:]


@QUIET
@pytest.mark.parametrize("kind", ["prompt", "prefix"])
@pytest.mark.parametrize("family", DECODERS)
def test_logits_and_choices_are_those_of_peft(family: str, kind: str, tmp_path: Path) -> None:
    model = tiny_model(family)
    prompt = random_prompt(model, kind)
    oracle = peft_model(model, prompt, family, tmp_path / "a")
    batch = model.batch(SEQUENCES)
    expected = logits_of(oracle, input_ids=batch.input_ids, attention_mask=batch.mask.long())
    expected = expected[:, expected.shape[1] - batch.input_ids.shape[1] :][batch.mask]
    cache = precompute(model, prompt)
    actual = logits_of(model.release(), **cache.inputs(batch.input_ids, batch.mask))[batch.mask]
    assert float((actual - expected).norm() / expected.norm()) <= 1e-5
    assert torch.equal(actual.argmax(-1), expected.argmax(-1))
    bare = logits_of(model.release(), input_ids=batch.input_ids, attention_mask=batch.mask.long())[batch.mask]
    assert float((bare - expected).norm() / expected.norm()) > 1e-2  # the prompt does something here


@QUIET
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}])
@pytest.mark.parametrize("kind", ["prompt", "prefix"])
@pytest.mark.parametrize("family", DECODERS)
def test_generate_writes_what_peft_writes(family: str, kind: str, options: dict[str, int], tmp_path: Path) -> None:
    model = tiny_model(family)
    prompt = random_prompt(model, kind)
    oracle = peft_model(model, prompt, family, tmp_path / "a")
    ids = torch.tensor([[4, 5, 6, 7], [9, 8, 7, 6]])
    expected = generated(oracle, input_ids=ids, attention_mask=torch.ones_like(ids), **options)
    actual = generated(model.release(), **precompute(model, prompt).inputs(ids), **options)
    assert torch.equal(actual, expected)


# A sliding window counts places, those of padding between prompt and content too: Mistral would see less of the prompt.
@pytest.mark.parametrize("family", [family for family in DECODERS if family != "mistral"])
def test_a_padded_row_generates_as_if_alone(family: str) -> None:
    model = tiny_model(family)
    cache = precompute(model, random_prompt(model, "prompt"))
    padded, mask = torch.tensor([[4, 5, 6, 7], [0, 0, 9, 8]]), torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    together = generated(model.release(), **cache.inputs(padded, mask))
    alone = generated(model.release(), **cache.inputs(torch.tensor([[9, 8]])))
    assert torch.equal(together[1:], alone)


def test_the_prompt_is_one_tensor_whatever_the_batch() -> None:
    model = tiny_model("llama")
    cache = precompute(model, random_prompt(model, "prompt"))
    home = cache.prefix.keys.untyped_storage().data_ptr()
    for batch in (1, 5):
        request = cache.request()
        ids = torch.arange(4, 4 + batch)[:, None].expand(-1, 3)
        logits_of(model.release(), **{**cache.inputs(ids), "past_key_values": request})
        for layer in request.layers:
            assert layer.prompt_keys.untyped_storage().data_ptr() == home
            assert layer.keys.shape == (batch, model.num_kv_heads, 3, model.head_dim)  # the content's alone
            assert layer.get_seq_length() == LENGTH + 3


def test_requests_do_not_see_each_other_and_the_prompt_stays() -> None:
    model = tiny_model("gpt2")
    cache = precompute(model, random_prompt(model, "prefix"))
    before = cache.prefix.keys.clone()
    first = logits_of(model.release(), **cache.inputs(torch.tensor([[4, 5, 6]])))
    generated(model.release(), **cache.inputs(torch.tensor([[7, 8]])))
    again = logits_of(model.release(), **cache.inputs(torch.tensor([[4, 5, 6]])))
    assert torch.equal(first, again)
    assert torch.equal(cache.prefix.keys, before)


def filled(model: OpenModel, cache: PromptCache, ids: Tensor) -> tuple[Cache, Cache]:
    """Our request and transformers' own cache after the same prompt and tokens."""
    ours = cache.request()
    copied = [(key[None].repeat(len(ids), 1, 1, 1), value[None].repeat(len(ids), 1, 1, 1))
              for key, value in zip(cache.prefix.keys, cache.prefix.values, strict=True)]  # fmt: skip
    theirs = DynamicCache(copied)
    for request in (ours, theirs):
        logits_of(model.release(), **{**cache.inputs(ids), "past_key_values": request})
    return ours, theirs


@pytest.mark.parametrize(
    "change",
    [
        lambda cache: cache.reorder_cache(torch.tensor([1, 1, 0])),
        lambda cache: cache.batch_repeat_interleave(2),
        lambda cache: cache.batch_select_indices(torch.tensor([2])),
        lambda cache: cache.crop(-2),
    ],
)
def test_cache_operations_do_what_transformers_own_do(change: Any) -> None:
    model = tiny_model("qwen3")
    cache = precompute(model, random_prompt(model, "prompt"))
    ours, theirs = filled(model, cache, torch.tensor([[4, 5, 6], [7, 8, 9], [10, 11, 12]]))
    for request in (ours, theirs):
        change(request)
    assert ours.get_seq_length() == theirs.get_seq_length()
    size = len(theirs.layers[0].keys)
    step = torch.arange(5, 5 + size)[:, None]
    mask = torch.ones(size, theirs.get_seq_length() + 1, dtype=torch.long)
    both = [
        logits_of(model.release(), input_ids=step, attention_mask=mask, past_key_values=request, use_cache=True)
        for request in (ours, theirs)
    ]
    assert_close(both[0], both[1], "joined states")


def test_changes_before_any_content_leave_the_prompt() -> None:
    model = tiny_model("llama")
    request = precompute(model, random_prompt(model, "prompt")).request()
    request.batch_repeat_interleave(3)
    request.reorder_cache(torch.tensor([0]))
    request.batch_select_indices(torch.tensor([0]))
    request.crop(0)
    assert request.get_seq_length() == LENGTH
    request.reset()
    assert request.get_seq_length() == LENGTH


def test_the_cache_has_the_models_precision() -> None:
    model = OpenModel(tiny_module("llama").to(torch.bfloat16))
    for kind in ("prompt", "prefix"):
        cache = precompute(model, random_prompt(model, kind))
        assert cache.prefix.keys.dtype == torch.bfloat16
        assert logits_of(model.release(), **cache.inputs(torch.tensor([[4, 5]]))).dtype == torch.bfloat16


def test_the_public_front_opens_folders(tmp_path: Path) -> None:
    model = tiny_model("llama")
    prompt = random_prompt(model, "prompt")
    model.release().save_pretrained(tmp_path / "model")
    save_adapter(tmp_path / "adapter", model, prompt)
    cache = public_precompute(tmp_path / "model", str(tmp_path / "adapter"), tokenizer=model.tokenizer)
    assert isinstance(cache, PromptCache)
    assert torch.equal(cache.prefix.keys, precompute(model.release(), prompt).prefix.keys)


def test_a_saved_cache_comes_back(tmp_path: Path) -> None:
    model = tiny_model("mistral")
    cache = precompute(model, random_prompt(model, "prompt"))
    again = load_cache(cache.save(tmp_path / "prompt.safetensors"), model)
    assert torch.equal(again.prefix.keys, cache.prefix.keys)
    assert torch.equal(again.prefix.values, cache.prefix.values)
    with pytest.raises(AdapterError, match="Precompute it again"):
        load_cache(tmp_path / "prompt.safetensors", tiny_model("mistral", seed=1))
    with pytest.raises(AdapterError, match="no such file"):
        load_cache(tmp_path / "nothing", model)
    (tmp_path / "short").write_bytes((tmp_path / "prompt.safetensors").read_bytes()[:-4])
    with pytest.raises(AdapterError):
        load_cache(tmp_path / "short", model)
    adapter = save_adapter(tmp_path / "adapter", model, random_prompt(model, "prompt"))
    with pytest.raises(AdapterError, match="promptreach-cache-1"):
        load_cache(adapter / "adapter_model.safetensors", model)


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
@pytest.mark.parametrize("family", ENCODERS)
def test_an_encoder_is_refused_with_the_reason(family: str, kind: str) -> None:
    model = tiny_model(family)
    with pytest.raises(InputError, match="an encoder; expected a causal language model") as caught:
        public_precompute(model, random_prompt(model, kind))
    assert "different for every input" in str(caught.value)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (SoftPrompt(torch.zeros(3, 31)), "virtual tokens of size 31; expected 32"),
        (SoftPrompt(torch.zeros(64, 32)), "expected fewer than the 64 positions"),
        (Prefix(torch.zeros(2, 3, 4, 8), torch.zeros(2, 3, 4, 8)), "(layers, kv heads, head size)"),
        (LowRankUpdate(2, 4.0, {}), "merge it into the weights"),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused(prompt: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        precompute(tiny_model("llama"), prompt)
    assert message in str(caught.value)


def test_every_fault_of_an_input_at_once() -> None:
    model = tiny_model("llama")
    cache = precompute(model, random_prompt(model, "prompt", length=60))
    with pytest.raises(InputError) as caught:
        cache.inputs(torch.ones(2, 5, dtype=torch.long), torch.ones(2, 4))
    assert [fault.where for fault in caught.value.faults] == ["mask", "input_ids"]
    with pytest.raises(InputError, match="at least one token"):
        cache.inputs(torch.ones(1, 0, dtype=torch.long))
