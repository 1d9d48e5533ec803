"""What may be chosen of an audit: lone values stand for lists, and everything wrong is named at once."""

from typing import Any

import pytest

from promptreach.errors import InputError
from promptreach.training.choices import Choices, choices_of, shown_choice


def test_nothing_chosen_leaves_all_to_the_budget() -> None:
    assert choices_of() == Choices()
    assert choices_of().given == {}


def test_lone_values_stand_for_lists_and_lengths_are_sorted() -> None:
    chosen = choices_of(methods="lora", tokens=16, lora_targets="all-linear", learning_rates=1e-3, seeds=3)
    assert chosen.methods == ("lora",)
    assert chosen.tokens == (16,)
    assert chosen.lora_targets == ("all-linear",)
    assert chosen.learning_rates == {"lora": (1e-3,)}
    assert choices_of(tokens=[64, 4]).tokens == (4, 64)
    assert set(chosen.given) == {"methods", "tokens", "lora_targets", "learning_rates", "seeds"}


def test_rates_belong_to_every_method_or_to_the_one_named() -> None:
    assert choices_of(learning_rates=(1, 0.1)).learning_rates["full"] == (0.1, 1.0)
    assert choices_of(learning_rates={"prompt": [0.3, 0.1]}).learning_rates == {"prompt": (0.1, 0.3)}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"methods": ("prompt", "ia3")}, ["methods"]),
        ({"methods": ()}, ["methods"]),
        ({"methods": ("lora", "lora")}, ["methods"]),
        ({"tokens": (4, 0)}, ["tokens"]),
        ({"tokens": "many"}, ["tokens"]),
        ({"rank": 0, "steps": 0, "batch_size": -1, "seeds": 0}, ["rank", "steps", "batch_size", "seeds"]),
        ({"steps": True}, ["steps"]),
        ({"max_length": 3}, ["max_length"]),
        ({"lora_targets": (3,)}, ["lora_targets"]),
        ({"lora_targets": ()}, ["lora_targets"]),
        ({"learning_rates": (0.1, -1)}, ["learning_rates"]),
        ({"learning_rates": float("nan")}, ["learning_rates"]),
        ({"learning_rates": "fast"}, ["learning_rates"]),
        ({"learning_rates": {"ia3": 0.1}}, ["learning_rates, ia3"]),
        ({"methods": ("x",), "tokens": (), "steps": 0}, ["steps", "methods", "tokens"]),
    ],
)
def test_every_fault_is_named(given: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        choices_of(**given)
    assert [fault.where for fault in caught.value.faults] == named


def test_choices_are_shown_as_the_command_line_takes_them() -> None:
    assert shown_choice((4, 16)) == "4,16"
    assert shown_choice({"prompt": (0.1, 0.3), "lora": (1e-3,)}) == "prompt=0.1,prompt=0.3,lora=0.001"
    assert shown_choice("all-linear") == "all-linear"
    assert shown_choice(75) == "75"
