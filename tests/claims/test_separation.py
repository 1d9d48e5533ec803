"""N2: a token an example against one change of rank one, a slot that comes near, and soft tokens that do not."""

from pathlib import Path

from helpers.claims import ran
from promptreach.certificate import Evidence
from promptreach.claims import ClaimVerdict


def test_an_update_takes_fewer_numbers_and_a_slot_comes_near_where_soft_tokens_do_not(tmp_path: Path) -> None:
    result = ran("N2", tmp_path)
    assert (result.verdict, result.evidence) == (ClaimVerdict.CAVEAT, Evidence.PROVED)
    numbers = result.numbers
    assert (numbers["prompt_numbers"], numbers["update_numbers"]) == (3 * 8, 8 + 8)
    assert numbers["one_slot"] == sorted(numbers["one_slot"], reverse=True)
    assert numbers["one_slot"][-1] < numbers["floors"][0] <= numbers["trained"][0]
