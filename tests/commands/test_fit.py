"""What ``fit`` leaves: the scores on its card are those of the folder, and a head is refused where there is none."""

import json
from pathlib import Path

import pytest
from peft import IA3Config, LoraConfig

from helpers.tasks import completer, completions, labelled, model_of
from promptreach.commands.evaluate import evaluate_adapters
from promptreach.commands.fit import fit_adapter
from promptreach.errors import InputError, OutputError
from promptreach.training.task.limits import Limits
from promptreach.training.task.task import prepare


@pytest.mark.parametrize("kind", ["labels", "completions"])
def test_the_folder_scores_what_the_finding_says(kind: str, tmp_path: Path) -> None:
    model, data = (model_of("bert"), labelled()) if kind == "labels" else (completer(), completions())
    found = fit_adapter(model, data, tmp_path / "a", tokens=3, steps=4, learning_rate=0.05, max_length=16, quiet=True)
    rows = prepare(model, data, limits=Limits(max_length=16), longest_prompt=3).held_out
    again = evaluate_adapters(model, [tmp_path / "a"], rows, max_length=16).values["metrics"]["a"]
    said = found.values["metrics"]["prompt 3 tokens"]
    assert again["accuracy"] == pytest.approx(said["accuracy"])
    assert again["loss"] == pytest.approx(said["loss"], rel=1e-4)


def test_the_read_out_names_its_labels(tmp_path: Path) -> None:
    fit_adapter(model_of("bert"), labelled(), tmp_path / "a", method="head", quiet=True)
    assert json.loads((tmp_path / "a" / "readout.json").read_text())["labels"] == ["class 0", "class 1"]


def test_all_faults_of_a_call_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        fit_adapter(completer(), completions(), tmp_path / "a", method="full", search=False)
    assert len(refused.value.faults) == 2
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="a file"):
        fit_adapter(completer(), completions(), tmp_path / "file")


def test_a_config_is_refused_before_training_by_its_own_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"llama\.cpp, and IA3; expected a method that it takes"):
        fit_adapter(completer(), completions(), tmp_path / "a", method=IA3Config(), serve_with="llama.cpp")
    lora = LoraConfig(target_modules="(")
    with pytest.raises(InputError, match="LORA on gpt2: missing"):
        fit_adapter(completer(), completions(), tmp_path / "a", method=lora)
