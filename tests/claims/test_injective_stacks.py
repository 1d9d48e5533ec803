"""A4: contracting stacks miss by their floor, and steep ones are certified of nothing."""

from pathlib import Path

from helpers.claims import ran
from promptreach.certificate import Evidence
from promptreach.claims import ClaimVerdict


def test_floors_fall_to_nothing_where_a_branch_stops_contracting(tmp_path: Path) -> None:
    result = ran("A4", tmp_path)
    assert (result.verdict, result.evidence) == (ClaimVerdict.CAVEAT, Evidence.PROVED)
    numbers = result.numbers
    assert numbers["floors"] == sorted(numbers["floors"], reverse=True)
    assert all(error >= floor for error, floor in zip(numbers["reached"], numbers["floors"], strict=True))
    # A floor stands only where every branch contracts, and the steepest branch grows with the weights.
    steepest = numbers["largest_branch_constant"]
    assert steepest == sorted(steepest)
    assert all(constant < 1 for constant, floor in zip(steepest, numbers["floors"], strict=True) if floor > 0)
    assert all(floor == 0 for constant, floor in zip(steepest, numbers["floors"], strict=True) if constant >= 1)
    assert numbers["certified_up_to_scale"] in numbers["scales"]
    assert numbers["bidirectional"] == "UNKNOWN"
