"""The diagnosis suite keeps its own rules: halves, expectations, and scores that tell the ways of being wrong apart."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks" / "diagnosis"))

import score
import tasks
import truth

from helpers.models import tiny_model
from promptreach.data import LabelledTexts
from promptreach.tuning import TuningVerdict


def row(verdict: str, evidence: str = "MEASURED", half: str = "reported", **changes: Any) -> dict[str, Any]:
    right = verdict == "FITS"
    return {
        "task": "one",
        "seed": 0,
        "kind": "planted",
        "model": "small_gpt",
        "half": half,
        "expected": ["FITS"],
        "verdict": verdict,
        "right": right,
        "evidence": evidence,
        "headline": "",
        "seconds": 1.0,
        **changes,
    }


def test_enough_tasks_over_enough_models() -> None:
    assert len(tasks.TASKS) >= 24
    assert len({task.model for task in tasks.TASKS.values()}) >= 3


def test_every_expectation_is_a_verdict_and_every_verdict_is_expected_somewhere() -> None:
    expected = {verdict for task in tasks.TASKS.values() for verdict in task.expected}
    assert expected == {str(verdict) for verdict in TuningVerdict}


def test_the_reported_half_asks_for_every_verdict_on_models_of_several_sizes() -> None:
    reported = [task for name, task in tasks.TASKS.items() if tasks.half_of(name) == "reported"]
    assert {task.name for task in reported} == tasks.REPORTED
    expected = Counter(task.expected for task in reported)
    assert {verdict for given in expected for verdict in given} == {str(verdict) for verdict in TuningVerdict}
    assert min(expected[cause,] for cause in ("FITS", "OPTIMISER", "FORM", "MORE_TOKENS", "DATA")) >= 4
    assert len({task.model for task in reported}) >= 5


def test_names_say_nothing_to_the_diagnosis() -> None:
    model = tiny_model("gpt2")
    for task in tasks.TASKS.values():
        if task.kind in ("shuffled", "few", "contradicted"):
            assert task.rows(model, 0).source == "memory"


def test_contradictions_leave_no_method_a_gain() -> None:
    model = tiny_model("gpt2")
    for task in tasks.TASKS.values():
        if task.kind == "contradicted":
            data = task.rows(model, 0)
            majority = max(Counter(data.answers).values()) / len(data)
            assert truth.possible(data) - majority < 0.04


def test_possible_counts_the_majority_of_each_input() -> None:
    data = LabelledTexts(("a", "a", "a", "b"), (0, 0, 1, 1), ("no", "yes"))
    assert truth.possible(data) == pytest.approx(3 / 4)


def test_another_seed_draws_other_rows() -> None:
    task = tasks.TASKS["shuffled-letters"]
    first, again, other = (task.rows(tiny_model("gpt2"), seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_scores_tell_the_ways_of_being_wrong_apart() -> None:
    rows = [row("FITS"), row("DATA", "PROVED"), row("FORM"), row("UNDECIDED", "UNKNOWN"), row("DATA", half="tuning")]
    found = score.scores(rows)
    assert found["share_right"] == pytest.approx(1 / 4)
    assert found["wrong_while_proved"] == 1
    assert found["halves"]["reported"]["wrong_while_measured"] == 1
    assert found["halves"]["reported"]["undecided"] == 1
    assert found["halves"]["tuning"]["share_right"] == 0


def test_the_confusion_matrix_counts_what_was_said_by_what_is_true() -> None:
    rows = [row("FITS"), row("FORM"), row("FORM"), row("DATA", expected=["DATA"]), row("FITS", half="tuning")]
    found = score.scores(rows)
    assert found["confusion"] == {"DATA": {"DATA": 1}, "FITS": {"FITS": 1, "FORM": 2}}
    assert found["expected"]["FITS"]["diagnoses"] == 3
    assert found["halves"]["reported"]["share_wrong_while_measured"] == pytest.approx(3 / 4)
    assert score.as_markdown(found["confusion"]).splitlines()[3] == "| FITS | 0 | 1 | 2 |"


def test_half_of_the_tasks_of_form_and_of_length_are_of_several_layers() -> None:
    for kind in ("lookup", "pairwise"):
        own = [task for task in tasks.TASKS.values() if task.kind == kind]
        assert len(own) >= 10
        assert 2 * sum("one_layer" not in task.model for task in own) >= len(own)
        assert all(task.plain and task.truth for task in own)
    assert all(method in ("prompt", "prefix", "lora") for method, _, _ in tasks.PAIRS)


@pytest.mark.parametrize(("long", "stands"), [(0.98, True), (0.9, False)])
def test_a_length_task_stands_only_where_few_tokens_fall_clearly_short(long: float, stands: bool) -> None:
    found = {"head": 0.06, "prompt 4": 0.3, "prefix 2": 0.84, "prefix 8": long, "lora 16": 0.97}
    assert truth.holds(tasks.TASKS["lookup-two-a"], found) is stands


def test_a_right_verdict_that_is_proved_is_not_counted_as_wrong() -> None:
    assert score.scores([row("FITS", "PROVED")])["wrong_while_proved"] == 0


def test_no_rows_have_no_share() -> None:
    assert score.scores([])["share_right"] is None


def test_listing_names_what_is_wrong_and_only_that() -> None:
    listed = score.listing([row("FITS", task="good"), row("FORM", task="bad")])
    assert "bad" in listed
    assert "good" not in listed
    assert score.listing([row("FITS")]) == "All right."


@pytest.mark.parametrize(("lora", "stands"), [(0.9, True), (0.6, False)])
def test_a_form_task_stands_only_where_lora_is_clearly_better(lora: float, stands: bool) -> None:
    found = {"head": 0.3, "prompt 8": 0.5, "prompt 32": 0.55, "lora 8": lora}
    assert truth.holds(tasks.TASKS["third-letter"], found) is stands


@pytest.mark.parametrize(("attempt", "stands"), [(0.4, True), (0.95, False)])
def test_a_crippled_task_stands_only_where_the_attempt_fails(attempt: float, stands: bool) -> None:
    found = {"hidden prompt": 1.0, "head": 0.3, "prompt 4": 0.99, "attempt": attempt}
    assert truth.holds(tasks.TASKS["crippled-max"], found) is stands
