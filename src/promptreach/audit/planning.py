"""The making of an audit's plan: rows are counted, a few steps and scores timed, and the rest reckoned from these."""

import resource
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from promptreach.audit.plan import PLANTED_PROMPT, READING, AuditPlan, PlannedRun, over
from promptreach.audit.settings import Settings
from promptreach.audit.step_cost import RowCosts, StepCost, Stopwatch, row_costs, same_length, step_cost
from promptreach.data import Completions, TaskData
from promptreach.diagnosis.measures.baselines import longer_length
from promptreach.diagnosis.measures.forgetting import MOST_TEXTS
from promptreach.hf import OpenModel
from promptreach.stored import stored_bytes
from promptreach.training.choices import ALL_LINEAR, WIDE, method_of
from promptreach.training.methods.methods import CONFIGURED, METHODS, UNIPELT_SIZES, first_init, method_named
from promptreach.training.runs import RunConfig
from promptreach.training.search.halving import rung_steps
from promptreach.training.search.sweep import planned_steps
from promptreach.training.task.chats import rendered
from promptreach.training.task.deciding import usual_metric
from promptreach.training.task.encoding import Encoded, encode
from promptreach.training.task.kinds.registry import kind_of
from promptreach.training.task.limits import Limits, check_room, content_length, drawn_rows
from promptreach.training.task.parts import divided
from promptreach.training.task.readout import Probe
from promptreach.training.task.slices import Slices
from promptreach.training.task.task import Task

MEASURED_SECONDS = 2.0
"""Seconds that all measurements of steps take together, where a step is short."""
_SEARCHED = 2.5
"""What a search takes over its first candidates: rates beyond the grid, candidates that nothing drops, other starts."""
_PREDICTED = 0.14
"""The share of training that predictions take where they are made."""
_IN_ROWS = {"initialisation": 4.0, "limits": 700.0, "inference_cost": 100.0}
"""What other checks take, in rows read; of the starts, in looks at the validation rows, which are scored."""
_AT_LEAST = {READING: 0.25, "attention_share": 0.1, "limits": 0.6, "inference_cost": 0.3}
"""Seconds of work that these take on the smallest model. Both tables go by benchmarks/results/estimates.json."""
_VOCABULARIES = 4
"""Copies of the vocabulary, in float32, that a process on a CPU holds at its largest."""
_LEFT_BEHIND = 40 * 2**20
"""Bytes that an audit of the smallest model adds to its process."""
_BESIDE_WEIGHTS = 1.2
"""What scoring a row behind a prefix or through LoRA costs over the bare model."""
_LOOKS = 6
"""Looks at the validation rows of a full run and of the start that its search shares."""


def planned(model: OpenModel, data: TaskData, settings: Settings) -> AuditPlan:
    """The plan of the audit of `data` on `model`; takes about two seconds, and longer where a step does.

    Raises:
        InputError: when a prompt leaves no room for content, or completions are asked of an encoder.
        DataError: when rows cannot be encoded.
    """
    longest = max(settings.tokens)
    check_room(model, data, longest)
    data = rendered(model, data)
    parts = _used(data, settings.limits, settings.seed)
    max_length = content_length(model, settings.limits, longest)
    task = _unfitted(
        model, data, {name: encode(model, part, max_length) for name, part in parts.items()}, parts, settings
    )
    configs = [config for config in _configs(model, settings) if not model.lacks(config.method)]
    lengths = [len(ids) for ids in task.encoded["train"].sequences]
    before, watch = _resident(), Stopwatch(model)
    costs = _costs(task, configs, sum(lengths) / len(lengths), watch)
    row = row_costs(task, MEASURED_SECONDS / 10, watch)
    runs = [_run(config, cost, settings, row, task) for config, cost in zip(configs, costs, strict=True)]
    worked = watch.worked
    with watch.timed():
        whole = encode(model, data, max_length)
    stages = _stages(task, settings, runs, row, watch.worked - worked)
    extra = _extra(configs, costs, settings, row, task)
    memory = _memory(model, costs, before)
    return AuditPlan(
        task="options" if isinstance(data, Completions) and data.options else data.kind,
        rows=len(data),
        parts={
            {"held_out": "test"}.get(name, name): {"rows": len(part), "source": part.source}
            for name, part in parts.items()
        },
        columns=dict(data.columns),
        unused_columns=data.unused_columns,
        metric=settings.metric or usual_metric(data),
        methods=settings.methods,
        cut_rows=whole.truncated,
        cut_answers=whole.cut_answers,
        minutes=watch.slowness * sum(stages.values()) / 60,
        work_seconds=sum(stages.values()),
        stages=stages,
        memory_bytes=sum(memory.values()),
        memory=memory,
        model=model.name,
        device=str(next(model.release().parameters()).device),
        dtype=str(model.release().dtype).removeprefix("torch."),
        settings=asdict(replace(settings, limits=replace(settings.limits, max_length=max_length))),
        runs=runs,
        extra=extra,
    )


def _used(data: TaskData, limits: Limits, seed: int) -> dict[str, TaskData]:
    """The rows of each part that are used, as `prepare` draws them."""
    parts = divided(data, seed)
    return {name: part.take(drawn_rows(len(part), getattr(limits, name), seed)) for name, part in parts.items()}


def _unfitted(
    model: OpenModel, data: TaskData, encoded: Mapping[str, Encoded], parts: Mapping[str, TaskData], settings: Settings
) -> Task:
    """The task with a head of zeros where one is needed: fitting it would take longer than all that is measured."""
    train, validation, held_out = (parts[name] for name in ("train", "validation", "held_out"))
    task = Task(model, train, validation, held_out, encoded=encoded, probes={}, pooling=None, judging=settings.judging)
    task = replace(task, slices=Slices(settings.accumulate))
    kind = kind_of(data)
    if kind is None:
        return task
    pooling, outputs, hidden = kind.poolings(model.task)[0], kind.outputs(data), model.hidden_size
    centre, weight = torch.zeros(hidden), torch.zeros(outputs, hidden)
    probe = Probe(pooling, centre, torch.ones(hidden), weight, torch.zeros(outputs), 0.0, 0.0, 0.0)
    return replace(task, probes={pooling: probe}, pooling=pooling, kind=kind)


def _configs(model: OpenModel, settings: Settings) -> Iterator[RunConfig]:
    """The full run of every method and length, with the rate still open."""
    if settings.method_config:
        common: dict[str, Any] = {"steps": settings.steps, "batch_size": settings.batch_size, "learning_rate": 0.0}
        yield RunConfig(method=CONFIGURED, init="config", tokens=0, rank=0, peft=settings.method_config, **common)
    middle = settings.tokens[len(settings.tokens) // 2]
    for choice in settings.methods:
        method, targets = method_of(choice), ALL_LINEAR if choice == WIDE else settings.lora_targets
        size = UNIPELT_SIZES["published"] if method == "unipelt" else {"rank": settings.rank, "tokens": middle}
        for tokens in settings.tokens if method == "prompt" else (size["tokens"],):
            own = {**dict.fromkeys(("tokens", "rank", "bottleneck"), 0), **size, "tokens": tokens}
            sizes = {name: own[name] if name in METHODS[method].sizes else 0 for name in own}
            yield RunConfig(
                method=method,
                init=first_init(model, method),
                tokens=sizes["tokens"],
                rank=sizes["rank"],
                bottleneck=sizes["bottleneck"],
                lora_targets=targets if method == "lora" else (),
                learning_rate=0.0,
                steps=settings.steps,
                batch_size=settings.batch_size,
                seed=settings.seed,
            )


def _costs(task: Task, configs: Sequence[RunConfig], content: float, watch: Stopwatch) -> list[StepCost]:
    """The cost of a step of each; of several lengths of a prompt the middle one is measured."""
    lengths = sorted(config.tokens for config in configs if config.method == "prompt")
    middle = lengths[len(lengths) // 2] if lengths else 0
    measured = [config for config in configs if config.method != "prompt" or config.tokens == middle]
    found = {config: step_cost(task, config, MEASURED_SECONDS / len(measured), watch) for config in measured}
    prompt = next((cost for config, cost in found.items() if config.method == "prompt"), None)
    return [
        found.get(config) or same_length(prompt, content, middle, config.tokens)  # type: ignore[arg-type]
        for config in configs
    ]


def _run(config: RunConfig, cost: StepCost, settings: Settings, row: RowCosts, task: Task) -> PlannedRun:
    """A run with its search: candidates are dropped at doubling steps, the best goes on to the end; what a search takes
    beyond that is not known before, and counted by `_SEARCHED`.

    Answers are written where a run stops.
    """
    given = settings.learning_rates.get(WIDE if config.lora_targets == ALL_LINEAR else config.method)
    candidates = len(given) if given else len(method_named(config.method).rates)
    steps, stops, alive, rung = 0, 0, candidates, 0
    while alive > 1 and rung_steps(config.steps, rung) < config.steps:
        kept = (alive + 1) // 2
        steps += (alive - kept) * rung_steps(config.steps, rung)
        stops, alive, rung = stops + alive, kept, rung + 1
    steps, searched = config.steps + round(_SEARCHED * steps), _SEARCHED * stops
    validation, held_out = len(task.validation), len(task.held_out)
    read = task.encoded["train"].sequences
    content = sum(map(len, read)) / len(read)
    dearer = (content + config.tokens) / content if config.method == "prompt" else _BESIDE_WEIGHTS
    scores = (_LOOKS + searched) * validation + held_out
    answers = (1 + searched) * validation + held_out
    # The rates and the start of a search are asked of the attached method as well.
    seconds = steps * cost.seconds + scores * dearer * row.scored + answers * row.written + (3 + searched) * cost.setup
    announced = planned_steps(config, candidates) - config.steps
    middle = settings.tokens[len(settings.tokens) // 2]
    first = settings.every_run or config.method not in ("prompt", "prefix")
    first = first or (config.method, config.tokens) == ("prompt", middle)
    return PlannedRun(config.label, steps, seconds, config.steps + round(_SEARCHED * announced), first)


def _extra(
    configs: Sequence[RunConfig],
    costs: Sequence[StepCost],
    settings: Settings,
    row: RowCosts,
    task: Task,
) -> list[PlannedRun]:
    """What is trained where the verdict hangs on lengths, on the form or on runs that were not at their end, which it
    does where a soft prompt is compared with LoRA; arguments as of `_run`."""
    by_form = {config.method: (config, cost) for config, cost in zip(configs, costs, strict=True) if config.tokens}
    read = [len(ids) for ids in task.encoded["train"].sequences]
    content, middle = sum(read) / len(read), settings.tokens[len(settings.tokens) // 2]
    longest = max(len(ids) for part in task.encoded.values() for ids in part.sequences)
    forms = [form for form in ("prompt", "prefix") if form in by_form]
    if not forms or not any(config.method == "lora" for config in configs):
        return []
    found = []
    for form in forms:
        config, cost = by_form[form]
        asked = middle if form == "prefix" and len(forms) > 1 else max(settings.tokens)
        tokens = longer_length(asked, task.backbone.max_positions - longest)
        if tokens is not None:
            # A prefix makes keys longer, not rows.
            longer = same_length(cost, content, config.tokens, tokens) if form == "prompt" else cost
            found.append(_run(replace(config, tokens=tokens), longer, settings, row, task))
    if "prompt" in by_form:
        config, cost = by_form["prompt"]
        planted = same_length(cost, content, config.tokens, middle)
        own_rates = replace(settings, learning_rates={})
        run = _run(replace(config, tokens=middle), planted, own_rates, row, task)
        found.append(replace(run, name=PLANTED_PROMPT))
    times = 2
    while times <= settings.longest_training:
        steps = times * settings.steps
        seconds = sum(steps * cost.seconds for cost in costs)
        found.append(PlannedRun(over(steps), steps * len(costs), seconds, steps * len(costs)))
        times *= 2
    return found


def _stages(
    task: Task, settings: Settings, runs: Sequence[PlannedRun], row: RowCosts, encoded: float
) -> dict[str, float]:
    """The seconds of work of every stage, in the order of the checks; those that are not named take next to nothing.

    Args:
        encoded: seconds to tokenize all rows.
    """
    train, validation, held_out = (len(task.encoded[part]) for part in ("train", "validation", "held_out"))
    training = sum(run.seconds for run in runs)
    full = [run.seconds * settings.steps / max(1, run.steps) for run in runs]
    ways = bool(settings.instruction) + bool(settings.shots) + bool(settings.instruction and settings.shots)
    return {
        READING: _AT_LEAST[READING] + train * row.read if task.pooling else validation * row.scored,
        "data": 2 * encoded,
        "bare_model": (validation + held_out) * row.scored + held_out * row.written,
        "first_look": ways * held_out * (2 * row.scored + row.written),
        "training": training,
        "seeds": (settings.seeds - 1) * 2 * sum(full) / max(1, len(full)),
        "initialisation": _IN_ROWS["initialisation"] * validation * row.scored,
        "prediction": _PREDICTED * training if settings.budget == "thorough" else 0.0,
        "drift": min(MOST_TEXTS, held_out) * (1 + len({run.name.split()[0] for run in runs})) * row.plain,
        "attention_share": _AT_LEAST["attention_share"],
        "limits": _AT_LEAST["limits"] + _IN_ROWS["limits"] * row.read,
        "inference_cost": _AT_LEAST["inference_cost"] + _IN_ROWS["inference_cost"] * row.read,
    }


def _memory(model: OpenModel, costs: Sequence[StepCost], before: int) -> dict[str, int]:
    """Bytes at the step that takes most, by what takes them.

    On a CPU such a step was just taken, and most of what it had is still held: the process is as large as it gets, or,
    where its memory was handed back, as large as it was `before` and what a step keeps. Later come copies of the
    vocabulary that starts are drawn from, and what all other checks leave behind.
    """
    weights = stored_bytes(model.release())
    dearest = max(costs, key=lambda cost: cost.activations + cost.optimiser)
    memory = {"weights": weights, "activations": dearest.activations, "optimiser": dearest.optimiser}
    if next(model.release().parameters()).device.type == "cpu":
        largest = max(_resident(), before + dearest.activations + dearest.optimiser)
        largest += _LEFT_BEHIND + _VOCABULARIES * 4 * model.vocabulary.numel()
        memory["process"] = max(0, largest - sum(memory.values()))
    return memory


def _resident() -> int:
    """Bytes of this process in main memory; 0 where the system does not tell."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return 0
