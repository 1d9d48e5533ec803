"""Folders that answer: with a head beside them, without an adapter, and with text."""

from pathlib import Path

import torch

from helpers.tasks import labelled, model_of
from promptreach.backbone import Prepended
from promptreach.commands.reading import cut_note, labels_note, read_folder
from promptreach.data import ContextSpans
from promptreach.hf import save_adapter, save_readout
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
