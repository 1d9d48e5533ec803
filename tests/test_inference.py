"""The front of inference: every public name of the design, each the very object of its room."""

import importlib
from types import ModuleType

import pytest

import promptreach
from promptreach import inference

ROOMS = {
    "AttentionReport": "fast_attention.report",
    "NormCriterion": "fast_attention.norm_criterion",
    "NormReport": "fast_attention.norm_report",
    "PromptCache": "hf.running.cache",
    "Shrunk": "compression.shrink",
    "ToleranceNotReachedError": "fast_attention.report",
    "attend": "fast_attention.attend",
    "norm_criterion": "fast_attention.norm_criterion",
    "norm_report": "fast_attention.norm_report",
    "precompute": "hf.running.cache",
    "shrink": "compression.shrink",
}
"""The file that makes each public name."""


def test_no_name_is_missing_and_none_stands_there_by_accident() -> None:
    public = {name: value for name, value in vars(inference).items() if not name.startswith("_")}
    # The shape checks of the tests put a module of their own there.
    assert {name for name, value in public.items() if not isinstance(value, ModuleType)} == ROOMS.keys()


@pytest.mark.parametrize(("name", "room"), ROOMS.items())
def test_a_name_is_the_very_object_of_its_room(name: str, room: str) -> None:
    assert getattr(inference, name) is getattr(importlib.import_module(f"promptreach.{room}"), name)


def test_the_front_page_leads_there() -> None:
    assert promptreach.inference is inference
