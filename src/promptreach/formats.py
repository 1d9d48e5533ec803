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

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from promptreach.errors import Fault, FormatError, InputError

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


def read_record(path: str | Path, version: int, key: str = "schema_version") -> dict[str, Any]:
    """The JSON record in a file, of that version.

    Raises:
        FormatError: when it is of another version.
        InputError: when the file cannot be read or is not JSON.
    """
    path = Path(path)
    try:
        record = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(Fault(str(path), error.strerror or str(error), f"a readable {path.name}")) from error
    except ValueError as error:  # not UTF-8, or not JSON
        raise InputError(Fault(str(path), str(error), "JSON that promptreach wrote", REMEDY)) from error
    check_version(record, version, str(path), key)
    found: dict[str, Any] = record
    return found
