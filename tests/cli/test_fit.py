"""``promptreach fit`` on tiny models: the folder that it leaves, its card, and what it refuses before it trains."""

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import huggingface_hub
import pytest
from peft import PeftConfig

from helpers.command_line import run, saved_model
from helpers.tasks import completions, labelled
from promptreach.hf import load_adapter, open_model

SHORT = ("--steps", 4, "--tokens", 3, "--rank", 2, "--learning-rate", 0.01, "--max-length", 16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models and rows for each."""
    base = tmp_path_factory.mktemp("fit")
    saved_model(base / "bert", "bert")
    saved_model(base / "llama")
    rows = labelled()
    lines = [{"text": text, "label": answer} for text, answer in zip(rows.texts, rows.answers, strict=True)]
    (base / "labels.jsonl").write_text("\n".join(map(json.dumps, lines)))
    pairs = completions()
    lines = [{"prompt": text, "completion": answer} for text, answer in zip(pairs.prompts, pairs.answers, strict=True)]
    (base / "pairs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return base


def fitted(*arguments: object) -> dict[str, Any]:
    """The values of a call that is right."""
    status, out, err = run("fit", *arguments, "--json")
    assert (status, err) == (0, "")
    found: dict[str, Any] = json.loads(out)["values"]
    return found


@pytest.mark.parametrize(("method", "pooling"), [("prompt", "mean"), ("lora", "first"), ("head", "first")])
def test_a_classifier_and_the_lines_of_its_card_give_the_same_answers(
    method: str,
    pooling: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    how = ("--method", method, "--pooling", pooling)
    values = fitted(folder / "bert", folder / "labels.jsonl", *how, "--out", tmp_path / "a", *SHORT)
    assert values["loaded_by"] == ("classifier" if method == "lora" else "loader")
    assert values["method"] == method
    card = (tmp_path / "a" / "README.md").read_text()
    assert f"{values['metrics'][next(iter(values['metrics']))]['accuracy']['value']:.3f}" in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    texts = ["a cat sat", "the dog ran under the tree and the mat"]
    monkeypatch.chdir(tmp_path / "a")
    monkeypatch.syspath_prepend(tmp_path / "a")
    monkeypatch.delitem(sys.modules, "load", raising=False)
    exec(code.replace("['a text to classify']", repr(texts)), {})
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    _, out, _ = run("predict", folder / "bert", tmp_path / "a", tmp_path / "texts.txt", "--json")
    answers = [answer["label"] for answer in json.loads(out)["values"]["answers"]]
    said = ast.literal_eval(capsys.readouterr().out.strip().splitlines()[-1])
    assert [one["label"] if isinstance(one, dict) else one for one in said] == answers


def test_the_config_names_base_and_start_as_they_are(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    fitted("llama", "pairs.jsonl", "--out", tmp_path / "a", *SHORT)
    config = PeftConfig.from_pretrained(str(tmp_path / "a"))
    assert config.base_model_name_or_path == str((folder / "llama").resolve())
    assert config.prompt_tuning_init == "SAMPLE_VOCAB"
    fitted("llama", "pairs.jsonl", "--out", tmp_path / "a", "--init", "random", *SHORT)  # an adapter is replaced
    assert PeftConfig.from_pretrained(str(tmp_path / "a")).prompt_tuning_init == "RANDOM"
    monkeypatch.chdir("/")
    assert load_adapter(tmp_path / "a", open_model(config.base_model_name_or_path)).kind == "prompt"


def test_a_search_says_what_it_found(folder: Path, tmp_path: Path) -> None:
    arguments = ("--method", "prefix", "--steps", 8, "--tokens", 2, "--out", tmp_path / "a")
    status, out, _ = run("fit", folder / "llama", folder / "pairs.jsonl", *arguments, "--quiet")
    assert status == 0
    for words in ("over the bare model", "was searched for", "held-out", str(tmp_path / "a")):
        assert words in out.replace("\n", "")
    assert "Completions of prompts" in (tmp_path / "a" / "README.md").read_text()


def test_what_is_wrong_is_told_before_anything_is_trained(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("promptreach.commands.fit.prepare", lambda *_, **__: pytest.fail("it was begun"))
    (tmp_path / "thesis.tex").write_text("years of work")
    status, _, err = run("fit", folder / "llama", folder / "pairs.jsonl", "--out", tmp_path)
    assert (status, "with something in it" in err) == (2, True)
    out = ("--out", tmp_path / "a")
    status, _, err = run("fit", folder / "llama", folder / "pairs.jsonl", *out, "--no-search")
    assert (status, "--learning-rate" in err) == (2, True)
    status, _, err = run("fit", folder / "llama", folder / "pairs.jsonl", *out, "--method", "head")
    assert (status, "no head to train" in err) == (2, True)
    assert run("fit", folder / "llama", folder / "pairs.jsonl")[0] == 2
    status, _, err = run("fit", tmp_path / "no", tmp_path / "no.csv", *out)
    assert (status, len(err.splitlines())) == (2, 2)
    assert not (tmp_path / "a").exists()


def test_what_stands_against_publishing_is_told_before_anything_is_read(folder: Path) -> None:
    for arguments, words in (
        (("--push-to-hub", "a b"), "'a b'"),
        (("--push-to-hub", "mine"), "--base-id"),
        (("--push-to-hub", "mine", "--base-id", "someone/bert"), "HF_HUB_OFFLINE"),
    ):
        with mock.patch.object(huggingface_hub.constants, "HF_HUB_OFFLINE", True):
            status, _, err = run("fit", folder / "bert", folder / "labels.jsonl", "--out", folder / "no", *arguments)
        assert status == 2
        assert words in err
    assert not (folder / "no").exists()
