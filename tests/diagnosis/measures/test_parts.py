"""Labels and rows of each part: what stands on both sides, and blanks where a tokenizer wants none."""

from dataclasses import replace
from typing import Any

import pytest

from helpers.diagnosis_cases import SMALL, experiment_of, here
from helpers.models import tiny_model
from helpers.tasks import completions, labelled
from promptreach.data import Completions, LabelledTexts
from promptreach.diagnosis.experiment import Experiment
from promptreach.diagnosis.measures.parts import measure
from promptreach.training.task.task import prepare


def experiment(data: Any, family: str = "llama") -> Experiment:
    model = tiny_model(family)
    task = prepare(model, data, limits=SMALL, longest_prompt=8)
    return Experiment(data, task, here, tokens=(2, 3), steps=4, batch_size=16, rank=1)


def test_every_label_is_counted_in_both_parts() -> None:
    found = experiment_of()
    numbers = measure(found).numbers
    assert sum(numbers.held_out_labels.values()) == len(found.task.held_out) == numbers.held_out_rows
    assert sum(numbers.train_labels.values()) == len(found.task.train)
    assert numbers.known_rows == 0
    assert (numbers.cut_side, numbers.context) == ("end", found.task.backbone.max_positions)


def test_a_label_without_rows_is_counted_as_none() -> None:
    plain = labelled(100)
    rare = replace(plain, label_names=(*plain.label_names, "never"))
    assert measure(experiment(rare)).numbers.held_out_labels["never"] == 0


@pytest.mark.parametrize("twin", [str.upper, lambda text: f" {text} ", lambda text: text.replace(" ", "  "), str.title])
def test_rows_that_differ_in_case_or_white_space_are_the_same(twin: Any) -> None:
    plain = labelled(60)
    twice = LabelledTexts((*plain.texts, *map(twin, plain.texts)), plain.labels * 2, plain.label_names)
    assert measure(experiment(twice)).numbers.known_rows > 5


def test_rows_that_are_the_same_to_the_model() -> None:
    """Words that it does not know, and what lies behind the cut."""
    plain = labelled(60)
    twice = LabelledTexts(
        tuple(f"{text} {word}" for word in ("xyz", "zyx") for text in plain.texts), plain.labels * 2, plain.label_names
    )
    assert measure(experiment(twice)).numbers.known_rows > 5


def test_rows_to_be_memorised_are_on_both_sides_on_purpose() -> None:
    found = experiment_of(goal="memorise")
    assert measure(found).numbers.known_rows == 0


@pytest.mark.parametrize(("prompt", "told"), [("{} ", True), ("{}\t", True), ("{}", False), ("{}\n", False)])
def test_prompts_that_end_in_white_space(prompt: str, told: bool) -> None:
    plain = completions(60)
    data = Completions(tuple(prompt.format(text) for text in plain.prompts), plain.completions)
    remarks = measure(experiment(data)).numbers.remarks
    assert any("60 of 60 prompts end in white space" in remark for remark in remarks) is told


def test_the_datas_own_remarks_come_along() -> None:
    data = replace(labelled(60), remarks=("Something.",))
    assert measure(experiment(data)).numbers.remarks == ("Something.",)


def test_rows_of_the_users_own_parts_that_stand_in_two_of_them() -> None:
    plain = labelled(60)
    parts = ["train"] * 30 + ["validation"] * 15 + ["held_out"] * 15
    again = [0, 30, *range(2, 30), *range(30, 44), 0, *range(45, 59), 30]  # rows 0 and 30 stand in two parts each
    twice = replace(plain, parts=tuple(parts)).take(again)
    twice = replace(twice, parts=tuple(parts))
    remarks = measure(experiment(twice)).numbers.remarks
    assert "2 of 15 rows of the validation part stand in the training part as well, to the model." in remarks
    assert "1 of 15 rows of the test part stand in the validation part as well, to the model." in remarks
    assert not any("stand in the" in remark for remark in measure(experiment(plain)).numbers.remarks)


@pytest.mark.parametrize(("ending", "told"), [(" goo", True), (" good ", False)])
def test_completions_that_would_merge_with_their_prompts(ending: str, told: bool) -> None:
    plain = completions(60)
    data = Completions(tuple(text + ending for text in plain.prompts), ("d film",) * 60)
    remarks = measure(experiment(data)).numbers.remarks
    assert any("merge" in remark and "goo' and 'd film'" in remark for remark in remarks) is told
