"""Gradient refinement of a shorter prefix: keys and values together, against the outputs of the full one.

Keys enter through an exponential, so no closed form finds the best ones. Adam over both, on a random part of the
sampled queries at each step, starting from the closed form; what is kept is whatever was best on all of them.
"""

import math

import torch

from promptreach.compression.sampled import SampledHeads, Slots

CHUNK = 768
"""Queries a step: enough for a steady gradient, few enough that a step takes milliseconds."""
RATE = 0.05
"""The first step size, in standard deviations of the keys, or of the values."""


def refine(sampled: SampledHeads, start: Slots, steps: int, generator: torch.Generator) -> Slots:
    """`start` after `steps` of Adam on the squared relative error; for every head no worse on these queries."""
    keys, values = (part.detach().clone().requires_grad_() for part in (start.keys, start.values))
    rates = [RATE * _spread(part) for part in (start.keys, start.values)]
    optimiser = torch.optim.Adam(
        [{"params": [part], "lr": rate} for part, rate in zip((keys, values), rates, strict=True)], betas=(0.9, 0.99)
    )
    for step in range(steps):
        for options, rate in zip(optimiser.param_groups, rates, strict=True):
            options["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        chosen = torch.randperm(sampled.samples, generator=generator)[:CHUNK].to(keys.device)
        optimiser.zero_grad()
        with torch.enable_grad():
            loss = sampled.take(chosen).errors(Slots(keys, values, start.log_copies)).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    end = Slots(keys.detach(), values.detach(), start.log_copies)
    better = (sampled.errors(end) < sampled.errors(start))[:, None, None]
    return Slots(
        torch.where(better, end.keys, start.keys), torch.where(better, end.values, start.values), start.log_copies
    )


def _spread(tensor: torch.Tensor) -> float:
    """The standard deviation over slots, averaged over heads and coordinates; that of one slot is its size."""
    spread = tensor.std(dim=1).mean() if tensor.shape[1] > 1 else tensor.abs().mean()
    return float(spread)
