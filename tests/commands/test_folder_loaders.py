"""load.py beside an adapter answers as this library does, in a process that has no promptreach; for every kind of head,
in front of every form of base, and where it cannot be, none lies there and the folder says so."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config
from torch import Tensor

from helpers.families import small_module
from helpers.model_folders import write_composite, write_gguf
from helpers.models import tiny_module, tiny_tokenizer
from helpers.pairs import pair_module, pair_tokenizer
from helpers.quantised import fp8_folder, packed_folder
from helpers.tasks import labelled, sentences
from promptreach.commands.fit import fit_adapter
from promptreach.commands.inspect import inspect_adapter
from promptreach.commands.predict import predict_texts
from promptreach.commands.reading import read_folder
from promptreach.data import LabelledTexts
from promptreach.hf import OpenModel, open_model
from promptreach.hf.adapters.folders import LOADER
from promptreach.report.findings import Finding
from promptreach.tables import read_task
from promptreach.training.task.encoding import encode

pytestmark = pytest.mark.slow  # every kind is trained once and loaded by an interpreter of its own

LENGTH = 10
SHORT: dict[str, Any] = {"tokens": 3, "steps": 2, "batch_size": 8, "max_length": LENGTH, "learning_rate": 0.05}
LONG = "this film was not very good and a dog ran under the tree"
TEXTS = ["the cat sat on the mat", LONG, "good"]
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
    found[folder] = [reader.answers(rows), [row.tolist() for row in reader.outputs(rows)]]
print(json.dumps(found))
"""
WITHOUT = """
import runpy, sys
sys.modules["promptreach"] = None
sys.argv = ["load.py", *sys.argv[1:]]
runpy.run_path("load.py", run_name="__main__")
"""


@dataclass
class Trained:
    """One run's folder, with the rows to ask it: texts, or pairs of them."""

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


def pairs() -> list[dict[str, Any]]:
    texts = sentences(60)
    others = [*texts[1:], texts[0]]
    return [
        {"text": one, "text2": other, "label": "yes" if "cat" in other else "no"}
        for one, other in zip(texts, others, strict=True)
    ]


def questions() -> list[dict[str, Any]]:
    return [
        {"question": "what is it", "context": text, "answers": [text.split()[-1]] if index % 3 else []}
        for index, text in enumerate(sentences(60))
    ]


def characters() -> LabelledTexts:
    """Texts in the few characters that the vocabulary of the tiny GGUF file has."""
    texts = tuple(f"{index}ABC{index % 7}"[: 3 + index % 5] + str(index) for index in range(60))
    return LabelledTexts(texts, tuple(index % 2 for index in range(60)), ("even", "odd"))


PAIRS = [["the cat", "a dog ran"], ["good", LONG], [LONG, LONG]]
ASKED = [["what is it", "the cat sat on the mat"], ["what is it", LONG], ["it", "good"]]
"""The last of them stand behind the cut."""
MEAN: dict[str, Any] = {"pooling": "mean"}
Case = tuple[str, Callable[[], Any], list[Any], dict[str, Any]]
CASES: dict[str, Case] = {
    "labels": ("bert", labelled, TEXTS, MEAN),
    "lora": ("bert", labelled, TEXTS, {**MEAN, "method": "lora"}),
    "last": ("llama", labelled, TEXTS, {"pooling": "last", "method": "prefix"}),
    "head": ("bert", labelled, TEXTS, {"pooling": "first", "method": "head"}),
    "ia3": ("bert", labelled, TEXTS, {**MEAN, "method": IA3Config(target_modules=["key"], feedforward_modules=[])}),
    "number": ("bert", numbers, TEXTS, MEAN),
    "several": ("bert", several, TEXTS, MEAN),
    "tags": ("bert", tags, [*TEXTS, "the  cat sat"], {}),
    "tags of a decoder": ("gpt2", tags, TEXTS, {"method": "prompt"}),
    "pairs": ("bert", pairs, PAIRS, MEAN),
    "pairs of a decoder": ("llama", pairs, PAIRS, {**MEAN, "method": "lora"}),
    "span": ("bert", questions, ASKED, {"method": "prompt"}),
    "span of a decoder": ("llama", questions, ASKED, {"method": "lora"}),
    "span of a head": ("bert", questions, ASKED, {"method": "head"}),
    "t5": ("t5", labelled, TEXTS, MEAN),
    "t5gemma": ("t5gemma", labelled, TEXTS, {**MEAN, "method": "lora"}),
    "bart": ("bart", labelled, TEXTS, {**MEAN, "method": "lora"}),
    "bart prompt": ("bart", labelled, TEXTS, {**MEAN, "method": "prompt"}),
    "short": ("short", labelled, TEXTS, MEAN),
    "short gemma": ("short gemma", labelled, TEXTS, {**MEAN, "method": "lora"}),
    "part": ("part", labelled, TEXTS, {"method": "lora", "pooling": "last"}),
    "gguf": ("gguf", characters, ["1A2", "777777777777777", "B"], {}),
    "gguf lora": ("gguf", characters, ["1A2", "777777777777777", "B"], {"method": "lora"}),
    "torchao": ("torchao", labelled, TEXTS, MEAN),
    "torchao lora": ("torchao", labelled, TEXTS, {**MEAN, "method": "lora"}),
    "fp8": ("fp8", labelled, TEXTS, {**MEAN, "method": "prefix"}),
    "bfloat16": ("bfloat16", labelled, TEXTS, MEAN),
}
EXACT = 1e-4
"""How far outputs may differ, relative to the largest of them; one rounding of float32 a layer is far below."""
CLOSE = {"bfloat16": 0.05, "fp8": 0.05}
"""The same of numbers with few digits, which batches of another shape round elsewhere."""


def opened(kind: str, folder: Path) -> OpenModel:
    """A base of one kind, from where it lies in `folder`."""
    if kind in ("t5", "t5gemma", "bart"):
        pair_module(kind).save_pretrained(folder)
        pair_tokenizer().save_pretrained(folder)
        return open_model(folder)
    if kind == "gguf":
        return open_model(write_gguf(folder.with_suffix(".gguf")))
    if kind == "part":
        write_composite(folder, "gemma3", "gemma3_text")
        return open_model(folder)
    if kind == "torchao":
        return open_model(packed_folder(folder, "torchao"))
    if kind == "fp8":
        return open_model(fp8_folder(folder))
    family = {"short": "bert", "short gemma": "gemma3_text", "bfloat16": "llama"}.get(kind, kind)
    module = small_module(family) if family == "gemma3_text" else tiny_module(family)
    module.save_pretrained(folder)
    tiny_tokenizer("bert" if family == "bert" else "llama").save_pretrained(folder)
    more: dict[str, Any] = {"num_layers": 1} if kind.startswith("short") else {}
    return open_model(folder, dtype=torch.bfloat16 if kind == "bfloat16" else torch.float32, **more)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    """Folders of every kind of head, on every form of base."""
    place, models, found = tmp_path_factory.mktemp("folders"), dict[str, OpenModel](), {}
    for name, (kind, rows, asked, more) in CASES.items():
        if kind not in models:
            models[kind] = opened(kind, place / f"base {kind}")
        made = rows()
        data = made if isinstance(made, LabelledTexts) else read_task(made)
        finding = fit_adapter(models[kind], data, place / name, **{**SHORT, **more}, quiet=True)
        found[name] = Trained(place / name, models[kind], finding, asked)
    return found


@pytest.fixture(scope="module")
def loaded(trained: dict[str, Trained], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What load.py answers in a process of its own."""
    file = tmp_path_factory.mktemp("rows") / "rows.json"
    file.write_text(json.dumps({str(one.folder): one.rows for one in trained.values()}))
    done = alone(LOADED, file.parent, str(file), *(str(one.folder) for one in trained.values()))
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {name: answers[str(one.folder)] for name, one in trained.items()}


def alone(program: str, place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A program run without this library's source."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    call = [sys.executable, "-c", program, *arguments]
    return subprocess.run(call, capture_output=True, text=True, check=False, env=environment, cwd=place)


def expected_of(one: Trained) -> tuple[list[Tensor], list[dict[str, Any]]]:
    """Our outputs for each row, and what `predict` says of it."""
    texts = [row if isinstance(row, str) else row[0] for row in one.rows]
    seconds = [row[1] for row in one.rows if not isinstance(row, str)]
    reader = read_folder(one.folder, one.model)
    given: dict[str, Any] = {"contexts" if reader.kind == "span" else "pairs": seconds} if seconds else {}
    said = predict_texts(one.model, one.folder, texts, max_length=LENGTH, **given).values["answers"]
    if reader.kind == "span":
        rows = read_task([{"question": q, "context": c, "answers": []} for q, c in one.rows])
    elif reader.kind == "tags":
        words = [text.split() for text in texts]
        rows = read_task([{"tokens": own, "tags": ["O", *["B-X"] * (len(own) - 1)]} for own in words])
    elif seconds:
        rows = LabelledTexts(tuple(texts), (0,) * len(texts), ("a",), seconds=tuple(seconds))
    else:
        rows = LabelledTexts(tuple(texts), (0,) * len(texts), ("a",))
    sequences = encode(reader.model, rows, LENGTH).sequences
    assert max(map(len, sequences)) == LENGTH  # one of them is cut
    return [reader.outputs([ids])[0] for ids in sequences], said


@pytest.mark.parametrize("name", list(CASES))
def test_load_py_answers_as_this_library_does(name: str, trained: dict[str, Trained], loaded: dict[str, Any]) -> None:
    one = trained[name]
    assert one.finding.values["loaded_by"] == "loader"
    answers, outputs = loaded[name]
    expected, said = expected_of(one)
    size = max(float(own.abs().max()) for own in expected)
    for ours, theirs in zip(expected, outputs, strict=True):
        assert ours.shape == torch.tensor(theirs).shape
        assert float((ours - torch.tensor(theirs)).abs().max()) <= CLOSE.get(name, EXACT) * max(1.0, size)
    if name in CLOSE:
        return  # an answer may hang on the digit that was rounded
    for answer, record in zip(answers, said, strict=True):
        if "number" in record:
            assert answer == pytest.approx(record["number"], rel=1e-4)
        elif "labels" in record:
            assert (", ".join(answer) or "none") == record["labels"]
        elif "tags" in record:
            assert " ".join(tag or "O" for tag in answer) == record["tags"]
        elif "answer" in record:
            assert (answer or "none") == record["answer"]
        else:
            assert answer == record["label"]


def test_the_answers_are_not_all_alike(loaded: dict[str, Any]) -> None:
    """Else nothing above could tell a right answer from a constant."""
    for kinds in (("labels", "lora", "last", "head"), ("number",), ("tags", "tags of a decoder")):
        assert len({json.dumps(answer) for name in kinds for answer in loaded[name][0]}) > 1
    spans = [answer for name in CASES if name.startswith("span") for answer in loaded[name][0]]
    assert any(spans)


@pytest.mark.parametrize("name", ["labels", "last", "number", "span", "pairs", "gguf", "part", "short"])
def test_card_and_inspection_say_why_and_how(name: str, trained: dict[str, Trained]) -> None:
    one = trained[name]
    card = (one.folder / "README.md").read_text()
    words = {
        "labels": "the mean of the states",
        "last": "has a bias",
        "number": "the mean of the states",
        "span": "a stretch of a context",
        "pairs": "the mean of the states",
        "gguf": "a GGUF file",
        "part": "the part of a larger model",
        "short": "opened short",
    }[name]
    for said in (words, "from load import load", "**Start.** "):
        assert said in card
    if name == "number":
        assert "points" not in card.split("How it was found")[0]
    if (one.folder / "adapter_config.json").is_file():
        found = inspect_adapter(one.folder)
        assert any(words in getattr(block, "text", "") and "load.py" in block.text for block in found.blocks)


@pytest.mark.parametrize(
    ("name", "given", "count"),
    [("labels", ["the cat", "a dog"], 2), ("pairs", ["the cat", "a dog", "it", "this"], 2), ("span", ASKED[0], 1)],
)
def test_the_command_of_the_card_prints_an_answer_a_row(
    name: str, given: list[str], count: int, trained: dict[str, Trained]
) -> None:
    done = alone(WITHOUT, trained[name].folder, *given)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, count), done.stderr
    two = " 'a question' 'its context'" if name == "span" else " 'a text' 'its second text'" if count == 2 else ""
    if name != "labels":
        assert f"python load.py{two}" in (trained[name].folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("pairs", ["the cat"], "expected 2"),
        ("span", ["what is it " * 9, "a cat"], "no room for its context"),
        ("last", [""], "without a token"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(
    name: str, given: list[str], words: str, trained: dict[str, Trained]
) -> None:
    done = alone(WITHOUT, trained[name].folder, *given)
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr.splitlines()[-1]


def test_where_peft_has_no_form_there_is_no_loader_and_the_folder_says_so(tmp_path: Path) -> None:
    """A prefix that this library alone can run."""
    small_module("distilbert").save_pretrained(tmp_path / "base")
    tiny_tokenizer("bert").save_pretrained(tmp_path / "base")
    model = open_model(tmp_path / "base")
    found = fit_adapter(model, labelled(), tmp_path / "a", **{**SHORT, "method": "prefix"}, quiet=True)
    assert found.values["loaded_by"] == "promptreach"
    assert not (tmp_path / "a" / LOADER).exists()
    words = "PEFT has no prefix for distilbert: this library alone runs it."
    assert words in (tmp_path / "a" / "README.md").read_text()
    assert any(words in getattr(block, "text", "") for block in inspect_adapter(tmp_path / "a").blocks)
