"""B5: inside the criterion the growth is no square, at an error that stays within its certificate."""

from pathlib import Path

from helpers.claims import ran
from promptreach.claims import ClaimVerdict
from promptreach.claims.linear_time import SUBQUADRATIC, TOL, inside_criterion


def test_time_grows_like_less_than_a_square_within_the_certificate(tmp_path: Path) -> None:
    result = ran("B5", tmp_path)
    assert result.verdict is ClaimVerdict.HOLDS
    numbers = result.numbers
    assert numbers["exponent"] < SUBQUADRATIC
    pairs = zip(numbers["errors"], numbers["certified"], strict=True)
    assert all(0 < error <= bound <= TOL for error, bound in pairs)


def test_entries_have_the_size_that_was_asked_for() -> None:
    query, key, value = inside_criterion(4096, 0, 0.25)
    assert [round(float(part.std()), 1) for part in (4 * query, 4 * key, value)] == [1.0, 1.0, 1.0]
