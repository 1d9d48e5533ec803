"""The weights of classes in the loss, so that a rare class is not outvoted by a frequent one."""

import math
from collections.abc import Mapping
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.data import TaskData
from promptreach.errors import Fault
from promptreach.training.task.encoding import Encoded
from promptreach.training.task.kinds.kind import TaskKind
from promptreach.training.task.kinds.registry import kind_of

ClassWeights = str | Mapping[str, float] | None
"""The weights as a caller gives them: ``"balanced"``, by the name of the class, or none."""
_EXPECTED = "'balanced', or a positive number by the name of a class"


def class_weight_faults(given: object, data: TaskData | None) -> list[Fault]:
    """Faults of class weights, and of their use on such data where that is known."""
    if given is None:
        return []
    if given != "balanced" and not isinstance(given, Mapping):
        return [Fault("class_weights", repr(given)[:60], _EXPECTED)]
    named: Mapping[object, object] = given if isinstance(given, Mapping) else {}
    faults = [
        Fault("class_weights", f"{value!r} for {name!r}", "a positive number")
        for name, value in named.items()
        if not isinstance(value, Real) or isinstance(value, bool) or not 0 < float(value) < math.inf
    ]
    if data is None:
        return faults
    kind = kind_of(data)
    if kind is None or not kind.weighs_classes:
        what = {"number": "numbers", "span": "spans"}.get(data.kind, "completions")
        return [*faults, Fault("class_weights", f"weights of classes for {what}", "a task with labels or tags")]
    known = getattr(data, "label_names", ())
    listed = f"those of the data: {', '.join(known[:8])}"
    return faults + [
        Fault("class_weights", f"the unknown class {name!r}", listed) for name in named if name not in known
    ]


def class_weights_of(
    given: ClassWeights, kind: TaskKind, data: TaskData, train: Encoded
) -> Float[Tensor, " outputs"] | None:
    """The weight of each output of the head; None where all count alike.

    Args:
        given: without faults.
        kind: of the task.
        data: all of it, for the names of the classes.
        train: the examples that training sees.
    """
    if given is None:
        return None
    names = getattr(data, "label_names", ())
    counts = kind.counts(train, len(names)).double()
    if data.kind == "several_labels":  # each against its own absence
        absent = (len(train) - counts).clamp(min=1)
        balanced = torch.where(counts > 0, absent / counts.clamp(min=1), 1.0)
    else:
        balanced = torch.where(counts > 0, 1 / counts.clamp(min=1), 0.0)
    weights = balanced
    if isinstance(given, Mapping):
        weights = torch.tensor([float(given.get(name, 1.0)) for name in names], dtype=torch.float64)
    if data.kind != "several_labels":
        weights = weights * counts.sum() / (weights @ counts)
    return weights.float()
