"""The cost of a step: the model is what it was before, and memory is that of what is trained."""

import time
from dataclasses import replace

import torch

from helpers.audit_cases import SETTINGS, rows
from helpers.models import tiny_model
from helpers.tasks import completer, completions
from promptreach.audit.step_cost import (
    StepCost,
    Stopwatch,
    answer_seconds,
    row_seconds,
    same_length,
    step_cost,
    usual_first,
)
from promptreach.tables import read_task
from promptreach.training.methods.budget import parameter_count
from promptreach.training.runs import RunConfig
from promptreach.training.task.judging import Judging
from promptreach.training.task.task import prepare


def test_steps_are_taken_back_and_their_memory_is_that_of_what_is_trained() -> None:
    model = tiny_model("gpt2")
    before = {name: weight.clone() for name, weight in model.release().state_dict().items()}
    data = read_task(rows(60))
    task = prepare(model, data, limits=SETTINGS.limits, longest_prompt=3)
    config = RunConfig(method="full", tokens=0, rank=0, init="pretrained", learning_rate=0.0, steps=4, batch_size=4)
    full = step_cost(task, config, 0.0)
    prompt = step_cost(task, replace(config, method="prompt", tokens=3, init="random"), 0.0)
    head = 2 * model.hidden_size + 2
    assert prompt.optimiser == 20 * (parameter_count(model, "prompt", tokens=3) + head)
    assert full.optimiser > prompt.optimiser
    assert prompt.activations > 0
    assert prompt.seconds > 0
    assert full.setup > 0
    assert row_seconds(task, 0.0) > 0
    after = model.release().state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


def test_writing_costs_where_answers_are_written() -> None:
    plain, judged = (
        prepare(completer(), completions(), limits=SETTINGS.limits, longest_prompt=3, judging=judging)
        for judging in (Judging(), Judging("chrf"))
    )
    assert answer_seconds(plain) == 0.0
    assert answer_seconds(judged) > 0.0


def test_a_busy_machine_makes_work_no_dearer_and_is_told_by_the_clock() -> None:
    watch = Stopwatch(tiny_model("gpt2"))
    assert watch.slowness == 1.0
    with watch.timed():
        time.sleep(0.2)
    assert watch.passed >= 0.2
    assert watch.worked < 0.1
    assert watch.slowness > 2.0


def test_no_more_steps_are_timed_than_a_run_takes() -> None:
    model = tiny_model("gpt2")
    task = prepare(model, read_task(rows(60)), limits=SETTINGS.limits, longest_prompt=3)
    config = RunConfig(method="prompt", tokens=3, rank=0, init="random", learning_rate=0.0, steps=2, batch_size=4)
    began = time.monotonic()
    assert step_cost(task, config, 3600.0).seconds > 0
    assert time.monotonic() - began < 600


def test_a_longer_prompt_costs_in_proportion_to_all_tokens() -> None:
    assert same_length(StepCost(2.0, 100, 7), 10.0, before=10, after=30) == StepCost(4.0, 200, 7)


def test_batches_of_average_cost_are_timed_first() -> None:
    lengths = [2, 2, 2, 4, 4, 4, 30, 6]
    batches = [[0, 1], [2, 3], [4, 5], [6, 7]]
    first, *others = usual_first(batches, lengths)
    assert first == [2, 3]  # a row takes 2, 4, 4 and 30 positions: 10 on average
    assert sorted([first, *others]) == batches
    assert others[-1] == [6, 7]
