"""Shapes against the names of their axes: every misfit is named once, and a first size holds for all later tensors."""

import pytest
import torch

from promptreach import shapes

QUERY = torch.zeros(2, 6, 23, 4)


def test_the_first_tensor_decides_and_later_ones_are_held_to_it() -> None:
    dims: dict[str, int] = {}
    assert shapes.faults("query", QUERY, "... heads? q head_dim", dims) == []
    assert dims == {"heads": 6, "q": 23, "head_dim": 4}
    (fault,) = shapes.faults("key", torch.zeros(2, 31, 3), "... kv_heads? n head_dim", dims)
    assert str(fault) == "key: head_dim 3 in shape (2, 31, 3); expected head_dim 4"
    assert dims["n"] == 31
    found = shapes.faults("value", torch.zeros(1, 30, 5), "... kv_heads? n value_dim", dims)
    assert [fault.seen.split(" in ")[0] for fault in found] == ["kv_heads 1", "n 30"]
    assert dims["value_dim"] == 5


def test_an_optional_axis_that_is_missing_counts_as_one() -> None:
    dims: dict[str, int] = {}
    assert shapes.faults("query", QUERY[0, 0], "... heads? q head_dim", dims) == []
    assert dims["heads"] == 1


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((4,), "... heads? q head_dim", "query: shape (4,); expected (..., heads, q, head_dim), at least 2 axes"),
        ((), "... q head_dim", "query: shape (); expected (..., q, head_dim)"),
        ((2, 3, 4), "batch n", "query: shape (2, 3, 4); expected (batch, n)"),
    ],
)
def test_a_wrong_number_of_axes_says_the_layout(shape: tuple[int, ...], axes: str, expected: str) -> None:
    dims: dict[str, int] = {}
    (fault,) = shapes.faults("query", torch.zeros(shape), axes, dims)
    assert str(fault) == expected
    assert dims == {}


@pytest.mark.parametrize(("heads", "kv_heads", "fits"), [(6, 2, True), (6, 6, True), (6, 4, False), (6, 0, False)])
def test_query_heads_share_key_value_heads_evenly(heads: int, kv_heads: int, fits: bool) -> None:
    found = shapes.group_faults("key", heads, kv_heads)
    assert [str(fault) for fault in found] == (
        [] if fits else [f"key: {kv_heads} key/value heads; expected a divisor of the {heads} query heads"]
    )


def test_expanding_is_what_torch_expands() -> None:
    for shape in [(), (1,), (3,), (1, 3), (2, 3), (2, 1), (4, 2, 3)]:
        for wanted in [(), (3,), (2, 3), (4, 2, 3)]:
            try:
                torch.zeros(shape).expand(wanted)
                fits = True
            except RuntimeError:
                fits = False
            assert shapes.expands(shape, wanted) == fits


def test_batch_axes_join_and_the_one_that_does_not_is_named() -> None:
    tensors = {name: torch.zeros(*batch, 1, 3, 4) for name, batch in (("a", (2, 1)), ("b", (5,)), ("c", (3,)))}
    joined, (fault,) = shapes.broadcast_faults(tensors)
    assert joined == (2, 5)
    assert (fault.where, fault.seen) == ("c", "batch axes (3,)")
