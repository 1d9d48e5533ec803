"""The landmark method: every query attends to a few hundred or thousand slots, refitted on sampled exact rows.

Steps, for each key/value head:

1. `draw_centres`: cluster the keys in the metric of the queries; each cluster is a slot with its own mass and value.
2. `Refit`: a ridge correction of the slots' values and weights makes sampled queries exact.
3. A trial on rows that were not fitted chooses the ridge, and says whether more slots are needed.
4. All queries attend to the slots, except the few that are unlike all others, which are computed exactly; held-out
   exact rows certify the error.

Under causality each block of `causal` has landmarks of its own, of the same size; trial rows and certificate are those
of the whole head.

For a fixed number of slots and rows time and memory are linear in queries and keys. The answer is a smooth function of
the query, so heads with smooth answers need few slots; heads that look for single keys need `clustered` attention.

Reference: Nystrom's method with a prior; theorem key ``held-out-rows`` for the certificate.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from promptreach.fast_attention._method import HeadContext, Plan
from promptreach.fast_attention.report import ToleranceNotReachedError
from promptreach.fast_attention.sampled._method import Estimate, SampledMethod
from promptreach.fast_attention.sampled.causal import CausalHead
from promptreach.fast_attention.sampled.centres import draw_centres
from promptreach.fast_attention.sampled.refit import RIDGES, Landmarks, Refit
from promptreach.fast_attention.sampled.rows import FIRST_ROWS, TRIAL_ROWS, SampledHead

Size = tuple[int, int]

SIZES: tuple[Size, ...] = (
    (256, 512),
    (512, 1024),
    (1024, 2048),
    (1536, 2048),
    (2048, 2048),
    (2048, 3072),
    (2048, 4096),
    (4096, 4096),
    (4096, 8192),
)
"""(slots, fit rows), from cheap to dear. What is held for a fit is rows * slots and twice the smaller squared."""

EARLY: Size = (64, 128)
"""The first fit of a pilot, on an eighth of the rows of the smallest size that may be chosen."""
NO = 2.0
"""Times the tolerance of trials that the first fit may predict for the largest size before the pilot stops: it says no
from a few rows, and the growth that it predicts with is what smooth heads do or beat."""

MASS_ROWS = 64

GAIN = 0.4
"""The error is predicted to fall like (slots * rows)^-GAIN, which MiniLM's smooth heads do or beat."""

OUTLIERS, MORE_OUTLIERS = 0.005, 0.03
"""Shares of rows computed exactly, at once and when the first certificate misses: those whose queries are least like
the sampled ones, where a fit knows least."""

SLOT = 1.2
"""A query and a slot cost this many exact pairs, for the coordinate that carries the bias."""
GRAM_FLOPS = 130.0
"""Multiplications and additions in the time of one exact pair."""


class LandmarkMethod(SampledMethod):
    """Attention to landmarks. Gradients reach queries, keys and values through the answer and through the fit of values
    and weights; which slots there are is fixed."""

    name = "landmark"

    def plan(self, context: HeadContext, limit: float = math.inf) -> Plan | None:
        """The cheapest size that should keep to the tolerance, from a pilot at the first size.

        Args:
            limit: what fits may cost, in exact pairs, before a trial shows whether they will do.
        """
        if min(len(context.head.key), len(context.head.rows)) < 2 * SIZES[0][1]:
            return None
        if context.head.seen is not None:
            return self._causal_plan(context, limit)
        head, first = context.sampled, SIZES[0]
        sizes = [size for size in SIZES if _fits(head, size, limit)]
        piloted = _pilot(context, head, first, sizes)
        if piloted is None:
            return None
        ridge, error = piloted
        sizes = _promising(head, first, error, sizes)
        if not sizes:
            return None
        # Larger fits want a ridge that is smaller by two decades or so.
        ridges = RIDGES[min(RIDGES.index(ridge) + 2, len(RIDGES) - 1) :]
        slots, rows = sizes[0]

        def estimate() -> Estimate:
            landmarks, tried = _climb(head, sizes, ridges, limit)
            order = head.outlier_rows()
            exact = round(OUTLIERS * len(order)), round(MORE_OUTLIERS * len(order))
            return Estimate(landmarks(head.query).mean, tried, order, exact)

        pairs = _fit_pairs(head, sizes[0]) + SLOT * slots * len(head.query)
        reason = f"{slots} landmarks fitted on {rows} exact rows should do"
        return self._plan(context, pairs, _predicted(first, error, sizes[0]), reason, estimate)

    def _causal_plan(self, context: HeadContext, limit: float) -> Plan | None:
        """The same over blocks, where the pilot is on the largest; exact causal attention costs what is visible."""
        causal = CausalHead(context.head, context.request)
        if not causal.blocks:
            return None
        unit, blocks, first = context.pairs / causal.visible, causal.sampled, SIZES[0]
        largest = blocks[causal.blocks[0]]

        def fits(size: Size) -> float:
            return unit * sum(_fit_pairs(block, _within(block, size)) for block in blocks.values())

        sizes = [size for size in SIZES if _fits(largest, size, math.inf) and fits(size) <= limit]
        piloted = _pilot(context, largest, first, sizes)
        if piloted is None:
            return None
        ridge, error = piloted
        sizes = _promising(largest, first, error, sizes)
        if not sizes:
            return None
        ridges = RIDGES[min(RIDGES.index(ridge) + 2, len(RIDGES) - 1) :]
        slots, rows = sizes[0]

        def estimate() -> Estimate:
            output, tried = _climb_causal(context.sampled, causal, sizes, ridges, fits, limit)
            order = context.sampled.outlier_rows()
            return Estimate(output, tried, order, (round(OUTLIERS * len(order)), round(MORE_OUTLIERS * len(order))))

        attended = SLOT * slots * sum(len(block.query) for block in blocks.values())
        pairs = fits(sizes[0]) + unit * (causal.beside_blocks + attended)
        reason = f"{slots} landmarks fitted on {rows} exact rows in each of {len(blocks)} causal blocks should do"
        return self._plan(context, pairs, _predicted(first, error, sizes[0]), reason, estimate)


def _pilot(context: HeadContext, head: SampledHead, size: Size, allowed: Sequence[Size]) -> tuple[float, float] | None:
    """The ridge and the error of the smallest size, charged; None where a smaller fit says that no size will do."""
    if not allowed:
        return None
    _, _, error = fit_landmarks(head, *EARLY, first=True)
    context.charges.append(_fit_pairs(head, EARLY) + FIRST_ROWS * len(head.key))
    if _predicted(EARLY, error, allowed[-1]) > NO * head.request.trial_tol:
        return None
    _, ridge, error = fit_landmarks(head, *size)
    context.charges.append(_fit_pairs(head, size, EARLY[1]) + (TRIAL_ROWS - FIRST_ROWS) * len(head.key))
    return ridge, error


def fit_landmarks(
    head: SampledHead, slots: int, rows: int, ridges: Sequence[float] = RIDGES, first: bool = False
) -> tuple[Landmarks, float, float]:
    """Landmarks fitted on exact rows, the ridge that did best on the trial rows, and the error there.

    Args:
        slots: at most as many as keys.
        rows: exact rows, at most as many as queries.
        ridges: descending; the search ends at the first that does worse than the one before.
        first: judge by the first trial rows alone.

    Raises:
        ToleranceNotReachedError: when the normal equations are singular for every ridge.
    """
    query, exact = head.fit_rows(rows)
    mass, keys, values = exact.lse[:MASS_ROWS].detach(), head.key.detach(), head.value.detach()
    centres = draw_centres(query.detach(), mass, keys, values, slots, head.request.generator)
    refit = Refit(query, exact, centres, head.value)
    best: tuple[Landmarks, float, float] | None = None
    for ridge in ridges:
        tried = refit.landmarks(ridge)
        if tried is None:
            break
        with torch.no_grad():
            error = head.trial_error(lambda query, fit=tried: fit(query).mean, first)  # type: ignore[misc]
        if best is not None and error >= best[2]:
            break
        best = tried, ridge, error
    if best is None:
        reason = "the normal equations are singular for every ridge"
        raise ToleranceNotReachedError("landmark", head.request.tol, [reason])
    return best


def _fits(head: SampledHead, size: Size, limit: float) -> bool:
    """Whether a size leaves rows and keys to spare, and keeps to the cost and the workspace."""
    slots, rows = size
    numbers = rows * slots + 2 * min(slots, rows) ** 2
    return (
        rows <= len(head.query) // 2
        and slots <= len(head.key) // 2
        and _fit_pairs(head, size) <= limit
        and head.key.element_size() * numbers <= head.request.workspace
    )


def _climb(head: SampledHead, sizes: Sequence[Size], ridges: Sequence[float], limit: float) -> tuple[Landmarks, int]:
    """The first size whose trial errs little enough, and its slots, while all fits together keep to `limit`.

    A trial that misses predicts the larger sizes better than the pilot did; those that it rules out are left out. With
    no size left, one that keeps to the tolerance itself still gets its chance: a certificate costs less than to
    give up.
    """
    seen, spent, rows_known = "", 0.0, 0
    while True:
        slots, rows = sizes[0]
        landmarks, _, error = fit_landmarks(head, slots, rows, ridges)
        if error <= head.request.trial_tol:
            return landmarks, slots
        seen = f"{slots} landmarks fitted on {rows} exact rows: {error:.2g} on the trial rows"
        spent, rows_known = spent + _fit_pairs(head, sizes[0], rows_known), rows
        sizes = [
            size
            for size in _promising(head, sizes[0], error, sizes[1:])
            if spent + _fit_pairs(head, size, rows_known) <= limit
        ]
        if sizes:
            continue
        if error <= head.request.tol:
            return landmarks, slots
        raise ToleranceNotReachedError("landmark", head.request.tol, [seen])


def _climb_causal(
    head: SampledHead,
    causal: CausalHead,
    sizes: Sequence[Size],
    ridges: Sequence[float],
    fits: Callable[[Size], float],
    limit: float,
) -> tuple[Tensor, int]:
    """The outputs with the first size whose trial on the whole head errs little enough, and its slots, as `_climb`."""
    spent = 0.0
    while True:
        size = sizes[0]
        answers = {
            piece: fit_landmarks(block, *_within(block, size), ridges)[0](block.query)
            for piece, block in causal.sampled.items()
        }
        output = causal.output(answers)
        error = head.error(output[head.trial], head.trial_exact)
        if error <= head.request.trial_tol:
            return output, size[0]
        spent += fits(size)
        sizes = [large for large in _promising(head, size, error, sizes[1:]) if spent + fits(large) <= limit]
        if sizes:
            continue
        if error <= head.request.tol:
            return output, size[0]
        seen = f"{size[0]} landmarks in each causal block: {error:.2g} on the trial rows"
        raise ToleranceNotReachedError("landmark", head.request.tol, [seen])


def _within(head: SampledHead, size: Size) -> Size:
    """A size that leaves half of the head's keys and rows to spare."""
    slots, rows = size
    return min(slots, len(head.key) // 2), min(rows, len(head.query) // 2)


def _promising(head: SampledHead, tried: Size, error: float, sizes: Sequence[Size]) -> list[Size]:
    """From the first size on that is predicted to do."""
    good = [place for place, size in enumerate(sizes) if _predicted(tried, error, size) <= head.request.trial_tol]
    return list(sizes[good[0] :]) if good else []


def _predicted(tried: Size, error: float, size: Size) -> float:
    return float(error * (tried[0] * tried[1] / (size[0] * size[1])) ** GAIN)


def _fit_pairs(head: SampledHead, size: Size, rows_known: int = 0) -> float:
    """Predicted cost of a fit, in exact pairs, where some of its exact rows are known already."""
    slots, rows = size
    return SLOT * (rows - rows_known) * len(head.key) + 2 * slots * rows * min(slots, rows) / GRAM_FLOPS + 16 * slots**2
