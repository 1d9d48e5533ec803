"""Suggestions that hold, and code to copy that runs."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from helpers.audit_cases import all_trained, random_adapter, rows, save_model
from promptreach import cli
from promptreach.audit.cost.advice import LONG, suggestions
from promptreach.audit.cost.work import BARE, DeploymentOption
from promptreach.diagnosis.numbers import SAME, Comparison
from promptreach.hf import open_model, precompute, save_adapter
from promptreach.tables import read_task


def advised(family: str, options: list[DeploymentOption], low: float) -> list[str]:
    """What is suggested where every comparison of two trained runs has `low` as its lower end."""
    differences = {option.name: (1e-7, True) for option in options}
    found = suggestions(
        all_trained(family), options, differences, lambda run, best: (Comparison(low, low, low, 0.0), "words")
    )
    return [item.what for item in found]


@pytest.mark.parametrize(("low", "as_good"), [(0.0, True), (-0.039, True), (-0.041, False)])
def test_fewer_tokens_only_where_the_interval_says_as_good(low: float, as_good: bool) -> None:
    longest = all_trained("bert").sweeps["prompt 4 tokens"].best
    options = [BARE, DeploymentOption("prompt 4 tokens", longest.adapter)]
    expected = ["Use prompt 2 tokens: as good as prompt 4 tokens", "Use prefix 4 tokens: as good as prompt 4 tokens"]
    assert advised("bert", options, low) == (expected if as_good else [])
    shortest = DeploymentOption("prompt 2 tokens", all_trained("bert").sweeps["prompt 2 tokens"].best.adapter)
    assert len(advised("bert", [BARE, shortest], 0.0)) == 1  # no shorter prompt, but the prefix


@pytest.mark.parametrize("length", [LONG - 1, LONG])
def test_only_long_prefixes_of_causal_models_are_worth_shrinking(length: int) -> None:
    for family in ("bert", "llama"):
        prefix = random_adapter(family, "prefix", length)
        shrunk = [what for what in advised(family, [BARE, DeploymentOption("prefix", prefix)], 0.0) if "Shrink" in what]
        assert bool(shrunk) == (family == "llama" and length == LONG)


@pytest.mark.filterwarnings("ignore")
def test_the_code_to_copy_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block with a PEFT folder `adapter` of the kind that it names, in a folder with the model and the data."""
    monkeypatch.chdir(tmp_path)
    save_model("model", "llama")
    with open("data.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows())
    (tmp_path / "texts.txt").write_text(" ".join(row["text"] for row in rows()), encoding="utf-8")
    model = open_model("model", task="causal")  # an option that the code has to repeat
    context = replace(all_trained("llama"), model=model, data=read_task("data.jsonl"))
    prompt, lora = random_adapter("llama", "prompt", LONG), random_adapter("llama", "LoRA")
    best = all_trained("llama").sweeps["prompt 4 tokens"].best
    options = [
        BARE,
        DeploymentOption("prompt 4 tokens", best.adapter),
        DeploymentOption("prompt", prompt),
        DeploymentOption("prompt (precomputed)", prompt, precompute(model, prompt)),
        DeploymentOption("LoRA", lora),
    ]
    found = suggestions(context, options, {"prompt (precomputed)": (0.0, True)}, lambda run, best: (SAME, ""))
    assert [item.what.split()[0] for item in found] == ["Precompute", "Use", "Shrink", "Merge"]
    assert any("open_model('model', task='causal')" in item.code.text for item in found)
    scope: dict[str, Any] = {"input_ids": torch.tensor([[4, 5, 6]]), "base": model.release()}
    for item, adapter in zip(found, (prompt, None, prompt, lora), strict=True):
        if adapter is not None:
            save_adapter("adapter", model, adapter)
        if item.code.language == "python":
            exec(item.code.text, scope)
        else:
            outcome = CliRunner().invoke(cli.app, [*item.code.text.split()[1:], "--steps", "1"])
            assert outcome.exit_code == 0, outcome.output
    assert scope["output"].shape[1] > 3
    assert scope["run"].config.tokens == 2
    assert os.path.isdir("adapter-4")
