"""The results of `capacity`: records, means with their spread over texts, straight lines over tokens, bounds."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from promptreach.capacity.counting import CountingBound
from promptreach.capacity.memorise import MemorySettings, Status
from promptreach.capacity.texts import Kind
from promptreach.certificate import Certificate, Evidence, Side
from promptreach.report.formatting import counted


@dataclass(frozen=True)
class MemoryRecord:
    """The text that its virtual tokens hold, in numbers. MEASURED; other training may find more.

    Attributes:
        method: one of `MEMORY_METHODS`.
        tokens: virtual tokens, or slots at every layer.
        kind, sequence: which text.
        length: tokens of the text of which most was held; the numbers down to `right` are over these.
        bits_before, bits_after: the loss without and with the virtual tokens, summed over all tokens, the first
            included.
        bits_source: bits that the text's source has; None for natural text.
        right_before, right: tokens predicted right from the true ones before them.
        recalled: the longest beginning whose every token is predicted right from the true ones before it.
        recalled_free: the same when the model writes by itself; by the tensors that reached `recalled`.
        steps: optimiser steps taken, in all runs.
        status: ``whole text`` when all of it was recalled, so that more may fit; ``step limit``; ``diverged`` when the
            loss stopped being a number, after which nothing was taken in.
    """

    method: str
    tokens: int
    kind: Kind
    sequence: int
    length: int
    bits_before: float
    bits_after: float
    bits_source: float | None
    right_before: int
    right: int
    recalled: int
    recalled_free: int
    steps: int
    status: Status

    @property
    def bits_removed(self) -> float:
        """Loss that the virtual tokens take off the bare model's, in bits."""
        return self.bits_before - self.bits_after

    @property
    def bits_stored(self) -> float | None:
        """How far the loss lies below the bits of the source, negative when it lies above; None for natural text.

        Unlike `bits_removed` it counts nothing for telling the model what *kind* of text comes: one and the same prompt
        for all random texts stores at most 0 bits on average.
        """
        return None if self.bits_source is None else self.bits_source - self.bits_after

    @property
    def bits_held(self) -> float:
        """Bits stored where the source is known, bits removed where it is not."""
        return self.bits_removed if self.bits_stored is None else self.bits_stored

    @property
    def gain(self) -> int:
        """Tokens right with the virtual tokens minus without: what was published as token gain."""
        return self.right - self.right_before


@dataclass(frozen=True)
class Spread:
    """A mean over texts, and the standard deviation between them (None for a single text)."""

    mean: float
    deviation: float | None

    @staticmethod
    def of(values: Sequence[float]) -> "Spread":
        """The spread of at least one value."""
        return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True)
class Level:
    """One form with one number of virtual tokens on one kind of text.

    Attributes:
        method, tokens, kind: which.
        rows: one a text.
        bound: what so many virtual tokens can hold at most, at the precision that the model reads them with.
    """

    method: str
    tokens: int
    kind: Kind
    rows: tuple[MemoryRecord, ...]
    bound: CountingBound

    @property
    def bits(self) -> Spread:
        """Bits held: stored for random text, whose source is known; removed from the bare model's loss for natural."""
        return Spread.of([row.bits_held for row in self.rows])

    def mean(self, name: str) -> float:
        """The mean over texts of one of a row's numbers."""
        return statistics.fmean(getattr(row, name) for row in self.rows)

    @property
    def share(self) -> float:
        """`bits` as a share of the counting bound.

        For random text both are about the same quantity, so this is at most 1 on average over texts. For natural text
        the bound says nothing of the loss removed from one text, and the share compares two sizes.
        """
        return self.bits.mean / self.bound.bits.value

    def certificates(self, settings: MemorySettings) -> list[Certificate]:
        """What was measured as lower bounds on what is possible, then the upper bounds."""
        sample = f"{counted(len(self.rows), f'{self.kind} text')}, at most {counted(settings.steps, 'step')} each"
        sample += f", seed {settings.seed}"
        whose = f"{counted(self.tokens, 'virtual token')} ({self.method}) for each of these {self.kind} texts"
        below = "the bits of their source" if self.kind == "random" else "the bare model's loss"
        claims = [
            (f"With the best {whose}, the loss lies on average at least value bits below {below}.", self.bits.mean),
            (
                f"With the best {whose}, greedy decoding gives on average at least value tokens from their beginning.",
                self.mean("recalled_free"),
            ),
        ]
        measured = [Certificate(claim, value, Side.LOWER, Evidence.MEASURED, sample=sample) for claim, value in claims]
        return [*measured, self.bound.bits, self.bound.length]


@dataclass(frozen=True)
class Line:
    """A straight line over the number of virtual tokens, fitted to each text by least squares.

    Attributes:
        slope: of the texts' lines, per virtual token.
        intercept: the mean over the texts.
        r_squared: of the line through the means; None for two numbers of tokens, or where the means do not vary.
    """

    slope: Spread
    intercept: float
    r_squared: float | None

    @staticmethod
    def through(levels: Sequence[Level], number: Callable[[MemoryRecord], float]) -> "Line | None":
        """The line of `number` over the levels' tokens; None for fewer than two numbers of tokens."""
        tokens = [float(level.tokens) for level in levels]
        if len(set(tokens)) < 2:
            return None
        texts = [[number(row) for row in rows] for rows in zip(*(level.rows for level in levels), strict=True)]
        fits = [statistics.linear_regression(tokens, values) for values in texts]
        means = [statistics.fmean(values) for values in zip(*texts, strict=True)]
        telling = len(set(tokens)) > 2 and not math.isclose(min(means), max(means))
        return Line(
            slope=Spread.of([fit.slope for fit in fits]),
            intercept=statistics.fmean(fit.intercept for fit in fits),
            r_squared=statistics.correlation(tokens, means) ** 2 if telling else None,
        )


@dataclass(frozen=True)
class Capacity:
    """How much text virtual tokens hold in one model.

    Every measured number is a lower bound on what is possible: training that fails to recall a text does not show that
    no prompt recalls it. The counting bounds are upper bounds, and far away.

    Attributes:
        model: its name.
        opening: the token that all texts stand behind, with virtual tokens and without.
        vocabulary: how many different tokens the random texts are drawn from.
        precision: bits of one entry of a prompt as the model reads it.
        settings: how virtual tokens were trained.
        levels: one for each form, number of tokens and kind of text, numbers of tokens rising.
        seconds: wall time of this call; finished points that were found cost nothing.
    """

    model: str
    opening: int
    vocabulary: int
    precision: int
    settings: MemorySettings
    levels: tuple[Level, ...]
    seconds: float

    evidence = Evidence.MEASURED
    side = Side.LOWER

    @property
    def rows(self) -> tuple[MemoryRecord, ...]:
        """All rows, level by level."""
        return tuple(row for level in self.levels for row in level.rows)

    def curve(self, method: str, kind: Kind) -> list[Level]:
        """The levels of one form and one kind of text, by number of tokens."""
        return [level for level in self.levels if (level.method, level.kind) == (method, kind)]

    @property
    def curves(self) -> list[tuple[str, Kind]]:
        """The pairs of form and kind of text that were measured."""
        return list(dict.fromkeys((level.method, level.kind) for level in self.levels))

    def bits_line(self, method: str, kind: Kind) -> Line | None:
        """Bits held over virtual tokens."""
        return Line.through(self.curve(method, kind), lambda row: row.bits_held)

    def recall_line(self, method: str, kind: Kind) -> Line | None:
        """Tokens recalled by free-running decoding over virtual tokens."""
        return Line.through(self.curve(method, kind), lambda row: float(row.recalled_free))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON types."""
        lines = [
            {"method": method, "kind": kind, "bits": line and asdict(line), "recalled": recall and asdict(recall)}
            for method, kind in self.curves
            for line, recall in [(self.bits_line(method, kind), self.recall_line(method, kind))]
        ]
        return {
            "model": self.model,
            "opening": self.opening,
            "vocabulary": self.vocabulary,
            "precision": self.precision,
            "evidence": self.evidence.value,
            "side": self.side.value,
            "settings": asdict(self.settings),
            "lines": lines,
            "levels": [
                {
                    "method": level.method,
                    "tokens": level.tokens,
                    "kind": level.kind,
                    "bits": asdict(level.bits),
                    "share": level.share,
                    **{name: level.mean(name) for name in ("bits_removed", "recalled", "recalled_free", "gain")},
                    "bound_bits": level.bound.bits.value,
                    "bound_length": level.bound.length.value,
                }
                for level in self.levels
            ],
            "rows": [
                asdict(row) | {name: getattr(row, name) for name in ("bits_removed", "bits_stored", "gain")}
                for row in self.rows
            ],
        }
