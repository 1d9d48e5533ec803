"""The user's own parts reach training as they are, and nothing of one becomes another."""

from dataclasses import replace

import pytest

from helpers.chat_models import pair_model
from helpers.tasks import labelled, model_of
from promptreach.data import LabelledTexts
from promptreach.errors import DataError
from promptreach.tables import read_task
from promptreach.training.task.limits import Limits, drawn_rows
from promptreach.training.task.parts import PARTS, divided, shared_rows
from promptreach.training.task.task import prepare


def own(*names: str) -> LabelledTexts:
    """Forty rows, the parts in turn."""
    data = labelled(40)
    return replace(data, parts=tuple(names[i % len(names)] for i in range(40)), rows=tuple(range(1, 41)))


def test_parts_that_the_user_gave_are_taken_whole() -> None:
    data = own("train", "validation", "train", "held_out")
    task = prepare(model_of("bert"), data, longest_prompt=4)
    for name in PARTS:
        expected = tuple(text for text, part in zip(data.texts, data.parts, strict=True) if part == name)
        assert getattr(task, name).texts == expected
    limited = prepare(model_of("bert"), data, longest_prompt=4, limits=Limits(held_out=5))
    assert len(limited.held_out) == 5
    assert set(limited.held_out.rows) <= set(task.held_out.rows)


@pytest.mark.parametrize("given", ["validation", "held_out"])
def test_a_missing_part_is_drawn_from_the_training_rows_alone(given: str) -> None:
    data = own("train", "train", "train", given)
    parts, again = divided(data, 3), divided(data, 3)
    assert parts == again
    assert parts[given].rows == tuple(range(4, 41, 4))
    assert sorted(row for part in parts.values() for row in part.rows) == list(range(1, 41))
    assert min(map(len, parts.values())) > 0
    assert len(parts["train"]) > len(parts["held_out" if given == "validation" else "validation"])


def test_training_rows_that_are_too_few_to_give_some_away() -> None:
    data = replace(own("held_out"), parts=("train",) * 3 + ("held_out",) * 37, part_sources={"train": "t.csv"})
    with pytest.raises(DataError, match="3 different inputs to train on, and no validation part"):
        divided(data, 0)
    assert divided(own("train", "held_out"), 0)["held_out"].source == "memory"


@pytest.mark.parametrize("part", PARTS)
def test_a_part_whose_rows_weigh_nothing_is_refused(part: str) -> None:
    words = {"train": "training", "held_out": "test"}.get(part, part)
    data = own("train", "validation", "train", "held_out")
    data = replace(data, weights=tuple(float(one != part) for one in data.parts), columns={"weight": "loss_weight"})
    with pytest.raises(DataError, match=f"{words} part, column 'loss_weight': the weight 0 in all of its"):
        divided(data, 0)
    alone = replace(labelled(40), weights=(1.0, *(0.0,) * 39))
    with pytest.raises(DataError, match="weights: the weight 0 in all of its"):
        divided(alone, 0)


def test_drawn_rows_that_weigh_nothing_are_refused() -> None:
    data = own("train", "train", "validation", "held_out")
    drawn = set(drawn_rows(10, 2, 0))  # of the test part, which has every fourth row
    data = replace(data, weights=tuple(float(index % 4 != 3 or index // 4 not in drawn) for index in range(40)))
    divided(data, 0)
    with pytest.raises(DataError, match="test part, weights: the weight 0 in all of its 2 rows"):
        prepare(model_of("bert"), data, longest_prompt=4, limits=Limits(held_out=2))


def test_one_row_that_counts_is_enough_to_train_on() -> None:
    data = own("train", "validation", "train", "held_out")
    weights = tuple(float(index == 0 or part != "train") for index, part in enumerate(data.parts))
    task = prepare(model_of("bert"), replace(data, weights=weights), longest_prompt=4)
    assert all(probe.weight.isfinite().all() for probe in task.probes.values())


def test_rows_that_stand_in_two_parts_are_counted_by_their_tokens() -> None:
    contents = {"held_out": [(1, 2), (3,), (3,)], "train": [(3,), (4,)], "validation": [(1, 2)]}
    assert shared_rows(contents) == {("train", "held_out"): 2, ("validation", "held_out"): 1}
    assert shared_rows({"train": [(1,)], "validation": [(2,)]}) == {}


def test_pairs_go_through_prepare_as_the_tokenizer_writes_them() -> None:
    rows = [{"premise": f"a {i % 6 + 1} b", "hypothesis": f"{i % 5 + 1}", "label": i % 2} for i in range(30)]
    data, model = read_task(rows), pair_model()
    task = prepare(model, data, longest_prompt=4)
    assert isinstance(task.train, LabelledTexts)
    both = model.tokenizer(list(task.train.texts), list(task.train.seconds))["input_ids"]
    assert task.encoded["train"].sequences == tuple(map(tuple, both))
