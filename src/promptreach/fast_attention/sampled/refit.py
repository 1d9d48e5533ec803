"""Values and weights of landmarks, refitted so that sampled queries get their exact attention.

At a sampled query with exact log mass z and output o, the slots' relative masses are the row phi_c = exp(q.key_c +
bias_c - z). Wanted are coefficients X with phi X = (o - m, g), where m is the mean output and g, the outputs' root mean
square deviation, weighs the mass against the values. The slots themselves say X_0 = (value_c - m, g); the correction is
the ridge solution

    X = X_0 + Phi^T (Phi Phi^T + ridge)^-1 (T - Phi X_0) = X_0 + (Phi^T Phi + ridge)^-1 Phi^T (T - Phi X_0),

solved on the smaller side. With few rows the prior carries what they do not determine, so fewer rows than slots do.

Notation: rows s, slots r; T (s, value_dim + 1); Phi (s, r).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.attention import Statistics
from promptreach.fast_attention.fused import fused_statistics
from promptreach.fast_attention.sampled.centres import Centres

RIDGES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""Per 1,000 sampled rows; the relative masses of a row sum to about 1."""


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Centres with refitted values and weights: out = sum_c phi_c numerator_c / sum_c phi_c weight_c.

    Attributes:
        key, bias: as in `Centres`.
        numerator: (slots, value_dim).
        weight: (slots,), near 1; may be negative.
        low, high: (value_dim,), the range of the values, which no output leaves.
    """

    key: Float[Tensor, "slots head_dim"]
    bias: Float[Tensor, " slots"]
    numerator: Float[Tensor, "slots value_dim"]
    weight: Float[Tensor, " slots"]
    low: Float[Tensor, " value_dim"]
    high: Float[Tensor, " value_dim"]

    def __call__(self, query: Float[Tensor, "q head_dim"]) -> Statistics:
        """Log mass and mean for scaled queries, linear in their number; nothing of size queries times slots is kept."""
        content = torch.cat([self.numerator, self.weight[:, None]], dim=1)
        seen = fused_statistics(query, self.key, content, self.bias)
        weight = seen.mean[:, -1]
        # Far from every sampled query the fitted mass may be negative; there the output is no better than a guess.
        safe = torch.where(weight > 0, weight, torch.ones_like(weight))
        mean = (seen.mean[:, :-1] / safe[:, None]).clamp(self.low, self.high)
        return Statistics(seen.lse + safe.log(), mean)


class Refit:
    """The normal equations of sampled rows and slots, from which landmarks for any ridge follow at the cost of a solve.

    Args:
        query: (s, head_dim), scaled.
        exact: of these queries, over all keys.
        slots: the prior.
        value: (n, value_dim), for the outputs' range.
    """

    def __init__(self, query: Tensor, exact: Statistics, slots: Centres, value: Tensor) -> None:
        self.slots, self.rows = slots, len(query)
        self.low, self.high = value.detach().amin(dim=0), value.detach().amax(dim=0)
        self.middle = exact.mean.detach().mean(dim=0)
        centred = exact.mean - self.middle
        # A constant output needs no weighing of values against mass.
        size = float(centred.detach().square().mean().sqrt())
        self.unit = size if size > 0 else 1.0
        self.phi = torch.exp(query @ slots.key.T + (slots.bias - exact.lse[:, None]))
        self.prior = torch.cat([slots.value - self.middle, slots.value.new_full((len(slots.key), 1), self.unit)], dim=1)
        self.rest = torch.cat([centred, torch.full_like(centred[:, :1], self.unit)], dim=1) - self.phi @ self.prior
        self.dual = self.rows < len(slots.key)
        self.gram = self.phi @ self.phi.T if self.dual else self.phi.T @ self.phi

    def landmarks(self, ridge: float) -> Landmarks | None:
        """The landmarks for one of `RIDGES`; None where the equations are singular in this precision."""
        diagonal = torch.eye(len(self.gram), dtype=self.gram.dtype, device=self.gram.device)
        factor, failed = torch.linalg.cholesky_ex(self.gram + ridge * self.rows / 1000 * diagonal)
        if bool(failed):
            return None
        if self.dual:
            correction = self.phi.T @ torch.cholesky_solve(self.rest, factor)
        else:
            correction = torch.cholesky_solve(self.phi.T @ self.rest, factor)
        solution = self.prior + correction
        weight = solution[:, -1] / self.unit
        numerator = solution[:, :-1] + weight[:, None] * self.middle
        return Landmarks(self.slots.key, self.slots.bias, numerator, weight, self.low, self.high)
