"""A run that is paused and goes on is bit for bit the run that was never paused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.single_run import train
from helpers.tasks import SOFT, config_of, no_step, task_of
from promptreach.training.runs import Run, RunConfig, RunStore


def assert_same(first: Run, second: Run) -> None:
    """Every tensor and every number of two runs agrees, their times aside."""
    for one, other in (
        (first.state, second.state),
        (first.head, second.head),
        (first.validation.tensors, second.validation.tensors),
        (first.held_out.tensors, second.held_out.tensors),
    ):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert first.steps == second.steps
    assert first.status == second.status
    assert first.curve[1:] == second.curve[1:]
    assert first.curve[0].validation_loss == second.curve[0].validation_loss


def paused_and_whole(family: str, config: RunConfig, pauses: list[int], store: RunStore) -> Run:
    """The whole run after stops at `pauses`; how far each of them came is checked on the way."""
    for pause in pauses:
        stopped = train(task_of(family), replace(config, pause=pause, score_held_out=False), store, no_step)
        assert stopped.steps == pause
        assert stopped.held_out is None
        assert [look.step for look in stopped.curve][-1] == pause
    return train(task_of(family), config, store, no_step)


@pytest.mark.parametrize("method", SOFT)
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_pause_changes_nothing(family: str, method: str, tmp_path: Path) -> None:
    config = config_of(method, learning_rate=0.05, steps=12, patience=9)
    expected = train(task_of(family), config, RunStore(None), no_step)
    assert_same(paused_and_whole(family, config, [2, 5, 6], RunStore(tmp_path)), expected)
    assert_same(paused_and_whole(family, config, [2, 5, 6], RunStore(None)), expected)
    assert not list(tmp_path.glob("*/paused.safetensors"))  # a finished run needs none


def test_a_pause_that_is_scored_starts_its_curve_at_the_start_and_changes_nothing() -> None:
    config, store = config_of("prompt", learning_rate=5.0, steps=12, patience=9), RunStore(None)
    expected = train(task_of("llama"), config, RunStore(None), no_step)
    stopped = train(task_of("llama"), replace(config, pause=4), store, no_step)
    assert [look.step for look in stopped.curve] == [0, 3, 4]
    assert stopped.held_out is not None
    assert_same(train(task_of("llama"), config, store, no_step), expected)


@settings(max_examples=8)
@given(
    pauses=st.lists(st.integers(1, 10), max_size=3), rate=st.sampled_from([0.05, 1.0, 5.0]), patience=st.integers(1, 4)
)
def test_pauses_anywhere_change_nothing(pauses: list[int], rate: float, patience: int) -> None:
    """In any order, at rates that make the best look the first or stop the run early, too."""
    config = config_of("prompt", learning_rate=rate, steps=10, evaluations=5, patience=patience)
    expected = train(task_of("gpt2"), config, RunStore(None), no_step)
    assert_same(paused_and_whole("gpt2", config, pauses, RunStore(None)), expected)


def test_a_paused_run_shows_where_it_led_not_its_best() -> None:
    config = config_of("prompt", learning_rate=5.0, head_learning_rate=1.0, steps=8, evaluations=8, patience=9, pause=2)
    run = train(task_of("llama"), config, RunStore(None), no_step)
    losses = [look.validation_loss for look in run.curve]
    assert run.validation.mean_loss == losses[-1] > min(losses)


def test_going_on_takes_only_the_steps_that_are_left() -> None:
    done: list[int] = []

    def count(advance: int = 1, note: str = "") -> None:
        if note.startswith("loss"):
            done.append(advance)

    store, config = RunStore(None), config_of("prefix", steps=8, patience=9)
    train(task_of("gpt2"), replace(config, pause=5), store, count)
    assert sum(done) == 5
    train(task_of("gpt2"), config, store, count)
    assert sum(done) == 8


def test_a_broken_pause_is_as_good_as_none(tmp_path: Path) -> None:
    store, config = RunStore(tmp_path), config_of("prompt", steps=8, patience=9)
    expected = train(task_of("gpt2"), config, RunStore(None), no_step)
    train(task_of("gpt2"), replace(config, pause=4), store, no_step)
    (kept,) = tmp_path.glob("*/paused.safetensors")
    kept.write_bytes(kept.read_bytes()[:-7])
    assert_same(train(task_of("gpt2"), config, store, no_step), expected)


def test_the_comparison_notices_one_bit() -> None:
    run = train(task_of("gpt2"), config_of("prompt"), RunStore(None), no_step)
    state = {"embeddings": torch.nextafter(run.state["embeddings"], torch.tensor(9.0))}
    with pytest.raises(AssertionError):
        assert_same(run, replace(run, state=state))
