"""The folder of a trained run as PEFT's own classifier, and what its config and the hub say of it."""

import json
from pathlib import Path
from typing import Any

import pytest
from peft import AutoPeftModelForSequenceClassification, IA3Config
from transformers import pipeline

from helpers.command_line import saved_model
from helpers.hub import hub_here
from helpers.tasks import labelled
from promptreach.commands.evaluate import evaluate_adapters
from promptreach.commands.fit import fit_adapter
from promptreach.commands.predict import predict_texts
from promptreach.commands.reading import read_folder
from promptreach.errors import InputError

SHORT: dict[str, Any] = {"tokens": 3, "steps": 2, "batch_size": 8, "max_length": 8, "learning_rate": 0.05}
TEXTS = ["the cat sat on the mat", "this film was not very good and a dog ran under the tree", "good"]


def test_the_text_that_a_prompt_started_from_is_in_its_config(tmp_path: Path) -> None:
    model = saved_model(tmp_path / "llama")
    for name, more in (("own", {"init_text": "the cat sat"}), ("text", {"init": "text"})):
        fit_adapter(model, labelled(), tmp_path / name, **SHORT, **more, quiet=True)
        config = json.loads((tmp_path / name / "adapter_config.json").read_text())
        assert config["prompt_tuning_init"] == "TEXT"
        assert len(config["prompt_tuning_init_text"].split()) == 3
        assert name == "text" or config["prompt_tuning_init_text"] == "the cat sat"
        read_folder(tmp_path / name, model)


@pytest.mark.parametrize("method", ["prompt", "lora"])
def test_a_decoder_without_a_norm_that_carries_a_bias_has_a_head_without_one(method: str, tmp_path: Path) -> None:
    model, data = saved_model(tmp_path / "llama"), labelled(classes=3)
    more = {**SHORT, "steps": 8, "pooling": "last", "head_bias": False}
    found = fit_adapter(model, data, tmp_path / "a", method=method, **more, quiet=True)
    assert found.values["loaded_by"] == "classifier"
    reader = read_folder(tmp_path / "a", model)
    assert reader.head is not None
    assert not reader.head.bias.any()
    labels = dict(enumerate(data.label_names))
    loaded = AutoPeftModelForSequenceClassification.from_pretrained(str(tmp_path / "a"), id2label=labels)
    classify = pipeline("text-classification", model=loaded, tokenizer=model.tokenizer)
    said = [labels[int(row.argmax())] for row in reader.outputs([ids[:8] for ids in model.tokenize(data.texts)])]
    assert [one["label"] for one in classify(list(data.texts), truncation=True, max_length=8)] == said
    assert len(set(said)) > 1


def test_a_method_by_its_own_config_is_read_scored_and_asked(tmp_path: Path) -> None:
    model = saved_model(tmp_path / "bert", "bert")
    method = IA3Config(target_modules=["key", "value", "output.dense"], feedforward_modules=["output.dense"])
    more = {**SHORT, "pooling": "first", "base_id": "someone/some-model"}
    data = labelled()
    with hub_here() as hub:
        found = fit_adapter(model, data, tmp_path / "ia3", method=method, push_to_hub="ia3", **more, quiet=True)
        assert set(hub.repositories["somebody/ia3"]) > {path.name for path in (tmp_path / "ia3").iterdir()}
        assert found.values["published"] == f"{hub.address}/somebody/ia3"
        with pytest.raises(InputError, match="the owner 'another'"):
            fit_adapter(model, data, tmp_path / "no", push_to_hub="another/ia3", **more, quiet=True)
    assert not (tmp_path / "no").exists()
    assert found.values["loaded_by"] == "classifier"
    config = json.loads((tmp_path / "ia3" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["task_type"]) == ("someone/some-model", "SEQ_CLS")
    scored = evaluate_adapters(model, [tmp_path / "ia3"], data, max_length=8)
    assert "ia3" in scored.values["metrics"]
    assert len(predict_texts(model, tmp_path / "ia3", TEXTS, max_length=8).values["answers"]) == len(TEXTS)
