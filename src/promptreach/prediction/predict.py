"""Predictions of what training would reach, made before any training: from gradients where it would start."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch

from promptreach.backbone import Prepended
from promptreach.errors import Fault, InputError, raise_if_any
from promptreach.hf.models.load import opened_for
from promptreach.prediction.forecast import Prediction, Start, control, forecast, gram
from promptreach.prediction.log_odds import Part, log_odds_at_start
from promptreach.prediction.ntk import PER_EXAMPLE, gradients_at_start
from promptreach.progress import Progress, Step
from promptreach.tables import read_task
from promptreach.training.arguments import name_faults, repeat_faults, size_faults
from promptreach.training.methods.methods import METHODS, first_init, lacking_faults
from promptreach.training.task.limits import Limits, drawn_rows
from promptreach.training.task.readout import cross_fit
from promptreach.training.task.task import Task, features, prepare

GROUPS = 2
"""Runs of tokens that a completion is cut into, each with log odds and a gradient of its own."""
PREDICTABLE = (*PER_EXAMPLE, "head")
"""The methods that `predict` knows."""
LEFT_OUT = 256
"""Training rows that are left out, one at a time, at most; each costs what a held-out row costs."""

T = TypeVar("T")


def predict(
    model: Any,
    data: Any,
    methods: Sequence[str] = PREDICTABLE,
    tokens: Sequence[int] = (4, 16, 64),
    *,
    ranks: Sequence[int] = (8,),
    seed: int = 0,
    limits: Limits | None = None,
    quiet: bool = False,
) -> tuple[Prediction, ...]:
    """Predictions of what `fit` would reach with each method and size, made without training any of them.

    Around the start of training every answer's log odds are taken to move as their first derivative says; the loss is
    then minimised exactly, with a penalty on the way from the start that stands for early stopping and is chosen by the
    leave-one-out loss on training rows. Labels of held-out rows take part in no choice; they only score the result.
    A prompt or prefix of several lengths is differentiated once, at its longest, and every shorter one takes the
    gradients of its first tokens there.

    The price is one forward and one backward pass (`GROUPS` for completions) over the rows, and up to `LEFT_OUT` rows
    more, for each method, and one forward pass for every further length of a prompt or prefix. Besides the model and
    one batch, memory stays below 2 GB for 2,000 training and 1,000 held-out texts, three sizes and a model of any
    depth, since at most `ntk.WIDTH` numbers of a gradient are kept a size.

    Args:
        model, data, seed, limits: as for `fit`; the same ones give the same rows.
        methods: any of `PREDICTABLE`.
        tokens: lengths of prompts and prefixes; all are predicted.
        ranks: of LoRA updates; all are predicted.
        quiet: no progress bar.

    Returns:
        One prediction a method and size, in the order of `methods`, sizes ascending. All of it is PREDICTED: nothing is
        proved, and `Prediction.interval` says how far off such predictions have been. Only the head, which `fit` does
        not train beyond its start, is MEASURED there.

    Raises:
        InputError: for arguments that make no sense, all at once; for a prompt that leaves no room in the context, or
            completions asked of an encoder.
        DataError: for fewer than 12 different inputs; and whatever else reading the model and the data raises.

    Reference: Malladi et al., ICML 2023, "A kernel-based view of language model fine-tuning", has the idea for full
    fine-tuning.
    """
    faults = name_faults("methods", methods, PREDICTABLE) + size_faults("tokens", tokens) + size_faults("ranks", ranks)
    for where, given in (("methods", methods), ("tokens", tokens), ("ranks", ranks)):
        faults += repeat_faults(where, given)
    raise_if_any(faults)
    task_data = read_task(data)
    if task_data.kind not in ("labels", "completions") or task_data.weights:
        seen = "rows with weights" if task_data.weights else f"a task of the kind {task_data.kind!r}"
        raise InputError(Fault("data", seen, "one label a row, or completions, all rows alike", "train it with fit"))
    backbone = opened_for(task_data, model)
    raise_if_any([fault for method in methods for fault in lacking_faults("methods", backbone, method)])
    longest = max(tokens) if any(METHODS[name].uses_tokens for name in methods) else 0
    task = prepare(backbone, task_data, limits=limits, seed=seed, longest_prompt=longest)
    with Progress(quiet) as progress, progress.task("predicting", total=len(methods)) as step:
        return tuple(forecasts(task, methods, tokens, ranks, seed, step))


def forecasts(
    task: Task, methods: Sequence[str], tokens: Sequence[int], ranks: Sequence[int], seed: int, step: Step
) -> Iterator[Prediction]:
    """The predictions for a task that is prepared, as they are made; `step` counts the methods."""
    parts = parts_of(task, seed)
    for method in methods:
        if method == "head":
            yield control(start_of(task, parts, Prepended()))
        else:
            yield from _of_method(task, parts, method, tokens if METHODS[method].uses_tokens else ranks, seed)
        step(note=method)


def _of_method(task: Task, parts: Sequence[Part], method: str, sizes: Sequence[int], seed: int) -> Iterator[Prediction]:
    """All sizes of one method, ascending, from one pass over the rows; nothing stays attached while they are taken."""
    spec, sizes = METHODS[method], sorted(sizes)
    sequences = task.encoded["train"].sequences
    with PER_EXAMPLE[method](task.backbone, sizes, first_init(task.backbone, method), sequences, seed) as own:
        measured = _each(parts, lambda part: gradients_at_start(task.backbone, part, own, GROUPS, seed))
    kernels = itertools.accumulate(map(gram, *(part.blocks for part in measured)))
    for size, parameters, kernel in zip(sizes, own.parameters, kernels, strict=True):
        start = Start(*(part.log_odds for part in measured))
        if own.start is not None and size < sizes[-1]:
            start = start_of(task, parts, own.start(size))
        tokens, rank = (size, 0) if spec.uses_tokens else (0, size)
        yield forecast(start, kernel, method=method, tokens=tokens, rank=rank, parameters=parameters)


def start_of(task: Task, parts: Sequence[Part], joined: Prepended) -> Start:
    """The log odds of all parts with `joined` in front."""
    return Start(*_each(parts, lambda part: log_odds_at_start(task.backbone, part, joined, GROUPS, task.batch_size)))


def _each(parts: Sequence[Part], look: Callable[[Part], T]) -> list[T]:
    """The results of `look` for each part; a part that stands there twice is looked at once."""
    seen = {part: look(part) for part in dict.fromkeys(parts)}
    return [seen[part] for part in parts]


def parts_of(task: Task, seed: int) -> tuple[Part, Part, Part]:
    """Training rows as training sees them, training rows as if they had not been seen, and held-out rows.

    Gradients reach the model through the classifier. Through one that has seen a row's label they carry that label,
    and the row would be predicted from it even when it is left out; so rows to leave out are read by probes that were
    fitted without them. Completions have no classifier, and any row can be left out as it is.
    """
    train, held_out = task.encoded["train"], task.encoded["held_out"]
    whole, others = torch.arange(len(train)), torch.arange(len(held_out))
    if task.pooling is None:
        part = Part(train, None, whole)
        return part, part, Part(held_out, None, others)
    probe = task.probes[task.pooling]
    assert train.labels is not None
    crossed = cross_fit(probe, features(task, "train", [task.pooling])[task.pooling], train.labels, seed)
    some = torch.tensor(drawn_rows(len(train), LEFT_OUT, seed))
    return (
        Part(train, probe.reader(len(train)), whole),
        Part(train.take(some.tolist()), replace(crossed, fold=crossed.fold[some]), some),
        Part(held_out, probe.reader(len(held_out)), others),
    )
