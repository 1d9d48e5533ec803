"""A saved PEFT classifier is run exactly as PEFT ran it when it was trained."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, TaskType, get_peft_model
from transformers import AutoModelForSequenceClassification

from helpers.models import ENCODERS, tiny_module, tiny_tokenizer
from helpers.tolerances import assert_close
from promptreach.errors import AdapterError
from promptreach.hf import open_model
from promptreach.hf.adapters.classifier import load_classifier, reading_of

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
@pytest.mark.parametrize("family", [*ENCODERS, "llama", "gpt2"])
def test_logits_are_pefts_own_of_each_row_alone(family: str, kind: str, tmp_path: Path) -> None:
    """Whatever stands beside a row, and with the token 0, which is no padding where it is content."""
    place, adapter, wrapped = saved(family, tmp_path, kind)
    model = open_model(place)
    found = load_classifier(adapter, model)
    assert found is not None
    sequences = model.tokenize(TEXTS)
    if model.tokenizer.pad_token_id is None:
        sequences[0] = [*sequences[0][:-2], 0]
    if family not in ENCODERS:  # then the last position of one sequence is the one to read
        wrapped.get_base_model().config.pad_token_id = None
    with torch.no_grad():
        expected = torch.cat([wrapped(input_ids=torch.tensor([ids])).logits for ids in sequences])
    assert_close(found(sequences), expected, "classifier logits")
    assert_close(found(sequences[::-1]), expected.flip(0), "classifier logits")


def test_loading_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place, adapter, _ = saved("llama", tmp_path)
    model = open_model(place)
    capfd.readouterr()
    found = load_classifier(adapter, model)
    assert found is not None
    found(model.tokenize(TEXTS))
    assert capfd.readouterr().err == ""


def test_an_adapter_without_a_head_has_no_classifier(tmp_path: Path) -> None:
    place, adapter, _ = saved("bert", tmp_path)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "task_type": "FEATURE_EXTRACTION"}))
    assert load_classifier(adapter, open_model(place)) is None
    assert reading_of(adapter, open_model(place)) is None


@pytest.mark.parametrize(("family", "place"), [("bert", "first"), ("llama", "last")])
def test_a_saved_classifier_says_where_it_reads(family: str, place: str, tmp_path: Path) -> None:
    folder, adapter, _ = saved(family, tmp_path)
    assert reading_of(adapter, open_model(folder)) == place


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
    for look in (load_classifier, reading_of):
        with pytest.raises(AdapterError):
            look(adapter, open_model(place))


def test_the_generator_is_left_alone(tmp_path: Path) -> None:
    place, adapter, _ = saved("bert", tmp_path)
    model = open_model(place)
    state = torch.random.get_rng_state()
    load_classifier(adapter, model)
    assert torch.equal(torch.random.get_rng_state(), state)
