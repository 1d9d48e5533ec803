"""The first look: what it knows stands in it, it trains nothing, and it says how often such a look was right."""

from dataclasses import replace
from typing import Any

import pytest

from helpers.audit_cases import SETTINGS, finding_of, rows
from helpers.models import tiny_model
from helpers.tasks import completions
from promptreach.audit.checks import first_look
from promptreach.audit.context import AuditContext, prepared
from promptreach.audit.estimate import Opening, estimated
from promptreach.diagnosis.rules import likely
from promptreach.diagnosis.rules.likely import Record
from promptreach.report.findings import Finding
from promptreach.tables import read_task


def looked_at(model: Any, data: Any, opening: Opening | None = None, **changes: Any) -> tuple[AuditContext, Finding]:
    context = prepared(model, data, replace(SETTINGS, **changes), opening=opening)
    for name in ("data", "bare_model"):
        assert finding_of(name, context).status == "done"
    return context, finding_of(first_look.NAME, context)


def test_it_says_what_is_known_and_what_the_rest_takes() -> None:
    model, data = tiny_model("bert"), read_task(rows(60))
    opening = estimated(model, data, SETTINGS)
    context, found = looked_at(model, data, opening)
    assert opening.plan is not None
    assert found.evidence.value == "PREDICTED"
    assert (found.values["rule"], found.values["likely"]) == ("few rows", "UNDECIDED")
    assert 0 < found.values["expected_seconds"] < 60 * opening.plan.minutes
    assert found.values["expected_bytes"] == opening.plan.memory_bytes
    known, planned = found.blocks
    assert [row[0] for row in known.rows] == ["head alone", "an answer that ignores its input"]
    assert known.rows[0][1] == round(context.runs["head"].held_out.accuracy, 4)
    assert [row[0] for row in planned.rows] == ["prompt 3 tokens", "prefix 3 tokens", "LoRA rank 2"]
    assert list(context.runs) == ["head"]
    assert "The rest takes about" in found.summary


def test_words_in_front_of_the_rows_are_scored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    context, found = looked_at(tiny_model("gpt2"), completions(60), instruction="the cat sat", shots=2)
    names = [row[0] for row in found.blocks[0].rows]
    assert names[0] == "bare model"
    assert names[1:] == list(context.asked)
    assert len(context.asked) == 3
    before = dict(context.asked)
    monkeypatch.setattr("promptreach.diagnosis.measures.in_context._scored", None)
    assert finding_of(first_look.NAME, context).status == "done"
    assert context.asked == before


def test_without_an_estimate_it_says_why() -> None:
    _, found = looked_at(tiny_model("bert"), read_task(rows(60)), Opening(None, "no room."))
    assert "expected_seconds" not in found.values
    assert "no room." in found.blocks[1].text


def test_without_the_rows_there_is_nothing_to_look_at() -> None:
    context = prepared(tiny_model("bert"), read_task(rows(60)), SETTINGS)
    assert finding_of(first_look.NAME, context).status == "skipped"


def test_how_often_such_a_look_was_right_stands_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likely, "FIRST_LOOKS", {"few rows": Record(9, 8)})
    _, found = looked_at(tiny_model("bert"), read_task(rows(60)))
    assert "such a first look was right 8 of 9 times" in found.summary
