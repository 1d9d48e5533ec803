"""The model card of an adapter that was trained here: task, scores, how to load it, how it was found.

The first lines are the hub's own fields, so that a folder can be uploaded as it is.
"""

import html
import json
from collections.abc import Mapping
from pathlib import Path

from promptreach._version import __version__
from promptreach.commands.intervals import Interval
from promptreach.data import KindName
from promptreach.report.formatting import counted
from promptreach.terminal import one_line, printable
from promptreach.training.methods.methods import CONFIGURED
from promptreach.training.runs import Run
from promptreach.training.task.kinds.kind import TaskKind
from promptreach.training.task.kinds.registry import kind_of
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
_POOLED = {
    "mean": ("mask = inputs['attention_mask'].unsqueeze(-1)", "pooled = (hidden * mask).sum(1) / mask.sum(1)"),
    "first": ("pooled = hidden[:, 0]",),
    "each": ("pooled = hidden",),
    "last": ("pooled = hidden[torch.arange(len(hidden)), inputs['attention_mask'].sum(1) - 1]",),
}


def model_card(
    run: Run,
    task: Task,
    base: tuple[str, str | None],
    metrics: Mapping[str, Mapping[str, Interval]],
    gain: Interval,
    found: str,
    length: int,
) -> str:
    """The README.md of a trained adapter's folder.

    Args:
        run: a full run.
        task: what it was trained and judged on.
        base: the base's name and revision, as `promptreach.hf.adapters.folders.base_of` gives them.
        metrics: by name, of the run and of the bare model, on the held-out rows.
        gain: in the first of the metrics, of the first over the second.
        found: how it was found, as sentences.
        length: tokens of a row that were read.
    """
    name, revision = base
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
            "## How well it does",
            "",
            *table,
            "",
            f"MEASURED on the {len(task.held_out):,} held-out rows, with 90 % intervals over rows; one seed, so that "
            "the luck of a seed is not in them. " + _kinds(kind_of(task.train)) + " Over the bare model it is "
            f"{100 * gain.value:+.1f} points of {columns[0]} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f}).",
            "",
            "## How to load it",
            "",
            "```python",
            *loading_lines(run, task, base, length),
            "```",
            "",
            *_on_the_command_line(run, name, length),
            "## How it was found",
            "",
            f"{found} promptreach {__version__}, seed {run.config.seed}.",
            "",
        ]
    )


def _on_the_command_line(run: Run, name: str, length: int) -> list[str]:
    """The commands that answer and score with the adapter; none for a method that PEFT alone reads."""
    if run.config.method == CONFIGURED:
        return []
    return [
        f'`promptreach predict {name} FOLDER "a text"` answers on the command line, and `promptreach evaluate '
        f"{name} FOLDER ROWS --max-length {length}` scores it on other rows.",
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


def loading_lines(run: Run, task: Task, base: tuple[str, str | None], length: int) -> list[str]:
    """Python lines that need torch, transformers and peft alone, and answer as the run was scored."""
    name, revision = base
    place = _place(name, revision)
    is_causal = task.backbone.task == "causal"
    auto = "AutoModelForCausalLM" if is_causal else "AutoModel"
    adapted = run.adapter is not None or run.config.method == CONFIGURED
    lines = [
        "import torch",
        *(["from peft import PeftModel"] if adapted else []),
        *(["from safetensors.torch import load_file"] if task.pooling is not None else []),
        f"from transformers import {auto}, AutoTokenizer",
        "",
        'FOLDER = "."  # where this file lies',
        f"tokenizer = AutoTokenizer.from_pretrained({place})",
        f"model = {auto}.from_pretrained({place}, dtype=torch.float32)",
        *(["model = PeftModel.from_pretrained(model, FOLDER)"] if adapted else []),
        "model.eval()",
    ]
    if task.pooling is None:
        return [
            *lines,
            "inputs = tokenizer(['a prompt'], return_tensors='pt')",
            "written = model.generate(**inputs, do_sample=False, max_new_tokens=32)",
            "print(tokenizer.batch_decode(written, skip_special_tokens=True))",
        ]
    # A prompt's own positions come out in front of the content's; a prefix and LoRA add none.
    front = run.config.tokens if run.config.method == "prompt" else 0
    if run.config.method == CONFIGURED and "PREFIX" not in run.config.label and "CARTRIDGE" not in run.config.label:
        front = json.loads(run.config.peft).get("num_virtual_tokens") or 0
    joined = f"[:, {front}:]" if front else ""
    output = ", output_hidden_states=True).hidden_states[-1]" if is_causal else ").last_hidden_state"
    # An encoder's last token, [SEP], stays.
    cut = f"row[:{length}]" if is_causal else f"row[:{length - 1}] + row[{length - 1}:][-1:]"
    return [
        *lines,
        "head = load_file(f'{FOLDER}/readout.safetensors')",
        *label_lines(task),
        "",
        f"texts = {example_texts(task)}",
        f"rows = [torch.tensor({cut}) for row in tokenizer(texts)['input_ids']]",
        "pad = torch.nn.utils.rnn.pad_sequence",
        "inputs = {'input_ids': pad(rows, True), 'attention_mask': pad([torch.ones_like(row) for row in rows], True)}",
        "with torch.no_grad():",
        f"    hidden = model(**inputs{output}{joined}",
        *_POOLED[task.pooling],
        *answer_lines(task),
    ]


def label_lines(task: Task) -> list[str]:
    """The line that names a head's outputs; none where they have no names."""
    names = list(getattr(task.train, "label_names", ()))
    return [f"labels = {names!r}"] if names else []


def example_texts(task: Task) -> str:
    """A list of one input, as Python."""
    return "[('a text', 'its second text')]" if getattr(task.train, "seconds", ()) else "['a text to classify']"


def answer_lines(task: Task) -> list[str]:
    """Python lines from the vectors `pooled` and the tensors `head` to printed answers."""
    lines = ["logits = pooled.float() @ head['weight'].T + head['bias']"]
    if task.kind.name == "number":
        mean, deviation = task.kind.scale(task.encoded["train"])
        return [*lines, f"print((logits[:, 0] * {deviation!r} + {mean!r}).tolist())"]
    if task.kind.name == "several_labels":
        return [*lines, "print([[label for label, output in zip(labels, row) if output > 0] for row in logits])"]
    if task.kind.name == "tags":
        said = "print([[labels[index] for index in row] for row in logits.argmax(-1)])"
        return [*lines, f"{said}  # a word's tag is that of its first token"]
    return [*lines, "print([labels[index] for index in logits.argmax(-1)])"]


def _place(name: str, revision: str | None) -> str:
    path = Path(name)
    if path.suffix == ".gguf":
        return f"{str(path.parent)!r}, gguf_file={path.name!r}"
    return repr(name) + (f", revision={revision!r}" if revision else "")
