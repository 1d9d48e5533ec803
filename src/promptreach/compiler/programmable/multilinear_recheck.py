"""The second code path of the `multilinear` certificates: the weights read pass by pass, the bound summed again.

Every matrix that routes is rebuilt entry by entry in plain loops and compared; the tilt, which is the one pass that
approximates, is read as an exact piecewise-linear function and compared with the logit at its knots; sharpness and
separation are taken from the keys as they stand.
"""

import itertools
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np

from promptreach.certificate import Certificate, Independence, rechecks
from promptreach.compiler.programmable.witness import UP, WHOLE, Array, Opened, decimal, exp_up, room_for_samples


@rechecks(Independence.FULL, quick=0)
def recheck_interpolation(certificate: Certificate) -> bool:
    """True if the weights and the prompt in the witness have an error of at most `value`, as the claim says."""
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
    return all(step() for step in steps) and certificate.value >= nodes.bound()


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
        up, bias, down = (self.weight("tilt", part) for part in ("up", "up_bias", "down"))
        count = len(bias) // self.dim
        expected = np.zeros_like(up)
        for axis, knot in itertools.product(range(self.dim), range(count)):
            expected[axis * count + knot, axis], expected[axis * count + knot, self.dim + axis] = self.cells, -1
        changes, wide = down[0, :count], np.zeros_like(down)
        for axis in range(self.dim):
            wide[axis, axis * count : (axis + 1) * count] = changes
        self.knots = [-Fraction(place) for place in bias[:count].tolist()]
        turns = [Fraction(change) for change in changes.tolist()]
        self.slopes = sum((abs(turn) for turn in turns), start=Fraction(0))
        self.heights = [
            sum(
                (turn * (place - knot) for turn, knot in zip(turns, self.knots, strict=True) if knot < place),
                Fraction(0),
            )
            for place in [*self.knots, Fraction(1)]
        ]
        rising = all(left < right for left, right in itertools.pairwise([Fraction(0), *self.knots, Fraction(1)]))
        # The slope behind the last knot is what rounding of the changes leaves.
        level = all(0 <= height <= 2 * self.reach + Fraction(1, 4) for height in self.heights)
        same = np.array_equal(bias, np.tile(bias[:count], self.dim))
        return bool(rising and level and same and np.array_equal(up, expected) and np.array_equal(down, wide))

    def files(self) -> bool:
        """2 beta digit + tilt passes under the own flag alone: without it, `largest` is taken off."""
        expected = np.zeros((self.size, 2 * self.dim + self.tokens))
        for token, axis in itertools.product(range(self.tokens), range(self.dim)):
            row = token * self.dim + axis
            expected[row, axis], expected[row, self.dim + axis] = 2 * self.beta, 1
            expected[row, 2 * self.dim + token] = self.largest
        fine = np.array_equal(self.weight("file", "up"), expected) and bool((self.weight("file", "down") == 1).all())
        return fine and bool((self.weight("file", "up_bias") == -self.largest).all())

    def gathers(self) -> bool:
        """Content scores `apart` for content, slots score 0, and the weights 1 / L are undone."""
        parts = {"query": 1, "key": self.apart, "value": 1, "output": self.tokens}
        return all((self.weight("gather", part) == value).all() for part, value in parts.items())

    def interpolates(self) -> bool:
        """Slots hold their nodes; scores are those of the construction."""
        count, frame = (self.cells + 1) ** self.size, np.zeros(((self.cells + 1) ** self.size, self.hidden))
        for row, node in enumerate(itertools.product(range(self.cells + 1), repeat=self.size)):
            frame[row, self.blocks["node"]] = node
            frame[row, self.blocks["node_square"]] = sum(number**2 for number in node)
        query, key = np.zeros((self.size + 1, self.size)), np.zeros((self.size + 1, self.size + 1 + self.tokens))
        bias = np.full(self.size + 1, float(self.beta - self.reach))
        for axis in range(self.size):
            query[axis, axis] = key[axis, axis] = 1
        bias[-1], key[-1, self.size], key[-1, self.size + 1 :] = 1, -self.beta, -self.apart
        pairs = {"query": query, "query_bias": bias, "key": key}
        fine = all(np.array_equal(self.weight("interpolate", part), value) for part, value in pairs.items())
        fine = fine and bool((self.weight("interpolate", "value") == 1).all())
        fine = fine and bool((self.weight("interpolate", "output") == 1).all())
        return fine and self.slots_hold(frame[:count], self.blocks["table"])

    def picks(self) -> bool:
        """Entry j of token i passes under flag i alone, into raw_j."""
        up, down = np.zeros((self.size, self.size + self.tokens)), np.zeros((self.dim, self.size))
        for token, axis in itertools.product(range(self.tokens), range(self.dim)):
            row = token * self.dim + axis
            up[row, row], up[row, self.size + token], down[axis, row] = 1, 2, 1
        fine: Array | bool = np.array_equal(self.weight("pick", "up"), up)
        fine = fine and np.array_equal(self.weight("pick", "down"), down)
        return bool(fine and (self.weight("pick", "up_bias") == -2).all())

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
        edges, ramp = self.edges()
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
            rounded = (4 * scores + gamma(terms) + 19 * unit + 2 * constant * unit) * root
            beside = weights + leak + rounded
            if self.part == "sup":
                return bend * s / 4 + beside
            ramps = s * s * len(edges) * (decimal(ramp) + unit)
            return ((bent + beside) ** 2 + ramps).sqrt().next_plus()


def _natural(value: float) -> int:
    """A whole number above 0, or a number that no certificate survives."""
    return int(value) if 0 < value < 2**40 and value == int(value) else 0
