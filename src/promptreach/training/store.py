"""Finished results in a folder, each under a hash of all that decides it.

A finished result is found under its name and not worked out again; a killed one left no file, or one that cannot be
read, which is as good as none. Tensors are kept as safetensors, in named groups.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from promptreach.files import as_output_error, remove_partials, write_atomically

Found = TypeVar("Found")
Groups = Mapping[str, Mapping[str, Tensor]]
"""Tensors by group and name."""


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
        """The result of `read` on a file or folder here, or None where it is missing or cannot be read."""
        if self.folder is None:
            return None
        try:
            return read(self.folder / file)
        except (OSError, ValueError, TypeError, KeyError, SafetensorError):
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

    def write_tensors(self, file: str, groups: Groups, record: object = None) -> None:
        """Write tensors by group and name, and a record beside them as JSON knows it.

        Raises:
            OutputError: when they cannot be written.
        """
        flat = {f"{group}/{key}": tensor.contiguous() for group, part in groups.items() for key, tensor in part.items()}
        self.write(file, save(flat, None if record is None else {"record": json.dumps(record)}))


def read_tensors(path: Path) -> tuple[dict[str, dict[str, Tensor]], Any]:
    """The groups and the record that `Store.write_tensors` wrote there; what holds no tensor is an empty group."""
    groups: dict[str, dict[str, Tensor]] = defaultdict(dict)
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118 (it is no mapping)
            group, _, key = name.partition("/")
            groups[group][key] = file.get_tensor(name)
        return groups, json.loads((file.metadata() or {}).get("record", "null"))
