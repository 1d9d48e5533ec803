"""B3: the work rises with the entries and passes that of exact attention; real heads stand beside it."""

from pathlib import Path

import pytest

from helpers.claims import ran
from promptreach.claims import ClaimVerdict


def test_the_work_rises_with_the_entries_and_passes_exact_attention(tmp_path: Path) -> None:
    result = ran("B3", tmp_path)
    assert result.verdict is ClaimVerdict.CAVEAT
    numbers = result.numbers
    assert numbers["sqrt_log_length"] == pytest.approx(2.884, abs=1e-3)  # of 4096 tokens
    # The same draw at another size: entries and ratios scale together.
    scaled = [ratio / size for ratio, size in zip(numbers["ratio"], numbers["sizes"], strict=True)]
    assert scaled == pytest.approx([scaled[0]] * len(scaled), rel=1e-4)
    reached = [work for work in numbers["work"] if work is not None]
    assert reached == sorted(reached)
    assert reached[0] < 0.5
    assert numbers["turning_ratio"] in numbers["ratio"]
    assert len(numbers["real_ratio"]) == len(numbers["real_work"])
