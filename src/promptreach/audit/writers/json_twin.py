"""The report's JSON twin: everything the page shows, for programs, in a published format.

Keys are sorted, so the same result gives the same bytes. JSON has no numbers for NaN and the infinities; they stand as
the strings "NaN", "Infinity" and "-Infinity". Where the schema asks for a number they are read back as numbers; in
table cells and in a finding's `values`, whose types are open, they stay strings.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from promptreach.audit.result import SCHEMA_VERSION, AuditResult
from promptreach.errors import Fault, InputError

_REMEDY = "Read it with the promptreach release that wrote it, or run the audit again."


def render_json(result: AuditResult) -> str:
    """`result` as JSON text with sorted keys, indented by one space, ending with a newline."""
    record = _without_nonfinite(result.model_dump(mode="json"))
    return json.dumps(record, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_report(path: str | Path) -> AuditResult:
    """The result that was written to the report.json at `path`.

    Raises:
        InputError: when the file cannot be read, is not JSON, has a schema version that this library does not know, or
            does not follow the schema; every place that does not is named.
    """
    record = _read_json(Path(path))
    version = record.get("schema_version") if isinstance(record, Mapping) else None
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise InputError(Fault(str(path), f"schema_version {version!r}", f"schema_version {SCHEMA_VERSION}", _REMEDY))
    try:
        return AuditResult.model_validate_json(json.dumps(record))
    except ValidationError as error:
        raise InputError(
            [
                Fault(f"{path}, {'.'.join(map(str, item['loc']))}", repr(item["input"])[:80], item["msg"], _REMEDY)
                for item in error.errors()
            ]
        ) from error


def schema() -> dict[str, Any]:
    """The JSON schema of report.json, as plain JSON types."""
    return AuditResult.model_json_schema(schema_generator=_TwinSchema)


class _TwinSchema(GenerateJsonSchema):
    """pydantic's schema, which forgets that a float may stand as one of three strings."""

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        return {"anyOf": [super().float_schema(schema), {"enum": ["NaN", "Infinity", "-Infinity"]}]}


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(Fault(str(path), error.strerror or str(error), "a readable report.json")) from error
    except ValueError as error:  # not UTF-8, or not JSON
        raise InputError(Fault(str(path), str(error), "a report.json written by promptreach", _REMEDY)) from error


def _without_nonfinite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nonfinite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nonfinite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
