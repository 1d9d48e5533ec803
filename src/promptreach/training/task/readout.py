"""The pooling that a classifier reads the frozen model with, and the linear head that reads it.

A head in the wrong place hides what a prompt can do: an encoder trained with mean pooling answers little through its
first position, and with virtual tokens in front "the first position" is not even the same token. So the place is
chosen by a probe: a linear classifier on the frozen features, cross-validated on training rows only. The same probe is
the head-only control, and every method starts from it, so that what a method gains over the control is its own.
"""

import warnings
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

Pooling = Literal["mean", "first", "last"]

_Reals = NDArray[np.float64]
_Labels = NDArray[np.int64]

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
) -> Float[Tensor, "batch hidden"]:
    """One vector a sequence, read from its content positions."""
    if pooling == "mean":
        weight = mask.to(hidden.dtype)[..., None]
        return (hidden * weight).sum(1) / weight.sum(1)
    if pooling == "first":
        return hidden[:, 0]
    last = mask.sum(1) - 1
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


class LinearHead(nn.Module):
    """A linear classifier over standardised pooled features, so that one learning rate suits every model.

    `centre` and `spread` are fixed; `weight` and `bias` are trained.
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
    ) -> None:
        super().__init__()
        self.pooling: Pooling = pooling
        self.register_buffer("centre", centre)
        self.register_buffer("spread", spread)
        self.weight = nn.Parameter(weight.clone())
        self.bias = nn.Parameter(bias.clone())

    def forward(
        self, hidden: Float[Tensor, "batch seq hidden"], mask: Bool[Tensor, "batch seq"]
    ) -> Float[Tensor, "batch classes"]:
        """Class logits."""
        return self.standardised(hidden, mask) @ self.weight.T + self.bias

    def standardised(
        self, hidden: Float[Tensor, "batch seq hidden"], mask: Bool[Tensor, "batch seq"]
    ) -> Float[Tensor, "batch hidden"]:
        """The features that the classifier weighs."""
        return (pool(hidden, mask, self.pooling).to(self.centre) - self.centre) / self.spread

    def folded(self) -> tuple[Tensor, Tensor]:
        """The same classifier as one (classes, hidden) matrix and bias on unstandardised features."""
        weight = (self.weight / self.spread).detach()
        return weight, (self.bias - weight @ self.centre).detach()


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
        accuracy: cross-validated on the training rows.
        loss: cross-validated too, nats per example.
        penalty: the chosen ridge strength per example.
    """

    pooling: Pooling
    centre: Tensor
    spread: Tensor
    weight: Tensor
    bias: Tensor
    accuracy: float
    loss: float
    penalty: float

    def head(self) -> LinearHead:
        """A fresh trainable head that starts as this probe."""
        return LinearHead(self.pooling, self.centre, self.spread, self.weight, self.bias)

    def reader(self, examples: int) -> Reader:
        """This probe as what reads so many examples."""
        return Reader(self.head(), self.weight[None], self.bias[None], torch.zeros(examples, dtype=torch.long))


def fit_probe(
    features: Float[Tensor, "examples hidden"],
    labels: Int[Tensor, " examples"],
    num_classes: int,
    pooling: Pooling,
    seed: int,
    penalties: Sequence[float] = PENALTIES,
) -> Probe:
    """The ridge-penalised logistic regression on `features` with the best cross-validated loss.

    Standardisation uses the training features only. Classes absent from `labels` get a zero row and a bias so low that
    no input whatever is put into them.

    Args:
        features: at least two rows, all finite.
        labels: of each row, in [0, num_classes).
        num_classes: how many rows the weight has.
        pooling: where the features were read; kept in the result.
        seed: for the folds.
        penalties: the ridge strengths to choose from.
    """
    x = features.double().numpy()
    y = labels.numpy()
    deviation = x.std(0)
    centre, spread = x.mean(0), np.maximum(deviation, _LEAST_SPREAD * (deviation.max() or 1.0))
    x = (x - centre) / spread
    fold_of = folds(y, seed)
    # The problems are small: more threads than one wait for each other, ten times longer than they work.
    with threadpool_limits(1, user_api="blas"):
        scored = [(*_cross_validate(x, y, num_classes, penalty, fold_of), penalty) for penalty in penalties]
        loss, accuracy, penalty = min(scored)
        weight, bias = _solve(x, y, num_classes, penalty)
    return Probe(
        pooling=pooling,
        centre=torch.from_numpy(centre).float(),
        spread=torch.from_numpy(spread).float(),
        weight=torch.from_numpy(weight).float(),
        bias=torch.from_numpy(bias).float(),
        accuracy=accuracy,
        loss=loss,
        penalty=penalty,
    )


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


def folds(y: _Labels, seed: int) -> _Labels:
    """The fold of each row: every class is spread evenly over the folds, also one with fewer rows than folds."""
    order = np.random.default_rng(seed).permutation(len(y))
    fold_of = np.empty_like(y)
    fold_of[order[np.argsort(y[order], kind="stable")]] = np.arange(len(y)) % min(_FOLDS, len(y))
    return fold_of


def _cross_validate(x: _Reals, y: _Labels, num_classes: int, penalty: float, fold_of: _Labels) -> tuple[float, float]:
    """Loss in nats and accuracy, each row judged by the classifier of the other folds."""
    logits = np.empty((len(y), num_classes))
    for fold, (weight, bias) in enumerate(_solve_folds(x, y, num_classes, penalty, fold_of)):
        held = fold_of == fold
        logits[held] = x[held] @ weight.T + bias
    loss = cross_entropy(torch.from_numpy(logits), torch.from_numpy(y))
    return float(loss), float((logits.argmax(1) == y).mean())


def _solve_folds(
    x: _Reals, y: _Labels, num_classes: int, penalty: float, fold_of: _Labels
) -> list[tuple[_Reals, _Reals]]:
    """For every fold the classifier of the other ones."""
    others = [fold_of != fold for fold in range(fold_of.max() + 1)]
    return [_solve(x[rows], y[rows], num_classes, penalty) for rows in others]


def _solve(x: _Reals, y: _Labels, num_classes: int, penalty: float) -> tuple[_Reals, _Reals]:
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
            solver.fit(x, y)
        # The sign of a lone row says the second of two classes: half for it, half against the first.
        sides = np.array([[-0.5], [0.5]]) if len(seen) == 2 else np.eye(len(seen))
        coefficients, intercepts = sides @ solver.coef_, sides @ solver.intercept_
    weight, bias = np.zeros((num_classes, x.shape[1])), np.full(num_classes, intercepts.min() - _UNSEEN)
    weight[seen], bias[seen] = coefficients, intercepts
    return weight, bias
