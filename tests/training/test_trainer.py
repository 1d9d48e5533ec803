"""The optimiser that all training shares: its schedule, its clipping, its end, and its way back."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from promptreach.backbone import Prepended
from promptreach.training.methods.methods import Trainable
from promptreach.training.trainer import Trainer, warmed_up


def trainer_of(numbers: list[float], rate: float = 0.1, **options: Any) -> Trainer:
    own = nn.Parameter(torch.tensor(numbers))
    trainable = Trainable({"own": own}, Prepended, 1.0, lambda: {"own": own.detach().clone()}, lambda state: None)
    return Trainer(trainable, [([own], rate)], **options)


def descended(trainer: Trainer, steps: int = 1) -> Tensor:
    """The tensor after so many steps down its own squares."""
    own = trainer.trainable.parameters["own"]
    for _ in range(steps):
        loss = own.square().sum()
        loss.backward()
        trainer.descend(loss.item())
    return own.detach().clone()


def test_it_takes_the_steps_of_adam() -> None:
    own = nn.Parameter(torch.tensor([1.0, -2.0]))
    adam = torch.optim.Adam([own], lr=0.1)
    for _ in range(5):
        adam.zero_grad()
        own.square().sum().backward()
        adam.step()
    assert torch.equal(descended(trainer_of([1.0, -2.0]), 5), own.detach())


def test_every_step_has_its_share_of_the_rate() -> None:
    moved = trainer_of([1.0], share=lambda at: (1.0, 0.0, 0.5)[min(at, 2)])
    places = [float(descended(moved)) for _ in range(3)]
    assert places[0] == pytest.approx(0.9)  # a first step of Adam is as long as its rate
    assert places[1] == places[0]
    assert 0.03 < places[1] - places[2] < 0.06


def test_clipping_bounds_the_gradients_of_all_groups_together() -> None:
    """Adam forgets a gradient's size, but not how sizes change: after a small one a large one, clipped, moves less."""
    free, clipped = trainer_of([1e-3]), trainer_of([1e-3], clip=1.0)
    for trainer in (free, clipped):
        descended(trainer)
        trainer.trainable.parameters["own"].data.fill_(1e3)
    first, second = (1e3 - float(descended(trainer)) for trainer in (free, clipped))
    assert first == pytest.approx(second, rel=0.01)
    assert clipped.moments()["0.exp_avg"].abs().max() < 1 < free.moments()["0.exp_avg"].abs().max()


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_moves_nothing(loss: float) -> None:
    trainer = trainer_of([1.0])
    trainer.trainable.parameters["own"].sum().backward()
    trainer.descend(loss)
    assert (trainer.diverged, trainer.steps) == (True, 1)
    assert float(trainer.trainable.state()["own"]) == 1.0


def test_it_goes_on_from_its_moments_bit_for_bit() -> None:
    options: dict[str, Any] = {"share": lambda at: 1.0 / (at + 1), "clip": 1.0, "weight_decay": 0.1}
    whole = descended(trainer_of([1.0, -2.0], **options), 7)
    first = trainer_of([1.0, -2.0], **options)
    second = trainer_of(descended(first, 4).tolist(), **options)
    kept = first.moments()
    before = {name: value.clone() for name, value in kept.items()}
    second.resume(4, kept)
    assert torch.equal(descended(second, 3), whole)
    assert all(torch.equal(kept[name], before[name]) for name in kept)
    assert second.steps == 7


@pytest.mark.parametrize("steps", [1, 2, 10, 75, 400])
def test_the_rate_rises_then_falls_and_every_step_counts(steps: int) -> None:
    rates = [warmed_up(at, steps) for at in range(steps)]
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert all(0 < rate <= 1 for rate in rates)
    assert peak <= steps / 10
    assert max(rates) >= 0.9
    assert warmed_up(steps, steps) == 0
