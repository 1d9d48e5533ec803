"""The front of tuning: every public name of the design, each the very object of its room."""

import importlib
from types import ModuleType

import pytest

import promptreach
from promptreach import tuning

ROOMS = {
    "METHODS": "training.methods.methods",
    "UNIPELT_SIZES": "training.methods.methods",
    "Attempt": "diagnosis.verdict",
    "Backbone": "backbone",
    "Capacity": "capacity.result",
    "Diagnosis": "diagnosis.diagnose",
    "Limits": "training.task.task",
    "MemorySettings": "capacity.memorise",
    "MethodSize": "training.methods.budget",
    "Prediction": "prediction.forecast",
    "ReachedShare": "capacity.reach",
    "Run": "training.runs",
    "RunConfig": "training.runs",
    "RunStore": "training.runs",
    "TEXT_METRICS": "training.task.metric_names",
    "TuningVerdict": "report.verdict",
    "applied": "training.runs",
    "capacity": "capacity.capacity",
    "diagnose": "diagnosis.diagnose",
    "equal_sizes": "training.methods.budget",
    "fit": "training.fit",
    "predict": "prediction.predict",
    "prepare": "training.task.task",
    "reached_share": "capacity.reach",
}
"""The file that makes each public name."""


def test_no_name_is_missing_and_none_stands_there_by_accident() -> None:
    public = {name: value for name, value in vars(tuning).items() if not name.startswith("_")}
    # The shape checks of the tests put a module of their own there.
    assert {name for name, value in public.items() if not isinstance(value, ModuleType)} == ROOMS.keys()


@pytest.mark.parametrize(("name", "room"), ROOMS.items())
def test_a_name_is_the_very_object_of_its_room(name: str, room: str) -> None:
    assert getattr(tuning, name) is getattr(importlib.import_module(f"promptreach.{room}"), name)


def test_the_front_page_leads_there() -> None:
    assert promptreach.tuning is tuning
