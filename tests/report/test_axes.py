"""Axes: places and ticks."""

from hypothesis import given
from hypothesis import strategies as st

from promptreach.report.axes import linear_axis, log_axis


def test_log_axis_is_linear_in_powers_of_two() -> None:
    axis = log_axis([1.0, 64.0])
    assert axis.labels == ("1", "2", "4", "8", "16", "32", "64")
    assert [axis.share(x) for x in (1.0, 8.0, 64.0)] == [0.0, 0.5, 1.0]


@given(st.lists(st.floats(min_value=-1e12, max_value=1e12), min_size=2, max_size=5))
def test_linear_axis_covers_its_values_with_distinct_ticks(values: list[float]) -> None:
    axis = linear_axis(values, pad=0.06)
    assert all(0 <= axis.share(value) <= 1 for value in values)
    assert 2 <= len(axis.ticks) <= 12
    if max(values) - min(values) > 1e-2 * max(map(abs, values)):
        assert len(set(axis.labels)) == len(axis.labels)
