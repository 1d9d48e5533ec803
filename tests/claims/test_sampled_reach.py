"""N5: shares that grow with the error allowed, within what floors leave."""

from pathlib import Path

from helpers.claims import ran
from promptreach.claims import ClaimVerdict


def test_shares_grow_with_the_error_allowed_and_stay_within_the_proof(tmp_path: Path) -> None:
    result = ran("N5", tmp_path)
    assert result.verdict is ClaimVerdict.CAVEAT
    for name in ("at_least", "seen", "floors_leave"):
        assert result.numbers[name] == sorted(result.numbers[name])
    for low, seen, most in zip(*(result.numbers[name] for name in ("at_least", "seen", "floors_leave")), strict=True):
        assert low <= seen <= most
