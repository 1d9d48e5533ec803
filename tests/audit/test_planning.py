"""The making of a plan: what stands in it, that it trains nothing, and that memory and steps are counted right."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import promptreach
from helpers.audit_cases import SETTINGS, rows
from helpers.models import tiny_model
from helpers.tasks import completions
from promptreach.audit import planning
from promptreach.audit.plan import PLANTED_PROMPT, READING, AuditPlan, over
from promptreach.audit.planning import planned
from promptreach.tables import read_task

KEYS = (
    *("task", "rows", "parts", "columns", "unused_columns", "metric", "methods", "cut_rows", "minutes"),
    "memory_bytes",
)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "MEASURED_SECONDS", 0.01)


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
    assert found.cut_rows >= found.cut_answers == 1
    assert ", 1 of them in their answer" in str(found)


def test_a_single_rate_takes_no_search_and_several_lengths_are_several_runs() -> None:
    found = plan_of("gpt2", read_task(rows(60)), tokens=(2, 3), methods=("prompt",), learning_rates={"prompt": (0.1,)})
    assert [run.name for run in found.runs] == ["prompt 2 tokens", "prompt 3 tokens"]
    assert {run.steps for run in found.runs} == {SETTINGS.steps}


def test_an_audit_that_is_only_planned_touches_no_folder(tmp_path: Path) -> None:
    out = tmp_path / "report"
    found = promptreach.audit(
        tiny_model("gpt2"), rows(60), dry_run=True, out=out, budget="quick", steps=3, metric="macro_f1", tokens=3
    )
    assert isinstance(found, AuditPlan)
    assert not out.exists()
    assert (found.metric, found.settings["steps"], found.settings["tokens"]) == ("macro_f1", 3, (3,))


def test_stages_add_up_to_the_time_and_progress_follows_them(of_labels: AuditPlan) -> None:
    assert 60 * of_labels.minutes == pytest.approx(of_labels.slowness * sum(of_labels.stages.values()))
    assert of_labels.work_seconds == pytest.approx(sum(of_labels.stages.values()))
    assert of_labels.stages["training"] == pytest.approx(sum(run.seconds for run in of_labels.runs))
    assert of_labels.seconds_from(READING) == pytest.approx(60 * of_labels.minutes)
    assert of_labels.seconds_from("training") < 60 * of_labels.minutes
    left = of_labels.time_left({name: f"the stage {name}" for name in of_labels.stages})
    assert left.seconds() == pytest.approx(60 * of_labels.minutes)
    left.enter("the stage initialisation")
    assert left.seconds() == pytest.approx(of_labels.seconds_from("initialisation"), rel=0.05, abs=0.05)


def test_more_seeds_and_words_in_front_of_the_rows_take_longer(of_labels: AuditPlan) -> None:
    more = plan_of("bert", read_task(rows(60)), seeds=3)
    assert more.stages["seeds"] > 0 == of_labels.stages["seeds"]
    words = plan_of("gpt2", completions(40), instruction="the cat sat", shots=2)
    assert words.stages["first_look"] > 0 == of_labels.stages["first_look"]


def test_plain_text_is_read_by_language_models_alone(of_labels: AuditPlan) -> None:
    words = plan_of("gpt2", completions(40))
    assert words.stages["drift"] > 0 == of_labels.stages["drift"]


def test_what_comes_first_is_the_least_that_an_audit_takes() -> None:
    model, data = tiny_model("bert"), read_task(rows(60))
    plan = planned(model, data, replace(SETTINGS, tokens=(2, 3), methods=("prompt", "prefix", "lora")))
    assert {run.name for run in plan.runs if run.comes_first} == {"prompt 3 tokens", "lora rank 2"}
    assert 0 < plan.least_minutes < plan.minutes
    assert "where the first prompt fits" in str(plan)
    whole = planned(model, data, replace(SETTINGS, budget="thorough"))
    assert all(run.comes_first for run in whole.runs)
    assert "where the first prompt fits" not in str(whole)


def test_what_lengths_steps_and_form_may_ask_for_is_told_beside_the_rest() -> None:
    model, data = tiny_model("bert"), read_task(rows(60))
    settings = replace(SETTINGS, tokens=(2, 3), methods=("prompt", "prefix", "lora"))
    quick = planned(model, data, replace(settings, budget="quick"))
    longer = {run.name for run in quick.extra} - {PLANTED_PROMPT}
    assert {name.split()[0] for name in longer} == {"prompt", "prefix"}
    assert PLANTED_PROMPT in {run.name for run in quick.extra}
    assert quick.most_minutes > quick.minutes
    assert "where length or form may be" in str(quick)
    thorough = planned(model, data, replace(settings, budget="thorough"))
    more_steps = {over(2 * settings.steps), over(4 * settings.steps)}
    assert {run.name for run in thorough.extra} == {*longer, PLANTED_PROMPT, *more_steps}
    assert "where length, steps or form may be" in str(thorough)
    alone = planned(model, data, replace(settings, methods=("prompt",)))
    assert (alone.extra, alone.most_minutes) == ([], alone.minutes)
    assert "up to" not in str(alone)
