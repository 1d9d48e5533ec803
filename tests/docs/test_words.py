"""The page of words covers what users meet, and every name on it is one of the library's."""

import re
from pathlib import Path

import pytest

import promptreach as pr
from promptreach.certificate import Evidence, Recheck, Side, Verdict
from promptreach.fast_attention.planner import METHODS as ATTENTION_METHODS

PAGE = (Path(__file__).parents[2] / "docs" / "words.md").read_text("utf-8")
CODE = set(re.findall(r"`([^`\n]+)`", PAGE))


@pytest.mark.parametrize("name", sorted(name for name in CODE if name.startswith("pr.")))
def test_a_name_on_the_page_is_there(name: str) -> None:
    found = pr
    for part in name.split(".")[1:]:
        found = getattr(found, part)
    assert found.__doc__


@pytest.mark.parametrize("name", sorted(name for name in pr.__all__ if name[0].isupper()))
def test_every_record_at_the_top_is_explained(name: str) -> None:
    assert f"pr.{name}" in CODE


def test_every_word_that_a_report_or_an_option_uses_is_explained() -> None:
    starts = {start for method in pr.tuning.METHODS.values() for start in method.inits}
    words = {*pr.tuning.METHODS, *starts, *ATTENTION_METHODS, *(verdict.value for verdict in pr.tuning.TuningVerdict)}
    words |= {side.value for side in Side} | {verdict.value for verdict in Verdict}
    said = CODE | {word for code in CODE for word in code.split()} | set(re.findall(r"method `(\w+)`", PAGE))
    assert words - said == set()


@pytest.mark.parametrize("word", [*(kind.value for kind in Evidence), *(state.value for state in Recheck)])
def test_every_state_of_a_number_has_its_row(word: str) -> None:
    assert f"\n| {word} |" in PAGE


def test_every_public_class_of_training_is_on_the_page_or_is_named_for_what_it_holds() -> None:
    """A new word that users meet in `promptreach.tuning` has to be explained, or said here to need no explanation."""
    plain = {
        "Capacity",
        "Diagnosis",
        "Limits",
        "MemorySettings",
        "MethodSize",
        "Prediction",
        "ReachedShare",
        "RunStore",
    }
    classes = {name for name, thing in vars(pr.tuning).items() if isinstance(thing, type)}
    assert {name for name in classes if f"pr.tuning.{name}" not in CODE} == plain
