"""The faults of a call that can be seen before anything heavy is imported: paths, columns, devices, the model's config.

A wrong argument should cost nothing. torch and transformers take seconds of processor time to import, and everything
here does without them. What is found here is found again where it is used; what only an opened model shows is found
there alone.
"""

import importlib.metadata
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from promptreach.errors import Fault, InputError, ModelError, raise_if_any
from promptreach.files import check_output
from promptreach.model_files import folder_faults, gguf_faults, json_faults
from promptreach.quantisation import quantisation_faults

_DEVICE = re.compile(r"(cpu|cuda|mps|xpu|auto)(:\d+)?")
_LOCAL = (".", "/", "~")


def look(
    model: str | Path | None = None,
    *,
    data: str | Path | None = None,
    columns: Mapping[str, str | None] | None = None,
    adapter: Path | Sequence[Path] | None = None,
    texts: Sequence[Path] = (),
    out: Path | None = None,
    resume: bool = False,
    task: str | None = None,
    device: str = "cpu",
    num_layers: int | None = None,
    revision: str | None = None,
    known: Sequence[Fault] = (),
) -> None:
    """Refuse a call that is wrong, all faults at once.

    Args:
        model: a hub id, a folder or a GGUF file; of a hub id only what is on this machine is looked at.
        data: a file of rows; `columns` are the arguments of `promptreach.tables.read_task`.
        adapter: a PEFT folder, or several; without `model`, a single one names it.
        texts: files of plain text.
        out, resume: where results go, as for `promptreach.files.check_output`.
        task, device, num_layers, revision: as for `promptreach.hf.open_model`.
        known: faults of other arguments, found before.

    Raises:
        InputError: listing every fault; what is found may be of any of its kinds.
    """
    faults: list[Fault] = list(known)
    if out is not None:
        faults += output_faults(out, resume=resume)
    if data is not None and (Path(data).suffix or Path(data).exists()):  # otherwise it is a hub id
        from promptreach.tables import read_task

        _collect(faults, lambda: read_task(data, **(columns or {})))
    faults += device_faults(device)
    absent = [text for text in texts if not text.expanduser().is_file()]
    faults += [Fault(str(text), "no such file", "a UTF-8 text file") for text in absent]
    for one in [adapter] if isinstance(adapter, Path) else adapter or ():
        if not one.expanduser().is_dir():
            seen = "a file" if one.expanduser().is_file() else "nothing there"
            faults.append(Fault(str(one), seen, "the folder of a PEFT adapter"))
    folder = None
    if model is None and isinstance(adapter, Path):
        model = _base_of(adapter)
    if model is not None:
        _collect(faults, lambda: raise_if_any(place_faults(model), ModelError))
        folder = _folder(model, revision)
    if folder is not None and not faults:
        _collect(faults, lambda: raise_if_any(folder_faults(folder), ModelError))
    if folder is not None and not json_faults(folder / "config.json"):
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        faults += config_faults(config, task=task, num_layers=num_layers)
        _collect(faults, lambda: raise_if_any(quantisation_faults(config, device), ModelError))
    raise_if_any(faults)


def output_faults(out: Path, **options: Any) -> list[Fault]:
    """The faults of a folder for results, as `promptreach.files.check_output` raises them with these options."""
    faults: list[Fault] = []
    _collect(faults, lambda: check_output(out, **options))
    return faults


def place_faults(source: str | Path) -> list[Fault]:
    """The faults of the place that a model's name means, as far as it is on this machine."""
    path, expected = Path(source).expanduser(), "a model folder, a .gguf file or a hub id"
    if path.is_file():
        return gguf_faults(path)
    looks_local = isinstance(source, Path) or str(source).startswith(_LOCAL) or path.suffix == ".gguf"
    is_id = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(source)) is not None
    if not path.exists() and (looks_local or not is_id):
        return [Fault(str(source), "nothing there", expected)]
    return []


def device_faults(device: str) -> list[Fault]:
    """The faults of a device's name, told without opening one: an unknown name, or an accelerator that is not here."""
    expected = "a device of this machine, such as 'cpu'"
    if _DEVICE.fullmatch(device) is None:
        return [Fault("device", repr(device), expected)]
    kind = device.partition(":")[0]
    build = importlib.metadata.version("torch").partition("+")[2]
    seen = {
        "cuda": "this torch was built for the CPU" if build == "cpu" else _no_file("/dev/nvidiactl", "/dev/kfd"),
        "mps": "" if sys.platform == "darwin" else "only Apple's machines have it",
        "xpu": "this torch was built for the CPU" if build == "cpu" else "",
    }.get(kind, "")
    return [Fault("device", f"{device!r} ({seen})", expected)] if seen else []


def config_faults(config: Mapping[str, Any], *, task: str | None = None, num_layers: int | None = None) -> list[Fault]:
    """The faults of a model's config, and of what is asked of it."""
    kind = str(config.get("model_type", "a model without model_type"))
    faults = []
    text = config.get("text_config") or config
    names = ("num_hidden_layers", "n_layers", "n_layer", "num_layers", "encoder_layers")
    layers = next((text[name] for name in names if isinstance(text.get(name), int)), None)
    if num_layers is not None and layers is not None and not 1 <= num_layers <= layers:
        faults.append(Fault("num_layers", str(num_layers), f"1 to {layers}"))
    heads = [str(name) for name in config.get("architectures") or ()]
    if task == "causal" and any(name.endswith(("ForMaskedLM", "ForPreTraining")) for name in heads):
        faults.append(Fault("task", f"'causal' for {kind}", "'encoder': every token sees every other"))
    if task == "seq2seq" and not config.get("is_encoder_decoder"):
        faults.append(
            Fault("task", f"'seq2seq' for {kind}", "'causal' or 'encoder': it has no decoder behind an encoder")
        )
    return faults


def _base_of(adapter: Path) -> str | None:
    """The model that an adapter names; None where it has no readable config, which is found where it is loaded."""
    try:
        name = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return name if isinstance(name, str) and name else None


def _folder(source: str | Path, revision: str | None) -> Path | None:
    """The folder of a model that is on this machine; None for a file, or a hub id that is not here yet."""
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.exists() or re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(source)) is None or str(source).startswith(_LOCAL):
        return None
    home = Path(os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME", "~/.cache/huggingface")) / "hub")
    snapshots = home.expanduser() / f"models--{str(source).replace('/', '--')}" / "snapshots"
    reference = snapshots.parent / "refs" / (revision or "main")
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision or ""
    found = snapshots / commit
    return found if commit and found.is_dir() else None


def _no_file(*paths: str) -> str:
    return "" if sys.platform != "linux" or any(Path(path).exists() for path in paths) else "no driver answers"


def _collect(faults: list[Fault], step: Callable[[], object]) -> None:
    try:
        step()
    except InputError as error:
        faults += error.faults
