"""The user's own attempt, trained again as they did it, and one thing at a time changed towards the setting that fits.

Each step of the path changes the one setting that helps most on the validation rows, from where the step before left
off, until what is left to the fitting run is not worth a word. So the worths of the steps add up to the whole gap, and
the last step is a run that was really trained: the fix is verified, not inferred.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from promptreach.diagnosis.experiment import Experiment, Measured, Skipped
from promptreach.diagnosis.measures.comparison import held_out, run_numbers
from promptreach.diagnosis.measures.pooling import task_at
from promptreach.diagnosis.numbers import (
    SAME,
    AttemptNumbers,
    ChangedSetting,
    Comparison,
    PoolingNumbers,
    Setting,
    TrainingNumbers,
    numbers_of,
)
from promptreach.diagnosis.rules.measurements import MARGIN
from promptreach.diagnosis.verdict import Attempt
from promptreach.training.runs import Run
from promptreach.training.task import metrics
from promptreach.training.task.readout import Pooling

SETTINGS = ("pooling", "init", "learning_rate", "steps")
"""The settings that the path may change; the number of tokens is the question of the trained lengths."""

Settings = Mapping[str, Setting]


def replay(experiment: Experiment, attempt: Attempt) -> Run:
    """The attempt, trained as the user did it; what is not known of it is as in the usual training."""
    return _trained(experiment, attempt, _settings_of(experiment, attempt, _usual(experiment, attempt)))


def measure(experiment: Experiment) -> Measured[AttemptNumbers] | Skipped:
    """Walk from the user's attempt to the run of the same form and size that was trained here."""
    attempt = experiment.user_settings
    if attempt is None:
        return Skipped("Neither an attempt nor an adapter was given.")
    if experiment.user_adapter is not None:
        return _of_adapter(experiment)
    fitting, goal = _same_size(experiment, attempt), _usual(experiment, attempt)
    now = _settings_of(experiment, attempt, goal)
    first = last = _trained(experiment, attempt, now)
    path: list[ChangedSetting] = []
    while open_settings := [key for key in SETTINGS if now[key] != goal[key]]:
        # As good as the fitting run is short of it by at most half of what counts as "as good".
        if path and _gain(experiment, fitting, last).gain <= MARGIN[experiment.metric] / 2:
            break
        tried = {key: _trained(experiment, attempt, {**now, key: goal[key]}) for key in open_settings}
        key = min(tried, key=lambda key: (tried[key].status == "diverged", tried[key].validation.mean_loss))
        worth, outcomes = _gain(experiment, tried[key], last), held_out(tried[key])
        score = metrics.score(experiment.metric, outcomes, experiment.positive)
        path.append(ChangedSetting(key, now[key], goal[key], worth, score))
        now, last = {**now, key: goal[key]}, tried[key]
    numbers = AttemptNumbers(
        start=run_numbers(first, held_out(first)),
        diverged_at=first.steps if first.status == "diverged" else None,
        settings=_settings_of(experiment, attempt, goal),
        fitting=goal,
        path=tuple(path),
        whole=_gain(experiment, last, first),
    )
    return Measured(numbers, experiment.sample)


def _of_adapter(experiment: Experiment) -> Measured[AttemptNumbers]:
    """The numbers of an adapter: where its head reads, and what the same adapter gives elsewhere."""
    training = numbers_of(experiment.numbers, TrainingNumbers)
    reading = numbers_of(experiment.numbers, PoolingNumbers)
    assert training is not None
    assert training.user is not None
    before, after = experiment.user_pooling, experiment.task.pooling
    path: tuple[ChangedSetting, ...] = ()
    if reading is not None and reading.worth is not None:
        path = (ChangedSetting("pooling", before, after, reading.worth, reading.adapter[reading.chosen]),)
    numbers = AttemptNumbers(
        start=training.user,
        diverged_at=None,
        settings={"pooling": before},
        fitting={"pooling": after},
        path=path,
        whole=path[0].worth if path else SAME,
    )
    return Measured(numbers, experiment.judged_rows)


def _same_size(experiment: Experiment, attempt: Attempt) -> Run:
    """The run trained here of the same method and size as the user's own."""
    return experiment.runs[experiment.config(attempt.method, attempt.tokens, attempt.rank).label]


def _usual(experiment: Experiment, attempt: Attempt) -> Settings:
    config = _same_size(experiment, attempt).config
    return {
        "pooling": experiment.task.pooling,
        "init": config.init,
        "learning_rate": config.learning_rate,
        "steps": config.steps,
    }


def _settings_of(experiment: Experiment, attempt: Attempt, usual: Settings) -> Settings:
    """The attempt's settings, those that are not known as in `usual`; completions have no read-out to choose."""
    given = {
        "pooling": attempt.pooling if experiment.task.pooling else None,
        "init": attempt.init,
        "learning_rate": attempt.learning_rate,
        "steps": attempt.steps,
    }
    return {key: usual[key] if value is None else value for key, value in given.items()}


def _trained(experiment: Experiment, attempt: Attempt, settings: Settings) -> Run:
    task = task_at(experiment.task, cast(Pooling | None, settings["pooling"]), experiment.seed)
    config = replace(
        experiment.config(attempt.method, attempt.tokens, attempt.rank, cast(str, settings["init"])),
        learning_rate=cast(float, settings["learning_rate"]),
        steps=cast(int, settings["steps"]),
    )
    return experiment.executor_of(task).run([config])[0]


def _gain(experiment: Experiment, better: Run, worse: Run) -> Comparison:
    return experiment.compare(held_out(better), held_out(worse))
