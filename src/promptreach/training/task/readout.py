"""The pooling that a classifier reads the frozen model with, and the linear head that reads it.

A head in the wrong place hides what a prompt can do: an encoder trained with mean pooling answers little through its
first position, and with virtual tokens in front "the first position" is not even the same token. So the place is
chosen by a probe: a linear classifier on the frozen features, cross-validated on training rows only. The same probe is
the head-only control, and every method starts from it, so that what a method gains over the control is its own.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Pooling = Literal["mean", "first", "last", "each"]
"""The place that a head reads: one vector a text, or each token by itself."""
POOLED: tuple[Pooling, ...] = ("mean", "first", "last")
"""The places of one vector a text."""

Reals = NDArray[np.float64]
Wholes = NDArray[np.int64]

POOLINGS: dict[str, tuple[Pooling, ...]] = {"encoder": ("mean", "first"), "causal": ("last", "mean")}
"""The poolings worth probing: a causal model's first position has read nothing yet."""

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Ridge strengths per example that the probe chooses from, for features of unit variance."""
_FOLDS = 4
_LEAST_SPREAD = 1e-3
"""The least spread of a feature, as a share of the widest feature's: a feature that the training rows hardly move would
otherwise be blown up, and with it whatever a prompt does to that feature."""
_UNSEEN = 10.0
"""How far below the lowest bias a class stands that training did not see, in nats."""


def pool(
    hidden: Float[Tensor, "batch seq hidden"], mask: Bool[Tensor, "batch seq"], pooling: Pooling
) -> Float[Tensor, "batch ... hidden"]:
    """One vector a sequence, read from its content positions; for ``"each"`` the states as they are."""
    if pooling == "each":
        return hidden
    if pooling == "mean":
        weight = mask.to(hidden.dtype)[..., None]
        return (hidden * weight).sum(1) / weight.sum(1)
    if pooling == "first":
        return hidden[:, 0]
    last = mask.sum(1) - 1
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


class LinearHead(nn.Module):
    """A linear map of standardised features, of a whole text or of each token, so that one learning rate suits every
    model: class logits, a number, or whatever else a kind of task reads off it.

    `centre` and `spread` are fixed; `weight` and `bias` are trained. Without a bias `centre` and `bias` stay zero.
    """

    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        pooling: Pooling,
        centre: Float[Tensor, " hidden"],
        spread: Float[Tensor, " hidden"],
        weight: Float[Tensor, "classes hidden"],
        bias: Float[Tensor, " classes"],
        has_bias: bool = True,
    ) -> None:
        super().__init__()
        self.pooling: Pooling = pooling
        self.register_buffer("centre", centre)
        self.register_buffer("spread", spread)
        self.weight = nn.Parameter(weight.clone())
        self.bias = nn.Parameter(bias.clone(), requires_grad=has_bias)

    def forward(
        self, hidden: Float[Tensor, "batch seq hidden"], mask: Bool[Tensor, "batch seq"]
    ) -> Float[Tensor, "batch ... classes"]:
        """The outputs, class logits for example."""
        return self.standardised(hidden, mask) @ self.weight.T + self.bias

    def standardised(
        self, hidden: Float[Tensor, "batch seq hidden"], mask: Bool[Tensor, "batch seq"]
    ) -> Float[Tensor, "batch ... hidden"]:
        """The features that the head weighs."""
        return (pool(hidden, mask, self.pooling).to(self.centre) - self.centre) / self.spread

    def of_features(self, pooled: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch classes"]:
        """The outputs for what was read at its place before."""
        return (pooled.to(self.centre) - self.centre) / self.spread @ self.weight.T + self.bias

    def folded(self) -> tuple[Tensor, Tensor]:
        """The same classifier as one (classes, hidden) matrix and bias on unstandardised features."""
        weight = (self.weight / self.spread).detach()
        return weight, (self.bias - weight @ self.centre).detach()


def blank_head() -> LinearHead:
    """A head of one feature, of which nothing is asked: for objectives that are given the outputs of another."""
    return LinearHead("mean", torch.zeros(1), torch.ones(1), torch.zeros(1, 1), torch.zeros(1))


@dataclass(frozen=True, eq=False)
class Reader:
    """The linear classifiers that read some examples: one for all of them, or one for each of several folds.

    Attributes:
        head: standardises what it reads.
        weight, bias: of the classifiers.
        fold: which classifier reads each example.
    """

    head: LinearHead
    weight: Float[Tensor, "folds classes hidden"]
    bias: Float[Tensor, "folds classes"]
    fold: Int[Tensor, " examples"]

    def logits(self, features: Float[Tensor, "batch hidden"], rows: Sequence[int]) -> Float[Tensor, "batch classes"]:
        """The class logits of the examples `rows` from their standardised features."""
        fold = self.fold[torch.tensor(rows)]
        weight, bias = self.weight[fold].to(features), self.bias[fold].to(features)
        return torch.einsum("bch,bh->bc", weight, features) + bias


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear classifier on frozen features.

    Attributes:
        pooling: where it reads.
        centre, spread, weight, bias: as in `LinearHead`, float32.
        accuracy: the share of right answers, cross-validated on the training rows; for numbers R².
        loss: cross-validated too, nats per example.
        penalty: the chosen ridge strength per example.
        has_bias: whether there is a bias; accuracy and loss are those of a solution that has one.
    """

    pooling: Pooling
    centre: Tensor
    spread: Tensor
    weight: Tensor
    bias: Tensor
    accuracy: float
    loss: float
    penalty: float
    has_bias: bool = True

    def head(self) -> LinearHead:
        """A fresh trainable head that starts as this probe."""
        return LinearHead(self.pooling, self.centre, self.spread, self.weight, self.bias, self.has_bias)

    def reader(self, examples: int) -> Reader:
        """This probe as what reads so many examples."""
        return Reader(self.head(), self.weight[None], self.bias[None], torch.zeros(examples, dtype=torch.long))


class Problem(ABC):
    """What a probe is fitted to, and judged by: rows with their right answers, in folds.

    Attributes:
        fold_of: the fold of each row.
    """

    fold_of: Wholes

    @abstractmethod
    def solve(self, x: Reals, rows: Wholes, penalty: float) -> tuple[Reals, Reals]:
        """The weight (outputs, features) and bias (outputs) of the rows `rows` of standardised features `x`."""

    @abstractmethod
    def judge(self, outputs: Reals) -> tuple[float, float]:
        """The loss in nats an answer, and the share of right answers, of outputs for all rows."""

    def crossed(self, x: Reals, penalty: float) -> Reals:
        """The outputs for each row of a solution that has not seen it, (rows, outputs)."""
        found = []
        for fold in range(self.fold_of.max() + 1):
            weight, bias = self.solve(x, np.flatnonzero(self.fold_of != fold), penalty)
            held = np.flatnonzero(self.fold_of == fold)
            found.append((held, x[held] @ weight.T + bias))
        outputs = np.empty((len(x), found[0][1].shape[1]))
        for held, own in found:
            outputs[held] = own
        return outputs


def counted(weights: Reals | None, rows: Wholes) -> Reals | None:
    """How much each of some rows counts; None where all count alike, or none counts: rows of a fold may all weigh 0
    where but few weigh more, and are solved alike then."""
    own = None if weights is None else weights[rows]
    return None if own is None or not own.any() else own


@dataclass(frozen=True, eq=False)
class ClassProblem(Problem):
    """One of several classes a row.

    Attributes:
        y: the class of each row, in [0, num_classes). Classes that no row has get a zero row of the weight and a bias
            so low that no input whatever is put into them.
        weights: how much each row counts; None where all count alike.
    """

    y: Wholes
    num_classes: int
    fold_of: Wholes
    weights: Reals | None = None

    def solve(self, x: Reals, rows: Wholes, penalty: float) -> tuple[Reals, Reals]:
        """The ridge-penalised logistic regression."""
        weights = counted(self.weights, rows)
        return _solve(x[rows], self.y[rows], self.num_classes, penalty, weights)

    def judge(self, outputs: Reals) -> tuple[float, float]:
        """Cross-entropy and accuracy."""
        loss = cross_entropy(torch.from_numpy(outputs), torch.from_numpy(self.y), reduction="none").numpy()
        right = outputs.argmax(1) == self.y
        return float(np.average(loss, weights=self.weights)), float(np.average(right, weights=self.weights))


def standardised(features: Float[Tensor, "rows hidden"]) -> tuple[Reals, Reals, Reals]:
    """Features of unit variance, with the centre and the spread that were taken out."""
    x: Reals = features.double().numpy()
    deviation = x.std(0)
    centre, spread = x.mean(0), np.maximum(deviation, _LEAST_SPREAD * (deviation.max() or 1.0))
    return (x - centre) / spread, centre, spread


def best_probe(
    features: Float[Tensor, "rows hidden"],
    problem: Problem,
    pooling: Pooling,
    penalties: Sequence[float] = PENALTIES,
    has_bias: bool = True,
) -> Probe:
    """The solution on `features` at the penalty with the best cross-validated loss.

    Standardisation uses these features only.

    Args:
        features: at least two rows, all finite.
        problem: of the same rows.
        pooling: where the features were read; kept in the result.
        penalties: the ridge strengths to choose from.
        has_bias: False carries the solution's bias by a direction that all rows share, as far as they do.
    """
    x, centre, spread = standardised(features)
    # The problems are small: more threads than one wait for each other, ten times longer than they work.
    with threadpool_limits(1, user_api="blas"):
        scored = [(*problem.judge(problem.crossed(x, penalty)), penalty) for penalty in penalties]
        loss, accuracy, penalty = min(scored)
        weight, bias = problem.solve(x, np.arange(len(x)), penalty)
        if not has_bias:
            weight, bias, centre = _carried(x + centre / spread, centre / spread, weight, bias)
    return Probe(
        pooling=pooling,
        centre=torch.from_numpy(centre).float(),
        spread=torch.from_numpy(spread).float(),
        weight=torch.from_numpy(weight).float(),
        bias=torch.from_numpy(bias).float(),
        accuracy=accuracy,
        loss=loss,
        penalty=penalty,
        has_bias=has_bias,
    )


def _carried(z: Reals, shift: Reals, weight: Reals, bias: Reals) -> tuple[Reals, Reals, Reals]:
    """Weight, bias and centre of nearly the same outputs without a bias, on features `z` that were not centred.

    The bias goes along the direction on which all rows come closest to 1, by a ridge regression.
    """
    shared = np.linalg.solve(z.T @ z / len(z) + _LEAST_SPREAD * np.eye(z.shape[1]), z.mean(0))
    carried = weight + np.outer(bias - weight @ shift, shared)
    return carried, np.zeros_like(bias), np.zeros_like(shift)


def fit_probe(
    features: Float[Tensor, "examples hidden"],
    labels: Int[Tensor, " examples"],
    num_classes: int,
    pooling: Pooling,
    seed: int,
    penalties: Sequence[float] = PENALTIES,
) -> Probe:
    """`best_probe` of a `ClassProblem`, all rows alike.

    Args:
        features, pooling, penalties: as there.
        labels: of each row, in [0, num_classes).
        num_classes: how many rows the weight has.
        seed: for the folds.
    """
    y = labels.numpy()
    return best_probe(features, ClassProblem(y, num_classes, folds(y, seed)), pooling, penalties)


def cross_fit(
    probe: Probe, features: Float[Tensor, "examples hidden"], labels: Int[Tensor, " examples"], seed: int
) -> Reader:
    """For every training row a classifier that has not seen its label, at the penalty that `fit_probe` chose.

    Args:
        probe: of these rows; its centre and spread standardise them here too.
        features, labels: the rows.
        seed: for the folds; the probe's seed gives the folds it was cross-validated on.
    """
    x, y = ((features - probe.centre) / probe.spread).double().numpy(), labels.numpy()
    fold_of, num_classes = folds(y, seed), len(probe.bias)
    with threadpool_limits(1, user_api="blas"):
        solved = _solve_folds(x, y, num_classes, probe.penalty, fold_of)
    weights, biases = (torch.from_numpy(np.stack(parts)).float() for parts in zip(*solved, strict=True))
    return Reader(probe.head(), weights, biases, torch.from_numpy(fold_of))


def folds(y: Wholes | Reals, seed: int) -> Wholes:
    """The fold of each row: every class, and every stretch of numbers, is spread evenly over the folds, also a class
    with fewer rows than folds."""
    order = np.random.default_rng(seed).permutation(len(y))
    fold_of = np.empty(len(y), dtype=np.int64)
    fold_of[order[np.argsort(y[order], kind="stable")]] = np.arange(len(y)) % min(_FOLDS, len(y))
    return fold_of


def _solve_folds(x: Reals, y: Wholes, num_classes: int, penalty: float, fold_of: Wholes) -> list[tuple[Reals, Reals]]:
    """For every fold the classifier of the other ones."""
    others = [fold_of != fold for fold in range(fold_of.max() + 1)]
    return [_solve(x[rows], y[rows], num_classes, penalty) for rows in others]


def _solve(x: Reals, y: Wholes, num_classes: int, penalty: float, weights: Reals | None = None) -> tuple[Reals, Reals]:
    """Weight and bias with one row a class.

    scikit-learn keeps one row for two classes, none for a class it did not see, and refuses to fit a single class.
    """
    seen = np.unique(y)
    coefficients, intercepts = np.zeros((len(seen), x.shape[1])), np.zeros(len(seen))
    if len(seen) > 1:
        solver = LogisticRegression(C=1.0 / (penalty * len(y)), max_iter=1000)
        with warnings.catch_warnings():
            # A probe that stops early is still a classifier, and its score says what it is worth.
            warnings.simplefilter("ignore", ConvergenceWarning)
            solver.fit(x, y, sample_weight=weights)
        # The sign of a lone row says the second of two classes: half for it, half against the first.
        sides = np.array([[-0.5], [0.5]]) if len(seen) == 2 else np.eye(len(seen))
        coefficients, intercepts = sides @ solver.coef_, sides @ solver.intercept_
    weight, bias = np.zeros((num_classes, x.shape[1])), np.full(num_classes, intercepts.min() - _UNSEEN)
    weight[seen], bias[seen] = coefficients, intercepts
    return weight, bias
