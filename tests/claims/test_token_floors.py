"""N1: floors that fall with the length, and nothing trained below them."""

from pathlib import Path

from helpers.claims import ran
from promptreach.certificate import Evidence
from promptreach.claims import ClaimVerdict


def test_floors_fall_with_the_length_and_trained_prompts_stay_above(tmp_path: Path) -> None:
    result = ran("N1", tmp_path)
    assert (result.verdict, result.evidence) == (ClaimVerdict.HOLDS, Evidence.PROVED)
    floors = result.numbers["floors"]
    assert floors == sorted(floors, reverse=True)
    for name in ("soft_tokens", "slots"):
        assert all(0 < floor <= error for floor, error in zip(floors, result.numbers[name], strict=True))
