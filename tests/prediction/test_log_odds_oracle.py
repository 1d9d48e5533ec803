"""Log odds of answers against the loss they stand for, and the classifiers that read rows left out."""

import importlib
from dataclasses import replace

import pytest
import torch

from helpers.models import tiny_model
from helpers.tasks import completions, labelled, model_of, task_of
from helpers.tolerances import assert_close
from promptreach.backbone import Prepended
from promptreach.errors import InputError
from promptreach.prediction.kernel_logistic import nats
from promptreach.prediction.log_odds import Part, log_odds_at_start
from promptreach.prediction.predict import LEFT_OUT, parts_of
from promptreach.training.task import readout
from promptreach.training.task.task import Task, prepare


def left_out(task: Task) -> Part:
    """All training rows, classified texts by classifiers that have not seen their labels."""
    assert len(task.train) <= LEFT_OUT
    return parts_of(task, 0)[1]


def held_out(task: Task) -> Part:
    return parts_of(task, 0)[2]


@pytest.mark.parametrize("kind", ["classification", "completion"])
def test_log_odds_say_the_loss(kind: str) -> None:
    """The loss that every start is scored with, from log odds, for the probe and for the bare model."""
    task = task_of("llama", kind)
    found = log_odds_at_start(task.backbone, held_out(task), Prepended(), 2)
    expected = task.evaluate("held_out", task.objective())
    assert_close((found.answers * nats(found.log_odds)).sum(), expected.loss.sum().double(), "loss", torch.float32)
    assert float(found.right.sum()) == float(expected.right.sum())
    if kind == "completion":
        assert set(found.answers.tolist()) == {1.0}  # two tokens, two rows


@pytest.mark.parametrize("classes", [2, 4])
def test_sides_are_how_log_odds_move_with_logits(classes: int) -> None:
    task = prepare(model_of("bert"), labelled(classes=classes), longest_prompt=0)
    part = held_out(task)
    found = log_odds_at_start(task.backbone, part, Prepended(), 1)
    assert part.reader is not None
    assert part.data.labels is not None
    logits = (found.features @ part.reader.weight[0].T.double() + part.reader.bias[0]).requires_grad_()
    losses = -logits.log_softmax(1)[torch.arange(len(logits)), part.data.labels]
    log_odds = -torch.log(torch.expm1(losses))
    (expected,) = torch.autograd.grad(log_odds.sum(), logits)
    assert_close(found.sides, expected, "log odds", torch.float32)
    assert_close(found.log_odds, log_odds.detach(), "log odds", torch.float32)


def test_rows_left_out_are_read_by_classifiers_that_have_not_seen_them() -> None:
    """Other labels on a fold change the classifiers of the others, and not its own."""
    task = task_of("bert")
    data, reader = task.encoded["train"], left_out(task).reader
    assert data.labels is not None
    assert reader is not None
    for fold in range(4):
        labels = torch.where(reader.fold == fold, 1 - data.labels, data.labels)
        turned = replace(task, encoded={**task.encoded, "train": replace(data, targets=labels)})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(readout, "folds", lambda y, seed: reader.fold.numpy())
            again = left_out(turned).reader
        assert again is not None
        moved = [float((again.weight[i] - reader.weight[i]).abs().max()) for i in range(4)]
        assert moved[fold] == min(moved) < 1e-5 < max(moved)


def test_some_rows_are_left_out_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of("gpt2")
    monkeypatch.setattr(importlib.import_module("promptreach.prediction.predict"), "LEFT_OUT", 7)
    train, some, _ = parts_of(task, 0)
    assert len(some.data) == len(some.example) == 7
    assert some.example.tolist() == sorted(set(some.example.tolist()))
    assert some.data.sequences == tuple(train.data.sequences[i] for i in some.example)
    found = log_odds_at_start(task.backbone, some, Prepended(), 1)
    assert found.example.tolist() == some.example.tolist()


def test_a_loss_that_is_not_a_number_is_refused() -> None:
    model = tiny_model("gpt2")
    model.tokenizer.eos_token = "[SEP]"
    task = prepare(model, completions(30), longest_prompt=4)
    with torch.no_grad():
        next(iter(model.release().parameters()))[6] = torch.nan
    with pytest.raises(InputError, match=r"examples whose loss is not a number before any training"):
        log_odds_at_start(model, held_out(task), Prepended(), 2)
