"""Versions of the JSON that this library writes for other programs, and how an unknown one is refused.

Every such record says its version. Adding a field keeps it; renaming or removing one, or giving it another meaning,
raises it. `tests/release/golden` holds a small sample of each.

    report.json                          schema_version  report.result.SCHEMA_VERSION
    findings: capacity.json, --json      schema_version  report.findings.FINDING_VERSION
    claims: ID.json, --json              schema_version  claims.claim.SCHEMA_VERSION
    compiled.json                        schema_version  commands.compile.RECORD_VERSION
    doctor --json                        schema_version  doctor.SCHEMA_VERSION
    certificates, alone and in findings  version         certificate.CERTIFICATE_VERSION
    run.json of a training run           version         training.runs.RUN_VERSION
    readout.json beside an adapter       version         hf.adapters.folders.READOUT_VERSION
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from promptreach.errors import Fault, FormatError, InputError

DIGEST = "digest"
"""The key under which a record carries `digest_of` the rest of it."""

JSON_LIMIT = 256 * 2**20
"""Bytes of the largest JSON file that is read; the largest tokenizers have a seventh of it."""

TEXT_LIMIT = 2**20
"""Bytes of the largest file of options, or chat template, that is read."""

REMEDY = "Read it with the promptreach release that wrote it, or make it again with this one."
"""What to do about a record that cannot be read."""


def check_version(record: object, version: int, where: str, key: str = "schema_version") -> None:
    """Refuse a record of another version than the one that is read here.

    Args:
        record: what was read; anything but a mapping has no version.
        version: the one that this release reads.
        where: the file, or what the record is.
        key: under which the version stands.

    Raises:
        FormatError: naming both versions.
    """
    found = record.get(key) if isinstance(record, Mapping) else None
    if found != version or isinstance(found, bool):
        raise FormatError(Fault(where, f"{key} {found!r}", f"{key} {version}", REMEDY))


def read_text(path: str | Path, limit: int = TEXT_LIMIT, kind: str = "text") -> str:
    """The UTF-8 text in a file, whoever wrote it.

    Args:
        path: of a regular file; a pipe or a device might never end.
        limit: bytes; a larger file is not opened.
        kind: what it should hold, in words.

    Raises:
        InputError: when the file is missing, no regular one, too large, unreadable or not UTF-8.
    """
    path = Path(path)
    try:
        if not path.is_file():
            seen = "not a regular file" if path.exists() else "No such file"
            raise InputError(Fault(str(path), seen, f"a readable {path.name}"))
        if path.stat().st_size > limit:
            raise InputError(Fault(str(path), f"{path.stat().st_size:,} bytes", f"{kind} of at most {limit:,} bytes"))
        return path.read_text("utf-8")
    except OSError as error:
        seen = f"it cannot be read ({error.strerror or type(error).__name__})"
        raise InputError(Fault(str(path), seen, f"a readable {path.name}")) from error
    except UnicodeDecodeError as error:
        raise InputError(Fault(str(path), f"not UTF-8 ({error})", f"{kind} in UTF-8")) from error


def read_json(path: str | Path, limit: int = JSON_LIMIT) -> Any:
    """The JSON value in a file, whoever wrote it.

    Args:
        path, limit: as in `read_text`.

    Raises:
        InputError: when `read_text` refuses the file, or it is not JSON, or nested deeper than a reader can follow.
    """
    text = read_text(path, limit, "JSON")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise InputError(Fault(str(path), "JSON nested too deeply", "a JSON file of this kind", REMEDY)) from error
    except ValueError as error:
        raise InputError(Fault(str(path), f"not JSON ({error})", "a JSON file", REMEDY)) from error


def read_record(path: str | Path, version: int, key: str = "schema_version") -> dict[str, Any]:
    """The JSON record in a file, of that version.

    Raises:
        FormatError: when it is of another version.
        InputError: when the file cannot be read or is not JSON.
    """
    record = read_json(path)
    check_version(record, version, str(path), key)
    found: dict[str, Any] = record
    return found


def digest_of(record: object) -> str:
    """The SHA-256 of a record, as JSON knows it, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
