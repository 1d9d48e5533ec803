"""One adapter trained well, left as a folder that others can load: adapter, head and model card."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from promptreach.certificate import Evidence
from promptreach.commands.card import beside_bare, model_card
from promptreach.commands.folder import FolderPlan, planned, write_run
from promptreach.commands.intervals import Interval, about_label, gained
from promptreach.commands.publishing import publish, publishing_faults
from promptreach.commands.reading import cut_note, labels_note, unused_note
from promptreach.commands.serving import SERVERS, serving_faults
from promptreach.data import Completions, TaskData
from promptreach.errors import Fault, OutputError, raise_if_any
from promptreach.hf import OpenModel
from promptreach.hf.adapters.by_config import attaching_faults, name_of
from promptreach.hf.adapters.folders import READOUT
from promptreach.hf.adapters.inspection import KINDS
from promptreach.hf.adapters.places import CONFIG
from promptreach.hf.models.load import opened_for
from promptreach.report.findings import Cell, Finding, Table, Text
from promptreach.report.formatting import counted
from promptreach.training.arguments import choice_faults, rate_faults
from promptreach.training.fit import fit
from promptreach.training.methods.methods import METHODS, positions_of
from promptreach.training.recipe import recipe
from promptreach.training.runs import Run
from promptreach.training.task.class_weights import ClassWeights, class_weight_faults
from promptreach.training.task.deciding import chosen_metric, metric_faults, positive_label, usual_metric
from promptreach.training.task.judging import judging_faults, judging_of
from promptreach.training.task.limits import Limits, content_length
from promptreach.training.task.metric_names import Metric, in_words
from promptreach.training.task.readout import POOLED, Pooling
from promptreach.training.task.task import Task, prepare

SAVED = ("prompt", "prefix", "lora", "head")
"""The methods that leave a folder; `unipelt` and `full` are trained from Python, and PEFT has no form for them."""


def fit_adapter(
    model: OpenModel,
    data: TaskData,
    out: Path,
    *,
    method: Any = "prompt",
    tokens: int = 16,
    rank: int = 8,
    learning_rate: float | None = None,
    search: bool = True,
    init: str | None = None,
    init_text: str | None = None,
    steps: int = 200,
    batch_size: int = 32,
    max_length: int = 128,
    class_weights: ClassWeights = None,
    metric: str | None = None,
    answer_pattern: str | None = None,
    length_normalised: bool = False,
    serve_with: str | None = None,
    seed: int = 0,
    accumulate: int = 1,
    report_to: str | None = None,
    pooling: Pooling | None = None,
    head_bias: bool = True,
    push_to_hub: str | None = None,
    private: bool = True,
    base_id: str = "",
    quiet: bool = False,
) -> Finding:
    """Train one adapter, judge it on rows that nothing was chosen by, and leave its folder at `out`.

    Args:
        model, data: as for `promptreach.tuning.fit`.
        out: the folder; one that holds an adapter or a head is replaced.
        method: one of `SAVED`, or a config of PEFT.
        tokens, rank, init, init_text, steps, batch_size, seed, accumulate: as for `promptreach.tuning.fit`.
        learning_rate: None searches for one.
        search: False asks for a `learning_rate`.
        max_length: tokens of a row that are read.
        class_weights: as for `promptreach.tuning.fit`.
        metric, answer_pattern, length_normalised: as for `promptreach.tuning.fit`.
        serve_with: a key of `promptreach.commands.serving.SERVERS`; a method that this server does not take is refused.
        report_to: as for `promptreach.tuning.fit`.
        pooling, head_bias: as for `promptreach.tuning.fit`.
        push_to_hub: the repository on the Hugging Face hub that the folder is uploaded to; None uploads nothing.
        private: whether a repository that is made for it is private; one that is there stays as it is.
        base_id: the base's id on the hub, where `model` was opened from a folder: config and card name it.
        quiet: no progress bar.

    Raises:
        InputError: for arguments that make no sense, all at once, and for what stands against publishing, before
            anything is trained; and as `promptreach.tuning.fit` does.
        OutputError: when `out` is a folder with something else in it; when the hub refuses the finished folder, which
            stays where it is.
    """
    faults = _faults(method, data, learning_rate, search) + class_weight_faults(class_weights, data)
    faults += choice_faults("pooling", pooling, POOLED)
    kinds = [method] if isinstance(method, str) else [KINDS.get(name_of(method), name_of(method))]
    faults += serving_faults(serve_with, data, model.task == "causal", kinds)
    judging = judging_of(metric, answer_pattern, length_normalised, data)
    faults += metric_faults(metric, data) + judging_faults(judging, data)
    raise_if_any(faults + publishing_faults(push_to_hub, model.origin.source if model.origin else "", base_id))
    raise_if_any(_place_faults(out), OutputError)
    model = opened_for(data, model)  # labels are read by an encoder-decoder's encoder alone
    raise_if_any([] if isinstance(method, str) else attaching_faults(model, method))
    limits = Limits(max_length=max_length)
    longest = positions_of(method) if not isinstance(method, str) else tokens if METHODS[method].uses_tokens else 0
    # The task is made here as `fit` makes it: its rows, its head's place and its bare model stand on the card.
    task = prepare(
        model,
        data,
        limits=limits,
        seed=seed,
        longest_prompt=longest,
        pooling=pooling,
        head_bias=head_bias,
        judging=judging,
        class_weights=class_weights,
    )
    run = fit(
        model,
        data,
        method,
        tokens=tokens,
        rank=rank,
        learning_rate=learning_rate,
        init=init,
        init_text=init_text,
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        pooling=None if task.pooling == "each" else task.pooling,
        head_bias=head_bias,
        class_weights=class_weights,
        limits=limits,
        accumulate=accumulate,
        metric=metric,
        answer_pattern=answer_pattern,
        length_normalised=length_normalised,
        report_to=report_to,
        quiet=quiet,
    )
    length = content_length(model, limits, longest)
    decides = chosen_metric(metric, judging) or usual_metric(data)
    metrics, gain = beside_bare(task, run, decides, positive_label(data))
    found, about = f"{_searched(run, learning_rate, decides)} {recipe(run, task, length)}", about_label(data, decides)
    plan = planned(model, task, run, length, base_id)
    write_run(out, model, task, run, plan, model_card(run, task, plan, metrics, gain, found, about), base_id)
    address = publish(out, push_to_hub, private=private) if push_to_hub else ""
    finding = _finding(out, task, run, plan, metrics, gain, decides, about, found, address)
    if serve_with is not None:
        text = f"For {SERVERS[serve_with]}: promptreach export {out} --for {serve_with} --out {out}-{serve_with}"
        finding.blocks.append(Text(text=text))
    return finding


def _faults(method: Any, data: TaskData, learning_rate: float | None, search: bool) -> list[Fault]:
    faults = choice_faults("method", method, SAVED) if isinstance(method, str) else []
    faults += rate_faults("learning_rate", learning_rate)
    if method == "head" and isinstance(data, Completions):
        faults.append(Fault("method", "'head' for completions", "another method", "there is no head to train"))
    if not search and learning_rate is None and method != "head":
        faults.append(Fault("learning_rate", "none, and no search", "a rate", "give --learning-rate, or let it search"))
    return faults


def _place_faults(out: Path) -> list[Fault]:
    """The refusal of a folder that holds something else, before anything is trained."""
    if out.is_file():
        return [Fault(str(out), "a file", "a new folder, or one that holds an adapter")]
    if not out.is_dir() or not any(out.iterdir()) or (out / CONFIG).is_file() or (out / READOUT).is_file():
        return []
    return [Fault(str(out), "a folder with something in it", "a new folder, or one that holds an adapter")]


def _searched(run: Run, learning_rate: float | None, decides: Metric) -> str:
    if run.config.method == "head":
        return "It is a convex problem: there was nothing to search."
    if learning_rate is not None:
        return f"Its rate {learning_rate:g} was given; none was searched for."
    by = "the loss" if decides in ("accuracy", "loss") else f"the {in_words(decides)}"
    return f"Its rate {run.config.learning_rate:.2g} was searched for in short runs, by {by} of the validation rows."


def _finding(
    out: Path,
    task: Task,
    run: Run,
    plan: FolderPlan,
    metrics: dict[str, dict[str, Interval]],
    gain: Interval,
    decides: Metric,
    about: str,
    found: str,
    address: str,
) -> Finding:
    metric, own = next(iter(metrics[run.config.label].items()))
    columns = list(metrics[run.config.label])
    records: list[dict[str, Cell]] = [
        {"": name, **{column: str(one[column]) for column in columns}} for name, one in metrics.items()
    ]
    end = "" if run.status == "finished" else " The loss stopped being a number; the best state before that was kept."
    said = f"{own.value:.1%} of the answers right ({own.low:.1%} to {own.high:.1%}, 90 %)"
    if metric != "accuracy":
        said = f"{metric} {own}, 90 %,"
    summary = f"{run.config.label} has {said}"
    summary += f", {gained(metric, gain)} over the bare model."
    note = f"On {counted(len(task.held_out), 'held-out row')} that nothing was chosen by; 90 % intervals over rows."
    noted = [*cut_note(task.encoded.values(), plan.length), *labels_note(task.train, task.held_out)]
    noted += unused_note(task.train)
    return Finding(
        check="fit",
        title="One adapter",
        evidence=Evidence.MEASURED,
        sample=f"{len(task.train):,} training, {len(task.validation):,} validation and {len(task.held_out):,} held-out "
        f"rows of {task.train.source}, one seed",
        summary=summary + end,
        values={
            "folder": str(out.resolve()),
            "loaded_by": plan.by,
            "not_a_classifier": plan.reason or None,
            "published": address or None,
            "method": run.config.method,
            "tokens": run.config.tokens,
            "rank": run.config.rank,
            "init": run.config.init,
            "learning_rate": run.config.learning_rate,
            "steps": run.steps,
            "parameters": run.parameters,
            "status": run.status,
            "metric": decides,
            "metrics": {name: {key: asdict(part) for key, part in one.items()} for name, one in metrics.items()},
            "gain": asdict(gain),
        },
        blocks=[
            Table.of("Metrics", records, note=note + about),
            Text(text=found),
            *_folder_notes(plan, address),
            *noted,
        ],
    )


def _folder_notes(plan: FolderPlan, address: str) -> list[Text]:
    """How the folder is loaded, and where it was published."""
    said = {
        "classifier": "AutoPeftModel and pipeline load it as a classifier. " + plan.compared,
        "loader": f"{plan.reason} load.py in the folder loads it with torch, transformers and peft alone.".strip(),
        "peft": "",
        "promptreach": plan.reason,
    }[plan.by]
    published = f"Published at {address}." if address else ""
    return [Text(text=text) for text in (said, published) if text]
