"""The training of one adapter: the front door of this room."""

from pathlib import Path
from typing import Any

from promptreach.backbone import Backbone
from promptreach.errors import Fault, raise_if_any
from promptreach.files import check_output
from promptreach.hf.adapters.by_config import config_of
from promptreach.hf.models.load import opened_for
from promptreach.progress import Progress
from promptreach.prompt import Prefix, SoftPrompt
from promptreach.tables import read_task
from promptreach.training.arguments import choice_faults, least_faults, rate_faults, seed_faults
from promptreach.training.engines.engines import engine_faults, open_engine
from promptreach.training.engines.trackers import sending, tracker_faults
from promptreach.training.methods.initial import OWN, WarmStart
from promptreach.training.methods.methods import (
    CONFIGURED,
    as_text,
    first_init,
    lacking_faults,
    method_faults,
    method_named,
    positions_of,
)
from promptreach.training.runs import Run, RunConfig, RunStore
from promptreach.training.search.halving import by_metric
from promptreach.training.search.sweep import planned_steps, sweep
from promptreach.training.task.class_weights import ClassWeights, class_weight_faults
from promptreach.training.task.deciding import chosen_metric, metric_faults, positive_label, usual_metric
from promptreach.training.task.judging import judging_faults, judging_of
from promptreach.training.task.limits import Limits
from promptreach.training.task.metric_names import metric_name_faults
from promptreach.training.task.readout import POOLED, Pooling
from promptreach.training.task.task import prepare


def fit(
    model: Any,
    data: Any,
    method: Any = "prompt",
    *,
    tokens: int = 16,
    rank: int = 8,
    bottleneck: int = 48,
    learning_rate: float | None = None,
    init: str | None = None,
    init_text: str | None = None,
    start: SoftPrompt | Prefix | Run | None = None,
    reparameterise: bool = False,
    dropout: float = 0.0,
    steps: int = 200,
    batch_size: int = 32,
    seed: int = 0,
    pooling: Pooling | None = None,
    head_bias: bool = True,
    class_weights: ClassWeights = None,
    limits: Limits | None = None,
    metric: str | None = None,
    answer_pattern: str | None = None,
    options: Any = None,
    length_normalised: bool = False,
    folder: str | Path | None = None,
    engine: str = "local",
    workers: int | None = None,
    ray_address: str | None = None,
    at_once: int = 1,
    accumulate: int = 1,
    report_to: str | None = None,
    quiet: bool = False,
) -> Run:
    """The run of a prompt or one of its rivals, trained on a frozen model and scored on held-out examples.

    Args:
        model: what `promptreach.hf.open_model` opens or has opened: a hub id, a folder, a GGUF file, a backbone.
        data: what `promptreach.tables.read_task` reads: a file, a record, a list of rows.
        method: ``"prompt"``, ``"prefix"``, ``"lora"``, ``"unipelt"`` (gated prefix, LoRA and adapters at once),
            a config of PEFT (a `peft.PeftConfig`, or its fields as a mapping) for any method of PEFT's,
            ``"head"`` (the control: a linear probe on the frozen model for classification, the bare model for
            completions) or ``"full"`` (every weight, embeddings included; they are put back afterwards).
        tokens: virtual tokens of a prompt, slots of a prefix or of UniPELT.
        rank: of a LoRA update or of UniPELT's.
        bottleneck: of UniPELT's adapters; `promptreach.tuning.UNIPELT_SIZES` names useful sizes.
        learning_rate: of the method's own tensors; None tries several in short runs, and goes on with the one that is
            best on the validation rows by `metric`. A prompt's and a prefix's are scaled to the size of their start.
        init: how the method starts; None takes the first of its `METHODS[method].inits` (vocabulary rows for a
            prompt, the cache of real text for a prefix).
        init_text: a text of your own that a prompt starts from as its embeddings, and a prefix as the keys and values
            that it leaves in the model; its first `tokens` tokens, repeated where there are fewer. Not with `init`.
        start: a trained prompt or prefix, or the run that trained it, of at most `tokens` tokens to start from; `init`
            gives the rows that it lacks, behind it.
        reparameterise: train a prefix through P-tuning v2's network, which is folded into plain keys and values in
            `run.adapter`; `run.parameters` counts the network.
        dropout: of a prefix while training, in every layer on its own, as a probability below 1; P-tuning v2 has 0.1.
        steps, batch_size: of the training; the search for a rate starts with an eighth of the steps a candidate.
        seed: for the split, the probe's folds, the start and the order of the examples.
        pooling: where a classifier's head reads; None chooses by cross-validation on training rows.
        head_bias: False trains the head without a bias: transformers' classifiers on decoders have none.
        class_weights: ``"balanced"``, or a number by the name of a class; see `promptreach.tuning.prepare`.
        limits: how much of the data is used; None takes `Limits()`.
        metric: what decides between learning rates, as in `promptreach.audit`: of one label a row
            ``"balanced_accuracy"``, ``"macro_f1"``, ``"mcc"`` and others, of completions ``"loss"`` or one of
            `promptreach.tuning.TEXT_METRICS`, with which `run.held_out` holds what was written. None takes the usual
            one of the kind of task; accuracy, a mean over answers, goes by the loss.
        answer_pattern: a regular expression; its last match in a text, or that match's first group, is what is compared
            of it. Without a metric these are to match exactly.
        options: as for `promptreach.tables.read_task`: the model answers with the likeliest of them.
        length_normalised: whether that is the likeliest per character.
        folder: keeps logs and finished runs there; a second call with the same arguments finds them.
        engine: ``"local"``, or ``"ray"`` for a Ray cluster; the runs are the same.
        workers: how many runs are trained at the same time; None trains one after another here, and on Ray as many as
            there is room for. Local workers are processes, see `promptreach.training.engines.engines.open_engine`.
        ray_address: of the cluster; None joins the one at hand, or starts one on this machine.
        at_once: how many of the rates that are tried share every forward pass of the frozen model, for prompts and
            prefixes; worth more than 1 on a device that one run leaves idle.
        accumulate: slices of a step's rows, whose gradients are added up: less memory, the same result to float
            rounding. Where memory runs out in spite of it, steps are cut further and go on.
        report_to: ``"tensorboard"`` (event files in `folder`/tensorboard, or ./tensorboard) or ``"trackio"``: where
            every run's curve is sent when it has ended.
        quiet: no progress shown. With `folder`, progress.jsonl tells it to other programs there all the same.

    Returns:
        The run at the best rate, at its best state on the validation part. `run.held_out` holds the outcomes per
        held-out example, `run.adapter` the record that `promptreach.hf.save_adapter` writes as a PEFT folder (None for
        ``"head"``, ``"unipelt"`` and ``"full"``, which PEFT has none for; `promptreach.tuning.applied` puts any run's
        tensors back on the model). A run whose loss stopped being a number is returned too, with status ``diverged``.

    Raises:
        InputError: for arguments that make no sense, all at once; for a method that this architecture cannot have, with
            the reason; for a prompt that leaves no room in the context, or
            completions asked of an encoder.
        OutputError: when nothing can be written to `folder`.
        MissingExtraError: for engine ``"ray"`` without the package ray, or `report_to` without its own.
        WorkerError: when workers die, or are not what this process is.
        DataError: for fewer than 12 different inputs; and whatever else reading the model and the data raises.
    """
    configured = None if isinstance(method, str) else config_of(method)
    method = method if configured is None else CONFIGURED
    trained = start.adapter if isinstance(start, Run) else start
    sizes = {"tokens": tokens, "rank": rank, "bottleneck": bottleneck, "steps": steps, "batch_size": batch_size}
    raise_if_any(
        [
            *engine_faults(engine, workers, ray_address, model),
            *([] if configured is not None else method_faults(method, init)),
            *least_faults(sizes | {"at_once": at_once, "accumulate": accumulate}),
            *rate_faults("learning_rate", learning_rate),
            *seed_faults(seed),
            *_start_faults(start, trained, method, tokens),
            *_text_faults(init_text, init, method),
            *_prefix_faults(method, reparameterise=reparameterise, dropout=dropout),
            *choice_faults("pooling", pooling, POOLED),
            *metric_name_faults(metric),
            *class_weight_faults(class_weights, None),
            *tracker_faults(report_to),
        ]
    )
    if folder is not None:
        check_output(folder, resume=True)
    spec = method_named(method)
    task_data = read_task(data, options=options)
    judging = judging_of(metric, answer_pattern, length_normalised, task_data)
    backbone = opened_for(task_data, model)
    raise_if_any(lacking_faults("method", backbone, method, "text" if init_text else init))
    own_text = own_tokens(backbone, init_text) if init_text else ()
    raise_if_any([*metric_faults(metric, task_data), *judging_faults(judging, task_data)])
    warm = WarmStart(trained) if isinstance(trained, SoftPrompt | Prefix) else None
    raise_if_any(warm.misfits(backbone) if warm else [])
    own = {name: sizes[name] for name in spec.sizes}
    config = RunConfig(
        method=method,
        tokens=own.get("tokens", 0),
        rank=own.get("rank", 0),
        bottleneck=own.get("bottleneck", 0),
        init=init or (OWN if own_text else first_init(backbone, method)),
        own_text=own_text,
        peft="" if configured is None else as_text(configured),
        start=warm,
        reparameterise=reparameterise,
        dropout=dropout,
        learning_rate=learning_rate or 0.0,
        steps=steps if method != "head" else 0,
        batch_size=batch_size,
        seed=seed,
    )
    rates = None if learning_rate is None and method != "head" else [learning_rate or 0.0]
    store = RunStore(None if folder is None else Path(folder))
    with (
        Progress(quiet, folder=None if folder is None else Path(folder)) as progress,
        open_engine(store, progress, engine, workers=workers, ray_address=ray_address, at_once=at_once) as local,
        sending(local, report_to, Path(folder or ".") / "tensorboard") as executor_of,
    ):
        task = prepare(
            backbone,
            task_data,
            limits=limits,
            seed=seed,
            longest_prompt=tokens if spec.uses_tokens else positions_of(configured) if configured is not None else 0,
            pooling=pooling,
            head_bias=head_bias,
            class_weights=class_weights,
            accumulate=accumulate,
            judging=judging,
        )
        progress.plan(planned_steps(config, 1 if rates else len(spec.rates)))
        decides = chosen_metric(metric, judging) or usual_metric(task_data)
        return sweep(executor_of(task), config, rates, by_metric(decides, positive_label(task_data))).best


def own_tokens(backbone: Backbone, text: str) -> tuple[int, ...]:
    """The tokens of a text that a prompt or a prefix starts from, without special ones.

    Raises:
        InputError: when it has none.
    """
    ids = tuple(backbone.tokenize([text], special_tokens=False)[0])
    raise_if_any([] if ids else [Fault("init_text", repr(text[:60]), "a text with at least one token")])
    return ids


def _text_faults(text: str | None, init: str | None, method: str) -> list[Fault]:
    if text is None:
        return []
    faults = [] if text.strip() else [Fault("init_text", "an empty text", "a text to start from")]
    if init is not None:
        faults.append(Fault("init_text", f"given, and init {init!r} as well", "one start", "Leave one of them out."))
    if method not in ("prompt", "prefix"):
        expected = "left away: a prompt or a prefix starts from text"
        faults.append(Fault("init_text", f"for {method!r}", expected))
    return faults


def _start_faults(start: object, trained: object, method: str, tokens: int) -> list[Fault]:
    if start is None:
        return []
    if isinstance(trained, SoftPrompt | Prefix):
        return WarmStart(trained).faults(method, tokens)
    seen = f"a run of {start.config.method!r}" if isinstance(start, Run) else f"a {type(start).__name__}"
    return [Fault("start", seen, "a SoftPrompt, a Prefix, or a run that trained one")]


def _prefix_faults(method: str, *, reparameterise: bool, dropout: float) -> list[Fault]:
    if method == "prefix":
        return [] if 0 <= dropout < 1 else [Fault("dropout", str(dropout), "at least 0 and below 1")]
    options = {"reparameterise": reparameterise, "dropout": dropout}
    expected = "left away: it belongs to method 'prefix'"
    return [Fault(name, f"{value} for {method!r}", expected) for name, value in options.items() if value]
