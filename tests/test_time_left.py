"""The time left follows a machine that changes its speed, and no clock that jumps changes it."""

from collections.abc import Iterator

import pytest

from promptreach.time_left import WINDOW, ExpectedRun, TimeLeft


class Machine:
    """A machine that takes `slowness` times as long for every second of the estimate, and its two clocks."""

    def __init__(self, slowness: float = 1.0) -> None:
        self.slowness = slowness
        self.clock = 1000.0
        self.processor = 10.0

    def work(self, expected: float) -> None:
        self.clock += self.slowness * expected
        self.processor += self.slowness * expected

    def left(self, stages: dict[str, float] | None = None, **runs: ExpectedRun) -> TimeLeft:
        stages = {"training": 0.0} if stages is None else stages
        return TimeLeft(stages, runs, "training", clock=lambda: self.clock, processor=lambda: self.processor)


RUN = ExpectedRun(announced=1000, taken=1000, seconds=1000.0)


def steps(machine: Machine, left: TimeLeft, count: int, name: str = "prompt") -> Iterator[int]:
    """`count` steps, each of a second of the estimate."""
    for step in range(count):
        machine.work(1.0)
        left.step(name, 1)
        yield step


@pytest.mark.parametrize("slowness", [0.2, 1.0, 5.0])
def test_a_machine_of_another_speed_is_known_within_a_minute(slowness: float) -> None:
    machine = Machine(slowness)
    left = machine.left(prompt=RUN)
    left.begin("prompt")
    for step in steps(machine, left, 999):
        if slowness * (step + 1) >= WINDOW:
            assert left.seconds() == pytest.approx(slowness * (999 - step))


@pytest.mark.parametrize("slowness", [0.2, 5.0])
def test_a_machine_that_changes_its_speed_by_five_midway_is_followed(slowness: float) -> None:
    machine = Machine()
    left = machine.left(prompt=RUN)
    left.begin("prompt")
    assert [*steps(machine, left, 500)]
    assert left.seconds() == pytest.approx(500)
    machine.slowness = slowness
    changed = machine.clock
    for step in steps(machine, left, 480):
        if machine.clock - changed >= WINDOW:
            assert 1 / 1.3 < left.seconds() / (slowness * (499 - step)) < 1.3
    assert machine.clock - changed >= WINDOW


def test_nothing_seen_counts_as_expected() -> None:
    machine = Machine()
    left = machine.left({"data": 3.0, "training": 0.0, "limits": 11.0}, prompt=RUN)
    assert left.seconds() == 3 + 1000 + 11
    assert left.pace == 1.0


def test_a_stage_that_is_over_takes_nothing_more_whatever_it_took() -> None:
    machine = Machine()
    left = machine.left({"data": 30.0, "training": 0.0, "limits": 11.0}, prompt=RUN)
    left.enter("data")
    machine.work(10.0)
    assert left.seconds() == 20 + 1000 + 11
    machine.work(200.0)
    assert left.seconds() == 1000 + 11
    left.enter("training")
    left.enter("limits")
    assert left.seconds() == 11
    machine.work(40.0)
    assert left.seconds() == 0


def test_runs_that_were_not_planned_and_steps_beyond_the_plan_take_nothing_off() -> None:
    machine = Machine()
    left = machine.left(prompt=ExpectedRun(10, 10, 10.0), lora=ExpectedRun(10, 10, 20.0))
    left.begin("prefix")
    assert [*steps(machine, left, 5, "prefix")]
    assert left.seconds() == 30
    left.begin("prompt")
    assert [*steps(machine, left, 25)]
    assert left.seconds() == 20


def test_steps_that_were_taken_before_do_not_make_the_machine_fast() -> None:
    machine = Machine()
    left = machine.left(prompt=RUN)
    left.begin("prompt")
    machine.work(0.01)
    left.step("prompt", 900)
    assert (left.pace, left.seconds()) == (1.0, pytest.approx(100))


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_a_clock_that_jumps_changes_nothing(jump: float) -> None:
    machine = Machine()
    left = machine.left(prompt=RUN)
    left.begin("prompt")
    assert [*steps(machine, left, 100)]
    machine.clock += jump  # the machine slept, or its clock was set: this process computed nothing meanwhile
    assert [*steps(machine, left, 100)]
    assert left.seconds() == pytest.approx(800)
    assert left.worked == pytest.approx(200, abs=1.0)


def test_an_hour_of_computing_in_one_step_is_no_jump() -> None:
    machine = Machine(slowness=3600.0)
    left = machine.left(prompt=RUN)
    left.begin("prompt")
    assert [*steps(machine, left, 2)]
    assert left.worked == 7200
    assert left.seconds() == pytest.approx(3600 * 998)


def test_the_trials_of_a_run_are_its_steps() -> None:
    machine = Machine()
    wide = "lora rank 8, on all-linear"
    left = machine.left(**{"lora rank 8": ExpectedRun(10, 10, 10.0), wide: ExpectedRun(10, 10, 10.0)})
    for name in ("lora rank 8, rate 0.001", f"{wide}, rate 0.003"):
        left.begin(name)
        assert [*steps(machine, left, 5, name)]
    assert left.seconds() == pytest.approx(5 + 5)
