"""Where a classifier reads the frozen model, and the linear head that reads there.

A head in the wrong place hides what a prompt can do: an encoder trained with mean pooling answers little through its
first position, and with virtual tokens in front "the first position" is not even the same token. So the place is
chosen by a probe: a linear classifier on the frozen features, cross-validated on training rows only. The same probe is
the head-only control, and every method starts from it, so that what a method gains over the control is its own.
"""

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from torch import Tensor, nn

Pooling = Literal["mean", "first", "last"]

POOLINGS: dict[str, tuple[Pooling, ...]] = {"encoder": ("mean", "first"), "causal": ("last", "mean")}
"""The places worth probing: a causal model's first position has read nothing yet."""

_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Ridge strengths per example that the probe chooses from, for features of unit variance."""
_FOLDS = 4


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
        features = (pool(hidden, mask, self.pooling).to(self.centre.dtype) - self.centre) / self.spread
        return features @ self.weight.T + self.bias

    def folded(self) -> tuple[Tensor, Tensor]:
        """The same classifier as one (classes, hidden) matrix and bias on unstandardised features."""
        weight = (self.weight / self.spread).detach()
        return weight, (self.bias - weight @ self.centre).detach()


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear classifier on frozen features.

    Attributes:
        pooling: where it reads.
        centre, spread, weight, bias: as in `LinearHead`, float32.
        accuracy: cross-validated on the training rows, or on them directly where a class is too small to fold.
        loss: likewise, nats per example.
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


def fit_probe(
    features: Float[Tensor, "examples hidden"],
    labels: Int[Tensor, " examples"],
    num_classes: int,
    pooling: Pooling,
    seed: int,
) -> Probe:
    """The ridge-penalised logistic regression on `features` with the best cross-validated loss.

    Standardisation uses the training features only. Classes absent from `labels` get a zero row and a low bias.
    """
    x = features.double().numpy()
    y = labels.numpy()
    centre = x.mean(0)
    deviation = x.std(0)
    spread = np.where(deviation > 0, deviation, 1.0)
    x = (x - centre) / spread
    folds = min(_FOLDS, int(np.bincount(y)[np.bincount(y) > 0].min()))
    scored = []
    for penalty in _PENALTIES:
        solver = LogisticRegression(C=1.0 / (penalty * len(y)), max_iter=1000)
        with warnings.catch_warnings():
            # A probe that stops early is still a classifier, and its score says what it is worth.
            warnings.simplefilter("ignore", ConvergenceWarning)
            if folds >= 2:
                splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
                probabilities = cross_val_predict(solver, x, y, cv=splitter, method="predict_proba")
            else:
                probabilities = solver.fit(x, y).predict_proba(x)
        classes = np.unique(y)
        accuracy = float((classes[probabilities.argmax(1)] == y).mean())
        scored.append((float(log_loss(y, probabilities, labels=classes)), accuracy, penalty))
    loss, accuracy, penalty = min(scored)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        best = LogisticRegression(C=1.0 / (penalty * len(y)), max_iter=1000).fit(x, y)
    weight, bias = _all_classes(best, num_classes)
    as_float = [torch.from_numpy(np.asarray(a, dtype=np.float32)) for a in (centre, spread, weight, bias)]
    return Probe(pooling, *as_float, accuracy=accuracy, loss=loss, penalty=penalty)


def _all_classes(solver: LogisticRegression, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """One row a class: scikit-learn keeps one row for two classes and none for classes it did not see."""
    coefficients, intercepts = solver.coef_, solver.intercept_
    if len(solver.classes_) == 2:
        coefficients = np.concatenate([-coefficients / 2, coefficients / 2])
        intercepts = np.concatenate([-intercepts / 2, intercepts / 2])
    weight = np.zeros((num_classes, coefficients.shape[1]))
    bias = np.full(num_classes, intercepts.min() - 10.0)
    weight[solver.classes_] = coefficients
    bias[solver.classes_] = intercepts
    return weight, bias
