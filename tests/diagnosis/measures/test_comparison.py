"""The numbers of one run that rules read."""

from dataclasses import replace

import pytest

from helpers.scripted import CONFIG, Scripted
from promptreach.diagnosis.measures.comparison import run_numbers
from promptreach.training.runs import Evaluation


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ((0.9, 0.7, 0.6, 0.5, 0.4), 0.1),  # it falls on
        ((0.9, 0.7, 0.5, 0.6, 0.5), 0.0),  # it rose, and came back to where it was
        ((0.9, 0.7, 0.5, 0.6, 0.45), 0.05),  # what counts is how far below that it came
        ((0.5, 0.8, 0.7, 0.6, 0.55), 0.05),  # it makes good what its first steps did, and is not done
        ((0.9, 0.5, 0.5, 0.5, 0.6), 0.0),
        ((0.9, 0.5), 0.0),  # two looks have no last stretch
    ],
)
def test_a_run_still_falls_by_what_it_gained_over_its_last_stretch(losses: tuple[float, ...], expected: float) -> None:
    run = Scripted(lambda rate, step: losses[-1]).run([CONFIG])[0]
    curve = tuple(Evaluation(20 * at, loss, loss, 0.5) for at, loss in enumerate(losses))
    found = run_numbers(replace(run, curve=curve), run.validation, CONFIG.learning_rate)
    assert found.still_falling == pytest.approx(expected)
