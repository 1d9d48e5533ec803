"""The folder of a trained run: others load it without this library, and get the report's answers."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification, IA3Config
from transformers import pipeline

from helpers.command_line import saved_model
from helpers.hub import hub_here
from helpers.tasks import labelled, sentences
from promptreach.commands.evaluate import evaluate_adapters
from promptreach.commands.fit import fit_adapter
from promptreach.commands.predict import predict_texts
from promptreach.commands.reading import read_folder
from promptreach.errors import InputError
from promptreach.hf import OpenModel
from promptreach.report.findings import Finding
from promptreach.tables import read_task

SHORT: dict[str, Any] = {"tokens": 3, "steps": 2, "batch_size": 8, "max_length": 8, "learning_rate": 0.05}
TEXTS = ["the cat sat on the mat", "this film was not very good and a dog ran under the tree", "good"]
LOADED = """
import importlib.util, json, sys
sys.modules["promptreach"] = None  # it cannot be imported
found = {}
for folder in sys.argv[2:]:
    spec = importlib.util.spec_from_file_location("load", folder + "/load.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    reader = module.load()
    rows = json.loads(open(sys.argv[1]).read())[folder]
    found[folder] = [reader.answers(rows), [row.flatten().tolist() for row in reader.outputs(rows)]]
print(json.dumps(found))
"""


@dataclass
class Trained:
    """One run's folder, with the rows to ask it."""

    folder: Path
    model: OpenModel
    finding: Finding
    rows: list[Any]


def numbers() -> list[dict[str, Any]]:
    return [{"text": text, "label": len(text) / 7} for text in sentences(60)]


def several() -> list[dict[str, Any]]:
    return [
        {"text": text, "labels": [name for name in ("cat", "dog", "film") if name in text]} for text in sentences(60)
    ]


def tags() -> list[dict[str, Any]]:
    named = [text.split() for text in sentences(60)]
    return [{"tokens": words, "tags": ["B-X" if len(word) > 3 else "O" for word in words]} for words in named]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    """Folders that only load.py reads, of every kind of head."""
    place = tmp_path_factory.mktemp("folders")
    bert, llama = saved_model(place / "bert", "bert"), saved_model(place / "llama", "llama")
    cases: dict[str, tuple[OpenModel, Any, Any, dict[str, Any]]] = {
        "labels": (bert, labelled(), TEXTS, {"pooling": "mean"}),
        "lora": (bert, labelled(), TEXTS, {"pooling": "mean", "method": "lora"}),
        "last": (llama, labelled(), TEXTS, {"pooling": "last", "method": "prefix"}),
        "head": (bert, labelled(), TEXTS, {"pooling": "first", "method": "head"}),
        "number": (bert, read_task(numbers()), TEXTS, {"pooling": "mean"}),
        "several": (bert, read_task(several()), TEXTS, {"pooling": "mean"}),
        "tags": (bert, read_task(tags()), TEXTS, {}),
    }
    found = {}
    for name, (model, data, rows, more) in cases.items():
        finding = fit_adapter(model, data, place / name, **{**SHORT, **more}, quiet=True)
        found[name] = Trained(place / name, model, finding, rows)
    return found


@pytest.fixture(scope="module")
def loaded(trained: dict[str, Trained], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What load.py answers in a process of its own."""
    file = tmp_path_factory.mktemp("rows") / "rows.json"
    file.write_text(json.dumps({str(one.folder): one.rows for one in trained.values()}))
    program = [sys.executable, "-c", LOADED, str(file), *(str(one.folder) for one in trained.values())]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(program, capture_output=True, text=True, check=False, env=environment, cwd=file.parent)
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {name: answers[str(one.folder)] for name, one in trained.items()}


@pytest.mark.parametrize("name", ["labels", "lora", "last", "head", "number", "several", "tags"])
def test_load_py_answers_as_this_library_does(name: str, trained: dict[str, Trained], loaded: dict[str, Any]) -> None:
    one = trained[name]
    assert one.finding.values["loaded_by"] == "loader"
    answers, outputs = loaded[name]
    reader = read_folder(one.folder, one.model)
    if name != "tags":
        cut = [ids if len(ids) <= 8 else [*ids[:7], ids[-1]] for ids in one.model.tokenize(one.rows)]
        cut = cut if one.model.task == "encoder" else [ids[:8] for ids in one.model.tokenize(one.rows)]
        assert torch.allclose(torch.tensor(outputs), reader.outputs(cut), rtol=1e-4, atol=1e-5)
    said = predict_texts(one.model, one.folder, one.rows, max_length=8).values["answers"]
    for answer, record in zip(answers, said, strict=True):
        if name == "number":
            assert answer == pytest.approx(record["number"], rel=1e-4)
        elif name == "several":
            assert (", ".join(answer) or "none") == record["labels"]
        elif name == "tags":
            assert " ".join(tag or "O" for tag in answer) == record["tags"]
        else:
            assert answer == record["label"]


@pytest.mark.parametrize("name", ["labels", "last", "number"])
def test_the_card_says_why_and_how(name: str, trained: dict[str, Trained]) -> None:
    card = (trained[name].folder / "README.md").read_text()
    words = {"labels": "the mean of the states", "last": "has a bias", "number": "the mean of the states"}[name]
    for said in (words, "from load import load", "**Start.** "):
        assert said in card
    if name == "number":
        assert "points" not in card.split("How it was found")[0]


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
