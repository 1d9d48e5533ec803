"""Capacity as a finding: its tables hold the record's numbers, and its page goes where it was asked for."""

import json
from pathlib import Path

import pytest

import promptreach as pr
from helpers.models import WORDS
from helpers.tasks import model_of
from promptreach.certificate import Evidence, Recheck
from promptreach.commands.capacity import capacity_finding, write_memorised
from promptreach.report.findings import Curve, Table
from promptreach.report.json import read_finding
from promptreach.tuning import Capacity, MemorySettings


@pytest.fixture(scope="module")
def found() -> Capacity:
    options = {"sequences": 2, "longest": 12, "settings": MemorySettings(steps=4), "quiet": True}
    return pr.tuning.capacity(model_of("llama"), text=" ".join(WORDS * 4), tokens=(1, 2), **options)


def test_every_number_of_the_record_is_shown_and_every_bound_re_checked(found: Capacity) -> None:
    finding = capacity_finding(found)
    assert finding.status == "done"
    assert finding.values == json.loads(json.dumps(found.to_dict()))
    levels, lines, texts = (block for block in finding.blocks if isinstance(block, Table))
    assert [row[:4] for row in levels.rows] == [
        [level.method, level.kind, level.tokens, level.bits.mean] for level in found.levels
    ]
    assert [row[3:5] for row in texts.rows] == [[row.bits_before, row.bits_after] for row in found.rows]
    assert [row[:2] for row in lines.rows] == [[method, kind] for method, kind in found.curves for _ in range(2)]
    proved = [item for item in finding.certificates if item.evidence is Evidence.PROVED]
    assert {item.recheck_state for item in proved} == {Recheck.HELD}
    held, recalled = (block for block in finding.blocks if isinstance(block, Curve))
    assert [series.x for series in (*held.series, *recalled.series)] == [[1.0, 2.0]] * 4


def test_one_number_of_tokens_has_no_line(found: Capacity) -> None:
    options = {"sequences": 1, "longest": 8, "settings": MemorySettings(steps=2), "quiet": True}
    one = capacity_finding(pr.tuning.capacity(model_of("llama"), kinds=("random",), tokens=(1,), **options))
    assert [block.title for block in one.blocks if isinstance(block, Table)] == [
        "By number of virtual tokens",
        "Text by text",
    ]


def test_the_page_and_the_record_are_written_side_by_side(found: Capacity, tmp_path: Path) -> None:
    finding = capacity_finding(found)
    page = write_memorised(finding, "mine", tmp_path)
    assert "What prompts of mine hold" in page.read_text(encoding="utf-8")
    assert read_finding(tmp_path / "capacity.json").values == finding.values
