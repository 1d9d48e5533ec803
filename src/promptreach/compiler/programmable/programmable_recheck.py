"""The second code path of the `programmable` certificates: every layer on every input that it can meet.

Outside the ramps all that enters a layer after the quantiser is one of finitely many vectors of whole numbers, so the
claim is checked without torch modules: weights and prompt are read as exact integers or fractions, each layer is run on
each of its inputs in integer arithmetic, and the bound is summed again from what stands there. Nothing is taken over
from the code that built the weights but the order of the stream's blocks and of the layers.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np

from promptreach.certificate import Certificate, Independence, Statement, rechecks
from promptreach.compiler.programmable._opened import UP, WHOLE, Array, Opened, decimal, exp_up, room_for_samples
from promptreach.compiler.programmable._statement import MOST_STEPS, QUICK_STEPS, steps_of, table_statement

_FAR = 300  # nats; slots farther below the best one are counted together


def _states(witness: Mapping[str, Any]) -> Statement:
    return table_statement(
        witness, theorem="programmable-table", where="the centres of the cells", rechecked="runs each"
    )


@rechecks(Independence.FULL, states=_states, size=steps_of, quick=QUICK_STEPS, most=MOST_STEPS)
def recheck_programmable(certificate: Certificate) -> bool:
    """True if the weights and the prompt in the witness have an error of at most `value`, as the claim says.

    About a second at `QUICK_STEPS`, a quarter of an hour at most.
    """
    table = _Table(certificate)
    steps = (
        table.embeds_and_reads_out,
        table.quantises,
        table.numbers_the_slots,
        table.looks_up,
        table.orders_contexts,
        table.selects,
        table.reads_and_clamps,
    )
    return all(step() for step in steps) and certificate.value >= table.bound() and not table.unread


class _Table(Opened):
    """One witness, opened."""

    def __init__(self, certificate: Certificate) -> None:
        dim, tokens, cells = (int(certificate.witness[name]) for name in ("dim", "tokens", "cells"))
        self.own, self.others = cells**dim, (tokens - 1) * dim
        self.slots, self.contexts = tokens * self.own, cells**self.others
        several, size = (["context", "select"] if tokens > 1 else []), tokens * dim
        sizes = {
            "input": dim, "position": tokens, "ramps": dim * (cells - 1), "digit": dim, "square": 1, "filed": size,
            "slot": 1, "slot_square": 1, "gathered": size, "context": self.others, "row": self.contexts * dim,
            "raw": dim, "output": dim,
        }  # fmt: skip
        super().__init__(certificate, ["ramps", "steps", "address", "lookup", *several, "read", "clamp"], sizes)
        self.leak = Decimal(0)

    def numbers_the_slots(self) -> bool:
        """For every position and digits: the square of the own number, and the digits filed under the position."""
        up, bias, down, down_bias = (
            _whole(self.weight("address", part)) for part in ("up", "up_bias", "down", "down_bias")
        )
        for own, (read, number) in enumerate(self._addresses()):
            written = down @ np.maximum(up @ read + bias, 0) + down_bias
            filed = np.zeros(self.tokens * self.dim, dtype=np.int64)
            position = own // self.own
            filed[position * self.dim : (position + 1) * self.dim] = read[: self.dim]
            if written[0] != number**2 or not np.array_equal(written[1:], filed):
                return False
        # Prompt rows have input 0 and no position: their digits are 0 and nothing is filed for them.
        return not (down @ np.maximum(bias, 0) + down_bias)[1:].any()

    def _addresses(self) -> Iterator[tuple[Array, int]]:
        """What `address` and the query read at every position and digits, and the slot's number."""
        flags = np.eye(self.tokens, dtype=np.int64)
        for position in range(self.tokens):
            for cell, digits in enumerate(itertools.product(range(self.cells), repeat=self.dim)):
                number = position * self.own + cell - self.slots // 2
                yield np.concatenate([np.array(digits, dtype=np.int64), flags[position]]), number

    def looks_up(self) -> bool:
        """Scores are exact whole numbers: the own slot's and every content token's the same, every other lower."""
        numbers, frame = np.arange(self.slots) - self.slots // 2, np.zeros((self.slots, self.hidden))
        frame[:, self.blocks["slot"].start], frame[:, self.blocks["slot_square"].start] = numbers, numbers**2
        if not self.slots_hold(frame, self.blocks["row"]):
            return False
        query, bias, key = (_whole(self.weight("lookup", part)) for part in ("query", "query_bias", "key"))
        keys = np.stack([numbers, numbers**2, *[0 * numbers] * self.tokens], axis=1) @ key.T
        content = np.eye(self.tokens, self.tokens + 2, 2, dtype=np.int64) @ key.T
        for own, (address, number) in enumerate(self._addresses()):
            asked = query @ np.concatenate([address, [number**2]]) + bias
            scores, top = keys @ asked, content @ asked
            size = int(np.maximum(np.abs(keys * asked).sum(axis=1).max(), np.abs(content * asked).sum(axis=1).max()))
            gaps = np.delete(scores[own] - scores, own)
            if size >= WHOLE[self.dtype] or (top != scores[own]).any() or (gaps < 1).any():
                return False
            self.leak = max(self.leak, _sum_of_exp_up(gap for gap in gaps.tolist() if gap < _FAR))
        width = self.tokens * self.dim + self.contexts * self.dim
        return self.holds("lookup", value=(1, width), output=(self.tokens + 1, width))

    def orders_contexts(self) -> bool:
        """At position i, exactly the digits of the others, in order, pass; each unit watches one digit and one flag."""
        if self.tokens == 1:
            return True
        up, bias, down = (_whole(self.weight("context", part)) for part in ("up", "up_bias", "down"))
        size = self.tokens * self.dim
        watches = (up[:, :size] == 1).sum(axis=1) == 1
        gates = (up[:, size:] == self.cells).sum(axis=1) == 1
        fine = bool(watches.all() and gates.all() and (bias == -self.cells).all())
        fine = fine and int(np.count_nonzero(up)) == 2 * len(up) and int(np.count_nonzero(down)) == len(up)
        for position in range(self.tokens):
            # A gate that is shut keeps digits below m; one that is open passes them: so unit digits tell the wiring.
            digits, flags = np.eye(size, dtype=np.int64), np.eye(self.tokens, dtype=np.int64)[position]
            passed = np.maximum(np.hstack([digits, np.tile(flags, (size, 1))]) @ up.T + bias, 0) @ down.T
            others = [source for source in range(size) if source // self.dim != position]
            fine = fine and np.array_equal(passed, digits[:, others])
        return fine

    def selects(self) -> bool:
        """A context digit within 1/4 of n leaves entries with digit n as they are and lowers all others by 4."""
        if self.tokens == 1:
            return True
        up, bias, down = (self.weight("select", part) for part in ("up", "up_bias", "down"))
        entries = np.arange(self.contexts * self.dim) // self.dim
        wide = 2 * self.cells * self.others
        if (up.shape, bias.shape, down.shape) != ((wide, self.others), (wide,), (len(entries), wide)):
            return False
        fine = bool(((up != 0).sum(axis=1) == 1).all())
        for place in range(self.others):
            units = np.nonzero(up[:, place])[0]
            # Convex in the digit and 0 at both ends, so 0 between them; away from its own digit it only grows.
            digit_of_entry = entries // self.cells ** (self.others - 1 - place) % self.cells
            for digit in range(self.cells):
                for value in (digit - 0.25, digit + 0.25):
                    lowered = -(down[:, units] @ np.maximum(up[units, place] * value + bias[units], 0))
                    right = digit_of_entry == digit
                    fine = fine and not lowered[right].any() and bool((lowered[~right] >= 4).all())
        return fine and bool((down <= 0).all())

    def reads_and_clamps(self) -> bool:
        """The row's entries are summed by output entry, and what exceeds 1 is cut."""
        return (
            self.holds("read", up=(1, self.contexts * self.dim), down=np.tile(np.eye(self.dim), (1, self.contexts)))
            and self.clamps()
        )

    def bound(self) -> Decimal:
        """The claim's number from edges, scores and dtype as found; infinite where a digit may be misread."""
        unit = Fraction(1, WHOLE[self.dtype])
        size, rows = self.tokens * self.dim, self.slots + self.tokens
        edges, ramp = self.edges()
        middles = [Fraction((cell + 0.5) / self.cells) for cell in range(self.cells)]
        lows, highs = [Fraction(0), *[edge + ramp for edge in edges]], [*edges, Fraction(1)]
        reach = [max(mid - low, high - mid) + unit / 2 for low, mid, high in zip(lows, middles, highs, strict=True)]
        leak = Fraction(self.leak + self.slots * exp_up(_FAR)) * (1 + 16 * unit)
        roundings = 2 * rows + 32
        lost = roundings * unit / (1 - roundings * unit) * (1 + leak)
        if (self.cells - 1) * (leak + lost) > Fraction(1, 4):
            return Decimal("Infinity")
        with localcontext(UP):
            root, constant = Decimal(size).sqrt().next_plus(), Decimal(self.lipschitz)
            axis = decimal(sum((2 * r**3 / 3 for r in reach), start=Fraction(0)))
            room = room_for_samples(Decimal(4) / (5 * size), Decimal(2))
            inside = (room * constant * constant * size).sqrt().next_plus() * axis.sqrt().next_plus()
            return self.total(inside, constant * decimal(max(reach)) * root, root * decimal(leak + lost + 3 * unit))


def _whole(values: Array) -> Array:
    """The same numbers as integers; NaN or fractions become a number that fits nowhere."""
    result = np.full(values.shape, 2**20 + 1, dtype=np.int64)
    right = (values == np.round(values)) & (np.abs(values) < 2**53)
    result[right] = values[right].astype(np.int64)
    return result


def _sum_of_exp_up(gaps: Iterable[int]) -> Decimal:
    with localcontext(UP):
        return sum((exp_up(gap) for gap in gaps), start=Decimal(0))
