"""The task whose rows are all one part: the same rows to train on and to judge, and a head that may memorise them."""

import pytest

from helpers.models import tiny_model
from helpers.tasks import completer, completions, labelled
from promptreach.diagnosis.measures.memorise import prepare_same_rows
from promptreach.errors import InputError
from promptreach.training.task.readout import POOLINGS
from promptreach.tuning import Limits

LIMITS = Limits(train=20, max_length=16)


def test_all_parts_are_the_same_rows_and_as_many_as_allowed() -> None:
    task = prepare_same_rows(tiny_model("bert"), labelled(50), limits=LIMITS, seed=0, longest_prompt=4)
    assert len(task.train) == 20
    assert task.train is task.validation is task.held_out
    assert task.encoded["train"] is task.encoded["held_out"] is task.encoded["validation"]


def test_the_head_reads_the_usual_place_unless_one_is_given() -> None:
    model = tiny_model("bert")
    usual, given = POOLINGS[model.task][:2]
    for pooling, expected in ((None, usual), (given, given)):
        task = prepare_same_rows(model, labelled(50), limits=LIMITS, seed=0, longest_prompt=4, pooling=pooling)
        assert task.pooling == expected
        assert list(task.probes) == [expected]


def test_the_head_alone_may_memorise_what_it_can() -> None:
    """With hardly any ridge, 20 rows of 32 features in two classes are separated however they are labelled."""
    task = prepare_same_rows(tiny_model("bert"), labelled(50), limits=LIMITS, seed=0, longest_prompt=4)
    assert task.evaluate("train", task.objective()).accuracy == 1.0


def test_completions_have_no_head_and_another_seed_draws_other_rows() -> None:
    first, same, other = (
        prepare_same_rows(completer("llama"), completions(50), limits=LIMITS, seed=seed, longest_prompt=4)
        for seed in (0, 0, 1)
    )
    assert first.pooling is None
    assert first.probes == {}
    assert first.digest == same.digest != other.digest


def test_a_prompt_that_leaves_no_room_is_refused() -> None:
    model = tiny_model("bert")
    with pytest.raises(InputError, match="virtual tokens"):
        prepare_same_rows(model, labelled(50), limits=LIMITS, seed=0, longest_prompt=model.max_positions)
