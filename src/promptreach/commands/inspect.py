"""An adapter folder as a finding: what it is, whether its parts agree, how large it is, where it can be served."""

from pathlib import Path

import torch

from promptreach.certificate import Evidence
from promptreach.commands.reading import base_note
from promptreach.commands.serving import READ_IN, servers_for
from promptreach.errors import AdapterError, Fault, PromptreachError, raise_if_any
from promptreach.hf import OpenModel, attach, load_readout, open_model
from promptreach.hf.adapters.brought import other_base_of
from promptreach.hf.adapters.inspection import (
    Inspection,
    base_of_folder,
    inspect_folder,
    low_rank_pairs,
    reading_with,
)
from promptreach.hf.adapters.places import place_faults
from promptreach.prompt import Adapter, LowRankUpdate, Prefix, SoftPrompt
from promptreach.report.findings import Block, Cell, Finding, Table, Text
from promptreach.report.formatting import counted, format_number

_SEQUENCES, _TOKENS = 4, 16
"""The random text on which an adapter's effect is measured: many enough to see one, few enough to cost nothing."""


def inspect_adapter(folder: Path, *, model: str | None = None, revision: str | None = None) -> Finding:
    """What an adapter folder is, and everything that is wrong with it.

    Args:
        folder: of a PEFT adapter.
        model: its base; None takes the one that it names, if that is on this machine, and downloads nothing.
        revision: of a hub id.

    Raises:
        AdapterError: for a place that is no adapter's folder.
        ModelError, UnsupportedModelError: when `model` cannot be opened; a base that only the folder names may be
            missing or broken, which the finding says.
    """
    raise_if_any(place_faults(folder), AdapterError)
    alone = inspect_folder(folder)
    opened, unopened = _base(folder, model, revision)
    found = inspect_folder(folder, opened) if opened is not None else alone
    values = _facts(found) | {"base_checked": opened is not None, "agrees": _agrees(found, opened)}
    blocks: list[Block] = [_fact_table(values)]
    if found.faults:
        blocks.append(_fault_table(found.faults))
    if unopened:
        blocks.append(Text(text=unopened))
    if said := _loading_note(folder):
        blocks.append(Text(text=said))
    if opened is not None and found.config:
        blocks += base_note(folder, other_base_of(folder, opened), opened)
    values["faults"] = [str(fault) for fault in found.faults]
    values["changes_nothing"] = found.changes_nothing
    if found.adapter is not None and opened is not None:
        sizes, table = _sizes(found.adapter, opened)
        values |= sizes | {"effect": _effect(found.adapter, opened)}
        blocks += [table, Text(text=_effect_text(values["effect"]))]
    if opened is not None and opened.both_ways:
        blocks.append(Text(text="Where an encoder's adapter can be served was not looked up: transformers runs it."))
    elif rows := servers_for(found.kind):
        values["servers"] = {row.server: {"served": row.served, "how": row.how, "source": row.source} for row in rows}
        blocks += _serving_blocks(found.kind, bool(values["head"]))
    return Finding(
        check="inspect",
        title="An adapter folder",
        evidence=Evidence.MEASURED,
        sample=f"{folder}" + (f" on {opened.name}" if opened is not None else ", without its base"),
        summary=_summary(found, values),
        values=values,
        blocks=blocks,
    )


def _base(folder: Path, model: str | None, revision: str | None) -> tuple[OpenModel | None, str]:
    """The base model, or why there is none to compare with; one that the caller names has to open."""
    try:
        name, revision = base_of_folder(folder, model, revision)
        return reading_with(folder, open_model(name, revision=revision)), ""
    except PromptreachError as error:  # what is wrong with the base is no fault of the folder
        if model is not None:
            raise
        reason = str(error).partition("\n")[0]
        return None, f"Whether it agrees with its base is UNKNOWN, since that was not opened: {reason}."


def _agrees(found: Inspection, opened: OpenModel | None) -> bool | None:
    if found.faults:
        return False
    return True if opened is not None else None


def _facts(found: Inspection) -> dict[str, object]:
    """What the folder says of itself."""
    config = found.config
    head = "readout beside it" if _has_readout(found.folder) else ""
    if not head and config.get("task_type") in ("SEQ_CLS", "TOKEN_CLS"):
        head = f"the architecture's own, as {config['task_type']}"
    return {
        "kind": found.kind or None,
        "peft_type": config.get("peft_type"),
        "tokens": config.get("num_virtual_tokens"),
        "rank": config.get("r"),
        "base": found.base or None,
        "revision": config.get("revision"),
        "task_type": config.get("task_type"),
        "init": config.get("prompt_tuning_init"),
        "head": head or None,
        "parameters": sum(tensor.numel() for tensor in found.tensors.values()),
        "bytes": sum(tensor.numel() * tensor.element_size() for tensor in found.tensors.values()),
        "dtypes": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in found.tensors.values()}),
    }


def _loading_note(folder: Path) -> str:
    """How others load a folder that this library wrote with a head, or why transformers' classes cannot."""
    try:
        readout = load_readout(folder)
    except AdapterError:
        return ""
    info = {} if readout is None else readout[1]
    if found := info.get("classifier"):
        one_by_one = "" if found["batches"] else ", one row at a time: padding is not seen behind a prompt"
        said = f"AutoPeftModel and pipeline load it as a classifier{one_by_one}. On {found['rows']} rows its logits "
        return f"{said}were at most {found['difference']:.1e} of their size from those that were reported."
    if "only_here" in info:
        return str(info["only_here"])
    if "no_classifier" in info:
        return (
            f"{info['no_classifier']} load.py in the folder loads it with torch, transformers and peft alone.".strip()
        )
    return ""


def _has_readout(folder: Path) -> bool:
    try:
        return load_readout(folder) is not None
    except AdapterError:
        return False


def _fact_table(values: dict[str, object]) -> Table:
    names = {
        "kind": "kind",
        "tokens": "virtual tokens",
        "rank": "rank",
        "base": "base",
        "revision": "revision of the base",
        "task_type": "task, as PEFT has it",
        "init": "start, as its config says",
        "head": "head",
        "parameters": "numbers in it",
        "bytes": "bytes",
    }
    rows: list[list[Cell]] = []
    for key, name in names.items():
        value = values[key]
        if value is not None:
            rows.append([name, format_number(value) if isinstance(value, int) else str(value)])
    return Table(title="What it is", columns=["", "as the folder has it"], rows=rows)


def _fault_table(faults: tuple[Fault, ...]) -> Table:
    rows: list[list[Cell]] = [[fault.seen, fault.expected, fault.remedy, fault.where] for fault in faults]
    return Table(title="What is wrong", columns=["seen", "expected", "what to do", "where"], rows=rows)


def _sizes(adapter: Adapter, model: OpenModel) -> tuple[dict[str, object], Table]:
    """Norms of the adapter's parts beside what the base knows, by layer or virtual token."""
    if isinstance(adapter, SoftPrompt):
        return _prompt_sizes(adapter, model)
    if isinstance(adapter, Prefix):
        return _prefix_sizes(adapter, model)
    return _update_sizes(adapter, model)


def _prompt_sizes(prompt: SoftPrompt, model: OpenModel) -> tuple[dict[str, object], Table]:
    vocabulary = model.vocabulary.float().cpu()
    rows = prompt.embeddings.float().cpu()
    norms, usual = rows.norm(dim=1), float(vocabulary.norm(dim=1).median())
    words = sum(bool((vocabulary[vocabulary[:, 0] == row[0]] == row).all(1).any()) for row in rows)
    records: list[dict[str, Cell]] = [
        {"virtual token": index, "norm": float(norm), "over a vocabulary row's": float(norm) / usual}
        for index, norm in enumerate(norms)
    ]
    values: dict[str, object] = {
        "norm": float(norms.median()),
        "vocabulary_norm": usual,
        "vocabulary_rows": words,
    }
    note = (
        f"Euclidean; the median of the base's {len(vocabulary):,} vocabulary rows is {usual:.3g}. {words} of the "
        f"{counted(len(rows), 'virtual token')} are a vocabulary row to the last bit"
    )
    note += ": it was never trained." if words == len(rows) else "."
    return values, Table.of("Norms", records, note=note)


def _prefix_sizes(prefix: Prefix, model: OpenModel) -> tuple[dict[str, object], Table]:
    usual = None
    if not model.lacks("prefix", "text"):
        usual = model.cache_of(_random_text(model)[0])
    records: list[dict[str, Cell]] = []
    for layer in range(prefix.num_layers):
        record: dict[str, Cell] = {"layer": layer}
        for name in ("keys", "values"):
            own = float(getattr(prefix, name)[layer].float().norm(dim=-1).median())
            text = None if usual is None else float(getattr(usual, name)[layer].float().norm(dim=-1).median())
            record |= {name: own, f"{name} of text": text}
        records.append(record)
    values: dict[str, object] = {name: [record[name] for record in records] for name in ("keys", "values")}
    note = f"Medians over heads and slots, Euclidean; beside them those that {_TOKENS} random tokens leave."
    return values, Table.of("Norms, layer by layer", records, note=note)


def _update_sizes(update: LowRankUpdate, model: OpenModel) -> tuple[dict[str, object], Table]:
    modules = dict(model.model.named_modules())
    alphas, is_stable = update.options.get("alpha_pattern", {}), bool(update.options.get("use_rslora"))
    records: list[dict[str, Cell]] = []
    for path, (first, second) in sorted(low_rank_pairs(update.state).items()):
        # The norm of a product of thin factors, without the product: ||BA||^2 is the trace of (B'B)(AA').
        a, b = first.double(), second.double()
        rank = a.shape[0]
        scale = alphas.get(path, update.alpha) / (rank**0.5 if is_stable else rank)
        size = scale * float(((b.T @ b) * (a @ a.T)).sum().clamp(min=0).sqrt())
        weight = modules[path].weight
        assert isinstance(weight, torch.Tensor)
        share = size / float(weight.float().norm())
        records.append({"module": path, "rank": rank, "norm": size, "over its weight's": share})
    zero = sum(record["norm"] == 0 for record in records)
    values: dict[str, object] = {"modules": len(records), "zero_updates": zero}
    note = f"Frobenius, with alpha and rank in it. {zero} of {counted(len(records), 'update')} are zero."
    return values, Table.of("Norms of the updates", records, note=note)


@torch.no_grad()
def _effect(adapter: Adapter, model: OpenModel) -> float:
    """How far the adapter moves the last hidden states of random text, relative to their size (Frobenius)."""
    batch = model.batch(_random_text(model))
    bare = model.hidden(batch)[batch.mask].double()
    with attach(model, adapter) as joined:
        moved = model.hidden(batch, joined)[batch.mask].double()
    return float((moved - bare).norm() / bare.norm())


def _random_text(model: OpenModel) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    room = max(1, min(_TOKENS, model.max_positions // 4))
    ids: list[list[int]] = torch.randint(len(model.vocabulary), (_SEQUENCES, room), generator=generator).tolist()
    return ids


def _effect_text(effect: object) -> str:
    if effect == 0:
        return "It changes nothing: on random text the last hidden states are the base's to the last bit."
    return f"On random text it moves the last hidden states by {format_number(effect)} of their size."  # type: ignore[arg-type]


def _serving_blocks(kind: str, head: bool) -> list[Block]:
    """One line a server, and what each wants in words: those are too long for a table."""
    words = {"yes": "yes", "converted": "after conversion", "no": "no"}
    rows: list[list[Cell]] = [[row.server, words[row.served], row.dated, row.source] for row in servers_for(kind)]
    note = f"READ in {READ_IN} in the sources named; of causal models."
    tried = [f"RUN here: {row.server}, {row.tried}." for row in servers_for(kind) if row.tried]
    note = " ".join([note, *(tried or ["None was run here."])])
    if head:
        note += " No server knows the head: what comes out are hidden states or tokens, and no labels."
    table = Table(title="Where it can be served", columns=["server", f"takes a {kind}", "as of", "source"], rows=rows)
    return [table, *(Text(text=f"{row.server}: {row.how}.") for row in servers_for(kind)), Text(text=note)]


def _summary(found: Inspection, values: dict[str, object]) -> str:
    other = f"An adapter by PEFT's {values['peft_type']}" if values["peft_type"] else "An adapter"
    what = {"prompt": "A prompt", "prefix": "A prefix", "lora": "A LoRA update"}.get(found.kind, other)
    size = f" of rank {values['rank']}" if found.kind == "lora" else ""
    size = size or (f" of {values['tokens']} virtual tokens" if values["tokens"] else "")
    base = f", for {found.base}" if found.base else ", for a base that it does not name"
    agree = {True: "config, tensors and base agree", None: "config and tensors agree; the base was not looked at"}
    agreement = agree.get(values["agrees"], counted(len(found.faults), "fault"))  # type: ignore[call-overload]
    dead = " Every update in it is zero: it changes nothing." if found.changes_nothing else ""
    return f"{what}{size}{base}: {agreement}.{dead}"
