"""One kind of task that is read through a head: everything in which it differs from the others, in one object.

Splitting, encoding, training, searching, comparing and judging are the same for all kinds. They ask the kind how wide
the head is, where it reads, what it starts from, what its outputs are worth, and what an answer that ignores its input
would score.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.data import KindName, TaskData
from promptreach.training.task.encoding import Encoded
from promptreach.training.task.objective import HeadObjective, Outcomes
from promptreach.training.task.readout import PENALTIES, POOLINGS, LinearHead, Pooling, Problem, Reals

Scale = tuple[float, float]
"""The mean and the standard deviation of what the outputs stand for."""
UNSCALED: Scale = (0.0, 1.0)
Places = Mapping[int, Sequence[int]]
"""The tokens of each example that are read one by one; an example that is not there is not read."""


class TaskKind(ABC):
    """A kind of task.

    Attributes:
        name: as `TaskData` has it.
        metrics: the metrics that may decide, by the names of `promptreach.training.task.metric_names`; the first does
            where none is chosen.
        accuracy: what the share of right answers is called; empty where no answer is right or wrong.
        probe: what the probe is, in words.
        penalties: the ridge strengths that its probe is chosen from.
        weighs_classes: whether classes can have weights.
    """

    name: ClassVar[KindName]
    metrics: ClassVar[tuple[str, ...]]
    accuracy: ClassVar[str] = "accuracy"
    probe: ClassVar[str] = "a logistic regression"
    penalties: ClassVar[tuple[float, ...]] = PENALTIES
    weighs_classes: ClassVar[bool] = False

    def poolings(self, model_task: str) -> tuple[Pooling, ...]:
        """The places where a head on such a model may read, the usual one first."""
        return POOLINGS[model_task]

    @abstractmethod
    def outputs(self, data: TaskData) -> int:
        """How many outputs the head has."""

    def places(self, data: Encoded, seed: int, *, every: bool = False) -> Places | None:
        """The tokens that the probe is fitted to, or `every` one that is asked about; None where it reads one vector a
        text."""
        return None

    @abstractmethod
    def problem(
        self, data: Encoded, places: Places | None, outputs: int, seed: int, class_weights: Tensor | None
    ) -> Problem:
        """What the probe is fitted to: the examples of `data`, or the tokens of `places` one after another."""

    def usual(self, data: TaskData) -> str:
        """The metric that decides where none is chosen."""
        return self.metrics[0]

    def scale(self, train: Encoded) -> Scale:
        """What the outputs are standardised by."""
        return UNSCALED

    @abstractmethod
    def objective(
        self, head: LinearHead, scale: Scale = UNSCALED, class_weights: Tensor | None = None
    ) -> HeadObjective:
        """The loss and the scores of a head.

        Args:
            head: with as many outputs as the kind asks for.
            scale: of its outputs.
            class_weights: of each output, or None.
        """

    @abstractmethod
    def constants(self, train: Encoded, judged: Encoded) -> list[Outcomes]:
        """The outcomes on `judged` of answers that ignore the input: the likeliest ones that `train` tells."""

    @abstractmethod
    def said(
        self,
        outputs: Float[Tensor, "batch ..."],
        data: Encoded,
        rows: Sequence[int],
        names: Sequence[str],
        scale: Scale,
    ) -> list[str]:
        """The answers in the user's words.

        Args:
            outputs: of a head, for `data`'s examples `rows`.
            names: of labels or tags, in the order of the outputs.
            scale: of the outputs.
        """

    def counts(self, train: Encoded, outputs: int) -> Float[Tensor, " outputs"]:
        """How often each class is right among the training examples; of those with `weighs_classes` alone."""
        raise NotImplementedError


def row_weights(data: Encoded, of_class: Tensor | None, classes: Tensor) -> Reals | None:
    """How much each example counts, by its own weight and by its class's; None where all count alike."""
    if data.weights is None and of_class is None:
        return None
    found = torch.ones(len(classes), dtype=torch.float64)
    if data.weights is not None:
        found = found * data.weights
    if of_class is not None:
        found = found * of_class[classes]
    if not found.any():  # of the tokens that were drawn, none is in a row that counts
        return None
    array: Reals = np.asarray(found / found.mean())
    return array


def laid_out(
    rows: Float[Tensor, "all outputs"], places: Places, data: Encoded
) -> Float[Tensor, "examples seq outputs"]:
    """Outputs at some tokens, one example's after another's, each where its token is; zero elsewhere."""
    found = torch.zeros(len(data), max(map(len, data.sequences)), rows.shape[1])
    start = 0
    for row, tokens in places.items():
        found[row, list(tokens)] = rows[start : start + len(tokens)]
        start += len(tokens)
    return found


def told(judged: Encoded, right: Tensor, **fields: Tensor) -> Outcomes:
    """The outcomes of answers without a loss of their own, one an example."""
    ones = torch.ones(len(judged))
    return Outcomes(torch.zeros(len(judged)), ones, right, **fields).weighted(judged.weights)
