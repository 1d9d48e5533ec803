"""The experiment: what is known of the user's own, the room for content, and findings that say why there is nothing."""

import pytest
import torch

from helpers.diagnosis_cases import SMALL, experiment_of
from promptreach.certificate import Evidence
from promptreach.diagnosis.experiment import Measured, Skipped, longest_prompt
from promptreach.diagnosis.numbers import CollapseNumbers
from promptreach.diagnosis.verdict import Attempt
from promptreach.prompt import Prefix, SoftPrompt

PROMPT = SoftPrompt(torch.ones(5, 32))
PREFIX = Prefix(torch.ones(2, 4, 7, 8), torch.ones(2, 4, 7, 8))


def test_an_adapter_tells_its_form_and_size_and_an_attempt_what_it_is() -> None:
    assert experiment_of().user_settings is None
    assert experiment_of(user_adapter=PROMPT, user_pooling="first").user_settings == Attempt(
        "prompt", tokens=5, pooling="first"
    )
    assert experiment_of(user_adapter=PREFIX).user_settings == Attempt("prefix", tokens=7)
    attempt = Attempt("lora", rank=2)
    assert experiment_of(attempt=attempt).user_settings is attempt


@pytest.mark.parametrize(("max_length", "expected"), [(32, 32), (60, 57)])
def test_content_leaves_room_for_the_longest_prompt(max_length: int, expected: int) -> None:
    """The context of the tiny model holds 64 tokens, the longest prompt here 7."""
    limits = SMALL.__class__(SMALL.train, SMALL.validation, SMALL.held_out, max_length)
    assert experiment_of(limits=limits, user_adapter=PREFIX).content_length == expected
    assert longest_prompt((2, 9), PREFIX) == 9


def test_what_was_not_measured_reads_like_what_was() -> None:
    found = Measured(CollapseNumbers("fresh", 1.0, 0.5, 1, True), "8 rows")
    skipped = Skipped("Nothing to see.")
    assert (found.reason, found.evidence, found["class"]) == ("", Evidence.MEASURED, "fresh")
    assert (skipped.values, skipped.evidence, skipped.sample) == ({}, Evidence.UNKNOWN, "")
    experiment = experiment_of(found={"collapse": found, "drift": skipped})
    assert experiment.numbers == [found.numbers]


def test_labels_are_counted_once_however_often_the_positive_one_is_asked_for() -> None:
    passes = 0

    class Counted(tuple):
        def __iter__(self):
            nonlocal passes
            passes += 1
            return super().__iter__()

    experiment = experiment_of()
    object.__setattr__(experiment.data, "labels", Counted(experiment.data.labels))
    for _ in range(9):
        assert experiment.positive in (0, 1)
        assert experiment.beside is None
    assert passes <= 2
