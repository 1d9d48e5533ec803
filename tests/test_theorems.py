"""The registry of theorems points at things that exist, and nothing cites a theorem that is not in it."""

import dataclasses
import importlib
import re
from pathlib import Path

import pytest

import promptreach
from promptreach import theorems
from promptreach.theorems import THEOREMS, as_markdown

PACKAGE = Path(promptreach.__file__).parent
PROJECT = Path(__file__).parent.parent


def missing_parts(theorem: theorems.Theorem) -> list[str]:
    """What the entry names and the project does not have."""
    missing = []
    if theorem.function:
        module, _, name = theorem.function.partition(":")
        try:
            found = callable(getattr(importlib.import_module(f"promptreach.{module}"), name, None))
        except ModuleNotFoundError:
            found = False
        missing += [] if found else [theorem.function]
    if not (PROJECT / theorem.test).is_file():
        missing.append(theorem.test)
    return missing


def cited_keys(source: str) -> set[str]:
    """The keys that a module cites, in certificates (theorem="...") and in docstrings (theorem key ``...``)."""
    keys = set(re.findall(r'theorem="([^"]+)"', source))
    for mention in re.findall(r"theorem keys?((?:[\s,]|and|``[\w-]+``)+)", source):
        keys |= set(re.findall(r"``([\w-]+)``", mention))
    return keys


@pytest.mark.parametrize("key", THEOREMS)
def test_every_entry_is_complete_and_points_at_things_that_exist(key: str) -> None:
    theorem = THEOREMS[key]
    assert theorem.key == key
    assert missing_parts(theorem) == []
    assert all([theorem.paper, theorem.statement, theorem.hypotheses, theorem.test, theorem.confidence])
    assert re.fullmatch(r"[a-z0-9-]+", key)
    assert re.fullmatch(r"([ABN][1-5])?", theorem.claim)


def test_a_missing_function_or_test_would_be_found() -> None:
    theorem = THEOREMS["mixture-identity"]
    for wrong in ("attention:no_such", "no_such:split"):
        assert missing_parts(dataclasses.replace(theorem, function=wrong)) == [wrong]
    assert missing_parts(dataclasses.replace(theorem, test="tests/none.py")) == ["tests/none.py"]


def test_no_entry_is_lost_on_the_way() -> None:
    source = (PACKAGE / "theorems" / "theorems.toml").read_text(encoding="utf-8")
    assert re.findall(r"^\[(.+)\]$", source, re.MULTILINE) == list(THEOREMS)


def test_every_theorem_that_the_code_cites_is_registered() -> None:
    cited = {key: path for path in PACKAGE.rglob("*.py") for key in cited_keys(path.read_text(encoding="utf-8"))}
    assert "almost-linear-inference" in cited
    assert {key: path.name for key, path in cited.items() if key not in THEOREMS} == {}


def test_citations_are_recognised() -> None:
    assert cited_keys('x(theorem="a-b")') == {"a-b"}
    assert cited_keys("theorem keys ``a``,\n    ``b-c`` and ``d``.") == {"a", "b-c", "d"}
    assert cited_keys("Reference: theorem key ``a``. See ``b``.") == {"a"}


def test_the_table_has_a_row_for_each_theorem_and_seven_cells_in_each() -> None:
    header, rule, *rows = as_markdown().splitlines()
    assert len(rows) == len(THEOREMS)
    for line in (header, rule, *rows):
        assert len(re.split(r"(?<!\\)\|", line)) == 9
    for theorem, row in zip(THEOREMS.values(), rows, strict=True):
        assert row.startswith(f"| `{theorem.key}` |")


def test_bars_in_a_statement_do_not_end_its_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    bars = dataclasses.replace(THEOREMS["max-norm"], statement="|a| <= |b|")
    monkeypatch.setattr(theorems, "THEOREMS", {"max-norm": bars})
    assert r"\|a\| <= \|b\|" in theorems.as_markdown()
