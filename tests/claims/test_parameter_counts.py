"""A3: n examples take n tokens, and the counts are those of the shapes."""

from pathlib import Path

from helpers.claims import ran, rows_of
from promptreach.claims import ClaimVerdict, run_claim


def test_tokens_are_those_of_the_examples_and_numbers_those_of_the_shapes(tmp_path: Path) -> None:
    result = ran("A3", tmp_path)
    assert result.verdict is ClaimVerdict.CAVEAT
    numbers = result.numbers
    assert numbers["tokens"] == numbers["examples"] == [1, 2, 4, 8]
    assert numbers["prompt_parameters"] == [16 * count for count in numbers["examples"]]
    # A unit has a row, a bias and a column.
    assert numbers["update_parameters"] == [(16 + 1 + 16) * count for count in numbers["examples"]]


def test_the_same_seed_gives_the_same_numbers_and_another_one_others() -> None:
    first, second, other = (run_claim("A3", seed=seed) for seed in (0, 0, 1))
    assert first.numbers == second.numbers
    assert rows_of(first) == rows_of(second) != rows_of(other)
