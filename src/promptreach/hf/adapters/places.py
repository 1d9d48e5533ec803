"""The faults of an adapter's place: a folder that is not there, one above the adapter, a file instead of its folder."""

import re
from pathlib import Path

from promptreach.errors import Fault
from promptreach.model_files import json_faults, pickle_fault, safetensors_faults

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

_PICKLED = "adapter_model.bin"
_DEPTH = 2
"""Folders below the one given that are looked into: a trainer's checkpoint, and the adapter's name in it."""
_SHOWN = 5


def file_faults(folder: Path) -> list[Fault]:
    """The faults of an adapter folder: files that are missing, damaged or pickled, and what lies near instead."""
    if elsewhere := place_faults(folder):
        return elsewhere
    weights, pickled = folder / WEIGHTS, folder / _PICKLED
    if pickled.is_file() and not weights.is_file():
        return [*json_faults(folder / CONFIG), pickle_fault(pickled)]
    return json_faults(folder / CONFIG) + safetensors_faults(weights, "the adapter's weights")


def place_faults(folder: Path) -> list[Fault]:
    """The one fault of a place that is no adapter's folder, or none."""
    expected = f"the folder of a PEFT adapter, with {CONFIG} and {WEIGHTS}"
    if folder.is_file():
        return [Fault(str(folder), "a file", expected, f"give the folder, not the file: {folder.parent}")]
    if not folder.is_dir():
        return [Fault(str(folder), "no such folder", expected, _above(folder))]
    if (folder / CONFIG).is_file() or (folder / WEIGHTS).is_file() or (folder / _PICKLED).is_file():
        return []
    below = _adapters_below(folder)
    if not below:
        held = sorted(path.name for path in folder.iterdir())
        seen = f"neither of the two files; it holds {', '.join(held[:_SHOWN]) or 'nothing'}"
        return [Fault(str(folder), seen, expected)]
    listed = " and ".join([", ".join(below[:-1]), below[-1]] if len(below) > 1 else below)
    return [Fault(str(folder), f"no adapter here; it lies in {listed} below", expected, f"give {folder / below[0]}")]


def _adapters_below(folder: Path) -> list[str]:
    """The folders below that hold an adapter, from the last checkpoint to the first."""
    patterns = ["/".join(["*"] * depth + [CONFIG]) for depth in range(1, _DEPTH + 1)]
    found = [path.parent.relative_to(folder).as_posix() for pattern in patterns for path in folder.glob(pattern)]
    return sorted(found, key=_last_number, reverse=True)[:_SHOWN]


def _last_number(name: str) -> tuple[int, str]:
    numbers = re.findall(r"\d+", name)
    return (int(numbers[-1]) if numbers else -1, name)


def _above(folder: Path) -> str:
    """The part of the path that is there."""
    there = next((parent for parent in folder.parents if parent.is_dir()), None)
    if there is None:
        return ""
    near = _adapters_below(there) if (there != Path(".") and there != Path("/")) else []
    return f"near it lies {there / near[0]}" if near else ""
