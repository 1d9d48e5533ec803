"""Several adapters on the same rows: names, pairing, and rows too few for a bare model."""

from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.tasks import completer, completions, labelled, model_of
from promptreach.commands.evaluate import evaluate_adapters
from promptreach.commands.reading import read_folder
from promptreach.errors import InputError
from promptreach.hf import save_adapter, save_readout
from promptreach.prompt import SoftPrompt
from promptreach.training.task.encoding import encode
from promptreach.training.task.metrics import score


def prompts(base: Path, names: tuple[str, ...]) -> list[Path]:
    """Prompts of the completer, one a name, all different."""
    folders = []
    for seed, name in enumerate(names):
        prompt = SoftPrompt(torch.randn(2, 32, generator=torch.Generator().manual_seed(seed)))
        folders.append(save_adapter(base / name, completer(), prompt))
    return folders


def values_of(*arguments: Any, **options: Any) -> dict[str, Any]:
    """The values of one evaluation."""
    found: dict[str, Any] = evaluate_adapters(*arguments, **options).values
    return found


def test_no_folder_hides_another_of_its_name(tmp_path: Path) -> None:
    first, second = prompts(tmp_path, ("one/adapter", "two/adapter"))
    found = values_of(completer(), [first, second, first], completions())["metrics"]
    assert list(found) == ["bare model", str(first), str(second), f"{first} (2)"]
    assert found[str(first)] == found[f"{first} (2)"]


def test_the_same_adapter_twice_differs_by_nothing(tmp_path: Path) -> None:
    (first,) = prompts(tmp_path, ("adapter",))
    rows = values_of(completer(), [first, first], completions())["differences"]
    same = next(row for row in rows if row["second"] != "bare model")
    assert (same["accuracy"]["value"], same["loss_saved"]["value"]) == (0, 0)


def test_a_limit_draws_rows_by_its_seed(tmp_path: Path) -> None:
    folders = prompts(tmp_path, ("adapter",))
    drawn = [values_of(completer(), folders, completions(), limit=15, seed=seed) for seed in (0, 0, 1)]
    assert [found["rows"] for found in drawn] == [15] * 3
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("count", [8, 40])
def test_a_head_on_the_bare_model_takes_enough_rows(count: int, tmp_path: Path) -> None:
    model = model_of("bert")
    weight = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    save_readout(tmp_path / "h", ({"weight": weight, "bias": torch.zeros(2)}, {"pooling": "mean", "labels": []}))
    finding = evaluate_adapters(model, [tmp_path / "h"], labelled().take(range(count)))
    assert ("bare model" in finding.values["metrics"]) == (count == 40)
    assert any("left out" in str(block) for block in finding.blocks) == (count == 8)


@pytest.mark.parametrize("metric", ["f1", "average_precision"])
def test_a_metric_of_one_label_is_about_the_same_one_whatever_the_heads_call_first(tmp_path: Path, metric: str) -> None:
    model, rows = model_of("bert"), labelled()
    weight = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    for name, order in (("one", [0, 1]), ("other", [1, 0])):
        info = {"pooling": "mean", "labels": [rows.label_names[label] for label in order]}
        save_readout(tmp_path / name, ({"weight": weight[order], "bias": torch.zeros(2)}, info))
    folders = [tmp_path / "one", tmp_path / "other"]
    finding = evaluate_adapters(model, folders, rows, metric=metric)
    column = {"f1": "F1", "average_precision": "average precision"}[metric]
    own, other = (finding.values["metrics"][name][column] for name in ("one", "other"))
    assert own["value"] == pytest.approx(other["value"], abs=1e-12)
    assert "is about 'class 1'" in str(finding.blocks[0])
    same = next(row for row in finding.values["differences"] if (row["first"], row["second"]) == ("other", "one"))
    assert same["score"]["value"] == pytest.approx(0, abs=1e-12)
    outcomes = read_folder(folders[0], model).answered(encode(model, rows, 62))
    assert own["value"] == pytest.approx(score(metric, outcomes), abs=1e-6)  # type: ignore[arg-type]


def test_a_head_of_more_labels_has_no_average_precision(tmp_path: Path) -> None:
    model = model_of("bert")
    weight = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    info = {"pooling": "mean", "labels": ["class 0", "class 1", "class 2"]}
    save_readout(tmp_path / "h", ({"weight": weight, "bias": torch.zeros(3)}, info))
    with pytest.raises(InputError, match="no score of the second label"):
        evaluate_adapters(model, [tmp_path / "h"], labelled(), metric="average_precision")
    assert "F1" in values_of(model, [tmp_path / "h"], labelled(), metric="f1")["metrics"]["h"]


def test_another_base_stands_among_the_notes(tmp_path: Path) -> None:
    prompt = SoftPrompt(torch.ones(2, 32))
    folders = [save_adapter(tmp_path / "own", completer(), prompt)]
    folders.append(save_adapter(tmp_path / "other", completer(), prompt, base="somebody/other-7b"))
    finding = evaluate_adapters(completer(), folders, completions())
    said = [str(block) for block in finding.blocks if "names another base model" in str(block)]
    assert len(said) == 1
    assert f"{folders[1]} names another base model, somebody/other-7b" in said[0]
