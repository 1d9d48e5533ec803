"""``promptreach evaluate`` on adapters of tiny models: what it prints, that its numbers are right, what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.command_line import run, saved_model
from helpers.tasks import completions, labelled
from promptreach.hf import attach, open_model, save_adapter, save_readout
from promptreach.prompt import SoftPrompt
from promptreach.training.task.encoding import encode
from promptreach.training.task.objective import Completion


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, adapters of both, a head alone, and rows for each task."""
    base = tmp_path_factory.mktemp("evaluate")
    encoder, writer = saved_model(base / "bert", "bert"), saved_model(base / "llama")
    weight = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    info = {"pooling": "mean", "labels": ["class 1", "class 0"]}
    for number in (1, 2):
        prompt = SoftPrompt(torch.randn(3, 32, generator=torch.Generator().manual_seed(number)))
        head = ({"weight": weight, "bias": torch.zeros(2)}, info)
        save_adapter(base / f"label-{number}", encoder, prompt, readout=head)
        save_adapter(base / f"text-{number}", writer, prompt)
    save_readout(base / "head", head)
    rows: list[dict[str, str]] = [
        {"text": text, "label": answer} for text, answer in zip(labelled().texts, labelled().answers, strict=True)
    ]
    (base / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pairs = [
        {"prompt": prompt, "completion": answer}
        for prompt, answer in zip(completions().prompts, completions().completions, strict=True)
    ]
    (base / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    return base


def values(*arguments: object) -> dict[str, Any]:
    """The values of a call that is right."""
    status, out, err = run("evaluate", *arguments, "--json")
    assert (status, err) == (0, "")
    found: dict[str, Any] = json.loads(out)["values"]
    return found


def test_adapters_and_the_bare_model_stand_side_by_side(folder: Path) -> None:
    adapters = [folder / "label-1", folder / "label-2", folder / "head"]
    found = values(folder / "bert", *adapters, folder / "labels.jsonl")
    assert sorted(found["metrics"]) == ["bare model", "head", "label-1", "label-2"]
    assert sorted(found["metrics"]["head"]) == ["accuracy", "loss", "macro F1"]
    assert (found["rows"], len(found["differences"])) == (60, 6)
    own = {name: metric["accuracy"]["value"] for name, metric in found["metrics"].items()}
    for row in found["differences"]:
        assert row["accuracy"]["value"] == pytest.approx(own[row["first"]] - own[row["second"]])
        assert row["accuracy"]["low"] <= row["accuracy"]["value"] <= row["accuracy"]["high"]


def test_a_label_is_found_by_its_name_and_not_by_its_place(folder: Path) -> None:
    right = values(folder / "bert", folder / "head", folder / "labels.jsonl")["metrics"]["head"]["accuracy"]["value"]
    flipped = folder / "flipped.jsonl"
    text = (folder / "labels.jsonl").read_text()
    flipped.write_text(text.replace("class 0", "@").replace("class 1", "class 0").replace("@", "class 1"))
    assert values(folder / "bert", folder / "head", flipped)["metrics"]["head"]["accuracy"]["value"] == pytest.approx(
        1 - right
    )


def test_completions_are_scored_as_training_scores_them(folder: Path) -> None:
    found = values(folder / "llama", folder / "text-1", folder / "pairs.jsonl")["metrics"]
    model = open_model(folder / "llama")
    data = encode(model, completions(), 128)
    batch = model.batch(data.sequences)
    prompt = SoftPrompt(torch.randn(3, 32, generator=torch.Generator().manual_seed(1)))
    with torch.no_grad(), attach(model, prompt) as joined:
        expected = Completion().outcomes(model, model.hidden(batch, joined), batch, data, range(len(data)))
    assert found["text-1"]["loss"]["value"] == pytest.approx(expected.mean_loss, rel=1e-4)
    assert found["text-1"]["accuracy"]["value"] == pytest.approx(expected.accuracy)
    assert found["bare model"]["loss"]["value"] != pytest.approx(expected.mean_loss, rel=1e-4)


def test_the_table_in_the_terminal_and_a_limit(folder: Path) -> None:
    status, out, _ = run("evaluate", folder / "llama", folder / "text-1", folder / "pairs.jsonl", "--limit", 20)
    assert status == 0
    for words in ("Metrics", "bare model", "text-1", "20 rows", "90 %", "Differences"):
        assert words in out


def test_what_does_not_go_together_is_refused_all_at_once(folder: Path, tmp_path: Path) -> None:
    adapters = [folder / "text-1", folder / "text-2"]
    status, _, err = run("evaluate", folder / "llama", *adapters, folder / "labels.jsonl", "--max-length", 1)
    assert (status, err.count("without a head"), "max_length" in err) == (2, 2, True)
    assert run("evaluate", folder / "bert", folder / "head", folder / "pairs.jsonl")[0] == 2
    other = tmp_path / "other.csv"
    other.write_text("text,label\na cat sat,class 0\nthe dog,other\n")
    status, _, err = run("evaluate", folder / "bert", folder / "head", other)
    assert (status, "does not know: other" in err) == (2, True)
    missing = [tmp_path / "one", tmp_path / "two"]
    status, _, err = run("evaluate", folder / "bert", *missing, tmp_path / "rows.csv")
    assert (status, len(err.splitlines())) == (2, 3)
    assert run("evaluate", folder / "bert", folder / "labels.jsonl")[0] == 2
