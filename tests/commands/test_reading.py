"""Folders that answer: with a head beside them, without an adapter, and with text."""

import json
from pathlib import Path

import pytest
import torch
from peft import IA3Config, get_peft_model
from transformers import AutoModelForSequenceClassification

from helpers.command_line import saved_model
from helpers.tasks import labelled, model_of
from promptreach.backbone import Prepended
from promptreach.commands.fit import fit_adapter
from promptreach.commands.reading import base_note, cut_note, headless_remedy, labels_note, read_folder
from promptreach.data import ContextSpans
from promptreach.hf import save_adapter, save_readout
from promptreach.hf.adapters.by_config import attached_by_config, config_of, save_by_config
from promptreach.hf.adapters.places import CONFIG
from promptreach.prompt import SoftPrompt
from promptreach.training.task.encoding import encode
from promptreach.training.task.readout import pool


def readout(classes: int = 2) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """A head on the mean of 32 features."""
    weight = torch.randn(classes, 32, generator=torch.Generator().manual_seed(0))
    return {"weight": weight, "bias": torch.ones(classes)}, {"pooling": "mean", "labels": ["no", "yes"][:classes]}


def test_a_head_beside_a_prompt_reads_behind_it(tmp_path: Path) -> None:
    model, head = model_of("bert"), readout()
    prompt = SoftPrompt(torch.randn(3, 32, generator=torch.Generator().manual_seed(1)))
    save_adapter(tmp_path / "a", model, prompt, readout=head)
    reader = read_folder(tmp_path / "a", model)
    assert (reader.classifies, reader.labels) == (True, ("no", "yes"))
    sequences = model.tokenize(["a cat sat", "the dog ran under the tree"])
    batch = model.batch(sequences)
    states = model.hidden(batch, Prepended(prompt=prompt.embeddings))
    expected = pool(states, batch.mask, "mean") @ head[0]["weight"].T + 1
    assert torch.allclose(reader.outputs(sequences), expected, rtol=1e-4, atol=1e-4)


def test_a_head_alone_reads_the_bare_model(tmp_path: Path) -> None:
    model, head = model_of("bert"), readout()
    save_readout(tmp_path / "head", head)
    reader = read_folder(tmp_path / "head", model)
    assert reader.adapter is None
    assert reader.outputs(model.tokenize(["a cat"])).shape == (1, 2)


def test_an_adapter_without_a_head_answers_with_text(tmp_path: Path) -> None:
    model = model_of("gpt2")
    save_adapter(tmp_path / "a", model, SoftPrompt(torch.ones(2, 32)))
    assert not read_folder(tmp_path / "a", model).classifies


def test_an_answer_behind_the_cut_is_told() -> None:
    model = model_of("bert")
    rows = ContextSpans(("is it",) * 2, ("the cat " * 12 + "sat", "the dog ran"), (((96, "sat"),), ((8, "ran"),)))
    encoded = encode(model, rows, 16)
    (told,) = cut_note([encoded], 16)
    assert "1 of 2 rows are cut at 16 tokens, and 1 of them lose" in told.text  # type: ignore[union-attr]
    assert cut_note([encode(model, rows, 62)], 62) == []


def test_labels_that_a_part_lacks_are_told_and_no_others() -> None:
    rows = labelled(classes=3)
    first = rows.take([row for row, label in enumerate(rows.labels) if label == 0])
    (told,) = labels_note(rows, first)
    assert "No held-out row has the label 'class 1', 'class 2'" in told.text  # type: ignore[union-attr]
    assert "is not judged" in told.text  # type: ignore[union-attr]
    (told,) = labels_note(first, rows)
    assert "No training row" in told.text  # type: ignore[union-attr]
    assert labels_note(labelled(), labelled(seed=1)) == []


@pytest.mark.parametrize(("named", "other"), [("somebody/other-7b", "somebody/other-7b"), (None, "")])
def test_another_base_that_the_folder_names_is_told(named: str | None, other: str, tmp_path: Path) -> None:
    model = model_of("gpt2")
    folder = save_adapter(tmp_path / "a", model, SoftPrompt(torch.ones(2, 32)))
    settings = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**settings, "base_model_name_or_path": named}))
    reader = read_folder(folder, model)
    assert reader.other_base == other
    assert [other in block.text for block in base_note(folder, other, model)] == [True] * bool(other)  # type: ignore[union-attr]


def test_the_head_that_peft_saved_beside_ia3_is_read(tmp_path: Path) -> None:
    model = saved_model(tmp_path / "model")
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", num_labels=3)
    wrapped = get_peft_model(base, IA3Config(task_type="SEQ_CLS")).eval()
    wrapped.save_pretrained(tmp_path / "a")
    reader = read_folder(tmp_path / "a", model)
    (ids,) = model.tokenize(["a cat sat"])
    with torch.no_grad():
        expected = wrapped(input_ids=torch.tensor([ids])).logits
    assert reader.classifies
    assert torch.allclose(reader.outputs([ids]), expected, rtol=1e-4, atol=1e-4)


def test_the_way_to_a_head_is_one_that_takes_the_adapter(tmp_path: Path) -> None:
    model = model_of("gpt2")
    save_adapter(tmp_path / "a", model, SoftPrompt(torch.ones(2, 32)))
    assert "promptreach audit MODEL DATA --adapter DIR" in headless_remedy(read_folder(tmp_path / "a", model))
    with attached_by_config(model, IA3Config(), seed=0) as method:
        save_by_config(tmp_path / "b", model, IA3Config(), method.state())
    remedy = headless_remedy(read_folder(tmp_path / "b", model))
    assert f"promptreach fit MODEL DATA --method-config {tmp_path / 'b' / CONFIG} --out DIR" in remedy
    fit_adapter(
        model,
        labelled(),
        tmp_path / "c",
        method=config_of(tmp_path / "b" / CONFIG),
        learning_rate=0.1,
        steps=2,
        quiet=True,
    )
    assert read_folder(tmp_path / "c", model).classifies
