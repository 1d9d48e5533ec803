"""A saved PEFT classifier is run exactly as PEFT ran it when it was trained."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, TaskType, get_peft_model
from transformers import AutoModelForSequenceClassification

from models import ENCODERS, tiny_module, tiny_tokenizer
from promptreach.errors import AdapterError
from promptreach.hf import open_model
from promptreach.hf.classifier import load_classifier

TEXTS = ["the cat sat on the mat", "a dog ran", "this film was not very good"]


def saved(family: str, folder: Path, kind: str = "prompt", classes: int = 3) -> tuple[Path, Path, PeftModel]:
    """A model folder with every weight a classifier reads through, an adapter folder on it, and PEFT's own model."""
    place, adapter = folder / "model", folder / "adapter"
    torch.manual_seed(0)
    if family in ENCODERS:
        AutoModelForSequenceClassification.from_config(tiny_module(family).config).save_pretrained(place)
    else:
        tiny_module(family).save_pretrained(place)
    tiny_tokenizer(family).save_pretrained(place)
    base = AutoModelForSequenceClassification.from_pretrained(place, num_labels=classes, ignore_mismatched_sizes=True)
    base.config.pad_token_id = tiny_tokenizer(family).pad_token_id
    config = (
        PromptTuningConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=3)
        if kind == "prompt"
        else LoraConfig(task_type=TaskType.SEQ_CLS, r=2, init_lora_weights=False)
    )
    wrapped = get_peft_model(base, config).eval()
    wrapped.save_pretrained(adapter)
    return place, adapter, wrapped


@pytest.mark.parametrize("kind", ["prompt", "lora"])
@pytest.mark.parametrize("family", [*ENCODERS, "llama"])
def test_logits_are_pefts_own(family: str, kind: str, tmp_path: Path) -> None:
    place, adapter, wrapped = saved(family, tmp_path, kind)
    model = open_model(place)
    found = load_classifier(adapter, model)
    assert found is not None
    batch = model.batch(model.tokenize(TEXTS))
    with torch.no_grad():
        expected = wrapped(input_ids=batch.input_ids, attention_mask=batch.mask.long()).logits
    assert torch.equal(found(model.tokenize(TEXTS)), expected)


def test_an_adapter_without_a_head_has_no_classifier(tmp_path: Path) -> None:
    place, adapter, _ = saved("bert", tmp_path)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "task_type": "FEATURE_EXTRACTION"}))
    assert load_classifier(adapter, open_model(place)) is None


def test_a_model_that_lacks_what_the_head_reads_through_has_no_classifier(tmp_path: Path) -> None:
    """Without its pooler, nobody can tell what the head was trained on."""
    _, adapter, _ = saved("bert", tmp_path)
    tiny_module("bert").save_pretrained(tmp_path / "bare")
    tiny_tokenizer("bert").save_pretrained(tmp_path / "bare")
    assert load_classifier(adapter, open_model(tmp_path / "bare")) is None


def test_a_model_that_is_not_from_a_folder_has_no_classifier(tmp_path: Path) -> None:
    _, adapter, _ = saved("bert", tmp_path)
    assert load_classifier(adapter, open_model(tiny_module("bert"), tokenizer=tiny_tokenizer("bert"))) is None


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    place, adapter, _ = saved("bert", tmp_path)
    (adapter / "adapter_model.safetensors").write_bytes(b"none")
    with pytest.raises(AdapterError):
        load_classifier(adapter, open_model(place))


def test_the_generator_is_left_alone(tmp_path: Path) -> None:
    place, adapter, _ = saved("bert", tmp_path)
    model = open_model(place)
    state = torch.random.get_rng_state()
    load_classifier(adapter, model)
    assert torch.equal(torch.random.get_rng_state(), state)
