"""A2: no search gets below the proved floor, while the control and an update reach nothing but rounding."""

from pathlib import Path

from helpers.claims import ran
from promptreach.certificate import Evidence
from promptreach.claims import ClaimVerdict


def test_prompts_end_at_the_floor_and_an_update_far_below(tmp_path: Path) -> None:
    result = ran("A2", tmp_path)
    assert (result.verdict, result.evidence) == (ClaimVerdict.HOLDS, Evidence.PROVED)
    floor, prompts = result.numbers["floor"], result.numbers["prompts"]
    assert 0 < floor < 1
    assert min(prompts) >= floor
    assert min(prompts) < 1.01 * floor, "the floor is far from what prompts reach"
    assert max(result.numbers["control"]) < 1e-3
    # Two pairs: an update of rank 2 has what it takes.
    assert result.numbers["lora"][1] < 1e-3
