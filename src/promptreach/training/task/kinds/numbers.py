"""A number a text: the squared error of standardised numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.data import TaskData
from promptreach.training.task.encoding import Encoded
from promptreach.training.task.kinds.kind import UNSCALED, Places, Scale, TaskKind, row_weights, told
from promptreach.training.task.objective import HeadObjective, Outcomes
from promptreach.training.task.readout import LinearHead, Problem, Reals, Wholes, counted, folds


def scale_of(train: Encoded) -> tuple[float, float]:
    """The mean of the training numbers and their standard deviation, which is 1 where all are equal."""
    assert train.targets is not None
    numbers = train.targets.double()
    return float(numbers.mean()), float(numbers.std(correction=0)) or 1.0


class StandardisedNumbers(HeadObjective):
    """Half the squared error in units of the training numbers' standard deviation.

    That is the loss in nats of a normal distribution of that deviation around the head's output, its constant left out:
    half a nat for the mean of the training numbers.

    Args:
        head: of one output, the standardised number.
        mean, deviation: of the training numbers.
    """

    def __init__(self, head: LinearHead, mean: float, deviation: float) -> None:
        super().__init__(head)
        self.mean, self.deviation = mean, deviation

    def answered(self, outputs: Float[Tensor, "batch ..."], data: Encoded, rows: Sequence[int]) -> Outcomes:
        """One answer an example, neither right nor wrong."""
        assert data.targets is not None
        numbers = data.targets[torch.tensor(rows)].to(outputs.device)
        output = outputs[:, 0]
        loss = 0.5 * (output - ((numbers - self.mean) / self.deviation).to(output)).square()
        given, ones = output * self.deviation + self.mean, torch.ones_like(loss)
        return Outcomes(loss, ones, torch.full_like(loss, torch.nan), given=given, true=numbers.to(loss))


@dataclass(frozen=True, eq=False)
class NumberProblem(Problem):
    """A ridge regression.

    Attributes:
        y: the standardised number of each row.
        weights: how much each row counts; None where all count alike.
    """

    y: Reals
    fold_of: Wholes
    weights: Reals | None = None

    def solve(self, x: Reals, rows: Wholes, penalty: float) -> tuple[Reals, Reals]:
        """The solution in closed form, from whichever of rows and features are fewer."""
        own = counted(self.weights, rows)
        share = np.ones(len(rows)) if own is None else own
        share = share / share.sum()
        x, y = x[rows], self.y[rows]
        centre, mean = share @ x, share @ y
        scaled, target = np.sqrt(share)[:, None] * (x - centre), np.sqrt(share) * (y - mean)
        count, features = scaled.shape
        if count < features:
            weight = scaled.T @ np.linalg.solve(scaled @ scaled.T + penalty * np.eye(count), target)
        else:
            weight = np.linalg.solve(scaled.T @ scaled + penalty * np.eye(features), scaled.T @ target)
        return weight[None], np.array([mean - centre @ weight])

    def judge(self, outputs: Reals) -> tuple[float, float]:
        """Half the squared error, and R²."""
        error = float(np.average((outputs[:, 0] - self.y) ** 2, weights=self.weights))
        mean = np.average(self.y, weights=self.weights)
        return error / 2, 1.0 - error / float(np.average((self.y - mean) ** 2, weights=self.weights) or 1.0)


class Numbers(TaskKind):
    """One number a text."""

    name = "number"
    metrics = ("pearson", "spearman", "r2")
    accuracy = ""
    probe = "a ridge regression"
    penalties = (1e-2, 1e-1, 1.0, 10.0, 100.0)

    def outputs(self, data: TaskData) -> int:
        """The number."""
        return 1

    def problem(
        self, data: Encoded, places: Places | None, outputs: int, seed: int, class_weights: Tensor | None
    ) -> NumberProblem:
        """A ridge regression; the folds spread the numbers evenly."""
        mean, deviation = scale_of(data)
        y = ((_numbers(data).double() - mean) / deviation).numpy()
        return NumberProblem(y, folds(y, seed), row_weights(data, None, torch.zeros(len(y))))

    def scale(self, train: Encoded) -> Scale:
        """The mean and the standard deviation of the training numbers."""
        return scale_of(train)

    def objective(
        self, head: LinearHead, scale: Scale = UNSCALED, class_weights: Tensor | None = None
    ) -> StandardisedNumbers:
        """Half the squared standardised error."""
        return StandardisedNumbers(head, *scale)

    def constants(self, train: Encoded, judged: Encoded) -> list[Outcomes]:
        """The mean of the training numbers."""
        true = _numbers(judged).float()
        given = torch.full_like(true, scale_of(train)[0])
        return [told(judged, torch.full_like(true, torch.nan), given=given, true=true)]

    def said(
        self,
        outputs: Float[Tensor, "batch ..."],
        data: Encoded,
        rows: Sequence[int],
        names: Sequence[str],
        scale: Scale,
    ) -> list[str]:
        """The number of each text, to four digits."""
        mean, deviation = scale
        return [f"{output * deviation + mean:.4g}" for output in outputs[:, 0].tolist()]


def _numbers(data: Encoded) -> Tensor:
    assert data.targets is not None
    return data.targets
