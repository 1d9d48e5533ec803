"""The second code path of the `multilinear` certificates: the weights read layer by layer, the bound summed again.

Every matrix that routes is written down again and compared; the tilt, which is the one layer that approximates, is read
as an exact piecewise-linear function and compared with the logit at its knots; sharpness and separation are taken from
the keys as they stand.
"""

import itertools
from collections.abc import Mapping
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np

from promptreach.certificate import Certificate, Independence, Statement, rechecks
from promptreach.compiler.plan import EXTREME
from promptreach.compiler.programmable._opened import UP, WHOLE, Array, Opened, decimal, exp_up, room_for_samples
from promptreach.compiler.programmable._statement import MOST_STEPS, QUICK_STEPS, steps_of, table_statement
from promptreach.rounding import shown
from promptreach.witness import number


def _states(witness: Mapping[str, Any]) -> Statement:
    curvature = shown(number(witness, "curvature", 0, EXTREME))
    return table_statement(
        witness,
        theorem="programmable-interpolation",
        where="the nodes",
        rechecked="reads each",
        condition=f" and every second derivative along an axis at most {curvature} long,",
    )


@rechecks(Independence.FULL, states=_states, size=steps_of, quick=QUICK_STEPS, most=MOST_STEPS)
def recheck_interpolation(certificate: Certificate) -> bool:
    """True if the weights and the prompt in the witness have an error of at most `value`, as the claim says.

    About a second at `QUICK_STEPS`, a quarter of an hour at most.
    """
    nodes = _Nodes(certificate)
    steps = (
        nodes.embeds_and_reads_out,
        nodes.quantises,
        nodes.tilts,
        nodes.files,
        nodes.gathers,
        nodes.interpolates,
        nodes.picks,
        nodes.clamps,
    )
    return all(step() for step in steps) and certificate.value >= nodes.bound() and not nodes.unread


class _Nodes(Opened):
    """One witness, opened."""

    def __init__(self, certificate: Certificate) -> None:
        dim, tokens, cells = (int(certificate.witness[name]) for name in ("dim", "tokens", "cells"))
        size = dim * tokens
        sizes = {
            "input": dim, "position": tokens, "ramps": dim * (cells - 1), "digit": dim, "tilt": dim, "filed": size,
            "gathered": size, "node": size, "node_square": 1, "table": size, "raw": dim, "output": dim,
        }  # fmt: skip
        order = ["ramps", "steps", "tilt", "file", "gather", "interpolate", "pick", "clamp"]
        super().__init__(certificate, order, sizes)
        self.curvature = float(certificate.witness["curvature"])
        # Taken from where they stand; every other place they must stand in is compared with these.
        key = self.weight("interpolate", "key")
        self.beta, self.apart = _natural(-key[-1, size]), _natural(-key[-1, -1])
        self.reach = self.beta - _natural(self.weight("interpolate", "query_bias")[0])
        self.largest = 2 * self.beta * cells + 2 * self.reach + 1
        self.knots: list[Fraction] = []
        self.heights: list[Fraction] = []
        self.slopes = Fraction(0)

    def tilts(self) -> bool:
        """Unit k of axis a is relu(m x_a - digit_a - knot_k); the sums are the same on every axis."""
        bias, down = self.weight("tilt", "up_bias"), self.weight("tilt", "down")
        count = len(bias) // self.dim
        axes, changes = np.repeat(np.eye(self.dim), count, axis=0), down[0, :count]
        self.knots = [-Fraction(place) for place in bias[:count].tolist()]
        turns = [Fraction(change) for change in changes.tolist()]
        self.slopes = sum((abs(turn) for turn in turns), start=Fraction(0))
        climbs = list(zip(turns, self.knots, strict=True))
        self.heights = [
            sum((turn * (place - knot) for turn, knot in climbs if knot < place), Fraction(0))
            for place in [*self.knots, Fraction(1)]
        ]
        rising = all(left < right for left, right in itertools.pairwise([Fraction(0), *self.knots, Fraction(1)]))
        # The slope behind the last knot is what rounding of the changes leaves.
        level = all(0 <= height <= 2 * self.reach + Fraction(1, 4) for height in self.heights)
        up = np.hstack([self.cells * axes, -axes])
        wide = np.kron(np.eye(self.dim), changes[None])
        return rising and level and self.holds("tilt", up=up, up_bias=np.tile(bias[:count], self.dim), down=wide)

    def files(self) -> bool:
        """2 beta digit + tilt passes under the own flag alone: without it, `largest` is taken off."""
        own = np.tile(np.hstack([2 * self.beta * np.eye(self.dim), np.eye(self.dim)]), (self.tokens, 1))
        up = np.hstack([own, self.largest * self._flags()])
        return self.holds("file", up=up, up_bias=(-self.largest, self.size), down=(1, self.size))

    def _flags(self) -> Array:
        """For each entry of an input, the flag of its token."""
        return np.repeat(np.eye(self.tokens), self.dim, axis=0)

    def gathers(self) -> bool:
        """Content scores `apart` for content, slots score 0, and the weights 1 / L are undone."""
        each, sides = (1, self.size), (1, 1, self.tokens)
        key = (self.apart, 1, self.tokens)
        return self.holds("gather", query=sides, key=key, value=each, output=(self.tokens, self.size))

    def interpolates(self) -> bool:
        """Slots hold their nodes; scores are those of the construction."""
        nodes = np.array(list(itertools.product(range(self.cells + 1), repeat=self.size)))
        frame = np.zeros((len(nodes), self.hidden))
        frame[:, self.blocks["node"]] = nodes
        frame[:, self.blocks["node_square"]] = (nodes**2).sum(axis=1, keepdims=True)
        key = np.eye(self.size + 1, self.size + 1 + self.tokens)
        key[-1, self.size], key[-1, self.size + 1 :] = -self.beta, -self.apart
        bias = np.full(self.size + 1, float(self.beta - self.reach))
        bias[-1] = 1
        query = np.eye(self.size + 1, self.size)
        fine = self.holds(
            "interpolate", query=query, query_bias=bias, key=key, value=(1, self.size), output=(1, self.size)
        )
        return fine and self.slots_hold(frame, self.blocks["table"])

    def picks(self) -> bool:
        """Entry j of token i passes under flag i alone, into raw_j."""
        up, down = np.hstack([np.eye(self.size), 2 * self._flags()]), np.tile(np.eye(self.dim), (1, self.tokens))
        return self.holds("pick", up=up, up_bias=(-2, self.size), down=down)

    def weight_error(self) -> Decimal:
        """At least |sigma(tilt - reach) - t| over [0, 1]: at the knots and both ends, and the bend between them."""
        levels = []
        for height in self.heights:
            exponent = decimal(self.reach - height)
            levels.append(1 / (1 + exponent.exp()))
        places = [decimal(knot) for knot in self.knots]
        at_knots = max(abs(level - place) for level, place in zip(levels, places, strict=False))
        steepest = max(decimal(abs(right - left)) for left, right in itertools.pairwise(self.heights))
        # The second derivative of the logistic function is at most 1 / (6 sqrt 3).
        between = at_knots + steepest**2 / 8 / (6 * Decimal(3).sqrt().next_minus())
        ends = (places[0], levels[0], 1 - places[-1], 1 - levels[-2], 1 - levels[-1])
        return max(between, *ends) + Decimal(10) ** -45

    def bound(self) -> Decimal:
        """The claim's number; infinite where scores are too coarse to speak of."""
        unit, m, s = Decimal(1) / WHOLE[self.dtype], self.cells, self.size
        slots = int((m + 1) ** s)
        with localcontext(UP):
            terms = 2 * (slots + self.tokens) + 32

            def gamma(count: int) -> Decimal:
                return count * unit / (1 - count * unit)

            constant, root = Decimal(self.lipschitz), Decimal(s).sqrt().next_plus()
            bend = Decimal(self.curvature) / 2 / (m * m)
            mean = Decimal(s) / 30 + Decimal(s * (s - 1)) / 36
            above = Decimal(s * s) / 16 / mean - 1
            bent = bend * (mean * room_for_samples(above, above)).sqrt().next_plus()
            weights = s * self.weight_error() * constant * (Decimal(1) / m + 2 * unit)
            far, never = exp_up(2 * self.beta - self.reach), exp_up(self.apart)
            leak = (2 * far / (1 - far) * s + self.tokens * never) * root * (1 + 16 * unit)
            tilt = (gamma(4) * (2 * m + 1) + 2 * gamma(len(self.knots) + 8)) * decimal(self.slopes)
            query = tilt + self.largest * (slots * never + 23 * unit + 2 * gamma(terms))
            scores = gamma(s + 4) * (2 * s * m * self.largest + 2 * self.beta * s * m * m + self.apart) + s * m * query
            if terms * unit >= Decimal("0.25") or 2 * scores > 1:
                return Decimal("Infinity")
            beside = weights + leak + (4 * scores + gamma(terms) + 19 * unit + 2 * constant * unit) * root
            return self.total(bent, bend * s / 4, beside)


def _natural(value: float) -> int:
    """A whole number above 0, or a number that no certificate survives."""
    return int(value) if 0 < value < 2**40 and value == int(value) else 0
