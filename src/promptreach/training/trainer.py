"""One optimiser at work: its tensors, its rate's schedule, its steps, and whether the loss is still a number.

Everything that is trained here goes through a `Trainer`: the runs of `fit` and of the searches (`OngoingRun`), and the
virtual tokens that learn a text by heart (`promptreach.capacity.memorise`). Whoever holds several of them computes one
loss for each, most often in a shared forward pass, and leaves the gradients in their tensors.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from promptreach.training.methods.methods import Trainable

WARM_UP = 0.1
"""The share of a run's steps over which its learning rate rises."""


class Trainer:
    """Trainable tensors on their way, whose gradients come from outside.

    Args:
        trainable: the method's tensors, attached for as long as training goes on.
        groups: tensors and their peak learning rate.
        betas, weight_decay: of AdamW, which without weight decay is Adam.
        share: the share of the peak rates in force at each step.
        clip: the norm that the gradients of all groups together are clipped to; None leaves them alone.

    Attributes:
        trainable: as given.
        steps: optimiser steps taken.
        diverged: whether the loss stopped being a number.
    """

    def __init__(
        self,
        trainable: Trainable,
        groups: Sequence[tuple[Sequence[nn.Parameter], float]],
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        share: Callable[[int], float] = lambda at: 1.0,
        clip: float | None = None,
    ) -> None:
        self.trainable = trainable
        self.steps = 0
        self.diverged = False
        self._share = share
        self._clip = clip
        self._tensors = [tensor for tensors, _ in groups for tensor in tensors]
        parts = [{"params": list(tensors), "lr": rate} for tensors, rate in groups]
        self._optimiser = torch.optim.AdamW(parts, betas=betas, weight_decay=weight_decay)
        self._schedule = LambdaLR(self._optimiser, share)

    def descend(self, loss: float) -> None:
        """Take one step along the gradients at hand, whose loss was `loss`, and use them up.

        A loss that is not a number ends training, whatever the gradients are.
        """
        self.steps += 1
        self.diverged = not math.isfinite(loss)
        if self.diverged:
            return
        if self._clip is not None:
            nn.utils.clip_grad_norm_(self._tensors, self._clip)
        self._optimiser.step()
        self._schedule.step()
        self._optimiser.zero_grad()

    def forget_gradients(self) -> None:
        """Leave no gradient in the tensors."""
        self._optimiser.zero_grad()

    def moments(self) -> dict[str, Tensor]:
        """All that the optimiser remembers, by tensor and name."""
        states: dict[int, dict[str, Tensor]] = self._optimiser.state_dict()["state"]
        return {f"{index}.{name}": value for index, state in states.items() for name, value in state.items()}

    def resume(self, steps: int, moments: Mapping[str, Tensor]) -> None:
        """Stand where `moments` were taken, after `steps` steps."""
        states: dict[int, dict[str, Tensor]] = {}
        for key, value in moments.items():
            index, _, name = key.partition(".")
            states.setdefault(int(index), {})[name] = value.clone()  # changed in place, and may be asked for again
        self._optimiser.load_state_dict(self._optimiser.state_dict() | {"state": states})
        self._schedule = LambdaLR(self._optimiser, self._share, last_epoch=steps - 1)
        self.steps = steps


def warmed_up(at: int, steps: int) -> float:
    """The share of the learning rate in force at step `at` of `steps`: up over a tenth of them, then down to zero."""
    rise = min(1.0, (at + 1) / max(1.0, WARM_UP * steps))
    return rise * max(0.0, 1.0 - at / max(1, steps))
