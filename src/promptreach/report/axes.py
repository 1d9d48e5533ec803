"""Axes for curves: where a value lies between two ends, and which round numbers to print there."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from promptreach.report.formatting import format_number

LARGEST = 1e150
"""Values beyond this, and those that are not numbers, are not drawn: differences of larger ones overflow."""


def drawable(value: float | None) -> bool:
    """True for a number that an axis can place."""
    return value is not None and abs(value) <= LARGEST  # NaN compares false


@dataclass(frozen=True)
class Axis:
    """An axis from `start` to `end` with its ticks; `log` measures distances by their ratios."""

    start: float
    end: float
    ticks: tuple[float, ...]
    labels: tuple[str, ...]
    log: bool = False

    def share(self, value: float) -> float:
        """How far along the axis `value` lies, 0 at `start` and 1 at `end`."""
        start, end, value = (math.log2(x) if self.log else x for x in (self.start, self.end, value))
        return (value - start) / (end - start)


def linear_axis(values: Sequence[float], pad: float = 0.0) -> Axis:
    """An axis over drawable `values`, widened by `pad` of their range on both sides, with round ticks.

    Where all values are the same (to nine digits) the axis shows that value in its middle.
    """
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    size, spread = max(abs(low), abs(high)), high - low
    if spread <= 1e-9 * size or spread < 1 / LARGEST:
        spread, pad = (size if size > 1 / LARGEST else 1.0), 0.5
    start, end = low - pad * spread, high + pad * spread
    rough = (end - start) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    ticks = tuple(count * step for count in range(math.ceil(start / step - 1e-9), math.floor(end / step + 1e-9) + 1))
    return Axis(start, end, ticks, tuple(_tick_label(tick, step) for tick in ticks))


def log_axis(values: Sequence[float]) -> Axis:
    """A base-2 axis over positive drawable `values`, with ticks at powers of two, at most seven of them."""
    low, high = (min(values), max(values)) if values else (1.0, 2.0)
    if math.log2(high) - math.log2(low) < 1e-6:
        low, high = low / 2, high * 2
    first, last = math.ceil(math.log2(low) - 1e-9), math.floor(math.log2(high) + 1e-9)
    stride = max(math.ceil((last - first + 1) / 7), 1)
    ticks = tuple(2.0**power for power in range(first, last + 1, stride)) or (low, high)
    return Axis(low, high, ticks, tuple(format_number(tick) for tick in ticks), log=True)


def decade_axis(values: Sequence[float]) -> Axis:
    """An axis over positive drawable `values` that ends at powers of ten, with ticks at them, at most seven."""
    low, high = (min(values), max(values)) if values else (1.0, 10.0)
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    last = max(last, first + 1)
    stride = max(math.ceil((last - first + 1) / 7), 1)
    powers = range(first, last + 1, stride)
    labels = tuple(format_number(10.0**power) if -3 < power < 5 else f"1e{power}" for power in powers)
    return Axis(10.0**first, 10.0**last, tuple(10.0**power for power in powers), labels, log=True)


def _tick_label(tick: float, step: float) -> str:
    """`tick` with as many decimals as `step` needs, so that neighbouring ticks never print alike."""
    decimals = max(-math.floor(math.log10(step) + 1e-9), 0)
    if decimals > 5 or abs(tick) >= 1e9:
        return format_number(0.0 if abs(tick) < step / 2 else tick)
    return f"{tick:,.{decimals}f}"
