"""What the second code paths of this room share: a certificate's witness, opened, and the passes all have in common.

Weights and prompt are read as exact integers or fractions, without torch modules; nothing is taken over from the code
that built the weights but the order of the stream's blocks and of the passes.
"""

import itertools
from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, Context, Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from promptreach.certificate import Certificate

Array = NDArray[Any]
WHOLE = {"float64": 2**53, "float32": 2**24}
UP = Context(prec=60, rounding=ROUND_CEILING)


class Opened:
    """One witness: the problem's sizes, the weights by pass, the prompt.

    Args:
        certificate: of a construction with the quantiser `ramps`, `steps` and the pass `clamp`.
        order: the passes.
        sizes: the blocks of the stream, in order.
    """

    def __init__(self, certificate: Certificate, order: Sequence[str], sizes: Mapping[str, int]) -> None:
        witness = certificate.witness
        self.part, self.dtype = str(witness["part"]), str(witness["dtype"])
        self.lipschitz = float(witness["lipschitz"])
        self.dim, self.tokens, self.cells = (int(witness[name]) for name in ("dim", "tokens", "cells"))
        self.size, self.order = self.dim * self.tokens, order
        self.weights = {name: array(tensor) for name, tensor in witness["weights"].items()}
        self.prompt = array(witness["prompt"])
        ends = list(itertools.accumulate(sizes.values()))
        self.blocks = {name: slice(end - width, end) for (name, width), end in zip(sizes.items(), ends, strict=True)}
        self.hidden = ends[-1]

    def weight(self, name: str, part: str) -> Array:
        """One tensor of one pass."""
        return self.weights[f"passes.{self.order.index(name)}.{part}"]

    def embeds_and_reads_out(self) -> bool:
        """Inputs and flags go where the passes look for them, and outputs come from the block `output`."""
        embed = np.zeros((self.hidden, self.dim))
        embed[self.blocks["input"]] = np.eye(self.dim)
        position = np.zeros((self.tokens, self.hidden))
        position[:, self.blocks["position"]] = np.eye(self.tokens)
        readout = np.zeros((self.dim, self.hidden))
        readout[:, self.blocks["output"]] = np.eye(self.dim)
        found = (self.weights[name] for name in ("embed_weight", "position", "readout"))
        return all(np.array_equal(*pair) for pair in zip(found, (embed, position, readout), strict=True))

    def quantises(self) -> bool:
        """Each ramp looks at one axis, the edges are those of `edges`, and k ramps passed give the digit k."""
        up, inner = self.weight("ramps", "up"), self.cells - 1
        if not np.array_equal(up != 0, np.repeat(np.eye(self.dim, dtype=bool), inner, axis=0)):
            return False
        edges, ramp = self.edges()
        fine = all(edge >= 0 for edge in edges) and all(
            right >= left + ramp for left, right in itertools.pairwise(edges)
        )
        fine = fine and (not inner or (edges[-1] + ramp <= 1 and _is_power_of_two(ramp)))
        steepness, starts = up.sum(axis=1), self.weight("ramps", "up_bias")
        fine = fine and all(Fraction(s) * ramp == 1 for s in set(steepness.tolist()))
        fine = fine and all(
            starts.reshape(self.dim, inner)[axis].tolist() == starts[:inner].tolist() for axis in range(self.dim)
        )
        fine = fine and bool((self.weight("ramps", "down") == 1).all())
        # relu(1 - h) is 1 at h = 0 and 0 at every h >= 1.
        fine = fine and bool((self.weight("steps", "up") == -1).all() and (self.weight("steps", "up_bias") == 1).all())
        down, bias = self.weight("steps", "down"), self.weight("steps", "down_bias")
        for axis in range(self.dim):
            for digit in range(self.cells):
                units = np.ones(self.dim * inner)
                units[axis * inner : axis * inner + digit] = 0
                expected = np.zeros(self.dim)
                expected[axis] = digit
                fine = fine and np.array_equal(down @ units + bias, expected)
        return fine

    def edges(self) -> tuple[list[Fraction], Fraction]:
        """Where the ramps of each axis begin, exactly, and how wide they are."""
        steepness = self.weight("ramps", "up")[:, 0][: self.cells - 1]
        if not len(steepness):
            return [], Fraction(0)
        starts = self.weight("ramps", "up_bias")[: self.cells - 1]
        pairs = zip(starts.tolist(), steepness.tolist(), strict=True)
        return [-Fraction(start) / Fraction(steep) for start, steep in pairs], 1 / Fraction(float(steepness[0]))

    def clamps(self) -> bool:
        """What exceeds 1 is cut."""
        ones = {"up": -1, "up_bias": 1, "down": -1, "down_bias": 1}
        return all((self.weight("clamp", part) == value).all() for part, value in ones.items())

    def slots_hold(self, frame: Array, table: slice) -> bool:
        """True if the prompt is `frame` outside the block of table entries, and these are in [0, 1]."""
        if self.prompt.shape != frame.shape:
            return False
        entries, rest = self.prompt[:, table], self.prompt.copy()
        rest[:, table] = 0
        return bool(((entries >= 0) & (entries <= 1)).all()) and np.array_equal(rest, frame)


@lru_cache
def exp_up(gap: int) -> Decimal:
    """At least exp(-gap)."""
    return Decimal(-gap).exp(Context(prec=40)).next_plus(Context(prec=40))


def room_for_samples(variance: Decimal, largest: Decimal) -> Decimal:
    """1 + x with n x^2 = 2 log(10^9) (variance + largest x / 3) and n = 20,000: Bernstein's inequality at 10^-9."""
    nats, points = 9 * Decimal(10).ln(), 20_000
    linear = 2 * nats * largest / 3
    return 1 + (linear + (linear**2 + 8 * points * nats * variance).sqrt()) / (2 * points) + Decimal(10) ** -25


def array(tensor: Tensor) -> Array:
    """The same numbers in float64; NaN stays NaN."""
    return tensor.detach().cpu().double().numpy()


def whole(values: Array) -> Array:
    """The same numbers as integers; NaN or fractions become a number that fits nowhere."""
    result = np.full(values.shape, 2**20 + 1, dtype=np.int64)
    right = (values == np.round(values)) & (np.abs(values) < 2**53)
    result[right] = values[right].astype(np.int64)
    return result


def decimal(value: Fraction) -> Decimal:
    """Rounded up inside ``localcontext(UP)``."""
    return Decimal(value.numerator) / Decimal(value.denominator)


def _is_power_of_two(value: Fraction) -> bool:
    return value > 0 and value.numerator == 1 and value.denominator & (value.denominator - 1) == 0
