"""Several runs of one method and size trained at once: one forward pass over all their batches.

Every row of the pass is joined with its own run's prompt or prefix. Rows never meet inside the model and its weights
are frozen, so each run's gradients are its own; heads, optimisers, clipping and schedules are separate objects anyway.
A run whose loss stops being a number is left out of the sum that is differentiated, and takes no further part.

LoRA, and whatever else changes the weights themselves, is trained one run after another: one batch goes through one
set of weights.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from itertools import accumulate

import torch
from torch import Tensor

from promptreach.backbone import Prepended
from promptreach.errors import Fault, InputError
from promptreach.progress import Step
from promptreach.training.methods.methods import method_named
from promptreach.training.ongoing import OngoingRun
from promptreach.training.runs import Run, RunConfig, RunStore
from promptreach.training.task.task import Task

JOINED_METHODS = ("prompt", "prefix")
"""What differs between two runs of these stands beside the model, row by row, never inside its weights."""
_LEAST = 1e-12
"""For a batch in which no row counts."""


def train_side_by_side(task: Task, configs: Sequence[RunConfig], store: RunStore, step: Step) -> list[Run]:
    """The runs of `configs` on `task`, trained in one batch unless all of them finished before.

    Guarantees: every run takes the steps that it would take alone, on the same rows in the same order, up to the order
    of float summation in the shared pass. A run that diverges never enters what the others sum over. The same task and
    the same list of settings give the same runs on the same machine, paused on the way or not. A loss that is not a
    number ends its run with status ``diverged`` and the best state before that; it is a result, not an error, because a
    learning rate that is too large is worth knowing.

    Args:
        task: what is trained on.
        configs: one run of any method, or several of one in `JOINED_METHODS` with the same `tokens`; `groups` finds
            them.
        store: keeps finished runs. Runs are trained again together if one of them is missing, and only the missing ones
            are written: the shape of the batch, which decides the last bit, does not depend on what had finished.
        step: progress, in steps of all runs together.

    Raises:
        InputError: for several runs that cannot share a pass.
    """
    kinds = {(config.method, config.tokens): config.label for config in configs}
    if len(configs) > 1 and (len(kinds) > 1 or configs[0].method not in JOINED_METHODS):
        seen = f"{len(configs)} runs of {' and '.join(kinds.values())}"
        expected = f"one run, or several of one method ({' or '.join(JOINED_METHODS)}) and one number of tokens"
        raise InputError(Fault("configs", seen, expected))
    names = [store.name(task.digest, config) for config in configs]
    known = [store.get(name) for name in names]
    finished = [run for run in known if run is not None]
    if len(finished) == len(configs):
        step(sum(config.last_step for config in configs), "done before")
        return finished
    sequences = task.encoded["train"].sequences
    with ExitStack() as stack:
        ongoing = [
            OngoingRun(
                task,
                config,
                stack.enter_context(method_named(config.method).attach(task.backbone, config, sequences)),
                store,
            )
            for config in configs
        ]
        step(sum(one.steps for one in ongoing), "")
        while active := [one for one in ongoing if not one.is_over]:
            mean = _take_step(active)
            slices = f" in {task.slices.count} slices" if task.slices.count > 1 else ""
            step(len(active), f"loss {mean:.3f}{slices}")
        step(sum(one.config.last_step - one.steps for one in ongoing), "")
        runs = [one.finish() for one in ongoing]
    for name, run, before in zip(names, runs, known, strict=True):
        if before is None:
            store.put(name, run)
    return [before or run for before, run in zip(known, runs, strict=True)]


def groups(configs: Sequence[RunConfig], at_once: int) -> list[list[int]]:
    """Which of `configs` to train side by side: their indices, at most `at_once` in a group, in order of appearance.

    It depends on nothing but the settings, so that every engine cuts a search into the same groups.
    """
    found: dict[object, list[list[int]]] = {}
    for index, config in enumerate(configs):
        alone = config.method not in JOINED_METHODS
        key = index if alone else (config.method, config.tokens, config.batch_size, config.steps, config.pause)
        chunks = found.setdefault(key, [[]])
        if len(chunks[-1]) == at_once:
            chunks.append([])
        chunks[-1].append(index)
    return [chunk for chunks in found.values() for chunk in chunks]


def _take_step(ongoing: Sequence[OngoingRun]) -> float:
    """One step of every run on its own rows; the mean of their losses."""
    rows = [one.next_rows() for one in ongoing]
    longest = max(map(len, rows))
    values = ongoing[0].task.slices.step(longest, lambda count: _add_gradients(ongoing, rows, min(count, longest)))
    for one, value in zip(ongoing, values, strict=True):
        one.update(value)
    return sum(values) / len(values)


def _add_gradients(ongoing: Sequence[OngoingRun], rows: Sequence[Sequence[int]], count: int) -> list[float]:
    """The loss of every run on its own rows; their gradients are left in its tensors, added up over `count` slices."""
    task = ongoing[0].task
    data = task.encoded["train"]
    answers = [float(data.answers(part)) for part in rows]
    values = [0.0] * len(ongoing)
    for one in ongoing:
        one.forget_gradients()  # of a step that ended for lack of memory
    for index in range(count):
        parts = [range(len(part) * index // count, len(part) * (index + 1) // count) for part in rows]
        own = [[part[place] for place in places] for part, places in zip(rows, parts, strict=True)]
        counts = [len(part) for part in own]
        batch = data.batch(task.backbone, [row for part in own for row in part])
        joined = [
            rows_of(one.trainable.joined_for(len(part), one.steps), places)
            for one, part, places in zip(ongoing, rows, parts, strict=True)
        ]
        hidden = task.backbone.hidden(batch, joined_rows(joined, counts))
        losses: list[Tensor] = []
        for one, part, end, total in zip(ongoing, own, accumulate(counts), answers, strict=True):
            here = slice(end - len(part), end)
            outcomes = one.objective.outcomes(task.backbone, hidden[here], batch.rows(here), data, part)
            outcomes = outcomes.weighted(data.weights_of(part))
            losses.append(outcomes.loss.sum() / outcomes.loss.new_tensor(max(total, _LEAST)))
        finite = [loss for loss in losses if loss.isfinite()]
        if finite:
            torch.stack(finite).sum().backward()  # type: ignore[no-untyped-call]
        values = [value + loss.item() for value, loss in zip(values, losses, strict=True)]
    return values


def rows_of(joined: Prepended, rows: range) -> Prepended:
    """What some rows of a batch are joined with; the whole of what all of them share."""
    prompt, keys, values = joined.prompt, joined.prefix_keys, joined.prefix_values
    own = slice(rows.start, rows.stop)
    if prompt is not None and prompt.dim() == 3:
        prompt = prompt[own]
    if keys is not None and values is not None and keys.dim() == 5:
        keys, values = keys[:, own], values[:, own]
    return Prepended(prompt, keys, values)


def joined_rows(parts: Sequence[Prepended], counts: Sequence[int]) -> Prepended:
    """What a batch is joined with that holds so many rows of each part: a single part as it is, several spread out."""
    if len(parts) == 1:
        return parts[0]

    def rows_of(tensors: Sequence[Tensor | None], at: int, shared: int) -> Tensor | None:
        """One stretch of rows a part at dimension `at`; a tensor of `shared` dimensions serves all its rows."""
        own = [
            tensor.unsqueeze(at).expand(*tensor.shape[:at], count, *tensor.shape[at:])
            if tensor.dim() == shared
            else tensor
            for tensor, count in zip(tensors, counts, strict=True)
            if tensor is not None
        ]
        return torch.cat(own, dim=at) if own else None

    return Prepended(
        prompt=rows_of([part.prompt for part in parts], 0, 2),
        prefix_keys=rows_of([part.prefix_keys for part in parts], 1, 4),
        prefix_values=rows_of([part.prefix_values for part in parts], 1, 4),
    )
