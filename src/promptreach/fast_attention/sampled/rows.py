"""One head as the methods that are judged on sampled rows see it: centred, scaled, with exact rows computed once."""

from collections.abc import Callable
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
FIRST_ROWS = TRIAL_ROWS // 4
"""Trial rows of a pilot that may stop early."""


class SampledHead:
    """A head, prepared, with three independent draws of rows that see something.

    Args:
        head: causal or not.
        request: what is asked; its generator draws.

    Attributes:
        query: (rows, head_dim), scaled.
        key: (n, head_dim), centred, which changes no output.
        value: (n, value_dim).
        seen: (rows,), how many of the leading keys each row sees; None where each sees all.
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
        self.seen: Int[Tensor, " rows"] | None = None if head.seen is None else head.seen.repeat(len(head.query))
        rows, device, generator = len(self.query), self.query.device, request.generator
        self.fit_order: Int[Tensor, " rows"] = torch.randperm(rows, generator=generator).to(device)
        asked = torch.arange(rows, device=device) if self.seen is None else self.seen.nonzero().flatten()
        self.trial, self.held, self.more_held = (
            asked[draw_rows(len(asked), count, generator).to(device)] for count in (TRIAL_ROWS, HELD_ROWS, MORE_ROWS)
        )
        self._fitted: list[Statistics] = []

    def fit_rows(self, count: int) -> tuple[Float[Tensor, "s head_dim"], Statistics]:
        """The first `count` fit rows with their exact statistics over all keys; only what is new is computed."""
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
            return self._attended(rows)

    def _attended(self, rows: Int[Tensor, " rows"]) -> Float[Tensor, "rows value_dim"]:
        """Attention of `rows` over the keys that they see, a part of them at a time where a mask has to say which."""
        if self.seen is None:
            return fused_attention(self.query[rows], self.key, self.value)
        order = self.seen[rows].argsort()
        step = max(1, self.request.workspace // (len(self.key) * (1 + 2 * self.key.element_size())))
        parts = []
        for some in torch.split(rows[order], step):
            counts = self.seen[some]
            most = max(1, int(counts[-1]))
            # A row without keys would be NaN in the kernel: it looks at the first key and is put to 0 after.
            visible = torch.arange(most, device=some.device) < counts.clamp_min(1)[:, None]
            output = fused_attention(self.query[some], self.key[:most], self.value[:most], mask=visible)
            parts.append(output.masked_fill((counts == 0)[:, None], 0.0))
        return torch.cat(parts)[order.argsort()]

    @cached_property
    def _first_exact(self) -> Float[Tensor, "first value_dim"]:
        return self.exact(self.trial[:FIRST_ROWS])

    @cached_property
    def trial_exact(self) -> Float[Tensor, "trial value_dim"]:
        """Exact outputs at the trial rows."""
        return torch.cat([self._first_exact, self.exact(self.trial[FIRST_ROWS:])])

    def trial_error(self, estimate: Callable[[Tensor], Tensor], first: bool = False) -> float:
        """The error of outputs for scaled queries at the trial rows, or at the first quarter of them alone."""
        rows, exact = (self.trial[:FIRST_ROWS], self._first_exact) if first else (self.trial, self.trial_exact)
        return self.error(estimate(self.query[rows]), exact)

    def with_exact_rows(
        self, output: Float[Tensor, "rows value_dim"], rows: Int[Tensor, " chosen"]
    ) -> Float[Tensor, "rows value_dim"]:
        """The output with some rows computed exactly; gradients flow through them too."""
        if not len(rows):
            return output
        return output.index_copy(0, rows, self._attended(rows))

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
