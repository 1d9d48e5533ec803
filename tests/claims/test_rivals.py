"""R1: every method gets the same number of parameters, and only a lead beyond the seeds counts."""

from pathlib import Path

from helpers.claims import goes_on, ran, rows_of
from promptreach.claims import ClaimVerdict
from promptreach.claims.rivals import is_ahead
from promptreach.report.findings import Cell


def test_a_rival_is_ahead_only_by_more_than_the_seeds_differ() -> None:
    def rows(lead: float) -> list[list[Cell]]:
        return [[1, "prompt", "", 1, 0.7, 0.03], [1, "lora", "", 1, 0.7 + lead, 0.01], [1, "prefix", "", 1, 0.6, 0.5]]

    assert not is_ahead(rows(0.02))
    assert is_ahead(rows(0.04))


def test_a_quick_run_gives_every_method_a_size_within_the_budget_and_claims_nothing(tmp_path: Path) -> None:
    result = ran("R1", tmp_path)
    assert result.verdict is ClaimVerdict.NOT_EXECUTABLE
    *trained, head = rows_of(result)
    assert {row[1] for row in trained} >= {"prompt", "prefix", "lora"}
    assert all(budget // 2 < parameters <= budget for budget, _, _, parameters, _, _ in trained)
    assert all(0 <= row[4] <= 1 for row in (*trained, head))
    assert (head[1], head[3]) == ("head alone", 0)
    goes_on(result, tmp_path)
