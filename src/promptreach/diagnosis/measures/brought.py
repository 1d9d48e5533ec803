"""The user's adapter itself: whether it changes anything, and how its outputs and texts were led to the data's."""

from dataclasses import replace

import torch

from promptreach.data import LabelledTexts
from promptreach.diagnosis.circumstances import BroughtNumbers
from promptreach.diagnosis.experiment import Experiment, Measured, Skipped
from promptreach.hf import attach
from promptreach.prompt import Adapter, LowRankUpdate

_ROWS = 8
"""Held-out rows on which hidden states with and without the adapter are compared."""
_SAME = 1e-6
"""The difference, relative to the largest hidden state, up to which two passes of the same model agree."""


def measure(experiment: Experiment) -> Measured[BroughtNumbers] | Skipped:
    """Compare the model with and without the adapter; for an attempt, with what it came to."""
    run = experiment.user_run
    adapter = experiment.user_adapter or (run.adapter if run else None)
    if adapter is None:
        return Skipped("Neither an attempt nor an adapter was given.")
    zeros, updates = _zero_updates(adapter)
    numbers = BroughtNumbers(
        unchanged=_changes_nothing(experiment, adapter),
        zero_updates=zeros,
        updates=updates,
        other_base=experiment.user_base,
        added_tokens=experiment.user_tokens,
    )
    numbers = _with_outputs(numbers, experiment)
    return Measured(numbers, f"{min(_ROWS, len(experiment.task.held_out))} held-out rows")


def _changes_nothing(experiment: Experiment, adapter: Adapter) -> bool:
    backbone, held_out = experiment.task.backbone, experiment.task.encoded["held_out"]
    batch = held_out.batch(backbone, range(min(_ROWS, len(held_out))))
    with torch.no_grad():
        bare = backbone.hidden(batch)[batch.mask].double()
        with attach(backbone, adapter) as joined:
            moved = backbone.hidden(batch, joined)[batch.mask].double()
    return bool((moved - bare).abs().max() <= _SAME * bare.abs().max())


def _zero_updates(adapter: Adapter) -> tuple[int, int]:
    """The updates whose product is zero because one factor is, and all of them."""
    if not isinstance(adapter, LowRankUpdate):
        return 0, 0
    factors: dict[str, list[bool]] = {}
    for key, tensor in adapter.state.items():
        path, _, part = key.partition(".lora_")
        if not part.startswith("magnitude"):
            factors.setdefault(path, []).append(bool((tensor == 0).all()))
    return sum(map(any, factors.values())), len(factors)


def _with_outputs(numbers: BroughtNumbers, experiment: Experiment) -> BroughtNumbers:
    """The numbers with the numbering of the user's classifier, where it was run."""
    run, data = experiment.user_run, experiment.data
    if run is None or not run.num_outputs or not isinstance(data, LabelledTexts):
        return numbers
    classes = len(data.label_names)
    numbering = {
        f"output {output}": data.label_names[label] for label, output in enumerate(run.outputs or ()) if output != label
    }
    extra, missing = max(0, run.num_outputs - classes), max(0, classes - run.num_outputs)
    return replace(numbers, numbering=numbering, extra_outputs=extra, missing_outputs=missing)
