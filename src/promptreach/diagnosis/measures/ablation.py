"""The user's own attempt, trained again as they did it, and one thing at a time changed towards the setting that fits.

Each step of the path changes the one setting that helps most on the validation rows, from where the step before left
off, until what is left to the fitting run is not worth a word. So the worths of the steps add up to the whole gap, and
the last step is a run that was really trained: the fix is verified, not inferred.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from promptreach.certificate import Evidence
from promptreach.diagnosis.experiment import Measured, Study, not_measured
from promptreach.diagnosis.measures.comparison import paired, run_values
from promptreach.diagnosis.measures.pooling import task_at
from promptreach.diagnosis.rules.measurements import MARGIN
from promptreach.diagnosis.verdict import Attempt
from promptreach.training.runs import Run
from promptreach.training.task.objective import Outcomes
from promptreach.training.task.readout import Pooling

SETTINGS = ("pooling", "init", "learning_rate", "steps")
"""What the path may change; the number of tokens is the ladder's question."""

Settings = Mapping[str, Any]


def replay(study: Study, attempt: Attempt) -> Run:
    """The attempt, trained as the user did it; what is not known of it is as in the usual training."""
    return _trained(study, attempt, _settings_of(study, attempt, _usual(study, attempt)))


def same_size(study: Study, theirs: Attempt) -> Run:
    """The ladder's run of the same method and size as the user's own."""
    return study.sweeps[study.config(theirs.method, theirs.tokens, theirs.rank).label].best


def measure(study: Study) -> Measured:
    """Walk from the user's attempt to the ladder's run of the same form and size."""
    theirs = study.theirs
    if theirs is None:
        return not_measured("attempt", "Neither an attempt nor an adapter was given.")
    if study.adapter is not None:
        return _of_adapter(study)
    fitting = same_size(study, theirs)
    goal = _usual(study, theirs)
    now = dict(_settings_of(study, theirs, goal))
    first = last = _trained(study, theirs, now)
    assert first.held_out is not None
    path: list[dict[str, Any]] = []
    while open_settings := [key for key in SETTINGS if now[key] != goal[key]]:
        if path and not _short(study, last, fitting):
            break
        tried = {key: _trained(study, theirs, now | {key: goal[key]}) for key in open_settings}
        key = min(tried, key=lambda key: (tried[key].status == "diverged", tried[key].validation.mean_loss))
        worth, score = _gain(study, tried[key], last), _score(study, tried[key].held_out)
        path.append({"setting": key, "before": now[key], "after": goal[key], "worth": worth, "score": score})
        now[key], last = goal[key], tried[key]
    values = {
        "start": run_values(first),
        "diverged_at": first.steps if first.status == "diverged" else None,
        "settings": _settings_of(study, theirs, goal),
        "fitting": goal,
        "path": path,
        "whole": _gain(study, last, first),
    }
    return Measured("attempt", Evidence.MEASURED, study.sample, values)


def _of_adapter(study: Study) -> Measured:
    """What is known of an adapter's training: where its head reads, and what the same adapter gives elsewhere."""
    read, task = study.found["reading"].values, study.task
    worth = read.get("worth")
    path = []
    if worth is not None:
        score = read["adapter"][task.pooling]
        path.append(
            {"setting": "pooling", "before": study.reading, "after": task.pooling, "worth": worth, "score": score}
        )
    none = {"gain": 0.0, "low": 0.0, "high": 0.0, "error": 0.0}
    values = {
        "start": dict(study.found["training"]["yours"]),
        "diverged_at": None,
        "settings": {"pooling": study.reading},
        "fitting": {"pooling": task.pooling},
        "path": path,
        "whole": worth or none,
    }
    return Measured("attempt", Evidence.MEASURED, study.judged_rows, values)


def _usual(study: Study, theirs: Attempt) -> Settings:
    config = same_size(study, theirs).config
    return {
        "pooling": study.task.pooling,
        "init": config.init,
        "learning_rate": config.learning_rate,
        "steps": config.steps,
    }


def _settings_of(study: Study, attempt: Attempt, usual: Settings) -> dict[str, Any]:
    """The attempt's settings, those that are not known as in `usual`; completions have no read-out to choose."""
    given = {key: getattr(attempt, key) for key in SETTINGS}
    if study.task.pooling is None:
        given["pooling"] = None
    return {key: usual[key] if value is None else value for key, value in given.items()}


def _trained(study: Study, theirs: Attempt, settings: Settings) -> Run:
    task = task_at(study.task, cast(Pooling | None, settings["pooling"]), study.seed)
    config = replace(
        study.config(theirs.method, theirs.tokens, theirs.rank, settings["init"]),
        learning_rate=settings["learning_rate"],
        steps=settings["steps"],
    )
    return study.executor_of(task).run([config])[0]


def _gain(study: Study, better: Run, worse: Run) -> dict[str, float]:
    assert better.held_out is not None
    assert worse.held_out is not None
    return paired(better.held_out, worse.held_out, study.metric, every_row=study.every_row)


def _short(study: Study, run: Run, fitting: Run) -> bool:
    """Whether a run is short of the fitting one by more than half of what counts as "as good"."""
    return _gain(study, fitting, run)["gain"] > MARGIN[study.metric] / 2


def _score(study: Study, outcomes: Outcomes | None) -> float:
    assert outcomes is not None
    return outcomes.accuracy if study.is_classification else outcomes.mean_loss
