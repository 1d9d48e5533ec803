"""One head as the methods that are judged on sampled rows see it: centred, scaled, with exact rows computed once."""

from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptreach.attention import Statistics
from promptreach.fast_attention.fused import fused_attention, fused_statistics
from promptreach.fast_attention.measure import range_error, value_range
from promptreach.fast_attention.problem import Head
from promptreach.fast_attention.sampled.holdout import draw_rows
from promptreach.fast_attention.tolerance import Request

TRIAL_ROWS, HELD_ROWS, MORE_ROWS = 512, 1024, 4096


class SampledHead:
    """A head without causality, prepared, with three independent draws of rows.

    Args:
        head: its queries see every key.
        request: what is asked; its generator draws.

    Attributes:
        query: (rows, head_dim), scaled.
        key: (n, head_dim), centred, which changes no output.
        value: (n, value_dim).
        fit_order: rows in random order, for fits; the pilots of all methods share the first ones.
        trial: rows on which a choice is made.
        held: rows that nobody looks at before the answer stands and the certificate is made.
        more_held: for an answer whose first certificate just misses.
    """

    def __init__(self, head: Head, request: Request) -> None:
        self.request = request
        self.query: Float[Tensor, "rows head_dim"] = head.rows * head.scale
        self.key: Float[Tensor, "n head_dim"] = head.key - head.key.detach().mean(dim=0)
        self.value: Float[Tensor, "n value_dim"] = head.value
        rows, device, generator = len(self.query), self.query.device, request.generator
        self.fit_order: Int[Tensor, " rows"] = torch.randperm(rows, generator=generator).to(device)
        self.trial, self.held, self.more_held = (
            draw_rows(rows, count, generator).to(device) for count in (TRIAL_ROWS, HELD_ROWS, MORE_ROWS)
        )
        self._fitted: list[Statistics] = []

    def fit_rows(self, count: int) -> tuple[Float[Tensor, "s head_dim"], Statistics]:
        """The first `count` fit rows with their exact statistics; only what is new is computed."""
        have = sum(len(part.lse) for part in self._fitted)
        if count > have:
            rows = self.query[self.fit_order[have:count]]
            self._fitted.append(fused_statistics(rows, self.key, self.value))
        lse = torch.cat([part.lse for part in self._fitted])
        mean = torch.cat([part.mean for part in self._fitted])
        return self.query[self.fit_order[:count]], Statistics(lse[:count], mean[:count])

    def exact(self, rows: Int[Tensor, " rows"]) -> Float[Tensor, "rows value_dim"]:
        """Exact outputs at `rows`, in the computing dtype; constants to gradients."""
        with torch.no_grad():
            return fused_attention(self.query[rows], self.key, self.value)

    @cached_property
    def trial_exact(self) -> Float[Tensor, "trial value_dim"]:
        """Exact outputs at the trial rows."""
        return self.exact(self.trial)

    def with_exact_rows(
        self, output: Float[Tensor, "rows value_dim"], rows: Int[Tensor, " chosen"]
    ) -> Float[Tensor, "rows value_dim"]:
        """The output with some rows computed exactly; gradients flow through them too."""
        if not len(rows):
            return output
        return output.index_copy(0, rows, fused_attention(self.query[rows], self.key, self.value))

    def outlier_rows(self) -> Int[Tensor, " rows"]:
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
        """The error on trial rows, in the unit asked for; a mean of squares counts one standard error more than it is.

        Args:
            blocks: how many independent draws the rows are, in order; None means one a row.
        """
        output = output.detach()
        if not bool(output.isfinite().all()):
            return float("inf")
        if self.request.relative_to == "range":
            return range_error(output, exact, value_range(self.value.detach()))
        squares = (output.double() - exact.double()).square().sum(dim=1).view(blocks or len(output), -1).mean(dim=1)
        deviation = (exact.double() - exact.double().mean(dim=0)).square().sum(dim=1).mean()
        cautious = squares.mean() + squares.std() / len(squares) ** 0.5
        return 0.0 if float(cautious) == 0 else float((cautious / deviation).sqrt())
