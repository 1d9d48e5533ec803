"""The plan of an audit: what stands in it, that it trains nothing, and that memory and steps are counted right."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import promptreach
from helpers.audit_cases import SETTINGS, rows
from helpers.models import tiny_model
from helpers.tasks import completions
from promptreach.audit import plan
from promptreach.audit.plan import AuditPlan, planned
from promptreach.audit.step_cost import step_cost
from promptreach.tables import read_task
from promptreach.training.methods.budget import parameter_count
from promptreach.training.runs import RunConfig

KEYS = (
    *("task", "rows", "parts", "columns", "unused_columns", "metric", "methods", "cut_rows", "minutes"),
    "memory_bytes",
)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MEASURED_SECONDS", 0.01)


def plan_of(family: str, data: Any, **changes: Any) -> AuditPlan:
    return planned(tiny_model(family), data, replace(SETTINGS, **changes))


@pytest.fixture
def of_labels() -> AuditPlan:
    return plan_of("bert", read_task(rows(60)))


def test_every_key_is_there_as_json(of_labels: AuditPlan) -> None:
    found = json.loads(json.dumps(of_labels.to_dict()))
    assert set(KEYS) <= set(found)
    assert (found["task"], found["rows"], found["metric"]) == ("labels", 60, "accuracy")
    assert sum(part["rows"] for part in found["parts"].values()) <= 60
    assert list(found["parts"]) == ["train", "validation", "test"]
    assert found["methods"] == ["prompt", "prefix", "lora"]
    assert found["minutes"] > 0
    assert found["memory_bytes"] == sum(found["memory"].values())


def test_the_plan_reads_as_a_few_lines(of_labels: AuditPlan) -> None:
    text = str(of_labels)
    for expected in ("60 of labels", "Judged by accuracy", "prompt 3 tokens", "minutes", "GiB"):
        assert expected in text


def test_completions_are_cut_and_counted_not_refused() -> None:
    data = completions(40)
    longer = replace(data, completions=("the cat sat on a mat and ran under the tree", *data.completions[1:]))
    found = plan_of("gpt2", longer, limits=replace(SETTINGS.limits, max_length=9))
    assert (found.task, found.metric) == ("completions", "loss")
    assert found.cut_rows >= 1


def test_a_single_rate_takes_no_search_and_several_lengths_are_several_runs() -> None:
    found = plan_of("gpt2", read_task(rows(60)), tokens=(2, 3), methods=("prompt",), learning_rates={"prompt": (0.1,)})
    assert [run.name for run in found.runs] == ["prompt 2 tokens", "prompt 3 tokens"]
    assert {run.steps for run in found.runs} == {SETTINGS.steps}


def test_steps_are_taken_back_and_their_memory_is_that_of_what_is_trained() -> None:
    model = tiny_model("gpt2")
    before = {name: weight.clone() for name, weight in model.release().state_dict().items()}
    data = read_task(rows(60))
    task = plan._unfitted(model, data, *_encoded(model, data))
    config = RunConfig(method="full", tokens=0, rank=0, init="pretrained", learning_rate=0.0, steps=4, batch_size=4)
    full = step_cost(task, config, 0.0)
    prompt = step_cost(task, replace(config, method="prompt", tokens=3, init="random"), 0.0)
    head = 2 * model.hidden_size + 2
    assert prompt.optimiser == 20 * (parameter_count(model, "prompt", tokens=3) + head)
    assert full.optimiser > prompt.optimiser
    assert prompt.activations > 0
    assert prompt.seconds > 0
    after = model.release().state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


def _encoded(model: Any, data: Any) -> tuple[Any, Any]:
    parts = plan._used(data, SETTINGS.limits, 0)
    return {name: plan.encode(model, part, 16) for name, part in parts.items()}, parts


def test_an_audit_that_is_only_planned_touches_no_folder(tmp_path: Path) -> None:
    out = tmp_path / "report"
    found = promptreach.audit(
        tiny_model("gpt2"), rows(60), dry_run=True, out=out, budget="quick", steps=3, metric="macro_f1", tokens=3
    )
    assert isinstance(found, AuditPlan)
    assert not out.exists()
    assert (found.metric, found.settings["steps"], found.settings["tokens"]) == ("macro_f1", 3, (3,))
