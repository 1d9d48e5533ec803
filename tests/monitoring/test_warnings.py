"""Each warning stands on its own numbers, and is silent just beside them."""

from dataclasses import replace

import pytest

from promptreach.monitoring.readings import PromptReading
from promptreach.monitoring.warnings import WatchedTraining, warnings_of

FACTS = WatchedTraining(total_steps=100, virtual_tokens=4, trainable=True, optimised=True, dtype="float32")
HEALTHY = PromptReading(
    step=0,
    loss=1.0,
    prompt_norm=1.0,
    vocabulary_norm=1.0,
    gradient_norm=0.1,
    layer_gradients=(0.1, 0.2),
    moved=0.01,
    entries_moved=1.0,
    attention_share=0.3,
    layer_shares=(0.2, 0.4),
    padded_behind_prompt=0.0,
    labelled_rows=1.0,
    most_frequent_answer=0.7,
    most_frequent_label=0.5,
)


def three(**changed: object) -> list[PromptReading]:
    return [replace(HEALTHY, step=step, **changed) for step in (0, 10, 20, 30)]


@pytest.mark.parametrize(
    ("key", "sick", "well"),
    [
        ("no_gradient", {"gradient_norm": 0.0}, {"gradient_norm": 1e-30}),
        ("no_gradient", {"gradient_norm": None}, {}),
        ("barely_moves", {"moved": 0.00049}, {"moved": 0.00051}),
        ("far_start", {"prompt_norm": 5.01}, {"prompt_norm": 4.99}),
        ("padding", {"padded_behind_prompt": 0.1}, {"padded_behind_prompt": None}),
        ("unlabelled", {"labelled_rows": 0.9}, {"labelled_rows": None}),
        ("unread", {"layer_shares": (0.0, 1e-7)}, {"layer_shares": (0.0, 1e-5)}),
        ("saturated", {"attention_share": 0.995}, {"attention_share": 0.985}),
        ("dead_layers", {"layer_gradients": (0.0, 1.0)}, {"layer_gradients": (1e-5, 1.0)}),
        ("collapsed", {"most_frequent_answer": 1.0}, {"most_frequent_answer": 1.0, "most_frequent_label": 1.0}),
    ],
)
def test_a_warning_follows_its_own_number_alone(key: str, sick: dict[str, object], well: dict[str, object]) -> None:
    assert set(warnings_of(FACTS, three(**sick))) == {key}
    assert warnings_of(FACTS, three(**well)) == {}


@pytest.mark.parametrize("changed", [{"trainable": False}, {"optimised": False}])
def test_a_frozen_prompt_is_told_before_any_reading(changed: dict[str, bool]) -> None:
    assert set(warnings_of(replace(FACTS, **changed), [])) == {"frozen"}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_steps_lost_to_rounding_are_no_matter_of_the_rate(dtype: str) -> None:
    facts = replace(FACTS, dtype=dtype)
    assert set(warnings_of(facts, three(entries_moved=0.1, moved=1e-6))) == {"rounding"}
    assert warnings_of(facts, three()) == {}
    assert warnings_of(FACTS, three(entries_moved=0.1)) == {}


def test_one_reading_does_not_make_a_rate_too_small() -> None:
    assert warnings_of(FACTS, three(moved=1e-9)[:1]) == {}


def test_answers_are_given_time() -> None:
    assert warnings_of(replace(FACTS, total_steps=1000), three(most_frequent_answer=1.0)) == {}
