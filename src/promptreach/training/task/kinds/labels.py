"""One label a text: softmax and cross-entropy."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.data import LabelledTexts, TaskData
from promptreach.training.task.encoding import Encoded
from promptreach.training.task.kinds.kind import UNSCALED, Places, Scale, TaskKind, row_weights, told
from promptreach.training.task.objective import Classification, Outcomes
from promptreach.training.task.readout import ClassProblem, LinearHead, folds


class Labels(TaskKind):
    """One label of several a text."""

    name = "labels"
    metrics = ("accuracy", "balanced_accuracy", "macro_f1", "f1", "mcc", "average_precision")
    weighs_classes = True

    def outputs(self, data: TaskData) -> int:
        """One a label."""
        assert isinstance(data, LabelledTexts)
        return len(data.label_names)

    def problem(
        self, data: Encoded, places: Places | None, outputs: int, seed: int, class_weights: Tensor | None
    ) -> ClassProblem:
        """A logistic regression."""
        labels = _labels(data)
        y = labels.numpy()
        return ClassProblem(y, outputs, folds(y, seed), row_weights(data, class_weights, labels))

    def objective(
        self, head: LinearHead, scale: Scale = UNSCALED, class_weights: Tensor | None = None
    ) -> Classification:
        """Cross-entropy, each label's times its weight."""
        return Classification(head, class_weights)

    def constants(self, train: Encoded, judged: Encoded) -> list[Outcomes]:
        """Each label of the training examples, for every text."""
        true, found = _labels(judged), []
        for label in sorted(set(_labels(train).tolist())):
            given, zeros = torch.full_like(true, label).float(), torch.zeros(len(judged))
            found.append(told(judged, (true == label).float(), given=given, true=true.float(), score=zeros))
        return found

    def said(
        self,
        outputs: Float[Tensor, "batch ..."],
        data: Encoded,
        rows: Sequence[int],
        names: Sequence[str],
        scale: Scale,
    ) -> list[str]:
        """The label of each text."""
        return [names[label] for label in outputs.argmax(-1).tolist()]

    def counts(self, train: Encoded, outputs: int) -> Float[Tensor, " outputs"]:
        """The texts of each label."""
        return _labels(train).bincount(minlength=outputs).float()


def _labels(data: Encoded) -> Tensor:
    assert data.labels is not None
    return data.labels
