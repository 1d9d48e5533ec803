"""Laws of the batches: nothing is left out, nothing comes twice."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from promptreach.training.task.encoding import evaluation_batches, training_batches

lengths_of = st.lists(st.integers(1, 12), min_size=1, max_size=120)
sizes = st.integers(1, 9)


@given(lengths_of, sizes, st.integers(0, 2**31))
def test_an_epoch_has_each_row_once(lengths: list[int], batch_size: int, seed: int) -> None:
    batches = training_batches(lengths, batch_size, torch.Generator().manual_seed(seed))
    in_an_epoch = -(-len(lengths) // batch_size)
    for _ in range(3):
        epoch = list(itertools.islice(batches, in_an_epoch))
        assert sorted(itertools.chain(*epoch)) == list(range(len(lengths)))
        assert all(0 < len(batch) <= batch_size for batch in epoch)
        assert all(lengths[a] <= lengths[b] for batch in epoch for a, b in itertools.pairwise(batch))


def test_epochs_and_seeds_differ_and_one_seed_does_not() -> None:
    def first(seed: int, count: int) -> list[list[int]]:
        return list(itertools.islice(training_batches([1] * 40, 4, torch.Generator().manual_seed(seed)), count))

    twice = first(0, 20)
    assert twice[:10] != twice[10:]
    assert twice == first(0, 20)
    assert twice != first(1, 20)


def test_similar_lengths_stand_together() -> None:
    lengths = [1, 50] * 32
    batches = itertools.islice(training_batches(lengths, 8, torch.Generator().manual_seed(0)), 8)
    assert all(len({lengths[row] for row in batch}) == 1 for batch in batches)


@given(lengths_of, sizes)
def test_evaluation_covers_all_rows_once_longest_last(lengths: list[int], batch_size: int) -> None:
    batches = list(evaluation_batches(lengths, batch_size))
    order = list(itertools.chain(*batches))
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[row] for row in order] == sorted(lengths)
    assert all(0 < len(batch) <= batch_size for batch in batches)


def padding(lengths: list[int], batches: list[list[int]]) -> float:
    """The share of all positions that hold no token."""
    positions = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)
    return 1 - sum(lengths[row] for batch in batches for row in batch) / positions


def of_reviews(count: int) -> list[int]:
    """Lengths spread as those of short texts are."""
    drawn = torch.distributions.LogNormal(3.2, 0.5)
    torch.manual_seed(0)
    return drawn.sample((count,)).clamp(4, 64).int().tolist()


@pytest.mark.parametrize("count", [1200, 4096])
def test_at_most_a_twentieth_of_what_is_trained_on_is_padding(count: int) -> None:
    lengths = of_reviews(count)
    batches = training_batches(lengths, 32, torch.Generator().manual_seed(0))
    assert padding(lengths, list(itertools.islice(batches, 4 * count // 32))) <= 0.05
    assert padding(lengths, list(evaluation_batches(lengths[:256], 64))) <= 0.05


@given(lengths_of, sizes)
def test_no_row_weighs_more_than_others(lengths: list[int], batch_size: int) -> None:
    batches = training_batches(lengths, batch_size, torch.Generator().manual_seed(0))
    epoch = list(itertools.islice(batches, -(-len(lengths) // batch_size)))
    assert max(map(len, epoch)) - min(map(len, epoch)) <= 1
