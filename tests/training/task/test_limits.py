"""Limits on the data: what is refused at once, the room beside a prompt, and rows drawn alike."""

import pytest

from helpers.tasks import completions, model_of
from promptreach.errors import InputError
from promptreach.training.task.limits import Limits, check_room, content_length, drawn_rows, rows_beyond


def test_every_limit_that_is_too_small_is_named() -> None:
    with pytest.raises(InputError) as caught:
        Limits(train=1, validation=0, held_out=-3, max_length=0)
    assert len(caught.value.faults) == 4


def test_rows_are_cut_where_the_longest_prompt_ends_the_context() -> None:
    model = model_of("gpt2")
    assert content_length(model, Limits(max_length=9), 4) == 9
    assert content_length(model, Limits(max_length=10**6), 4) == model.max_positions - 4


def test_a_prompt_without_room_and_completions_of_an_encoder_are_refused_at_once() -> None:
    model = model_of("bert")
    with pytest.raises(InputError) as caught:
        check_room(model, completions(4), int(model.max_positions))
    assert [fault.where for fault in caught.value.faults] == ["data", "tokens"]
    check_room(model_of("gpt2"), completions(4), 4)


@pytest.mark.parametrize("most", [1, 7, 20, 99])
def test_drawn_rows_are_some_of_them_in_order_and_the_same_again(most: int) -> None:
    found = drawn_rows(20, most, seed=3)
    assert found == sorted(set(found)) == drawn_rows(20, most, seed=3)
    assert len(found) == min(most, 20)
    assert set(found) <= set(range(20))


@pytest.mark.parametrize(("count", "further", "left"), [(20, 5, 5), (20, 50, 12), (8, 5, 0), (3, 5, 0)])
def test_rows_beyond_are_none_of_those_drawn(count: int, further: int, left: int) -> None:
    found = rows_beyond(count, 8, further, seed=3)
    assert len(found) == left
    assert found == sorted(set(found) - set(drawn_rows(count, 8, seed=3)))
    assert all(row < count for row in found)
