"""The JSON twin: what is written is read back, and what cannot be read is refused by its place."""

import json
import math
import re
from pathlib import Path

import pytest

from helpers.sample_report import sample_result
from promptreach.errors import InputError
from promptreach.report.findings import Curve
from promptreach.report.html import write_report
from promptreach.report.json import read_report, render_json, schema


def test_json_round_trip_restores_the_result(tmp_path: Path) -> None:
    result = sample_result()
    page = write_report(result, tmp_path)
    again = read_report(page.with_name("report.json"))
    assert render_json(again) == render_json(result)
    assert again.verdict is result.verdict
    curve = again.findings[1].blocks[0]
    assert isinstance(curve, Curve)
    assert math.isnan(curve.series[1].y[-1])


def test_json_has_sorted_keys_and_no_bare_nan() -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    text = render_json(sample_result())
    record = json.loads(text, parse_constant=refuse)
    assert text == json.dumps(record, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "schema_version 2; expected schema_version 1"),
        ({"schema_version": True}, "schema_version True"),
        ({"schema_version": None}, "schema_version None"),
        ({"verdict": "PERHAPS"}, "verdict: 'PERHAPS'"),
        ({"extra": 1}, "extra: 1"),
    ],
)
def test_read_report_refuses_what_it_does_not_know(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(json.loads(render_json(sample_result())) | change))
    with pytest.raises(InputError, match=re.escape(message)):
        read_report(path)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b"null"])
def test_read_report_refuses_damaged_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(str(path))):
        read_report(path)


def test_read_report_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_report(tmp_path / "report.json")


def test_schema_describes_the_twin() -> None:
    described = schema()
    assert json.loads(json.dumps(described)) == described
    assert described["properties"]["schema_version"]["const"] == 1
    assert set(json.loads(render_json(sample_result()))) == set(described["properties"])
    y = described["$defs"]["Series"]["properties"]["y"]["items"]
    assert y == {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
