"""One head as the methods that are judged on sampled rows see it: centred, scaled, with exact rows computed once.

Three independent draws of rows: `fit` rows, which fits may look at and the planner's pilots share; `trial` rows, on
which a choice is made; and `held` rows, which nobody looks at before the answer stands and the certificate is made;
`more_held` are for an answer whose first certificate just misses."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptreach.attention import Statistics
from promptreach.fast_attention.fused import fused_attention, fused_statistics
from promptreach.fast_attention.measure import range_error, value_range
from promptreach.fast_attention.problem import Head
from promptreach.fast_attention.sampled.holdout import draw_rows

TRIAL_ROWS = 512
HELD_ROWS = 1024
MORE_ROWS = 4096

AIM = {"range": 0.6, "deviation": 0.9}
"""The part of the tolerance that a trial must reach, so that the certificate, which is larger, can keep to all of it.
The largest of 1,024 errors is further above that of 512 than a mean is."""


@dataclass(eq=False)
class HeadJob:
    """A head without causality, prepared.

    Attributes:
        query: (rows, head_dim), scaled.
        key: (n, head_dim), centred, which changes no output.
        value: (n, value_dim).
        relative_to: the unit of error.
        tol: what was asked.
        generator: the only source of randomness.
        fit_order: rows in random order, for fits.
        trial, held, more_held: drawn rows.
    """

    query: Float[Tensor, "rows head_dim"]
    key: Float[Tensor, "n head_dim"]
    value: Float[Tensor, "n value_dim"]
    relative_to: str
    tol: float
    generator: torch.Generator
    fit_order: Int[Tensor, " rows"]
    trial: Int[Tensor, " trial"]
    held: Int[Tensor, " held"]
    more_held: Int[Tensor, " more"]
    _fitted: list[Statistics] = field(default_factory=list)
    _trial_exact: list[Tensor] = field(default_factory=list)

    @staticmethod
    def of(head: Head, relative_to: str, tol: float, generator: torch.Generator) -> "HeadJob":
        """The job of a head whose queries see every key."""
        query = head.rows * head.scale
        device = query.device
        return HeadJob(
            query,
            head.key - head.key.detach().mean(dim=0),
            head.value,
            relative_to,
            tol,
            generator,
            torch.randperm(len(query), generator=generator).to(device),
            draw_rows(len(query), TRIAL_ROWS, generator).to(device),
            draw_rows(len(query), HELD_ROWS, generator).to(device),
            draw_rows(len(query), MORE_ROWS, generator).to(device),
        )

    @property
    def aim(self) -> float:
        """The error that a trial should show."""
        return AIM[self.relative_to] * self.tol

    def fit_rows(self, count: int) -> tuple[Float[Tensor, "s head_dim"], Statistics]:
        """The first `count` fit rows with their exact statistics; only what is new is computed."""
        have = sum(len(part.log_mass) for part in self._fitted)
        if count > have:
            rows = self.query[self.fit_order[have:count]]
            self._fitted.append(fused_statistics(rows, self.key, self.value))
        log_mass = torch.cat([part.log_mass for part in self._fitted])
        mean = torch.cat([part.mean for part in self._fitted])
        return self.query[self.fit_order[:count]], Statistics(log_mass[:count], mean[:count])

    def exact(self, rows: Int[Tensor, " rows"]) -> Float[Tensor, "rows value_dim"]:
        """Exact outputs at `rows`, in the computing dtype; constants to gradients."""
        with torch.no_grad():
            return fused_attention(self.query[rows], self.key, self.value)

    def trial_exact(self) -> Float[Tensor, "trial value_dim"]:
        """Exact outputs at the trial rows, computed once."""
        if not self._trial_exact:
            self._trial_exact.append(self.exact(self.trial))
        return self._trial_exact[0]

    def with_exact_rows(
        self, output: Float[Tensor, "rows value_dim"], rows: Int[Tensor, " heavy"]
    ) -> Float[Tensor, "rows value_dim"]:
        """The output with some rows computed exactly; gradients flow through them too."""
        if not len(rows):
            return output
        return output.index_copy(0, rows, fused_attention(self.query[rows], self.key, self.value))

    def unusual_rows(self) -> Int[Tensor, " rows"]:
        """All rows, first those whose queries lie furthest out in the metric of the queries' covariance."""
        query = self.query.detach()
        centred = query - query.mean(dim=0)
        values, axes = torch.linalg.eigh(centred.T @ centred / len(query))
        least = values[-1] * torch.finfo(query.dtype).eps * len(values)
        distance: Tensor = (centred @ (axes / values.clamp_min(least).sqrt())).square().sum(dim=1)
        return distance.argsort(descending=True)

    def error(
        self, output: Float[Tensor, "rows value_dim"], exact: Float[Tensor, "rows value_dim"], blocks: int | None = None
    ) -> float:
        """The error on trial rows, in the job's unit; a mean of squares counts one standard error more than it is.

        Args:
            blocks: how many independent draws the rows are, in order; None means one a row.
        """
        output = output.detach()
        if not bool(output.isfinite().all()):
            return float("inf")
        if self.relative_to == "range":
            return range_error(output, exact, value_range(self.value.detach()))
        squares = (output.double() - exact.double()).square().sum(dim=1).view(blocks or len(output), -1).mean(dim=1)
        deviation = (exact.double() - exact.double().mean(dim=0)).square().sum(dim=1).mean()
        cautious = squares.mean() + squares.std() / len(squares) ** 0.5
        return 0.0 if float(cautious) == 0 else float((cautious / deviation).sqrt())
