"""Means with their spread over texts, and straight lines over the number of virtual tokens."""

import pytest

from promptreach.capacity.counting import counting_bound
from promptreach.capacity.result import Level, Line, MemoryRecord, Spread


def level_of(tokens: int, bits: list[float]) -> Level:
    rows = tuple(
        MemoryRecord("prompt", tokens, "natural", i, 9, 100.0 + held, 100.0, None, 0, 5, 4, 4, 9, "step limit")
        for i, held in enumerate(bits)
    )
    return Level("prompt", tokens, "natural", rows, counting_bound(tokens * 8, 16, 40))


def test_a_line_through_points_on_a_line() -> None:
    levels = [level_of(tokens, [10.0 * tokens + 1, 30.0 * tokens + 3]) for tokens in (1, 2, 4)]
    line = Line.through(levels, lambda row: row.bits_removed)
    assert line is not None
    assert line.slope.mean == pytest.approx(20)
    assert line.slope.deviation == pytest.approx(200**0.5)
    assert line.intercept == pytest.approx(2)
    assert line.r_squared == pytest.approx(1)
    assert Line.through(levels[:1], lambda row: row.bits_removed) is None
    two = Line.through(levels[:2], lambda row: row.bits_removed)
    assert two is not None
    assert two.r_squared is None  # two points are always on a line
    flat = Line.through(levels, lambda row: 7.0)
    assert flat is not None
    assert (flat.slope.mean, flat.r_squared) == (0, None)
    bent = Line.through([level_of(t, [b]) for t, b in ((1, 0.0), (2, 9.0), (4, 0.0))], lambda row: row.bits_removed)
    assert bent is not None
    assert bent.r_squared is not None
    assert bent.r_squared < 0.5
    assert Spread.of([3.0]) == Spread(3.0, None)
