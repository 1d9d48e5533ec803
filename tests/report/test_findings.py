"""Records that cannot be drawn are refused where they are made."""

import pytest

from promptreach.report.findings import Series, Table


def test_ragged_records_are_refused() -> None:
    with pytest.raises(ValueError, match="row 1 does not"):
        Table(title="t", columns=["a", "b"], rows=[[1, 2], [3]])
    with pytest.raises(ValueError, match="2 x values and 1 y values"):
        Series(name="s", x=[1.0, 2.0], y=[1.0])
