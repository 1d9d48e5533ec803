"""From the mean over the cube to the mean over fresh points: how much room a certificate needs to hold for both.

A certificate bounds a mean over uniform inputs, and users measure it on a sample. Where a function is everywhere as
steep as declared, the two are equal, and a sample would come out above the mean half of the time. So certificates
leave the room that Bernstein's inequality asks for, and say so in their claim.
"""

import math
from fractions import Fraction

from promptreach import rounding

FRESH_POINTS = 20_000
"""Samples of at least so many independent uniform points stay below a certificate, up to `CHANCE`."""

CHANCE = 1e-9


def sample_room(variance: Fraction, largest: Fraction) -> Fraction:
    """x such that a sample mean exceeds (1 + x) times the mean with probability at most `CHANCE`.

    For every distribution of squared errors with mean 1, variance at most `variance` and no value above 1 + `largest`,
    and every sample of at least `FRESH_POINTS`: P(sample mean > 1 + x) <= exp(-n x^2 / (2 (variance + largest x / 3))),
    and x is where the right side is `CHANCE` for the smallest sample.

    Reference: Bernstein's inequality; theorem key ``sample-room``.
    """
    nats = Fraction(math.nextafter(-math.log(CHANCE), math.inf)) + Fraction(1, 10**9)
    half = nats * largest / (3 * FRESH_POINTS)
    return half + rounding.sqrt_up(half**2 + 2 * nats * variance / FRESH_POINTS)


def sample_clause(ramps: float) -> str:
    """The sentence of a claim that speaks of samples; `ramps` is the measure of the ramps."""
    return (
        f"So is that root over {FRESH_POINTS:,} or more independent uniform points, but for a chance of {CHANCE:g} and "
        f"{ramps:.2g} a point."
    )
