"""Training one adapter: the front door of this room."""

import math
from pathlib import Path
from typing import Any, get_args

from promptreach.data import LabelledTexts
from promptreach.errors import Fault, raise_if_any
from promptreach.files import check_output
from promptreach.progress import Progress
from promptreach.tables import read_task
from promptreach.tuning.backbone import as_backbone
from promptreach.tuning.methods import METHODS
from promptreach.tuning.readout import Pooling
from promptreach.tuning.runs import Run, RunConfig, RunStore
from promptreach.tuning.sweep import planned_steps, sweep
from promptreach.tuning.task import Limits, prepare


def fit(
    model: Any,
    data: Any,
    method: str = "prompt",
    *,
    tokens: int = 16,
    rank: int = 8,
    learning_rate: float | None = None,
    init: str | None = None,
    steps: int = 200,
    batch_size: int = 32,
    seed: int = 0,
    pooling: Pooling | None = None,
    limits: Limits | None = None,
    folder: str | Path | None = None,
    quiet: bool = False,
) -> Run:
    """Train a prompt, a prefix, a LoRA update, or nothing but the head, and score it on held-out examples.

    Args:
        model: what `promptreach.hf.open_model` opens or has opened: a hub id, a folder, a GGUF file, a backbone.
        data: what `promptreach.tables.read_task` reads: a file, a record, a list of rows.
        method: ``"prompt"``, ``"prefix"``, ``"lora"`` or ``"head"`` (the control: a linear probe on the frozen model
            for classification, the bare model for completions).
        tokens: virtual tokens of a prompt, slots of a prefix.
        rank: of a LoRA update.
        learning_rate: of the method's own tensors; None tries three in short runs, and takes the one with the lowest
            validation loss. A prompt's and a prefix's are scaled to the size of their start.
        init: how the method starts; None takes the first of its `METHODS[method].inits` (vocabulary rows for a
            prompt, the cache of real text for a prefix).
        steps, batch_size: of the training; short runs take a quarter of the steps.
        seed: for the split, the probe's folds, the start and the order of the examples.
        pooling: where a classifier's head reads; None chooses by cross-validation on training rows.
        limits: how much of the data is used; None takes `Limits()`.
        folder: keeps logs and finished runs there; a second call with the same arguments finds them.
        quiet: no progress bar.

    Returns:
        The run at the best rate, at its best state on the validation part. `run.held_out` holds the outcomes per
        held-out example, `run.adapter` the record that `promptreach.hf.save_adapter` writes as a PEFT folder (None for
        ``"head"``). A run whose loss stopped being a number is returned too, with the status ``diverged``.

    Raises:
        InputError: for arguments that make no sense, all at once; for a prompt that leaves no room in the context, or
            completions asked of an encoder.
        OutputError: when nothing can be written to `folder`.
        DataError: for fewer than 12 different inputs; and whatever else reading the model and the data raises.
    """
    _check(method, tokens, rank, learning_rate, init, steps, batch_size, pooling)
    if folder is not None:
        check_output(folder, resume=True)
    spec = METHODS[method]
    task_data = read_task(data, seed=seed)
    backbone = as_backbone(model, task=None if isinstance(task_data, LabelledTexts) else "causal")
    task = prepare(
        backbone,
        task_data,
        limits=limits,
        seed=seed,
        longest_prompt=tokens if spec.uses_tokens else 0,
        pooling=pooling,
    )
    config = RunConfig(
        method=method,
        tokens=tokens if spec.uses_tokens else 0,
        rank=rank if method == "lora" else 0,
        init=init or spec.inits[0],
        learning_rate=learning_rate or 0.0,
        steps=steps if method != "head" else 0,
        batch_size=batch_size,
        seed=seed,
    )
    rates = None if learning_rate is None and method != "head" else [learning_rate or 0.0]
    with Progress(quiet) as progress:
        progress.plan(planned_steps(config, 1 if rates else len(spec.rates)))
        return sweep(task, config, RunStore(None if folder is None else Path(folder)), progress, rates).best


def _check(
    method: str,
    tokens: int,
    rank: int,
    learning_rate: float | None,
    init: str | None,
    steps: int,
    batch_size: int,
    pooling: str | None,
) -> None:
    faults = []
    if method not in METHODS:
        faults.append(Fault("method", repr(method), f"one of {', '.join(METHODS)}"))
    elif init is not None and init not in METHODS[method].inits:
        faults.append(Fault("init", repr(init), f"one of {', '.join(METHODS[method].inits)} for {method}"))
    for name, value in (("tokens", tokens), ("rank", rank), ("steps", steps), ("batch_size", batch_size)):
        if value < 1:
            faults.append(Fault(name, str(value), "at least 1"))
    if learning_rate is not None and not 0 < learning_rate < math.inf:
        faults.append(Fault("learning_rate", str(learning_rate), "a positive number"))
    if pooling is not None and pooling not in get_args(Pooling):
        faults.append(Fault("pooling", repr(pooling), f"one of {', '.join(get_args(Pooling))}"))
    raise_if_any(faults)
