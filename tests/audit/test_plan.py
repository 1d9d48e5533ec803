"""A plan as a record: its three times, what it says it hangs on, and the names of what is trained beyond."""

from dataclasses import replace

import pytest

from promptreach.audit.plan import PLANTED_PROMPT, READING, AuditPlan, PlannedRun, over

RUNS = [
    PlannedRun("prompt 4 tokens", 20, 30.0, 20, comes_first=False),
    PlannedRun("prompt 16 tokens", 20, 60.0, 20),
    PlannedRun("lora rank 8", 20, 50.0, 20),
]
EXTRA = [PlannedRun("prompt 64 tokens", 20, 90.0, 20), PlannedRun(PLANTED_PROMPT, 20, 70.0, 20)]
PLAN = AuditPlan(
    task="labels",
    rows=60,
    parts={"train": {"rows": 40, "source": "rows"}, "test": {"rows": 20, "source": "rows"}},
    columns={"text": "text", "label": "label"},
    unused_columns=["id"],
    metric="accuracy",
    methods=["prompt", "lora"],
    cut_rows=0,
    cut_answers=0,
    minutes=5.0,
    work_seconds=150.0,
    stages={READING: 10.0, "training": 140.0},
    memory_bytes=2**30,
    memory={"weights": 2**30},
    model="a model",
    device="cpu",
    dtype="float32",
    settings={"steps": 20, "batch_size": 8, "limits": {"max_length": 32}},
    runs=RUNS,
    extra=EXTRA,
)


def test_three_times_are_told_apart() -> None:
    assert PLAN.slowness == 2.0
    assert PLAN.least_minutes == pytest.approx(5.0 - 2.0 * 30.0 / 60)
    assert PLAN.most_minutes == pytest.approx(5.0 + 2.0 * 160.0 / 60)
    said = str(PLAN)
    assert "about 5.0 minutes on this machine, 4.0 where the first prompt fits, up to 10.3 where length or form" in said
    assert "Not used  'id'" in said


def test_steps_are_named_only_where_all_may_be_trained_longer() -> None:
    assert PLAN.hangs_on == "length or form"
    longer = replace(PLAN, extra=[*EXTRA, PlannedRun(over(40), 60, 200.0, 60)])
    assert longer.hangs_on == "length, steps or form"
    assert over(1200) == "all over 1,200 steps"


def test_without_anything_beyond_there_is_no_third_time() -> None:
    plain = replace(PLAN, extra=[])
    assert plain.most_minutes == plain.minutes
    assert "up to" not in str(plain)
    assert PLAN.seconds_from("training") == pytest.approx(280.0)
