"""Losses by hand, the order of gathered outcomes, and the standard error against resampling."""

import math
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from helpers.tasks import completer, model_of
from helpers.tolerances import assert_close
from promptreach.backbone import TokenBatch
from promptreach.training.task.encoding import Encoded
from promptreach.training.task.objective import Classification, Completion, Objective, Outcomes, gather
from promptreach.training.task.readout import LinearHead


def test_a_classification_loss_by_hand() -> None:
    head = LinearHead(
        "mean",
        centre=torch.tensor([1.0, 0.0]),
        spread=torch.tensor([2.0, 1.0]),
        weight=torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
        bias=torch.tensor([0.0, 0.5]),
    )
    # Means over the content: (3, 1) and (-1, 0); standardised (1, 1) and (-1, 0); logits (1, 1.5) and (-1, 0.5).
    junk = [1e6, -1e6]
    hidden = torch.tensor([[[2.0, 0.0], [4.0, 2.0], junk], [[-1.0, 0.0], junk, junk]])
    batch = TokenBatch(torch.ones(2, 3, dtype=torch.int64), torch.tensor([[True, True, False], [True, False, False]]))
    # The batch holds examples 2 and 0 of the data.
    data = Encoded(((1,), (1,), (1, 1)), torch.tensor([0, 1, 1]), None, 0)
    found = Classification(head).outcomes(model_of("bert"), hidden, batch, data, [2, 0])
    expected = torch.tensor([math.log(1 + math.exp(-0.5)), math.log(1 + math.exp(1.5))])
    assert_close(found.loss.detach(), expected, "loss")
    assert found.right.tolist() == [1, 0]
    assert found.answers.tolist() == [1, 1]


def completion_example() -> tuple[Tensor, TokenBatch, Encoded]:
    """Random states at the positions before an answer token and NaN at every other, and nonsense ids at padding."""
    data = Encoded(((4, 5, 6, 7, 8), (9, 10), (11, 12, 13)), None, (2, 1, 2), 0)
    model = completer()
    batch = model.batch([data.sequences[0], data.sequences[2]])
    ids = batch.input_ids.clone()
    ids[~batch.mask] = 39
    hidden = torch.full((2, 5, model.hidden_size), torch.nan)
    generator = torch.Generator().manual_seed(0)
    for example, positions in enumerate(((2, 3), (0, 1))):
        for position in positions:
            hidden[example, position] = torch.randn(model.hidden_size, generator=generator)
    return hidden, replace(batch, input_ids=ids), data


def test_a_completion_loss_by_hand() -> None:
    hidden, batch, data = completion_example()
    found = Completion().outcomes(completer(), hidden, batch, data, [0, 2])
    # Each answer token from the state before it: 7 and 8 behind (4, 5, 6), 12 and 13 behind 11.
    expected = []
    for example, answers in enumerate((((2, 7), (3, 8)), ((0, 12), (1, 13)))):
        total = 0.0
        for before, token in answers:
            logits = completer().vocabulary_logits(hidden[example, before]).tolist()
            total += math.log(sum(map(math.exp, logits))) - logits[token]
        expected.append(total)
    assert_close(found.loss, torch.tensor(expected), "loss")
    assert found.answers.tolist() == [2, 2]


def test_right_answers_of_a_completion_are_counted_per_example() -> None:
    hidden, batch, data = completion_example()
    said = completer().vocabulary_logits(hidden).argmax(-1)
    ids = batch.input_ids.clone()
    ids[0, 3], ids[0, 4] = said[0, 2], said[0, 3]  # both right
    ids[1, 1], ids[1, 2] = said[1, 0], (said[1, 1] + 1) % 40  # one right
    found = Completion().outcomes(completer(), hidden, replace(batch, input_ids=ids), data, [0, 2])
    assert found.right.tolist() == [2, 1]
    assert found.all_right == 0.5
    assert found.accuracy == 0.75


def test_gradients_reach_the_states_before_answers_and_no_others() -> None:
    hidden, batch, data = completion_example()
    hidden.requires_grad_()
    Completion().outcomes(completer(), hidden, batch, data, [0, 2]).loss.sum().backward()
    assert hidden.grad is not None
    touched = hidden.grad.abs().sum(-1).nonzero().tolist()
    assert touched == [[0, 2], [0, 3], [1, 0], [1, 1]]


def test_scores_are_ratios_of_sums() -> None:
    outcomes = Outcomes(torch.tensor([3.0, 1.0]), torch.tensor([3.0, 1.0]), torch.tensor([3.0, 0.0]))
    assert outcomes.mean_loss == 1.0
    assert outcomes.accuracy == 0.75
    assert outcomes.all_right == 0.5


@given(st.lists(st.lists(st.integers(), min_size=1, max_size=4), min_size=1, max_size=5), st.randoms())
def test_gathering_restores_the_order(shape: list[list[int]], draw: random.Random) -> None:
    rows = list(range(sum(map(len, shape))))
    draw.shuffle(rows)
    remaining = iter(rows)
    batches = [[next(remaining) for _ in batch] for batch in shape]
    parts = [
        Outcomes(*(offset + torch.tensor(batch, dtype=torch.float64, requires_grad=True) for offset in (0, 100, 200)))
        for batch in batches
    ]
    whole = gather(parts, batches)
    for offset, values in zip((0, 100, 200), (whole.loss, whole.answers, whole.right), strict=True):
        assert values.tolist() == [offset + row for row in range(len(rows))]
        assert not values.requires_grad


def bootstrapped(outcomes: Outcomes, resamples: int = 4000) -> float:
    """The spread of the accuracy over resampled examples."""
    count = len(outcomes.loss)
    rows = torch.randint(count, (resamples, count), generator=torch.Generator().manual_seed(0))
    accuracies = outcomes.right.double()[rows].sum(1) / outcomes.answers.double()[rows].sum(1)
    return float(accuracies.std())


@pytest.mark.parametrize("longest", [1, 9], ids=["one answer each", "answers of uneven number"])
def test_the_standard_error_is_the_bootstraps(longest: int) -> None:
    generator = torch.Generator().manual_seed(1)
    answers = torch.randint(1, longest + 1, (300,), generator=generator).float()
    # Long completions go wrong more often, as they do; a ratio's error feels that.
    right = torch.binomial(answers, 0.9 - 0.05 * answers, generator=generator)
    outcomes = Outcomes(torch.zeros(300), answers, right)
    error = torch.tensor(outcomes.standard_error(), dtype=torch.float64)
    assert_close(error, torch.tensor(bootstrapped(outcomes), dtype=torch.float64), "bootstrapped error")


def test_one_example_has_no_standard_error() -> None:
    assert Outcomes(torch.ones(1), torch.ones(1), torch.ones(1)).standard_error() == math.inf


def test_the_heads_state_goes_out_and_in() -> None:
    head = LinearHead("last", torch.ones(3), torch.ones(3), torch.randn(2, 3), torch.zeros(2))
    objective: Objective = Classification(head)
    saved = objective.head_state()
    assert set(saved) == {"centre", "spread", "weight", "bias"}
    assert [parameter.shape for parameter in objective.head_parameters()] == [(2, 3), (2,)]
    with torch.no_grad():
        for parameter in objective.head_parameters():
            parameter.add_(1.0)
    assert torch.equal(saved["bias"], torch.zeros(2))
    objective.load_head(saved)
    assert torch.equal(head.bias.detach(), torch.zeros(2))
    nothing: Objective = Completion()
    assert (nothing.head_parameters(), nothing.head_state()) == ([], {})
    nothing.load_head({})
