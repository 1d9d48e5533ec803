"""What counts as a rival's lead."""

from promptreach.claims.rivals import is_ahead
from promptreach.report.findings import Cell


def test_a_rival_is_ahead_only_by_more_than_the_seeds_differ() -> None:
    def rows(lead: float) -> list[list[Cell]]:
        return [[1, "prompt", "", 1, 0.7, 0.03], [1, "lora", "", 1, 0.7 + lead, 0.01], [1, "prefix", "", 1, 0.6, 0.5]]

    assert not is_ahead(rows(0.02))
    assert is_ahead(rows(0.04))
