"""N4: exact changes at each token, and ranks that grow with the tokens."""

from pathlib import Path

from helpers.claims import ran
from promptreach.claims import ClaimVerdict
from promptreach.claims.prompts_as_updates import FAMILIES, HIDDEN


def test_each_token_has_its_change_and_all_together_a_rank(tmp_path: Path) -> None:
    result = ran("N4", tmp_path)
    assert result.verdict is ClaimVerdict.HOLDS
    assert set(result.numbers["residuals"]) == set(FAMILIES)
    for ranks in result.numbers["ranks"].values():
        assert ranks == [min(count, HIDDEN) for count in result.numbers["tokens"]]
