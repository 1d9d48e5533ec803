"""Shares of the tolerance: those that add up do not exceed it, and every one is said to be for something."""

import ast
import dataclasses
import inspect

import pytest
import torch

from promptreach.fast_attention.tolerance import BUDGET, Request, ToleranceBudget, request_faults


def test_shares_that_add_up_do_not_exceed_the_tolerance() -> None:
    # Nats of a score move an output entry by at most half as much of its range.
    moved = BUDGET.dropped / 2
    assert BUDGET.tail + moved <= 1
    assert BUDGET.tail_where_cheap + BUDGET.rounding + moved <= 1
    assert BUDGET.read + moved <= 1
    assert BUDGET.tail <= BUDGET.read


def test_every_part_of_a_tolerance_is_below_it() -> None:
    larger = {"ranges_in_deviation", "near_miss"}
    for field in dataclasses.fields(ToleranceBudget):
        assert (getattr(BUDGET, field.name) > 1) == (field.name in larger)


def test_every_share_says_what_it_is_for() -> None:
    tree = ast.parse(inspect.getsource(ToleranceBudget)).body[0]
    assert isinstance(tree, ast.ClassDef)
    after = list(zip(tree.body, tree.body[1:], strict=False))
    for field in dataclasses.fields(ToleranceBudget):
        text = next(
            later for node, later in after if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == field.name
        )
        assert isinstance(text, ast.Expr)
        assert isinstance(text.value, ast.Constant)


@pytest.mark.parametrize("relative_to", ["range", "deviation"])
def test_a_trial_leaves_room_for_the_certificate(relative_to: str) -> None:
    asked = Request(0.1, relative_to, torch.Generator())
    assert 0 < asked.trial_tol < asked.tol
    assert asked.as_range_error <= asked.tol


def test_all_faults_of_a_request_come_at_once() -> None:
    found = request_faults(-1.0, "max", 10)
    assert [fault.where for fault in found] == ["tol", "relative_to", "workspace"]
    assert request_faults(0.1, "range") == []
