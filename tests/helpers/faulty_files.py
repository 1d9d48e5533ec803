"""Small data files, and the check that what is wrong with one is told well."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from promptreach.errors import InputError
from promptreach.tables import read_task

GOOD = [{"text": "fine", "label": "pos"}, {"text": "bad", "label": "neg"}]


def write_json(path: Path, records: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def write_csv(path: Path, rows: Sequence[Sequence[object]], delimiter: str = ",") -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, delimiter=delimiter).writerows(rows)
    return path


def assert_told(source: object, *parts: str, **options: Any) -> InputError:
    """One fault of `source` alone says all `parts`, and every fault says what is expected, in a readable length."""
    with pytest.raises(InputError) as caught:
        read_task(source, **options)
    faults = caught.value.faults
    assert any(all(part in str(fault) for part in parts) for fault in faults), f"{parts} not in {faults}"
    assert all(fault.where and fault.seen and fault.expected and len(str(fault)) < 1200 for fault in faults)
    return caught.value
