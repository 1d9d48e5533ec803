"""Several labels a text, or none: a sigmoid an output, and the binary cross-entropy of each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from promptreach.data import SeveralLabels, TaskData
from promptreach.training.task.encoding import Encoded
from promptreach.training.task.kinds.kind import UNSCALED, Places, Scale, TaskKind, row_weights, told
from promptreach.training.task.objective import HeadObjective, Outcomes
from promptreach.training.task.readout import ClassProblem, LinearHead, Problem, Reals, Wholes, folds


class LabelSets(HeadObjective):
    """The binary cross-entropy of each label, meaned over labels: nats a label.

    A label is given where its output is above 0, the probability above a half. An example's one answer is right when
    its whole set is.
    """

    def __init__(self, head: LinearHead, class_weights: Float[Tensor, " labels"] | None = None) -> None:
        super().__init__(head)
        self.class_weights = class_weights

    def answered(self, outputs: Float[Tensor, "batch ..."], data: Encoded, rows: Sequence[int]) -> Outcomes:
        """One answer an example."""
        assert data.targets is not None
        true = data.targets[torch.tensor(rows)].to(outputs)
        weight = None if self.class_weights is None else self.class_weights.to(outputs)
        loss = binary_cross_entropy_with_logits(outputs, true, reduction="none", pos_weight=weight).mean(-1)
        given = (outputs > 0).to(loss)
        right = (given == true).all(-1).to(loss)
        return Outcomes(loss, torch.ones_like(loss), right, given=given, true=true)


@dataclass(frozen=True, eq=False)
class LabelSetProblem(Problem):
    """A logistic regression a label, on the same folds and at one penalty.

    Attributes:
        parts: the problem of each label, its two classes "absent" and "present".
    """

    parts: tuple[ClassProblem, ...]
    fold_of: Wholes

    def solve(self, x: Reals, rows: Wholes, penalty: float) -> tuple[Reals, Reals]:
        """The log odds of each label."""
        solved = [part.solve(x, rows, penalty) for part in self.parts]
        weights, biases = ([one[1] - one[0] for one in found] for found in zip(*solved, strict=True))
        return np.stack(weights), np.array(biases)

    def judge(self, outputs: Reals) -> tuple[float, float]:
        """The binary cross-entropy, and the share of rows whose whole set is right."""
        true = np.stack([part.y for part in self.parts], axis=1)
        loss = np.logaddexp(0, outputs) - true * outputs
        right = ((outputs > 0) == true).all(1)
        weights = self.parts[0].weights
        return float(np.average(loss.mean(1), weights=weights)), float(np.average(right, weights=weights))


class SetsOfLabels(TaskKind):
    """Any number of labels a text."""

    name = "several_labels"
    metrics = ("micro_f1", "macro_f1", "accuracy")
    accuracy = "exact-set accuracy"
    probe = "a logistic regression for each label"
    weighs_classes = True

    def outputs(self, data: TaskData) -> int:
        """One a label."""
        assert isinstance(data, SeveralLabels)
        return len(data.label_names)

    def problem(
        self, data: Encoded, places: Places | None, outputs: int, seed: int, class_weights: Tensor | None
    ) -> LabelSetProblem:
        """A logistic regression a label; the folds spread the number of labels evenly."""
        sets = _sets(data)
        fold_of = folds(sets.sum(1).long().numpy(), seed)
        parts = []
        for label in range(outputs):
            y = sets[:, label].long()
            odds = None if class_weights is None else torch.tensor([1.0, float(class_weights[label])])
            parts.append(ClassProblem(y.numpy(), 2, fold_of, row_weights(data, odds, y)))
        return LabelSetProblem(tuple(parts), fold_of)

    def objective(self, head: LinearHead, scale: Scale = UNSCALED, class_weights: Tensor | None = None) -> LabelSets:
        """Binary cross-entropy, a label's weight on the texts that have it."""
        return LabelSets(head, class_weights)

    def constants(self, train: Encoded, judged: Encoded) -> list[Outcomes]:
        """The most frequent labels for every text: none, one, two and so on."""
        true, order = _sets(judged), _sets(train).sum(0).argsort(descending=True, stable=True)
        found = []
        for count in range(len(order) + 1):
            given = torch.zeros_like(true)
            given[:, order[:count]] = 1.0
            found.append(told(judged, (given == true).all(1).float(), given=given, true=true))
        return found

    def said(
        self,
        outputs: Float[Tensor, "batch ..."],
        data: Encoded,
        rows: Sequence[int],
        names: Sequence[str],
        scale: Scale,
    ) -> list[str]:
        """The labels of each text with commas between them; "none" where there is none."""
        found = [[name for name, output in zip(names, row, strict=True) if output > 0] for row in outputs.tolist()]
        return [", ".join(labels) or "none" for labels in found]

    def counts(self, train: Encoded, outputs: int) -> Float[Tensor, " outputs"]:
        """The texts that have each label."""
        return _sets(train).sum(0)


def _sets(data: Encoded) -> Tensor:
    assert data.targets is not None
    return data.targets
