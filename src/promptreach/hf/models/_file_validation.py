"""The faults of a file of weights, found from its first bytes before anything large is read.

Nothing is unpickled here or anywhere else: a pickle can run code when it is opened.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from promptreach.errors import Fault, InputError
from promptreach.formats import read_json

_HEADER_LIMIT = 100_000_000
"""The format's own limit on its header, in bytes; a larger number is not a length but damage."""


def safetensors_faults(path: Path, expected: str = "a whole safetensors file") -> list[Fault]:
    """The faults of the safetensors file at `path`; one that is not there was `expected`.

    The file starts with its header's length (8 bytes, little-endian) and the header, JSON that gives every tensor's
    place; the file must end where the last tensor does.
    """
    if not path.is_file():
        return [Fault(str(path), "no such file", expected)]
    remedy = "copy or download it again"
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(_HEADER_LIMIT, size - 8):
                seen = f"{size} bytes, which end inside the header"
                return [Fault(str(path), seen, "a whole safetensors file", remedy)]
            header = json.loads(file.read(length))
        last = max((_end(entry) for name, entry in header.items() if name != "__metadata__"), default=0)
    except OSError as error:
        return [unreadable_fault(path, error)]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return [Fault(str(path), "a header that is not safetensors'", "a safetensors file", remedy)]
    if size != 8 + length + last:
        return [Fault(str(path), f"{size} bytes", f"{8 + length + last} bytes, as its header says", remedy)]
    try:
        with safe_open(path, "pt"):  # reads the header alone, and knows every kind and shape
            return []
    except (SafetensorError, OSError, ValueError) as error:
        return [Fault(str(path), f"a header that is not safetensors' ({error})", "a safetensors file", remedy)]


def _end(entry: Any) -> int:
    """The last byte of a tensor; its place must be two whole numbers, for a `True` or a `1.5` counts as well."""
    first, last = entry["data_offsets"]
    if type(first) is not int or type(last) is not int or not 0 <= first <= last:
        raise ValueError("a place that is none")
    return last


def pickle_fault(path: Path) -> Fault:
    """The refusal of weights that exist only as a pickle."""
    return Fault(
        str(path),
        "pickled weights, which are never opened because a pickle can run code",
        f"{path.with_suffix('.safetensors').name.replace('pytorch_model', 'model')}",
        "convert them with safetensors.torch.save_file where you trust them",
    )


def unreadable_fault(path: Path, error: OSError) -> Fault:
    """The refusal of a file that is there and cannot be read."""
    return Fault(str(path), f"it cannot be read ({error.strerror or type(error).__name__})", "a file that can be read")


def json_faults(path: Path) -> list[Fault]:
    """The faults that keep the file at `path` from being read as a JSON object."""
    if not path.exists():
        return [Fault(str(path), "no such file", "a JSON file")]
    try:
        content = read_json(path)
    except InputError as error:
        return [replace(fault, remedy="copy or download it again") for fault in error.faults]
    return [] if isinstance(content, dict) else [Fault(str(path), f"a JSON {type(content).__name__}", "a JSON object")]
