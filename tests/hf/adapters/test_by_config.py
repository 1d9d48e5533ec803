"""Any method of PEFT by its own config: it trains, it leaves the model as it was, and PEFT loads what it saves."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    AdaptionPromptConfig,
    CPTConfig,
    IA3Config,
    LoraConfig,
    PeftConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    VeraConfig,
)

from helpers.models import tiny_model, tiny_module
from helpers.tolerances import assert_close
from promptreach.errors import AdapterError, InputError
from promptreach.hf import load_adapter
from promptreach.hf.adapters.by_config import (
    attach_any,
    attached_by_config,
    attaching_faults,
    config_of,
    is_configured,
    load_configured,
    name_of,
    save_by_config,
)
from promptreach.training.methods.methods import as_text, positions_of

DECODER: tuple[PeftConfig, ...] = (
    PromptEncoderConfig(num_virtual_tokens=3, encoder_hidden_size=8),
    IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]),
    LoraConfig(r=2, use_dora=True, target_modules=["q_proj"], lora_dropout=0.1),
    VeraConfig(r=4, target_modules=["q_proj"]),
    AdaptionPromptConfig(adapter_len=3, adapter_layers=2),
    PrefixTuningConfig(num_virtual_tokens=3, num_attention_heads=2, token_dim=16),
    CPTConfig(task_type="CAUSAL_LM", cpt_token_ids=[4, 5], cpt_mask=[1, 1], cpt_tokens_type_mask=[1, 2]),
)
ENCODER: tuple[PeftConfig, ...] = (
    PromptEncoderConfig(num_virtual_tokens=3, encoder_hidden_size=8),
    IA3Config(target_modules=["key", "value", "output.dense"], feedforward_modules=["output.dense"]),
)
CASES = [("llama", config) for config in DECODER] + [("bert", config) for config in ENCODER]


@pytest.mark.parametrize(("family", "config"), CASES, ids=lambda one: one if isinstance(one, str) else name_of(one))
def test_gradients_reach_it_and_the_model_stays_what_it_was(family: str, config: PeftConfig, tmp_path: Path) -> None:
    model = tiny_model(family)
    batch = model.batch([[4, 5, 6, 7], [8, 9]])
    before, names = model.hidden(batch), [name for name, _ in model.release().named_modules()]
    with attached_by_config(model, config, seed=1) as method:
        model.hidden(batch, method.joined).square().sum().backward()
        reached = sum(float(part.grad.abs().sum()) for part in method.parameters() if part.grad is not None)
        assert reached > 0
        with torch.no_grad():
            for part in method.parameters():
                part.add_(0.1 * torch.randn(part.shape, generator=torch.Generator().manual_seed(part.numel())))
            trained, state = model.hidden(batch, method.joined), method.state()
    assert torch.equal(model.hidden(batch), before)
    assert [name for name, _ in model.release().named_modules()] == names
    assert not any(weight.requires_grad for weight in model.release().parameters())
    with attached_by_config(model, config_of(json.loads(as_text(config))), seed=2) as method, torch.no_grad():
        method.load(state)
        assert torch.equal(model.hidden(batch, method.joined), trained)
    folder = save_by_config(tmp_path / "own", model, config, state)
    read = load_configured(folder, model) if is_configured(folder) else load_adapter(folder, model)
    with attach_any(model, read) as joined, torch.no_grad():
        assert_close(model.hidden(batch, joined)[batch.mask], trained[batch.mask], "joined states")
    loaded = PeftModel.from_pretrained(tiny_module(family), str(folder)).eval()
    with torch.no_grad():
        given = {"input_ids": batch.input_ids, "attention_mask": batch.mask.long(), "output_hidden_states": True}
        theirs = loaded(**given).hidden_states[-1][:, -batch.input_ids.shape[1] :]
    assert_close(theirs[batch.mask], trained[batch.mask], "joined states")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"peft_type": "NO_SUCH"}, "peft_type 'NO_SUCH'"),
        ({"peft_type": "IA3", "rank": 8}, "the field 'rank'"),
        ({"peft_type": "POLY"}, "has to be told a task"),
        ({"peft_type": "LORA", "init_lora_weights": "pissa"}, "changes the frozen weights"),
        ({"peft_type": "CPT"}, "CAUSAL_LM"),
        # What would leave a folder that is refused when it is read.
        ({"peft_type": "LORA", "bias": "all"}, "plain LoRA: bias 'none'. Leave it out"),
        ({"peft_type": "LORA", "lora_bias": True}, "plain LoRA: lora_bias False"),
        ({"peft_type": "LORA", "use_qalora": True}, "plain LoRA: use_qalora False"),
        ({"peft_type": "LORA", "trainable_token_indices": [1]}, "trainable_token_indices [1]"),
        ({"peft_type": "LORA", "alora_invocation_tokens": [1]}, "alora_invocation_tokens [1]"),
        ({"peft_type": "LORA", "megatron_config": {"a": 1}}, "megatron_config"),
        ({"peft_type": "LORA", "modules_to_save": ["wte"]}, "modules_to_save ['wte']"),
        ({"peft_type": "LORA", "modules_to_save": [5]}, "modules_to_save [5]"),
        ({"peft_type": "LORA", "r": None}, "no rank"),
        ({"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 0}, "num_virtual_tokens 0"),
        ({"peft_type": "P_TUNING", "num_virtual_tokens": 4, "encoder_hidden_size": 0}, "encoder_hidden_size 0"),
    ],
)
def test_a_config_that_cannot_be_trained_is_refused_by_what_is_wrong_with_it(said: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        config_of(said)
    assert words in str(caught.value)


def test_a_file_is_read_and_one_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ia3.json"
    file.write_text(json.dumps({"peft_type": "IA3", "target_modules": ["k_proj"]}))
    assert name_of(config_of(file)) == "IA3"
    file.write_text("not JSON")
    for path, words in ((file, "no JSON"), (tmp_path / "nowhere.json", "No such file")):
        with pytest.raises(InputError, match=words):
            config_of(path)
    with pytest.raises(InputError, match="on bert"), attached_by_config(tiny_model("bert"), DECODER[4], 0):
        pass


def test_positions_are_those_in_front_of_the_content() -> None:
    assert [positions_of(config) for config in DECODER] == [3, 0, 0, 0, 0, 3, 2]


PREFIX = {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 4}
PROMPT = {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4}
TEXT = {**PROMPT, "prompt_tuning_init": "TEXT", "prompt_tuning_init_text": "good"}
FAR = {"peft_type": "CPT", "cpt_token_ids": [10**6], "cpt_mask": [1], "cpt_tokens_type_mask": [1]}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"peft_type": "LORA", "target_modules": "("}, "unterminated subpattern"),
        ({"peft_type": "TRAINABLE_TOKENS", "token_indices": [10**6]}, "out of bounds"),
        ({"peft_type": "TRAINABLE_TOKENS", "token_indices": []}, "TRAINABLE_TOKENS on gpt2"),
        ({**FAR, "task_type": "CAUSAL_LM"}, "CPT on gpt2"),
        ({**PREFIX, "num_attention_heads": 3}, "PREFIX_TUNING on gpt2"),
        ({**PREFIX, "token_dim": 7}, "PREFIX_TUNING on gpt2"),
        ({**PREFIX, "num_layers": 1}, "expected (2, "),
        ({**PREFIX, "num_transformer_submodules": 2}, "1: a model of one stack. Leave it out"),
        ({**PROMPT, "num_layers": 1}, "num_layers 1"),
        ({**PROMPT, "num_transformer_submodules": 2}, "1: a model of one stack. Leave it out"),
        ({**TEXT, "tokenizer_name_or_path": "/nope"}, "PROMPT_TUNING on gpt2"),
    ],
)
def test_what_fails_only_on_the_model_is_told_before_anything_is_trained(said: dict[str, Any], words: str) -> None:
    model = tiny_model("gpt2")
    names = [name for name, _ in model.release().named_modules()]
    faults = attaching_faults(model, config_of(said))
    assert words in "\n".join(map(str, faults))
    assert [name for name, _ in model.release().named_modules()] == names


def ia3(folder: Path, **settings: Any) -> Path:
    """A folder of IA3 on the tiny GPT-2, with other settings in its config than it was saved with."""
    model, config = tiny_model("gpt2"), IA3Config(target_modules=["c_attn"])
    with attached_by_config(model, config, seed=0) as method:
        save_by_config(folder, model, config, method.state())
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    return folder


def test_ia3_without_feedforward_modules_is_saved_as_peft_reads_it(tmp_path: Path) -> None:
    assert load_configured(ia3(tmp_path / "a"), tiny_model("gpt2")).state
    with pytest.raises(AdapterError, match="Leave in feedforward_modules what is in target_modules alone"):
        load_configured(ia3(tmp_path / "b", feedforward_modules=["mlp.c_proj"]), tiny_model("gpt2"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"task_type": "zz"}, "Invalid task type"),
        ({"peft_type": "OFT"}, "OFT"),
        ({"peft_type": "POLY"}, "has to be told a task"),
        ({"target_modules": "("}, "unterminated subpattern"),
        ({"target_modules": 5}, "not iterable"),
        ({"base_model_name_or_path": 5}, "a text"),
    ],
)
def test_damaged_settings_are_faults_of_the_folder(settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(AdapterError) as caught:
        load_configured(ia3(tmp_path / "a", **settings), tiny_model("gpt2"))
    assert words in str(caught.value)
    assert "adapter_config.json" in caught.value.faults[0].where


def test_a_type_that_is_no_text_is_no_type(tmp_path: Path) -> None:
    folder = ia3(tmp_path / "a", peft_type=["IA3"])
    assert not is_configured(folder)
    with pytest.raises(AdapterError, match="expected a text"):
        load_adapter(folder, tiny_model("gpt2"))
