"""Forgetting: the harm that an adapter does to text that it was not trained for, in nats per token of plain text."""

from dataclasses import replace

from promptreach.diagnosis.experiment import Experiment, Measured, Skipped
from promptreach.diagnosis.measures.comparison import paired
from promptreach.diagnosis.numbers import ForgettingNumbers
from promptreach.hf import attach
from promptreach.training.task.encoding import Encoded
from promptreach.training.task.objective import Completion

_MOST_TEXTS = 128
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
    texts = experiment.plain_text or task.held_out.inputs
    longest = max((len(ids) for ids in task.encoded["train"].sequences), default=0)
    sequences = [tuple(ids[:longest]) for ids in task.backbone.tokenize(texts[:_MOST_TEXTS])]
    sequences = [ids for ids in sequences if len(ids) > 1]
    if not sequences:
        return Skipped("No plain text of two tokens or more.")
    plain = Encoded(tuple(sequences), None, tuple(len(ids) - 1 for ids in sequences), 0)
    task = replace(task, encoded={"plain": plain}, probes={}, pooling=None)
    bare = task.evaluate("plain", Completion())
    rise = {}
    for name, adapter in adapters.items():
        with attach(task.backbone, adapter) as joined:
            rise[name] = paired(bare, task.evaluate("plain", Completion(), joined), "loss")
    source = "given texts" if experiment.plain_text else "held-out inputs"
    return Measured(ForgettingNumbers(bare.mean_loss, rise, source), f"{len(sequences):,} {source} as plain text")
