"""The JSON of reports and findings: everything that is shown, for programs, in a published format.

Keys are sorted, so the same result gives the same bytes. JSON has no numbers for NaN and the infinities; they stand as
the strings "NaN", "Infinity" and "-Infinity". Where
the schema asks for a number they are read back as numbers; in table cells and in a finding's `values`, whose types are
open, they stay strings.
"""

import json
import math
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from promptreach.errors import Fault, InputError
from promptreach.formats import REMEDY, read_record
from promptreach.report.findings import FINDING_VERSION, Finding
from promptreach.report.result import SCHEMA_VERSION, Report
from promptreach.terminal import printable_json

_Model = TypeVar("_Model", bound=BaseModel)
_Report = TypeVar("_Report", bound=Report)


def render_json(result: Report) -> str:
    """`result` as JSON text with sorted keys, indented by one space, ending with a newline."""
    return _text(result.model_dump(mode="json"))


def render_finding(finding: Finding) -> str:
    """The same for one finding, as the commands print and write it, with its version."""
    return _text({"schema_version": FINDING_VERSION} | finding.model_dump(mode="json"))


def read_report(path: str | Path, kind: type[_Report] = Report) -> _Report:  # type: ignore[assignment]
    """The report that was written to the report.json at `path`, as a `kind` of report.

    Raises:
        FormatError: for a schema version that this library does not know.
        InputError: when the file cannot be read, is not JSON, or does not follow the schema; every place that does not
            is named.
    """
    return validated(kind, read_record(path, SCHEMA_VERSION), path)


def read_finding(path: str | Path) -> Finding:
    """The finding in a file that a command wrote, or that its ``--json`` went to. Same errors as `read_report`."""
    record = read_record(path, FINDING_VERSION)
    del record["schema_version"]  # a finding inside a report has none of its own
    return validated(Finding, record, path)


def validated(kind: type[_Model], record: dict[str, Any], path: str | Path) -> _Model:
    """The record of a file as what it is a record of.

    Raises:
        InputError: naming every place that does not follow the schema.
    """
    try:
        return kind.model_validate_json(json.dumps(record))
    except ValidationError as error:
        raise InputError(
            [
                Fault(f"{path}, {'.'.join(map(str, item['loc']))}", repr(item["input"])[:80], item["msg"], REMEDY)
                for item in error.errors()
            ]
        ) from error


def schema() -> dict[str, Any]:
    """The JSON schema of report.json, as plain JSON types."""
    return Report.model_json_schema(schema_generator=_TwinSchema)


class _TwinSchema(GenerateJsonSchema):
    """pydantic's schema, which forgets that a float may stand as one of three strings."""

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        return {"anyOf": [super().float_schema(schema), {"enum": ["NaN", "Infinity", "-Infinity"]}]}


def _text(record: dict[str, Any]) -> str:
    record = _without_nonfinite(record)
    text = json.dumps(record, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return printable_json(text) + "\n"


def _without_nonfinite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nonfinite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nonfinite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
