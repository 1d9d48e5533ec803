"""PEFT is the oracle: what `fit` trains, saved and loaded by PEFT, gives the states that training saw."""

from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch

from helpers.models import tiny_module
from helpers.single_run import train
from helpers.tasks import SOFT, config_of, no_step, task_of
from helpers.tolerances import assert_close
from promptreach.hf import OpenModel, save_adapter
from promptreach.training.methods.methods import METHODS
from promptreach.training.runs import RunStore

RATES = {"prompt": 0.1, "prefix": 0.3, "lora": 0.05}


@pytest.mark.filterwarnings("ignore")  # PEFT's remarks on models without a hub id
@pytest.mark.parametrize("method", SOFT)
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_a_trained_adapter_loads_in_peft(family: str, method: str, tmp_path: Path) -> None:
    task = task_of(family)
    # Judged on what it trains on, no run returns to its start.
    task = replace(task, encoded={**task.encoded, "validation": task.encoded["train"]})
    model = task.backbone
    assert isinstance(model, OpenModel)
    config = config_of(method, learning_rate=RATES[method], head_learning_rate=0.0, steps=12)
    run = train(task, config, RunStore(None), no_step)
    assert run.adapter is not None
    batch = model.batch(task.encoded["held_out"].sequences)
    with (
        torch.no_grad(),
        METHODS[method].attach(model, run.config, task.encoded["train"].sequences) as trainable,
    ):
        start = model.hidden(batch, trainable.joined)[batch.mask]
        trainable.load(run.state)
        expected = model.hidden(batch, trainable.joined)[batch.mask]
    assert (expected - start).abs().max() > 1e-3  # training moved it

    folder = save_adapter(tmp_path / "adapter", model, run.adapter)
    loaded = peft.PeftModel.from_pretrained(tiny_module(family), str(folder)).eval()
    with torch.no_grad():
        output = loaded(input_ids=batch.input_ids, attention_mask=batch.mask.long(), output_hidden_states=True)
    states = output.hidden_states[-1]
    states = states[:, states.shape[1] - batch.input_ids.shape[1] :]
    assert_close(states[batch.mask], expected, "joined states")
