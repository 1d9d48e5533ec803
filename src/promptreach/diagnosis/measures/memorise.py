"""The task whose rows are all one part, for the question whether the training rows themselves can be fitted."""

from dataclasses import replace

from promptreach.backbone import Backbone
from promptreach.data import TaskData
from promptreach.training.task.encoding import encode
from promptreach.training.task.kinds.registry import kind_of
from promptreach.training.task.limits import Limits, check_room, content_length, drawn_rows
from promptreach.training.task.readout import Pooling
from promptreach.training.task.task import Task, fit_probes

_WEAKEST = (1e-4,)
"""Ridge strengths of the head alone, which is the control: it may memorise as much as it can."""


def prepare_same_rows(
    backbone: Backbone,
    data: TaskData,
    *,
    limits: Limits,
    seed: int,
    longest_prompt: int,
    pooling: Pooling | None = None,
) -> Task:
    """At most `limits.train` rows as the training, validation and held-out part at once.

    No row is left over to choose a read-out by: it is the first of `POOLINGS`, unless it is given.

    Args:
        backbone: the frozen model.
        data: at least two rows.
        limits: how many rows, and how long they may be.
        seed: for the choice of rows.
        longest_prompt: room to keep free in the context, in tokens.
        pooling: where a head reads that reads one vector a text; None takes the usual place.

    Raises:
        InputError: when the prompt leaves no room for content, completions are asked of an encoder, or a classifier is
            to read hidden states that are not finite.
    """
    check_room(backbone, data, longest_prompt)
    rows = data.take(drawn_rows(len(data), limits.train, seed))
    encoded = encode(backbone, rows, content_length(backbone, limits, longest_prompt))
    parts = dict.fromkeys(("train", "validation", "held_out"), encoded)
    task = Task(backbone, rows, rows, rows, encoded=parts, probes={}, pooling=None, penalties=_WEAKEST)
    kind = kind_of(rows)
    if kind is None:
        return task
    usual = kind.poolings(backbone.task)[0]
    place = usual if usual == "each" else pooling or usual
    task = replace(task, kind=kind)
    return replace(task, probes=fit_probes(task, [place], kind.outputs(rows), seed), pooling=place)
