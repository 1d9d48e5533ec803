"""Forgetting: the harm that an adapter does to text that it was not trained for, in nats per token of plain text."""

from collections.abc import Sequence
from dataclasses import replace

from promptreach.diagnosis.experiment import Experiment, Measured, Skipped
from promptreach.diagnosis.measures.comparison import paired
from promptreach.diagnosis.numbers import ForgettingNumbers
from promptreach.hf import attach
from promptreach.training.task.encoding import Encoded
from promptreach.training.task.objective import Completion
from promptreach.training.task.task import Task

MOST_TEXTS = 128
"""Texts that are read at most."""


def measure(experiment: Experiment) -> Measured[ForgettingNumbers] | Skipped:
    """The loss on plain text with and without each adapter; causal models only.

    Read are the experiment's `plain_text`, or the inputs held out from training.
    """
    task, adapters = experiment.task, experiment.adapters()
    if task.backbone.task != "causal":
        return Skipped("An encoder models no text of its own.")
    if not adapters:
        return Skipped("Nothing was trained that could drift.")
    plain = plain_text(task, experiment.plain_text or task.held_out.inputs)
    if plain is None:
        return Skipped("No plain text of two tokens or more.")
    bare = plain.evaluate("plain", Completion())
    rise = {}
    for name, adapter in adapters.items():
        with attach(task.backbone, adapter) as joined:
            rise[name] = paired(bare, plain.evaluate("plain", Completion(), joined), "loss")
    source = "given texts" if experiment.plain_text else "held-out inputs"
    sample = f"{len(plain.encoded['plain']):,} {source} as plain text"
    return Measured(ForgettingNumbers(bare.mean_loss, rise, source), sample)


def plain_text(task: Task, texts: Sequence[str]) -> Task | None:
    """The task of writing the first `MOST_TEXTS` texts, each as long as a training row at most, as its part ``plain``;
    None where no text has two tokens."""
    longest = max((len(ids) for ids in task.encoded["train"].sequences), default=0)
    read = [tuple(ids[:longest]) for ids in task.backbone.tokenize(texts[:MOST_TEXTS])]
    sequences = tuple(ids for ids in read if len(ids) > 1)
    if not sequences:
        return None
    plain = Encoded(sequences, None, tuple(len(ids) - 1 for ids in sequences), 0)
    return replace(task, encoded={"plain": plain}, probes={}, pooling=None)
