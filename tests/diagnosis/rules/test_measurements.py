"""How numbers are said: units by the metric, sizes by the method."""

from typing import Any

from helpers.rule_cases import compared, numbers
from promptreach.diagnosis.numbers import DataNumbers, TrainingNumbers, numbers_of
from promptreach.diagnosis.rules.measurements import Measurements, sentence, settings_of, unit_of


def seen(**given: Any) -> Measurements:
    found = numbers(**given)
    data, training = numbers_of(found, DataNumbers), numbers_of(found, TrainingNumbers)
    assert data is not None
    assert training is not None
    return Measurements(data, training)


def test_differences_are_said_in_points_or_nats_with_their_interval() -> None:
    assert seen().gain(compared(0.1, 0.0)) == "+10.0 points (90 % interval +10.0 to +10.0)"
    assert seen(metric="loss").gain(compared(-0.1, 0.0)) == "-0.100 nats (90 % interval -0.100 to -0.100)"
    assert (seen().margin_text, seen(metric="loss").margin_text) == ("4 points", "0.05 nats")


def test_settings_are_said_in_the_units_of_the_method() -> None:
    runs = seen().runs
    prefix = "a prefix of 16 slots from the cache of real text at learning rate 0.01"
    assert settings_of(runs["prefix 16 tokens"]) == prefix
    assert settings_of(runs["lora rank 8"]).startswith("a lora of rank 8")
    assert unit_of("prompt") == "virtual tokens"
    assert sentence("it fits") == "It fits"


def test_lora_keeps_up_with_itself_and_the_closest_run_is_the_best_one() -> None:
    some = seen(gains={"prompt 4 tokens": -0.01})
    assert some.keeps_up(some.lora)
    assert some.closest == "prompt 4 tokens"
