"""The faults of a model's files, found from their names and first bytes before anything large is read or imported.

Nothing is unpickled here or anywhere else: a pickle can run code when it is opened.
"""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from promptreach.errors import Fault, InputError, MissingExtraError, install_command
from promptreach.formats import read_json

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "sentencepiece.bpe.model")
"""The files of which one at least makes a folder hold a tokenizer."""

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
        with safe_open(path, "np"):  # reads the header alone, and knows every kind and shape
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


def folder_faults(folder: Path, *, needs_tokenizer: bool = True) -> list[Fault]:
    """The faults of a model's folder: no config, no weights or damaged ones, no tokenizer where one is needed."""
    adapter = folder / "adapter_config.json"
    if adapter.is_file():  # transformers would follow it to the model that it names
        return [Fault(str(adapter), "an adapter", "a model", "open its base model, and the adapter as an adapter")]
    faults = json_faults(folder / "config.json") + _weight_faults(folder)
    if needs_tokenizer and not any((folder / name).is_file() for name in TOKENIZER_FILES):
        expected = f"one of {', '.join(TOKENIZER_FILES)}"
        faults.append(Fault(str(folder), "no tokenizer", expected, "save the tokenizer there, or pass tokenizer="))
    return faults


def _weight_faults(folder: Path) -> list[Fault]:
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return safetensors_faults(single)
    if index.is_file():
        if broken := json_faults(index):
            return broken
        shards, faults = shards_of(index)
        if faults:
            return faults
        expected = f"the shard that {index.name} names"
        return [fault for shard in shards for fault in safetensors_faults(folder / shard, expected)]
    pickles = sorted(folder.glob("pytorch_model*.bin"))
    if pickles:
        return [pickle_fault(pickles[0])]
    return [Fault(str(folder), "no weights", "model.safetensors, or its shards with model.safetensors.index.json")]


def shards_of(index: Path) -> tuple[list[str], list[Fault]]:
    """The names of the shards that an index gives, and its faults; a name that leads out of its folder is one.

    Args:
        index: a JSON object, as `json_faults` has found.
    """
    found = read_json(index).get("weight_map")
    if not isinstance(found, dict) or not found:
        return [], [Fault(str(index), "no weight_map", "the names of the shards")]
    expected, remedy = "the name of a file beside it", "copy or download it again"
    wrong = {repr(name) for name in found.values() if not isinstance(name, str) or not _is_plain(name)}
    faults = [Fault(f"{index}, weight_map", name[:80], expected, remedy) for name in sorted(wrong)[:5]]
    return ([], faults) if faults else (sorted(set(found.values())), [])


def _is_plain(name: str) -> bool:
    return bool(name) and name not in (".", "..") and not any(mark in name for mark in "/\\\0:")


def gguf_faults(path: Path) -> list[Fault]:
    """The faults of a GGUF file: another kind of file, or no package to read it."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        return [unreadable_fault(path, error)]
    if magic != b"GGUF":
        return [Fault(str(path), f"a file that starts with {magic!r}", "a GGUF file, or a folder with a model")]
    if find_spec("gguf") is None:
        seen = "a GGUF file, without the package to read it"
        raise MissingExtraError(Fault(str(path), seen, "gguf", install_command("gguf")))
    return []
