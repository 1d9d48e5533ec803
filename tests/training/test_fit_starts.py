"""Starts from the user's own text, and methods by a config of PEFT, through `fit` and the audit's matched table."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, PromptEncoderConfig

import promptreach
from helpers.tasks import completer, completions, labelled, model_of
from promptreach.audit.settings import BUDGETS
from promptreach.commands.fit import fit_adapter
from promptreach.data import LabelledTexts
from promptreach.errors import InputError
from promptreach.training.fit import fit
from promptreach.training.methods.initial import OWN
from promptreach.training.runs import applied

SHORT: dict[str, Any] = {"steps": 4, "batch_size": 8, "quiet": True}


def test_a_prompt_starts_as_the_users_text_repeated_or_cut() -> None:
    model = completer()
    rows = model.vocabulary[model.tokenize(["the cat sat"], special_tokens=False)[0]]
    for tokens, start in ((5, rows[[0, 1, 2, 0, 1]]), (2, rows[:2])):
        run = fit(model, completions(), tokens=tokens, init_text="the cat sat", learning_rate=1e-9, **SHORT)
        assert run.config.init == OWN
        torch.testing.assert_close(run.state["embeddings"], start, rtol=0, atol=1e-6)


def test_a_prefix_starts_as_the_cache_of_the_users_text() -> None:
    model = completer()
    ids = model.tokenize(["the cat sat on a mat"], special_tokens=False)[0]
    run = fit(model, completions(), "prefix", tokens=6, init_text="the cat sat on a mat", learning_rate=1e-9, **SHORT)
    torch.testing.assert_close(run.state["keys"], model.cache_of(ids).keys, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"init_text": " "}, "an empty text"),
        ({"init_text": "a", "init": "random"}, "one start"),
        ({"init_text": "a", "method": "lora"}, "for 'lora'"),
    ],
)
def test_a_text_that_nothing_starts_from_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        fit(completer(), completions(), **options, **SHORT)


@pytest.mark.parametrize("kind", ["labels", "completions"])
def test_a_config_of_peft_trains_is_kept_and_comes_back(kind: str, tmp_path: Path) -> None:
    model, rows = (model_of("llama"), labelled()) if kind == "labels" else (completer(), completions())
    config = PromptEncoderConfig(num_virtual_tokens=3, encoder_hidden_size=8)
    run = fit(model, rows, config, learning_rate=3e-3, folder=tmp_path, **SHORT)
    assert run.config.label == "P_TUNING by its config"
    assert run.parameters > 0
    again = fit(model, rows, config, learning_rate=3e-3, folder=tmp_path, **SHORT)
    assert again.seconds == run.seconds  # found, not trained
    batch = model.batch([[4, 5, 6]])
    with applied(model, run) as joined:
        assert joined.length == 3
        tuned = model.hidden(batch, joined)
    assert not torch.equal(tuned, model.hidden(batch))


def test_what_a_config_trains_is_left_as_pefts_own_folder(tmp_path: Path) -> None:
    model, rows = model_of("llama"), labelled()
    config = IA3Config(target_modules=["k_proj", "v_proj"], feedforward_modules=[])
    found = fit_adapter(model, rows, tmp_path / "own", method=config, learning_rate=1e-2, steps=4, quiet=True)
    assert found.values["method"] == "peft"
    assert {"adapter_config.json", "adapter_model.safetensors", "readout.safetensors", "README.md"} <= {
        file.name for file in (tmp_path / "own").iterdir()
    }


def test_an_audit_compares_a_config_and_the_stronger_of_two_loras(monkeypatch: pytest.MonkeyPatch) -> None:
    small = promptreach.tuning.Limits(48, 16, 24, 24)
    monkeypatch.setitem(BUDGETS, "quick", BUDGETS["quick"].__class__("quick", 0, small, (2,), 2, 4, 8, 4))
    data = labelled(90)
    assert isinstance(data, LabelledTexts)
    ia3 = {"peft_type": "IA3", "target_modules": ["k_proj"], "feedforward_modules": []}
    chosen: dict[str, Any] = {"methods": ["prompt", "lora", "lora_all"], "learning_rates": 0.01, "steps": 4}
    result = promptreach.audit(
        model_of("llama"), data, budget="quick", method_config=ia3, init_text="the cat sat", **chosen
    )
    assert [finding.reason for finding in result.findings if finding.status == "failed"] == []
    values = result.finding("training").values
    loras = [name for name in values["methods"] if name.startswith("lora")]
    assert loras == ["lora rank 2", "lora rank 2, on all-linear"]
    assert values["lora"] == min(loras, key=lambda name: values["methods"][name]["validation_loss"])
    assert "IA3 by its config" in values["methods"]
    assert values["methods"]["prompt 2 tokens"]["init"] == OWN
