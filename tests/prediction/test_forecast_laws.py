"""Forecasts for rows whose answer is known by construction."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.tasks import labelled, model_of
from helpers.tolerances import assert_close
from promptreach.backbone import Prepended
from promptreach.prediction.forecast import (
    SHIFTS,
    Start,
    accuracy,
    choose,
    forecast,
    gram,
    head_kernel,
    mean_loss,
    normalised,
    standard_error,
)
from promptreach.prediction.kernel_logistic import nats
from promptreach.prediction.log_odds import LogOdds
from promptreach.prediction.predict import parts_of, start_of
from promptreach.training.task.task import prepare


def rows_of(log_odds: Tensor, answers: Tensor | None = None) -> LogOdds:
    """Log odds without a head, an example each, answered right where that was likelier than not."""
    answers = torch.ones_like(log_odds) if answers is None else answers
    right = answers * (log_odds > 0)
    example, none = torch.arange(len(log_odds)), log_odds.new_empty(len(log_odds), 0)
    return LogOdds(log_odds, answers, right, example, torch.zeros_like(example), features=none, sides=none)


def bare_start(train: Tensor, held_out: Tensor) -> Start:
    return Start(rows_of(train), rows_of(train), rows_of(held_out))


def planted_start(strength: float, seed: int = 0) -> tuple[Start, Tensor, float]:
    """Rows whose log odds, given the label, move with 40 features, and the loss of the true direction.

    Labels are drawn from the logistic model itself, so no prediction can be expected below that loss.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(900, 40, generator=generator, dtype=torch.float64)
    truth = strength * torch.randn(40, generator=generator, dtype=torch.float64) / 40**0.5
    labels = 2.0 * (torch.rand(900, generator=generator, dtype=torch.float64) < torch.sigmoid(x @ truth)) - 1
    features = labels[:, None] * x
    zeros = torch.zeros(600, dtype=torch.float64)
    kernels = gram(features[:300], features[:300], features[300:])
    return bare_start(zeros[:300], zeros), kernels, float(nats(features[300:] @ truth).mean())


SIZE: dict[str, Any] = {"method": "prompt", "tokens": 1, "rank": 0, "parameters": 40}


@pytest.mark.parametrize("strength", [1.0, 4.0])
def test_a_planted_direction_is_found(strength: float) -> None:
    start, kernels, best = planted_start(strength)
    found = forecast(start, kernels, **SIZE)
    assert found.start_loss == pytest.approx(math.log(2))
    assert best - 0.01 < found.held_out_loss < best + 0.1
    assert found.left_out_loss == pytest.approx(found.held_out_loss, abs=0.07)
    assert found.interval[0] < found.left_out_loss < found.interval[1]
    assert found.shift > 0


def test_pure_noise_is_not_learned() -> None:
    """Labels that have nothing to do with the features: the leave-one-out loss says so, where the fit would not."""
    start, kernels, _ = planted_start(0.0)
    found = forecast(start, kernels, **SIZE)
    assert found.held_out_loss == pytest.approx(math.log(2), abs=0.02)
    assert found.shift <= 0.1


def test_a_form_that_reaches_half_of_the_residual_says_half() -> None:
    """Every second row has no gradient: no change of this form moves it."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(40, 60, generator=generator, dtype=torch.float64)
    features[::2] = 0
    start = bare_start(torch.zeros(40).double(), torch.zeros(3).double())
    found = forecast(start, gram(features, features, features[:3]), **SIZE)
    assert found.reachable_share == pytest.approx(0.5, abs=1e-6)


def test_a_form_without_gradients_stays_at_its_start() -> None:
    start = bare_start(torch.linspace(-2, 2, 20).double(), torch.linspace(-1, 3, 9).double())
    nothing = gram(torch.zeros(20, 4), torch.zeros(20, 4), torch.zeros(9, 4))
    found = forecast(start, nothing, **SIZE)
    assert (found.shift, found.reachable_share) == (0.0, 0.0)
    assert found.held_out_loss == found.start_loss


def test_accuracy_of_single_answers_is_the_share_of_positive_log_odds() -> None:
    seen = rows_of(torch.linspace(-3, 3, 101).double())
    new = rows_of(torch.tensor([-2.0, -1.0, 0.5, 4.0]).double())
    assert accuracy(new.log_odds, new, seen) == 0.5


def test_an_answer_below_half_the_probability_may_be_right() -> None:
    """As often as among the rows seen with those log odds."""
    seen = replace(rows_of(torch.full((4,), -0.5).double()), right=torch.tensor([1.0, 1.0, 1.0, 0.0]).double())
    new = rows_of(torch.full((2,), -0.5).double())
    assert accuracy(new.log_odds, new, seen) == 0.75


def test_a_small_mean_loss_leaves_few_wrong_answers() -> None:
    """4 answers at 0.2 nats each on average: 0.8 nats pay for one wrong answer and not for two."""
    seen = replace(rows_of(torch.zeros(3).double() - 9), right=torch.zeros(3).double())
    log_odds = -torch.log(torch.expm1(torch.tensor([0.2]).double()))
    new = rows_of(log_odds, torch.tensor([4.0]).double())
    assert accuracy(log_odds, new, seen) == 0.75


def test_losses_count_answers_and_errors_count_examples() -> None:
    log_odds = torch.tensor([0.0, 1.0, -1.0, 2.0]).double()
    scores = replace(rows_of(log_odds, torch.tensor([1.0, 2.0, 1.0, 1.0]).double()), example=torch.tensor([0, 0, 1, 2]))
    losses = nats(log_odds)
    total = losses[0] + 2 * losses[1] + losses[2] + losses[3]
    assert mean_loss(log_odds, scores) == pytest.approx(float(total) / 5)
    residual = torch.stack([losses[0] + 2 * losses[1], losses[2], losses[3]]) - total / 5 * torch.tensor([3.0, 1, 1])
    assert standard_error(log_odds, scores) == pytest.approx(float(residual.std() / (5 / 3) / 3**0.5))


def test_the_shift_is_chosen_by_leaving_out() -> None:
    start, kernels, _ = planted_start(1.0)
    chosen = choose(start, lambda shift: normalised(kernels) * shift, SHIFTS)
    losses = {
        shift: choose(start, lambda shift: normalised(kernels) * shift, (shift,)).left_out_loss for shift in SHIFTS
    }
    assert losses[chosen.shift] == min(losses.values()) == chosen.left_out_loss
    assert len(set(losses.values())) == len(SHIFTS)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_heads_kernel_is_autograds(classes: int) -> None:
    task = prepare(model_of("bert"), labelled(classes=classes), longest_prompt=0)
    parts = parts_of(task, 0)
    start = start_of(task, parts, Prepended())
    rows = []
    for part, scores in zip(parts, (start.train, start.left_out, start.held_out), strict=True):
        assert part.reader is not None
        assert part.data.labels is not None
        for i, label in enumerate(part.data.labels.tolist()):
            fold = part.reader.fold[i]
            weight = part.reader.weight[fold].double().requires_grad_()
            bias = part.reader.bias[fold].double().requires_grad_()
            loss = -(weight @ scores.features[i] + bias).log_softmax(0)[label]
            gradients = torch.autograd.grad(-torch.log(torch.expm1(loss)), (weight, bias))
            # The kernel's unit: features of mean square 1, as the bias has.
            rows.append(torch.cat([gradients[0].flatten() / scores.features.shape[1] ** 0.5, gradients[1]]))
    split = torch.stack(rows).split([len(part.data) for part in parts])
    found, expected = head_kernel(start), gram(split[0], split[1], split[2])
    assert_close(found, expected, "tangent kernel", torch.float32)


def test_without_a_head_there_is_nothing_to_move_it_with() -> None:
    bare = bare_start(torch.zeros(3).double(), torch.zeros(2).double())
    kernel = head_kernel(bare)
    assert not kernel.any()
    assert bare.split(kernel)[2].shape == (2, 3)
