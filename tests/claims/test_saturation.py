"""A5: at quick sizes it runs on the real model, claims nothing, and goes on where it was killed."""

from pathlib import Path

from helpers.claims import goes_on, ran
from promptreach.claims import ClaimVerdict

HIDDEN, VALUE_SIZE, LAYERS = 576, 192, 2
"""SmolLM2-135M: its hidden size, the width of its values, and the layers that a quick run keeps."""


def test_a_quick_run_says_that_it_shows_nothing_and_counts_parameters_by_the_shapes(tmp_path: Path) -> None:
    result = ran("A5", tmp_path)
    assert result.verdict is ClaimVerdict.NOT_EXECUTABLE
    numbers = result.numbers
    assert numbers["prompt_parameters"] == [HIDDEN * length for length in numbers["lengths"]]
    assert numbers["lora_parameters"] == [LAYERS * (HIDDEN + HIDDEN + HIDDEN + VALUE_SIZE)]
    assert min(numbers["prompt_losses"]) < numbers["bare_loss"]
    goes_on(result, tmp_path)
