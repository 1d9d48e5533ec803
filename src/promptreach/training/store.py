"""Finished results in a folder, each under a hash of all that decides it.

A finished result is found under its name and not worked out again; a killed one left no file. What is kept carries a
digest of its content and of its place, so that a file that was changed, cut or swapped is told, and then is as good as
none. Tensors are kept as safetensors, in named groups.
"""

import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from promptreach.files import as_output_error, remove_partials, write_atomically
from promptreach.formats import DIGEST, check_version, digest_of, read_json
from promptreach.terminal import one_line

Found = TypeVar("Found")
Groups = Mapping[str, Mapping[str, Tensor]]
"""Tensors by group and name."""
DAMAGE = (OSError, ValueError, TypeError, KeyError, RecursionError, SafetensorError)
"""The errors that reading a damaged file ends in."""

_LOG = logging.getLogger(__name__)


class Store:
    """Files in a folder, written whole or not at all; without a folder nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def clean(self) -> None:
        """Remove what writers that were killed before this process began left half done."""
        if self.folder is not None:
            remove_partials(self.folder)

    @staticmethod
    def key(*parts: object) -> str:
        """A name for what `parts`, as JSON knows them, decide."""
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]

    def load(self, file: str, read: Callable[[Path], Found]) -> Found | None:
        """The result of `read` on a file or folder here, or None where it is missing or damaged; damage is logged."""
        if self.folder is None:
            return None
        path = self.folder / file
        try:
            return read(path)
        except FileNotFoundError:
            return None
        except DAMAGE as error:
            if path.exists():
                reason = one_line(str(error).partition("\n")[0])
                _LOG.warning("%s is not as it was written and is worked out again (%s)", one_line(str(path)), reason)
            return None

    def write(self, file: str, content: str | bytes) -> None:
        """Write a file, and the folders it lies in.

        Raises:
            OutputError: when it cannot be written.
        """
        if self.folder is None:
            return
        path = self.folder / file
        with as_output_error(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)

    def append(self, file: str, line: str) -> None:
        """Add a line to a file that `write` began.

        Raises:
            OutputError: when it cannot be written.
        """
        if self.folder is not None:
            with as_output_error(self.folder / file), (self.folder / file).open("a", encoding="utf-8") as stream:
                stream.write(f"{line}\n")

    def write_record(self, file: str, record: Mapping[str, Any]) -> None:
        """Write a record as JSON knows it, for `read_stored`.

        Raises:
            OutputError: when it cannot be written.
        """
        signed = {**record, DIGEST: digest_of([_place(Path(self.folder or "", file)), record])}
        self.write(file, json.dumps(signed, indent=1))

    def write_tensors(self, file: str, groups: Groups, record: object = None) -> str:
        """Write tensors by group and name, and a record beside them as JSON knows it; returns their digest.

        Raises:
            OutputError: when they cannot be written.
        """
        flat = {f"{group}/{key}": tensor.contiguous() for group, part in groups.items() for key, tensor in part.items()}
        if self.folder is None:
            return ""
        text = json.dumps(record)
        digest = _digest_of_tensors(_place(self.folder / file), flat, text)
        self.write(file, save(flat, {"record": text, DIGEST: digest}))
        return digest


def read_stored(path: Path, version: int | None = None) -> dict[str, Any]:
    """The record that `Store.write_record` wrote there.

    Args:
        version: that must stand under ``version``; None where it has none.

    Raises:
        FormatError: when it is of another version.
        OSError, ValueError: when it is not there, or not as it was written.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    record = read_json(path)
    if version is not None:
        check_version(record, version, str(path), "version")
    if not isinstance(record, dict) or record.pop(DIGEST, None) != digest_of([_place(path), record]):
        raise ValueError("its digest is another")
    return record


def read_tensors(path: Path, digest: str | None = None) -> tuple[dict[str, dict[str, Tensor]], Any]:
    """The groups and the record that `Store.write_tensors` wrote there; what holds no tensor is an empty group.

    Args:
        digest: as `Store.write_tensors` returned it; None takes whatever is whole.

    Raises:
        OSError, ValueError, SafetensorError: when it is not there, or not as it was written.
    """
    content = path.read_bytes()  # safetensors itself opens no path that is not UTF-8
    flat = load(content)
    said = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__") or {}
    text = said.get("record", "null")
    found = _digest_of_tensors(_place(path), flat, text)
    if said.get(DIGEST) != found or digest not in (None, found):
        raise ValueError("its digest is another")
    groups: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in flat.items():
        group, _, key = name.partition("/")
        groups[group][key] = tensor
    return groups, json.loads(text)


def _place(path: Path) -> str:
    """The last two parts of a path: a store may move as a whole, and no file in it to the place of another."""
    return "/".join(path.absolute().parts[-2:])


def _digest_of_tensors(place: str, flat: Mapping[str, Tensor], record: str) -> str:
    digest = hashlib.sha256(json.dumps([place, record]).encode())
    for name, tensor in sorted(flat.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
