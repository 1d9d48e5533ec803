"""Confidence bounds from held-out rows, without any assumption on the errors.

The rows are drawn independently and uniformly from all rows, with replacement, so their errors are independent and
identically distributed, whatever the method did.

Range error. With h rows, the largest error seen is at least the error of all but a fraction f of the rows, with
probability at least 1 - delta, for f = 1 - delta^(1/h): if more than a fraction f erred by more, the h rows would all
miss them with probability at most (1 - f)^h = delta.

Relative error. A fraction of the rows can hide any error, so no bound from h rows can speak of all rows at once. The
first quarter of the rows sets two caps, T for a squared error and D for half the squared distance of two exact outputs.
For the others, in pairs (i, j), and a candidate value r,

    x = (min(e_i, T) + min(e_j, T)) / 2 - r^2 min(|o_i - o_j|^2 / 2, D)

has an expectation <= 0 exactly when r^2 is at least the ratio of E min(e, T) to E min(|o_i - o_j|^2 / 2, D), which is
at most the variance of the outputs. If the expectation is >= 0, the wealth prod(1 - b x) of a bet b < 1/T is a
nonnegative supermartingale, and so is the mean over several b: it exceeds 1/delta with probability at most delta.
Wealth grows with r, so the smallest r at which it reaches 1/delta is an upper confidence bound. How many rows err by
more than T is bounded by Clopper and Pearson's exact interval. Each of the two statements gets half of delta.

Reference: Ville 1939; Waudby-Smith, Ramdas 2024 (betting); Clopper, Pearson 1934; theorem key ``held-out-rows``.
"""

import math

import torch
from jaxtyping import Float, Int
from scipy.special import betainccinv
from torch import Tensor

from promptreach.certificate import Certificate, Evidence, Side
from promptreach.rounding import shown, shown_bound

BETS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Bets as shares of the largest one allowed, 1/T; wealth is split evenly over them."""

LEAST_ROWS = 64


def draw_rows(rows: int, count: int, generator: torch.Generator) -> Int[Tensor, " count"]:
    """`count` of `rows` rows, independently and uniformly, with replacement."""
    return torch.randint(rows, (count,), generator=generator)


def certify(
    output: Float[Tensor, "h value_dim"],
    exact: Float[Tensor, "h value_dim"],
    relative_to: str,
    spread: Float[Tensor, " value_dim"],
    confidence: float,
    looks: int = 1,
) -> Certificate:
    """The error of a method, MEASURED on rows drawn by `draw_rows` that its fit has not seen.

    With probability at least `confidence` over the draw, and for every way the errors may be distributed, what the
    claim says is true; and with that probability the claims of all `looks` such certificates are, so that one of them
    may be chosen after looking at its value.

    Args:
        output, exact: the method's and the exact output at the drawn rows, in the order of the draw; at least 64. An
            entry that is not finite is an infinite error.
        relative_to: "range" or "deviation".
        spread: max - min of each value coordinate; coordinates with spread 0 are left out of the range error.
        confidence: in (0, 1).
        looks: how many certificates share it.

    Raises:
        ValueError: for fewer than 64 rows.

    Reference: theorem key ``held-out-rows``.
    """
    if len(output) < LEAST_ROWS:
        raise ValueError(f"{len(output)} held-out rows; at least {LEAST_ROWS} are needed")
    delta = (1 - confidence) / looks
    difference = (output.double() - exact.double()).abs().nan_to_num(nan=math.inf, posinf=math.inf)
    if relative_to == "range":
        kept = spread > 0
        errors = (difference[:, kept] / spread[kept].double()).amax(dim=1) if bool(kept.any()) else torch.zeros(1)
        value, missed = float(errors.max()), 1 - delta ** (1 / len(output))
        claim = (
            f"all but a fraction {shown_bound(missed, Side.UPPER, 2)} of the rows have a range error of at most value"
        )
    else:
        # Differences in units of the largest, whose squares neither underflow nor overflow.
        apart = exact.double() - exact[0].double()
        size = max(float(apart.abs().max()), float(difference.nan_to_num(posinf=0.0).max())) or 1.0
        value, cap, missed = _ratio_bound((difference / size).square().sum(dim=1), apart / size, delta)
        cap *= size
        claim = (
            f"at most a fraction {shown_bound(missed, Side.UPPER, 2)} of the rows err by more than {shown(cap)} in "
            "Euclidean norm, and with larger errors counted as that, |out - exact| / |exact - mean| over all rows is "
            "at most value"
        )
    return Certificate(
        claim=f"with probability {confidence:g} over the held-out rows: {claim}",
        value=value,
        side=Side.UPPER,
        evidence=Evidence.MEASURED,
        theorem="held-out-rows",
        sample=f"{len(output)} held-out exact rows, drawn independently",
        confidence=confidence,
        witness={"fraction": missed} if relative_to == "range" else {"fraction": missed, "cap": cap},
    )


def _ratio_bound(squared: Tensor, exact: Tensor, delta: float) -> tuple[float, float, float]:
    """The bound on the relative error, the cap on a row's error, and the bound on the fraction of rows beyond it."""
    first = len(squared) // 4
    pairs = (len(squared) - first) // 2
    distance = (exact[0::2][: len(exact) // 2] - exact[1::2]).square().sum(dim=1) / 2
    cap, most = float(squared[:first].max()), float(distance[: first // 2].max())
    rest = squared[first : first + 2 * pairs].view(pairs, 2)
    apart = (exact[first : first + 2 * pairs].view(pairs, 2, -1).diff(dim=1)[:, 0]).square().sum(dim=1) / 2
    beyond = int((rest > cap).sum())
    missed = fraction_above(beyond, 2 * pairs, delta / 2)
    if cap == 0:
        return (0.0 if most else math.inf), 0.0, missed
    bound = least_ratio(rest.clamp_max(cap).mean(dim=1) / cap, apart.clamp_max(most) / cap, delta / 2)
    return bound, cap**0.5, missed


def least_ratio(above: Float[Tensor, " pairs"], below: Float[Tensor, " pairs"], delta: float) -> float:
    """The smallest r for which bets against E above >= r^2 E below have won 1/delta; `above` is at most 1."""
    bets = torch.tensor(BETS, dtype=torch.float64)[:, None]

    def won(ratio: float) -> bool:
        wealth = torch.log1p(-bets * (above - ratio * below)).sum(dim=1)
        return float(torch.logsumexp(wealth, dim=0)) - math.log(len(BETS)) >= math.log(1 / delta)

    # Ratios of squares between those that the data could ever support; beyond them there is no bound.
    low, high = 1e-30, 1e12
    if not won(high):
        return math.inf
    while high / low > 1 + 1e-6:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if won(middle) else (middle, high)
    return math.sqrt(high)


def fraction_above(seen: int, count: int, delta: float) -> float:
    """The largest fraction with which `seen` or fewer of `count` draws still have probability `delta`, from above."""
    if seen == count:
        return 1.0
    # The quantile is right to about twelve digits; the factor keeps the result a bound.
    return min(1.0, float(betainccinv(seen + 1, count - seen, delta)) * (1 + 1e-9))
