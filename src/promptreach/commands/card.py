"""The model card of an adapter that was trained here: task, scores, how to load it, how it was found.

The first lines are the hub's own fields, so that a folder can be uploaded as it is.
"""

import html
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from promptreach._version import __version__
from promptreach.commands.folder import FolderPlan
from promptreach.commands.intervals import Interval, decided_by, gained, metrics_of
from promptreach.commands.opening import auto_class, config_lines, opening_call, place_of
from promptreach.data import KindName
from promptreach.diagnosis.measures.comparison import held_out, paired
from promptreach.hf import OpenModel
from promptreach.report.formatting import counted
from promptreach.terminal import one_line, printable
from promptreach.training.methods.initial import OWN
from promptreach.training.runs import Run
from promptreach.training.task.kinds.kind import TaskKind
from promptreach.training.task.kinds.registry import kind_of
from promptreach.training.task.metric_names import Metric
from promptreach.training.task.task import Task

_TASKS: Mapping[str, str] = {
    "labels": "One of {} labels",
    "several_labels": "Any of {} labels",
    "number": "A number a text",
    "tags": "One of {} tags a word",
    "span": "An answer in a context",
    "completions": "Completions of prompts",
}
_PIPELINES: Mapping[str, str] = {
    "tags": "token-classification",
    "span": "question-answering",
    "completions": "text-generation",
}


def model_card(
    run: Run,
    task: Task,
    plan: FolderPlan,
    metrics: Mapping[str, Mapping[str, Interval]],
    gain: Interval,
    found: str,
    about: str = "",
) -> str:
    """The README.md of a trained adapter's folder.

    Args:
        run: a full run.
        task: what it was trained and judged on.
        plan: the form of the folder.
        metrics: by name, of the run and of the bare model, on the held-out rows.
        gain: in the first of the metrics, of the first over the second.
        found: how it was found, as sentences.
        about: the label that the first metric is about, as a sentence; empty where that is about all.
    """
    name, revision = plan.base
    labels = getattr(task.train, "label_names", ())
    kind = _TASKS[task.train.kind]
    if labels:
        kind = kind.format(f"{len(labels)}") + f": {', '.join(map(_plain, labels[:20]))}"
    columns = list(next(iter(metrics.values())))
    table = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    table += [f"| {row} | " + " | ".join(str(own[column]) for column in columns) + " |" for row, own in metrics.items()]
    return "\n".join(
        [
            "---",
            *_fields(name, task.train.kind, run.config.method),
            "---",
            "",
            f"# {run.config.label} for {Path(name).name}",
            "",
            f"**Task.** {kind}, from {_plain(task.train.source)}. Trained on {counted(len(task.train), 'row')}; "
            f"{len(task.validation):,} more chose the rate and the step, and {len(task.held_out):,} others judge it.",
            "",
            f"**Base.** `{name}`" + (f", revision `{revision}`" if revision else "") + ".",
            "",
            f"**Start.** {_start(run)}.",
            "",
            "## How well it does",
            "",
            *table,
            "",
            f"MEASURED on the {len(task.held_out):,} held-out rows, with 90 % intervals over rows; one seed, so that "
            "the luck of a seed is not in them. " + _kinds(kind_of(task.train)) + " Over the bare model it is "
            f"{gained(columns[0], gain)}.{_plain(about)}",
            "",
            "## How to load it",
            "",
            *_loading(run, task, plan),
            "## How it was found",
            "",
            f"{found} promptreach {__version__}, seed {run.config.seed}.",
            "",
        ]
    )


def beside_bare(
    task: Task, run: Run, metric: Metric | None = None, positive: int = 1
) -> tuple[dict[str, dict[str, Interval]], Interval]:
    """The held-out metrics of a run and of the bare model under the same kind of head, and the gain between them.

    Args:
        task: what it was trained on.
        run: a full run.
        metric: that stands in front, and that the gain is in; None for the usual one.
        positive: the label that F1 and average precision are about.
    """
    own, bare = held_out(run), task.answered("held_out", task.evaluate_bare("held_out", task.objective()))
    decides, kind = decided_by(task.train, metric or task.judging.metric), kind_of(task.train)
    gain = paired(own, bare, decides or "accuracy", positive=positive)
    named = {run.config.label: own, "the bare model": bare}
    metrics = {name: metrics_of(found, decides, kind, positive=positive) for name, found in named.items()}
    return metrics, Interval(gain.gain, gain.low, gain.high)


_STARTS = {
    "vocabulary": "Rows of the base's vocabulary, of tokens that occur in the training texts",
    "random": "Standard normal entries, as PEFT draws them",
    "probe": "A logistic or ridge regression on the frozen base",
    "zero": "An update of zero",
    "config": "The one that its PEFT config asks for",
    OWN: "A text of the user's own",
}


def _start(run: Run) -> str:
    """Where the training started."""
    if run.config.start is not None:
        return "A trained prompt or prefix"
    if run.config.init == "text" and run.config.method == "prefix":
        return "The keys and values that training texts leave in the base"
    if run.config.init == "text":
        return "The embeddings of training texts"
    return _STARTS.get(run.config.init, run.config.init)


def _loading(run: Run, task: Task, plan: FolderPlan) -> list[str]:
    """The section on loading: why it is so, the lines that work, and the commands."""
    said = f"{plan.reason} {_BY[plan.by]}".strip()
    lines = loading_lines(task, plan)
    shown = ["```python", *lines, "```", ""] if lines else []
    name, revision = plan.base
    pinned = f" --revision {revision}" if revision else ""
    return [
        *([said, ""] if said else []),
        *shown,
        *([plan.compared, ""] if plan.compared else []),
        f'`promptreach predict {name} FOLDER "a text"{pinned}` answers on the command line, and `promptreach evaluate '
        f"{name} FOLDER ROWS --max-length {plan.length}{pinned}` scores it on other rows.",
        "",
    ]


def _plain(text: str) -> str:
    """A text of the user's on one line of Markdown, in which nothing of it is markup."""
    return html.escape(one_line(printable(text)), quote=False).replace("`", "&#96;").replace("|", "&#124;")


def _fields(name: str, kind: KindName, method: str) -> list[str]:
    """The hub's fields; a base on a disk is no hub id, and is left to the text below."""
    named = [] if Path(name).exists() else [f"base_model: {json.dumps(name)}"]
    pipeline = _PIPELINES.get(kind, "text-classification")
    library = "peft" if method != "head" else "transformers"
    return [*named, f"library_name: {library}", f"pipeline_tag: {pipeline}", "tags:", f"- {method}", "- promptreach"]


def _kinds(kind: TaskKind | None) -> str:
    if kind is not None:
        return f"The bare model has a head of the same kind, {kind.probe} on its own states. Loss in nats an answer."
    return "Each token is predicted from the true ones before it: accuracy and loss (nats) are per token."


_BY: Mapping[str, str] = {
    "classifier": "transformers and PEFT load it as they load any classifier.",
    "loader": "`load.py` in this folder loads it, with torch, transformers and peft alone.",
    "peft": "",
    "promptreach": "",
}


def loading_lines(task: Task, plan: FolderPlan) -> list[str]:
    """Python lines that need torch, transformers and peft alone, and answer as the run was scored; none where those
    cannot."""
    if plan.by == "promptreach":
        return []
    if plan.by == "loader":
        return [
            f"from load import load  # in this folder; python load.py {shlex.join(_example(task))} does the same",
            "",
            f"print(load().answers({example_texts(task)}))",
        ]
    return _classifier_lines(task, plan) if plan.by == "classifier" else _writer_lines(task, plan)


def _classifier_lines(task: Task, plan: FolderPlan) -> list[str]:
    pipe = "text" if plan.own and plan.own.task == "SEQ_CLS" else "token"
    asked = f", truncation=True, max_length={plan.length}" if pipe == "text" else ""
    asked += ", top_k=None" if task.kind.name == "several_labels" else ""
    return [
        *opened_classifier(task, plan, '"."  # where this file lies', place_of(*plan.base), ("pipeline",)),
        f'classify = pipeline("{pipe}-classification", model=model, tokenizer=tokenizer)',
        f"print(classify({_pipeline_texts(task)}{asked}))",
    ]


def opened_classifier(task: Task, plan: FolderPlan, folder: str, place: str, more: Sequence[str] = ()) -> list[str]:
    """Python lines that open a classifier's folder as `model`, and its base's `tokenizer`.

    Args:
        task: what it was trained on.
        plan: the form of the folder, with a classifier.
        folder: its place, as Python.
        place: the arguments by which the base is found.
        more: further names to import from transformers.
    """
    assert plan.own is not None
    auto = f"AutoPeftModelFor{'Sequence' if plan.own.task == 'SEQ_CLS' else 'Token'}Classification"
    names = list(getattr(task.train, "label_names", ()))
    options = ["id2label=dict(enumerate(labels))"] if names else ["num_labels=1", "problem_type='regression'"]
    if task.kind.name == "several_labels":
        options.append("problem_type='multi_label_classification'")
    if plan.own.padding is not None:
        options.append(f"pad_token_id={plan.own.padding}")
    return [
        "import torch",
        f"from peft import {auto}",
        f"from transformers import {', '.join(('AutoTokenizer', *more))}",
        "",
        f"FOLDER = {folder}",
        *([f"labels = {names!r}"] if names else []),
        f"tokenizer = AutoTokenizer.from_pretrained({place})",
        f"model = {auto}.from_pretrained(",
        f"    FOLDER, {', '.join(options)}, dtype={plan.dtype}",
        ")",
    ]


def _pipeline_texts(task: Task) -> str:
    """A list of one input as a pipeline takes it, as Python."""
    pairs = getattr(task.train, "seconds", ())
    return "[{'text': 'a text', 'text_pair': 'its second text'}]" if pairs else "['a text to classify']"


def _writer_lines(task: Task, plan: FolderPlan) -> list[str]:
    model, place = task.backbone, place_of(*plan.base)
    assert isinstance(model, OpenModel)
    config = config_lines(model, place)
    names = [*(["AutoConfig"] if config else []), auto_class(model), "AutoTokenizer"]
    return [
        "import torch",
        "from peft import PeftModel",
        f"from transformers import {', '.join(names)}",
        "",
        'FOLDER = "."  # where this file lies',
        f"tokenizer = AutoTokenizer.from_pretrained({place})",
        *config,
        f"model = {opening_call(model, place)}",
        "model = PeftModel.from_pretrained(model, FOLDER).eval()",
        "inputs = tokenizer(['a prompt'], return_tensors='pt')",
        "written = model.generate(**inputs, do_sample=False, max_new_tokens=32)",
        "print(tokenizer.batch_decode(written, skip_special_tokens=True))",
    ]


def label_lines(task: Task) -> list[str]:
    """The line that names a head's outputs; none where they have no names."""
    names = list(getattr(task.train, "label_names", ()))
    return [f"labels = {names!r}"] if names else []


def example_texts(task: Task) -> str:
    """A list of one input, as Python."""
    texts = _example(task)
    return repr([texts if len(texts) > 1 else texts[0]])


def _example(task: Task) -> tuple[str, ...]:
    """The texts of one input."""
    if task.kind.name == "span":
        return ("a question", "its context")
    return ("a text", "its second text") if getattr(task.train, "seconds", ()) else ("a text to classify",)


def answer_lines(task: Task) -> list[str]:
    """Python lines from the vectors `pooled` and the tensors `head` to printed answers."""
    lines = ["logits = pooled.float() @ head['weight'].T + head['bias']"]
    if task.kind.name == "number":
        mean, deviation = task.kind.scale(task.encoded["train"])
        return [*lines, f"print((logits[:, 0] * {deviation!r} + {mean!r}).tolist())"]
    if task.kind.name == "several_labels":
        return [*lines, "print([[label for label, output in zip(labels, row) if output > 0] for row in logits])"]
    if task.kind.name == "span":
        return [*lines, "print(logits.argmax(1))  # the tokens where the answer begins and ends"]
    if task.kind.name == "tags":
        said = "print([[labels[index] for index in row] for row in logits.argmax(-1)])"
        return [*lines, f"{said}  # a word's tag is that of its first token"]
    return [*lines, "print([labels[index] for index in logits.argmax(-1)])"]
