"""PEFT is the oracle: what is saved here loads there, what is saved there loads here, and the states agree."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from helpers.models import FAMILIES, tiny_model, tiny_module
from helpers.tolerances import assert_close
from promptreach.errors import AdapterError
from promptreach.hf import OpenModel, attach, load_adapter, load_readout, open_model, save_adapter
from promptreach.hf.adapters.folders import Adapter
from promptreach.prompt import LowRankUpdate, Prefix, SoftPrompt

SEQUENCES = [[4, 5, 6, 7, 8, 9, 10, 11], [12, 13]]
LENGTH = 3
HALF = {r".*\.0\..*": 7}  # the first layer
START: dict[str, Any] = {"init_lora_weights": False}
QUIET = pytest.mark.filterwarnings("ignore")  # PEFT's remarks on models without a hub id


def random_adapter(model: OpenModel, kind: str) -> Adapter:
    generator = torch.Generator().manual_seed(11)
    if kind == "prompt":
        return SoftPrompt(torch.randn(LENGTH, model.hidden_size, generator=generator))
    if kind == "prefix":
        shape = (model.num_layers, model.num_kv_heads, LENGTH, model.head_dim)
        return Prefix(*(torch.randn(shape, generator=generator) for _ in range(2)))
    with model.low_rank(2, 4.0, seed=0) as update:
        state = {key: torch.randn(part.shape, generator=generator) for key, part in update.state().items()}
    return LowRankUpdate(2, 4.0, state)


def ours(model: OpenModel, adapter: Adapter) -> Tensor:
    """Hidden states, or logits for a causal model, at the content tokens."""
    batch = model.batch(SEQUENCES)
    with torch.no_grad(), attach(model, adapter) as joined:
        states = model.hidden(batch, joined)
        return (model.vocabulary_logits(states) if model.task == "causal" else states)[batch.mask]


def theirs(module: peft.PeftModel, model: OpenModel) -> Tensor:
    """The same from a `PeftModel`."""
    batch = model.batch(SEQUENCES)
    with torch.no_grad():
        output = module.eval()(input_ids=batch.input_ids, attention_mask=batch.mask.long())
    states = output.logits if model.task == "causal" else output.last_hidden_state
    return states[:, states.shape[1] - batch.input_ids.shape[1] :][batch.mask]


@QUIET
@pytest.mark.parametrize("kind", ["prompt", "prefix", "lora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_saved_here_loads_in_peft(family: str, kind: str, tmp_path: Path) -> None:
    model = tiny_model(family)
    adapter = random_adapter(model, kind)
    folder = save_adapter(tmp_path / "adapter", model, adapter)
    expected = ours(model, adapter)
    bare = ours(model, SoftPrompt(torch.zeros(1, model.hidden_size)))
    assert not torch.allclose(expected, bare)
    loaded = peft.PeftModel.from_pretrained(tiny_module(family), str(folder))
    assert_close(theirs(loaded, model), expected, "joined states")
    assert_close(ours(model, load_adapter(folder, model)), expected, "joined states")


def peft_configs(task: str) -> dict[str, peft.PeftConfig]:
    encoder = {"encoder_hidden_size": 24}
    return {
        "prompt": peft.PromptTuningConfig(task_type=task, num_virtual_tokens=LENGTH),
        "p-tuning": peft.PromptEncoderConfig(task_type=task, num_virtual_tokens=LENGTH, **encoder),
        "prefix": peft.PrefixTuningConfig(task_type=task, num_virtual_tokens=LENGTH),
        "projected prefix": peft.PrefixTuningConfig(
            task_type=task, num_virtual_tokens=LENGTH, prefix_projection=True, **encoder
        ),
        "lora": peft.LoraConfig(task_type=task, r=2, lora_alpha=3, init_lora_weights=False),
        "lora with options": peft.LoraConfig(
            task_type=task, r=2, use_rslora=True, use_dora=True, alpha_pattern=HALF, rank_pattern=HALF, **START
        ),
        "lora started anew": peft.LoraConfig(task_type=task, r=2, init_lora_weights="orthogonal"),
    }


@QUIET
@pytest.mark.parametrize("name", list(peft_configs("CAUSAL_LM")))
@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2", "llama", "qwen3"])
def test_what_peft_saves_loads_here(family: str, name: str, tmp_path: Path) -> None:
    model = tiny_model(family)
    config = peft_configs(str(model.peft_task.value))[name]
    torch.manual_seed(5)
    module = peft.get_peft_model(tiny_module(family), config)
    expected = theirs(module, model)
    module.save_pretrained(str(tmp_path))
    assert_close(ours(model, load_adapter(tmp_path, model)), expected, "joined states")


@QUIET
@pytest.mark.parametrize("options", [{}, {"alpha_pattern": {"^bert.encoder.layer.0.attention.self.query": 9}}])
def test_a_classifiers_adapter_loads_on_the_bare_encoder(options: dict[str, Any], tmp_path: Path) -> None:
    model = tiny_model("bert")
    whole = AutoModelForSequenceClassification.from_config(model.model.config)
    whole.bert.load_state_dict(model.model.state_dict(), strict=False)
    torch.manual_seed(5)
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, **START, **options)
    module = peft.get_peft_model(whole, config).eval()
    batch = model.batch(SEQUENCES)
    with torch.no_grad():
        output = module(input_ids=batch.input_ids, attention_mask=batch.mask.long(), output_hidden_states=True)
    module.save_pretrained(str(tmp_path))
    assert_close(ours(model, load_adapter(tmp_path, model)), output.hidden_states[-1][batch.mask], "joined states")


@QUIET
def test_lora_on_the_embeddings_loads_though_peft_saves_them_along(tmp_path: Path) -> None:
    model = tiny_model("gpt2")
    torch.manual_seed(5)
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["wte", "c_attn"], **START)
    module = peft.get_peft_model(tiny_module("gpt2"), config)
    expected = theirs(module, model)
    module.save_pretrained(str(tmp_path), save_embedding_layers=True)
    assert any("lora_" not in key for key in load_file(tmp_path / "adapter_model.safetensors"))
    assert_close(ours(model, load_adapter(tmp_path, model)), expected, "joined states")


@QUIET
@pytest.mark.parametrize(
    ("options", "messages"),
    [
        ({"bias": "all"}, ["bias 'all'", "tensors beside LoRA's own"]),
        ({"modules_to_save": ["LayerNorm"]}, ["LayerNorm"]),
        ({"init_lora_weights": "pissa"}, ["'pissa'"]),
        ({"alora_invocation_tokens": [5]}, ["alora_invocation_tokens"]),
        ({"trainable_token_indices": [3]}, ["trainable_token_indices", "token_adapter"]),
    ],
)
def test_lora_that_is_more_than_low_rank_is_refused(
    options: dict[str, Any], messages: list[str], tmp_path: Path
) -> None:
    """Read for its matrices alone, each of these folders gave other hidden states than PEFT."""
    model = tiny_model("bert")
    config = peft.LoraConfig(task_type="FEATURE_EXTRACTION", r=2, target_modules=["query", "value"], **options)
    module = peft.get_peft_model(tiny_module("bert"), config)
    with torch.no_grad():  # as if trained
        for parameter in module.parameters():
            parameter.add_(0.1 * parameter.requires_grad)
    module.save_pretrained(str(tmp_path))
    with pytest.raises(AdapterError) as refused:
        load_adapter(tmp_path, model)
    assert len(refused.value.faults) == len(messages)
    assert [message for message in messages if message not in str(refused.value)] == []


def test_a_readout_lies_beside_the_adapter(tmp_path: Path) -> None:
    model = tiny_model("bert")
    head = {"weight": torch.randn(2, 32), "bias": torch.zeros(2)}
    info = {"labels": ["bad", "good"], "pooling": "mean"}
    save_adapter(tmp_path / "with", model, random_adapter(model, "prompt"), readout=(head, info))
    loaded = load_readout(tmp_path / "with")
    assert loaded is not None
    assert loaded[1] == info
    assert all(torch.equal(loaded[0][name], head[name]) for name in head)
    save_adapter(tmp_path / "without", model, random_adapter(model, "prompt"))
    assert load_readout(tmp_path / "without") is None


def test_saving_again_replaces_the_adapter(tmp_path: Path) -> None:
    model = tiny_model("bert")
    save_adapter(tmp_path / "a", model, random_adapter(model, "prefix"), readout=({"w": torch.zeros(1)}, {}))
    save_adapter(tmp_path / "a", model, random_adapter(model, "prompt"))
    assert isinstance(load_adapter(tmp_path / "a", model), SoftPrompt)
    assert load_readout(tmp_path / "a") is None
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@QUIET
def test_a_gguf_model_saves_and_takes_adapters(smollm2: OpenModel, tmp_path: Path) -> None:
    model = smollm2
    adapter = random_adapter(model, "prefix")
    folder = save_adapter(tmp_path / "adapter", model, adapter)
    expected = ours(model, adapter)
    model.release().save_pretrained(tmp_path / "model")
    again = open_model(tmp_path / "model", tokenizer=model.tokenizer)
    # Read anew: a GGUF file's config names no architecture, saving writes one into it, and a fingerprint is kept.
    assert again.fingerprint == OpenModel(model.release(), model.tokenizer).fingerprint
    assert_close(theirs(peft.PeftModel.from_pretrained(again.release(), str(folder)), model), expected, "joined states")
