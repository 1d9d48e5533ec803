"""N3: equal weights for all tolerances, longer prompts for smaller ones."""

from pathlib import Path

from helpers.claims import ran
from promptreach.certificate import Evidence
from promptreach.claims import ClaimVerdict


def test_the_weights_are_the_same_and_prompts_longer(tmp_path: Path) -> None:
    result = ran("N3", tmp_path)
    assert (result.verdict, result.evidence) == (ClaimVerdict.HOLDS, Evidence.PROVED)
    for lengths in result.numbers["lengths"].values():
        assert lengths == sorted(set(lengths))
