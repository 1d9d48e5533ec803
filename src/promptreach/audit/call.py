"""The identity of an audit's call: the key of its contents, its model in words, and the call that does it again."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from promptreach.backbone import UNBOUNDED
from promptreach.data import Completions, TaskData
from promptreach.hf import OpenModel
from promptreach.hf.adapters.places import CONFIG, WEIGHTS
from promptreach.report.findings import Code
from promptreach.stored import entries_of
from promptreach.training.task.chats import rendered


def key_of(model: OpenModel, data: TaskData, settings: dict[str, Any], adapter: str | Path | None) -> str:
    """A hash of everything that decides the report: contents, whatever the folders are called."""
    data = rendered(model, data)
    tokens = model.tokenize(data.inputs), model.tokenize(data.answers, special_tokens=False), model.end_token
    # The texts as they are given to the model, and whose rows are whose where the user said so.
    said: list[object] = [model.fingerprint, data.inputs, data.answers, tokens, settings]
    said += [list(data.parts)] if data.parts else []
    said += [data.kind, data.weights] if data.weights or data.kind not in ("labels", "completions") else []
    said += [data.options] if isinstance(data, Completions) and data.options else []
    files = [] if adapter is None else [Path(adapter) / CONFIG, Path(adapter) / WEIGHTS]
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:20]


def about_model(model: OpenModel) -> dict[str, Any]:
    """The model as a report names it."""
    return {
        "name": model.name,
        "family": model.family,
        "task": model.task,
        "layers": model.num_layers,
        "heads": model.num_heads,
        "key/value heads": model.num_kv_heads,
        "hidden size": model.hidden_size,
        "context": None if model.max_positions == UNBOUNDED else model.max_positions,
        "device": str(next(model.release().parameters()).device),
        "dtype": str(model.release().dtype).removeprefix("torch.")
        + (f" ({model.origin.chosen})" if model.origin and model.origin.chosen else "")
        + (f", quantised by {model.packing}" if model.packing else ""),
        "parameters": entries_of(model.release()),
        "fingerprint": model.fingerprint,
    }


def call_again(command: str | None, model: str, source: str, options: Mapping[str, object]) -> Code:
    """The call that does this audit again; options that are None are left to their defaults."""
    given = "".join(f", {name}={value!r}" for name, value in options.items() if value is not None)
    call = f"promptreach.audit({model!r}, {source!r}{given})"
    return Code(title="This audit again", language="shell" if command else "python", text=command or call)
