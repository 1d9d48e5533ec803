"""The race: when what is left cannot change the verdict, and how sure its looks are together."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from helpers.diagnosis_cases import SMALL, experiment_of
from helpers.rule_cases import compared, numbers
from helpers.tolerances import assert_close
from promptreach.diagnosis.measures.baselines import train_baselines
from promptreach.diagnosis.measures.comparison import paired
from promptreach.diagnosis.measures.race import (
    BORNE_OUT,
    CLOSE,
    LOOKS,
    on_more_validation,
    settling,
    shared,
    split,
    within_reach,
)
from promptreach.diagnosis.numbers import TrainingNumbers, numbers_of
from promptreach.diagnosis.rules.measurements import MARGIN
from promptreach.report.verdict import TuningVerdict
from promptreach.training.runs import RunConfig
from promptreach.training.task.judging import Judging
from promptreach.training.task.objective import Outcomes


def settled_by(**case: Any) -> str:
    found = numbers(planted=None, **case)
    training = numbers_of(found, TrainingNumbers)
    assert training is not None
    return settling([one for one in found if one is not training], training)


@pytest.mark.parametrize("gain", [0.0, 0.03, -0.005])
def test_a_prompt_that_keeps_up_settles_the_race(gain: float) -> None:
    assert settled_by(prompt_gain=gain).startswith("prompt")


@pytest.mark.parametrize(
    "case",
    [
        {"prompt_gain": -0.10},  # a gap
        {"prompt_gain": 0.0, "error": 0.05},  # too wide to tell
        {"prompt_gain": -0.015, "error": 0.001},  # good enough, and perhaps not the best
        {"prompt_gain": 0.0, "methods": {"lora rank 8": {"best_step": 0, "train_fell": 0.0}}},  # no rival
    ],
)
def test_otherwise_the_others_are_trained(case: dict[str, Any]) -> None:
    assert settled_by(**case) == ""


def test_a_head_that_does_the_task_already_settles_it_as_well() -> None:
    name = settled_by(prompt_gain=0.0, head_gain=0.0, lora_over_head=0.0)
    assert name.startswith("prompt")


def test_nothing_is_settled_before_the_data_were_measured() -> None:
    found = numbers_of(numbers(prompt_gain=0.0), TrainingNumbers)
    assert found is not None
    assert settling([], found) == ""


def test_close_is_a_share_of_what_counts_as_good_enough() -> None:
    assert 0 < CLOSE < 1
    assert CLOSE * MARGIN["accuracy"] == pytest.approx(0.01)


def test_a_shared_interval_is_wider_about_the_same_gain() -> None:
    one = compared(0.02, 0.01)
    both = shared(one)
    assert both.gain == one.gain
    assert both.error == one.error
    assert (both.gain - both.low) == pytest.approx(0.01 * 2.12805, rel=1e-3)
    assert (both.high - both.gain) == pytest.approx(0.01 * 2.12805, rel=1e-3)


def test_all_looks_of_a_race_together_are_wrong_in_one_race_of_twenty_at_most() -> None:
    """Prompts that fall short by just the margin, looked at twice on rows of which the second look sees more: how often
    some look finds that they keep up."""
    generator = torch.Generator().manual_seed(0)
    races, wrong = 2000, 0
    for _ in range(races):
        rows = torch.randn(LOOKS, 200, generator=generator) * 0.3 - MARGIN["loss"]
        looks = [rows[:look].flatten() for look in range(1, LOOKS + 1)]
        one = torch.ones(1)
        found = [paired(Outcomes(-gain, one.expand_as(gain), gain), _nothing(len(gain)), "loss") for gain in looks]
        wrong += any(shared(comparison).low >= -MARGIN["loss"] for comparison in found)
    allowed = 0.05 + 3 * math.sqrt(0.05 * 0.95 / races)
    assert 0 < wrong / races <= allowed


def _nothing(rows: int) -> Outcomes:
    zero = torch.zeros(rows)
    return Outcomes(zero, torch.ones(rows), zero)


def test_what_more_runs_would_not_undo() -> None:
    assert TuningVerdict.FITS in BORNE_OUT
    assert not {TuningVerdict.FORM, TuningVerdict.MORE_TOKENS, TuningVerdict.DATA, TuningVerdict.UNDECIDED} & {
        *BORNE_OUT
    }


def test_runs_are_split_in_their_order() -> None:

    configs = [
        RunConfig(method=method, tokens=tokens, rank=0, init="", learning_rate=0.0, steps=1, batch_size=1)
        for method, tokens in (("prompt", 4), ("lora", 0), ("prompt", 1))
    ]
    first, others = split(configs, lambda config: config.tokens != 1)
    assert [config.tokens for config in first] == [4, 0]
    assert [config.tokens for config in others] == [1]


def test_all_validation_rows_together_are_scored_as_a_run_left_the_model() -> None:
    experiment = experiment_of(tokens=(2, 3), every_run=False, parts=replace(SMALL, validation=5))
    train_baselines(experiment)
    task, outcomes_of = experiment.task, on_more_validation(experiment.task)
    assert task.more_validation is not None
    assert outcomes_of is not None
    assert set(task.more_validation.sequences).isdisjoint({*task.encoded["train"].sequences})
    # Another task, of which those rows are the validation part, is the second way to the same numbers.
    wide = replace(task, encoded={**task.encoded, "validation": task.more_validation})
    seen = len(task.encoded["validation"])
    for name, run in experiment.runs.items():
        found, objective = outcomes_of(run), wide.objective()
        objective.load_head(run.head)
        assert len(found.right) == seen + len(task.more_validation)
        assert torch.equal(found.loss[:seen], run.validation.loss)
        if name == "head":
            alone = wide.evaluate_bare("validation", objective)
            assert_close(found.loss[seen:], alone.loss, "classifier logits")
        else:
            assert not torch.equal(found.loss[seen:], wide.evaluate("validation", objective).loss)


def test_no_more_rows_are_scored_where_there_are_none_or_answers_are_written() -> None:
    task = experiment_of().task
    assert on_more_validation(replace(task, more_validation=None)) is None
    assert on_more_validation(replace(task, judging=Judging(metric="exact_match"))) is None


@pytest.mark.parametrize(("gain", "near"), [(0.0, True), (-0.035, True), (-0.045, False)])
def test_more_rows_are_worth_it_only_where_a_prompt_is_within_the_margin(gain: float, near: bool) -> None:
    found = numbers_of(numbers(prompt_gain=-0.2, gains={"prompt 4 tokens": gain}), TrainingNumbers)
    assert found is not None
    assert within_reach(found) is near
