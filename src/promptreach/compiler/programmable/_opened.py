"""The base of the second code paths: a certificate's witness, opened, and the layers that both constructions share.

Weights and prompt are read as exact integers or fractions, without torch modules; nothing is taken over from the code
that built the weights but the order of the stream's blocks and of the layers.
"""

import itertools
from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, Context, Decimal, localcontext
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
    """One witness: the problem's sizes, the weights by layer, the prompt.

    Args:
        certificate: of a construction with the quantiser `ramps`, `steps` and the layer `clamp`.
        order: the layers.
        sizes: the blocks of the stream, in order.
    """

    def __init__(self, certificate: Certificate, order: Sequence[str], sizes: Mapping[str, int]) -> None:
        witness = certificate.witness
        self.part, self.dtype = str(witness["part"]), str(witness["dtype"])
        self.lipschitz = float(witness["lipschitz"])
        self.dim, self.tokens, self.cells = (int(witness[name]) for name in ("dim", "tokens", "cells"))
        self.size, self.order = self.dim * self.tokens, order
        self.weights = {name: array(tensor) for name, tensor in witness["weights"].items()}
        self.unread = set(self.weights)
        """Names of the tensors that no step has looked at yet."""
        self.prompt = array(witness["prompt"])
        ends = list(itertools.accumulate(sizes.values()))
        self.blocks = {name: slice(end - width, end) for (name, width), end in zip(sizes.items(), ends, strict=True)}
        self.hidden = ends[-1]

    def weight(self, name: str, part: str) -> Array:
        """One tensor of one layer."""
        return self._read(f"passes.{self.order.index(name)}.{part}")

    def _read(self, name: str) -> Array:
        self.unread.discard(name)
        return self.weights[name]

    def holds(self, name: str, **parts: Array | tuple[float | int, *tuple[int, ...]]) -> bool:
        """True if the tensors of one layer are these; (number, sizes) stands for a tensor of that number."""
        wanted = {
            part: np.full(value[1:], float(value[0])) if isinstance(value, tuple) else value
            for part, value in parts.items()
        }
        return all(np.array_equal(self.weight(name, part), value) for part, value in wanted.items())

    def embeds_and_reads_out(self) -> bool:
        """Inputs and flags go where the layers look for them, and outputs come from the block `output`."""
        places = (("embed_weight", "input"), ("position", "position"), ("readout", "output"))
        for name, block in places:
            found = self._read(name).T if name == "embed_weight" else self._read(name)
            rows = self.tokens if name == "position" else self.dim
            expected = np.zeros((rows, self.hidden))
            expected[:, self.blocks[block]] = np.eye(rows)
            if not np.array_equal(found, expected):
                return False
        return True

    def quantises(self) -> bool:
        """Each ramp looks at one axis, the edges are those of `edges`, and k ramps passed give the digit k."""
        axes = np.repeat(np.eye(self.dim), self.cells - 1, axis=0)
        up, starts = self.weight("ramps", "up"), self.weight("ramps", "up_bias")
        if not np.array_equal(up != 0, axes != 0):
            return False
        edges, ramp = self.edges()
        if edges:
            rising = all(right >= left + ramp for left, right in itertools.pairwise(edges))
            if not (rising and edges[0] >= 0 and edges[-1] + ramp <= 1 and _is_power_of_two(ramp)):
                return False
        same = self.holds("ramps", up=axes * float(up.max(initial=0)), up_bias=np.tile(starts[: len(edges)], self.dim))
        # relu(1 - h) is 1 at h = 0 and 0 at every h >= 1.
        units = len(axes)
        fine = self.holds(
            "steps", up=(-1, units), up_bias=(1, units), down=-axes.T, down_bias=(self.cells - 1, self.dim)
        )
        return same and fine and self.holds("ramps", down=(1, units))

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
        dim = self.dim
        return self.holds("clamp", up=(-1, dim), up_bias=(1, dim), down=(-1, dim), down_bias=(1, dim))

    def slots_hold(self, frame: Array, table: slice) -> bool:
        """True if the prompt is `frame` outside the block of table entries, and these are in [0, 1]."""
        if self.prompt.shape != frame.shape:
            return False
        entries, rest = self.prompt[:, table], self.prompt.copy()
        rest[:, table] = 0
        return bool(((entries >= 0) & (entries <= 1)).all()) and np.array_equal(rest, frame)

    def total(self, inside: Decimal, everywhere: Decimal, beside: Decimal) -> Decimal:
        """The claim's number from the error on the good set, in the mean or everywhere, and what comes beside it."""
        edges, ramp = self.edges()
        with localcontext(UP):
            if self.part == "sup":
                return everywhere + beside
            ramps = decimal(self.size**2 * len(edges) * (ramp + Fraction(1, WHOLE[self.dtype])))
            return ((inside + beside) ** 2 + ramps).sqrt().next_plus()


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


def decimal(value: Fraction) -> Decimal:
    """Rounded up inside ``localcontext(UP)``."""
    return Decimal(value.numerator) / Decimal(value.denominator)


def _is_power_of_two(value: Fraction) -> bool:
    return value > 0 and value.numerator == 1 and value.denominator & (value.denominator - 1) == 0
