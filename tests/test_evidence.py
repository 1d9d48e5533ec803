"""Evidence and sides: their order, and how numbers of several sides combine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptreach.errors import SideMismatchError
from promptreach.evidence import Evidence, Side

SIDES = st.sampled_from(Side)


@given(st.lists(SIDES, min_size=1, max_size=5))
def test_combined_sides_are_the_common_one_or_refused(sides):
    if {Side.LOWER, Side.UPPER} <= set(sides):
        with pytest.raises(SideMismatchError):
            Side.combine(sides)
    else:
        bounding = set(sides) - {Side.EXACT}
        assert Side.combine(sides) is (bounding.pop() if bounding else Side.EXACT)


@given(st.lists(st.sampled_from(Evidence), min_size=1, max_size=5))
def test_a_conclusion_is_worth_its_weakest_part(kinds):
    order = [Evidence.PROVED, Evidence.MEASURED, Evidence.PREDICTED, Evidence.UNKNOWN]
    assert Evidence.weakest(kinds) is order[max(order.index(kind) for kind in kinds)]
