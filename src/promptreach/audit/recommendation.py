"""From a judgement to what a person can do: settings, a PEFT configuration, an adapter folder, lines to copy."""

import json
from pathlib import Path
from typing import Any, cast

from promptreach.audit.context import AuditContext
from promptreach.audit.folder import ADAPTER_FOLDER, HEAD_FOLDER
from promptreach.audit.serving import serving_line
from promptreach.audit.train_script import why_no_script, write_training
from promptreach.commands.card import (
    answer_lines,
    beside_bare,
    example_texts,
    label_lines,
    loading_lines,
    model_card,
    opened_classifier,
)
from promptreach.commands.folder import FolderPlan, planned, write_run
from promptreach.commands.intervals import about_label
from promptreach.commands.opening import auto_class, config_lines, opened_at, opening_call
from promptreach.commands.reading import readout_of
from promptreach.diagnosis.verdict import Judgement
from promptreach.hf.adapters.places import CONFIG
from promptreach.report.findings import Block, Code, Text
from promptreach.report.result import MethodName, Recommendation
from promptreach.training.methods.methods import CONFIGURED
from promptreach.training.recipe import recipe
from promptreach.training.runs import Run

TRAIN_TITLE = "Train it again with PEFT alone (train.py beside this report)"


def recommend(
    context: AuditContext, judgement: Judgement, folder: Path | None, again: Code, base_id: str = ""
) -> Recommendation:
    """The advice, with the chosen run's adapter, or the head where that is all it needs, written into `folder`.

    Args:
        context: the audit, with its trained runs.
        judgement: what the rules concluded.
        folder: the report's folder, or None to write nothing.
        again: the call of this audit, to repeat and to vary.
        base_id: the base's id on the hub, where the model was opened from a folder.
    """
    run = context.runs.get(judgement.chosen or "")
    if run is None:
        return Recommendation(method=None, text=judgement.advice, blocks=[again])
    text = f"{judgement.advice} {recipe(run, context.task, context.content_length)}"
    path: Path | None = None
    peft_config: dict[str, Any] | None = None
    is_adapter = run.adapter is not None or run.config.method == CONFIGURED
    if folder is not None and (is_adapter or readout_of(context.task, run) is not None):
        plan = planned(context.model, context.task, run, context.content_length, base_id)
        found = f"`promptreach audit` chose it, with the verdict {judgement.verdict.value}. {text}"
        told = beside_bare(context.task, run, context.metric, context.positive)
        card = model_card(run, context.task, plan, *told, found, about_label(context.data, context.metric))
        place = folder / (ADAPTER_FOLDER if is_adapter else HEAD_FOLDER)
        path = write_run(place, context.model, context.task, run, plan, card, base_id)
        if is_adapter:
            peft_config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    blocks: list[Block] = [again]
    if reason := why_no_script(context, run):
        blocks.append(Text(text=f"No train.py: {reason}."))
    elif folder is not None:
        blocks.insert(0, Code(title=TRAIN_TITLE, language="python", text=write_training(context, run, folder)))
    if path is not None:
        blocks.insert(0, Code(title="Load it", language="python", text=_code(context, run, plan, path)))
    return Recommendation(
        method=cast(MethodName, run.config.method),  # pydantic checks it
        text=text,
        tokens=run.config.tokens or None,
        rank=run.config.rank or None,
        learning_rate=run.config.learning_rate or None,
        init=run.config.init,
        peft_config=peft_config,
        blocks=blocks,
        adapter=None if peft_config is None else ADAPTER_FOLDER,
        serving=serving_line(context, run),
    )


def _code(context: AuditContext, run: Run, plan: FolderPlan, path: Path) -> str:
    if plan.by == "classifier":
        return classifier_code(context, plan, str(path))
    if plan.by == "promptreach":
        return plan.reason
    if run.config.method == CONFIGURED:
        return "\n".join(loading_lines(context.task, plan))
    return loading_code(context, run, str(path))


def classifier_code(context: AuditContext, plan: FolderPlan, folder: str) -> str:
    """Python lines that load a classifier's folder with PEFT, and give the same numbers as this audit, row by row."""
    task, cut = context.task, f"truncation=True, max_length={plan.length}, return_tensors='pt'"
    lines = opened_classifier(task, plan, repr(folder), opened_at(context.model))
    lines += [f"texts = {example_texts(task)}", "with torch.no_grad():"]
    pairs = "*text" if getattr(task.train, "seconds", ()) else "text"
    if task.pooling == "each":
        lines += [f"    logits = [model(**tokenizer(text, {cut})).logits[0] for text in texts]"]
        return "\n".join([*lines, "print([[labels[index] for index in row.argmax(-1)] for row in logits])"])
    lines += [f"    logits = torch.cat([model(**tokenizer({pairs}, {cut})).logits for text in texts])"]
    if task.kind.name == "number":
        return "\n".join([*lines, "print(logits[:, 0].tolist())"])
    return "\n".join([*lines, *answer_lines(task)[1:]])


_POOLED = {
    "mean": "mask = inputs['attention_mask'].unsqueeze(-1)\npooled = (hidden * mask).sum(1) / mask.sum(1)",
    "first": "pooled = hidden[:, 0]",
    "each": "pooled = hidden",
    "last": "pooled = hidden[torch.arange(len(hidden)), inputs['attention_mask'].sum(1) - 1]",
}


def loading_code(context: AuditContext, run: Run, folder: str) -> str:
    """Python lines that load the adapter with PEFT, or the head alone, and give the same numbers as this audit.

    They open the model as the audit did, on the CPU, and cut texts where the audit cut them. The read-out is not the
    architecture's own, so for classification the lines apply it as well.
    """
    model, where = context.model, opened_at(context.model)
    causal, config = model.task == "causal", config_lines(model, where)
    base = opening_call(model, where, reads=bool(context.task.pooling))
    lines = [
        "import torch",
        *(["from peft import PeftModel"] if run.adapter is not None else []),
        *(["from safetensors.torch import load_file"] if context.task.pooling is not None else []),
        f"from transformers import {'AutoConfig, ' if config else ''}AutoTokenizer, {auto_class(model)}",
        "",
        f"tokenizer = AutoTokenizer.from_pretrained({where})",
        *config,
    ]
    if run.adapter is None:
        lines += [f"model = {base}.eval()"]
    else:
        lines += [f"base = {base}", f"model = PeftModel.from_pretrained(base, {folder!r}).eval()"]
    if context.task.pooling is None:
        return "\n".join(lines)
    # A prompt's own positions come out in front of the content's; a prefix and LoRA add none.
    joined = run.config.tokens if run.config.method == "prompt" else 0
    output = "output_hidden_states=True).hidden_states[-1]" if causal else ").last_hidden_state"
    call = f"model(**inputs, {output}" if causal else f"model(**inputs{output}"
    longest = context.content_length
    # An encoder's last token, [SEP], stays.
    cut = f"row[:{longest}]" if causal else f"row[:{longest - 1}] + row[{longest - 1}:][-1:]"
    lines += [
        f"head = load_file({str(Path(folder) / 'readout.safetensors')!r})",
        *label_lines(context.task),
        "",
        f"texts = {example_texts(context.task)}",
        f"rows = [torch.tensor({cut}) for row in tokenizer(texts)['input_ids']]",
        "pad = torch.nn.utils.rnn.pad_sequence",
        "inputs = {'input_ids': pad(rows, True), 'attention_mask': pad([torch.ones_like(row) for row in rows], True)}",
        "with torch.no_grad():",
        f"    hidden = {call}" + (f"[:, {joined}:]" if joined else ""),
        *_POOLED[context.task.pooling].split("\n"),
        *answer_lines(context.task),
    ]
    return "\n".join(lines)
