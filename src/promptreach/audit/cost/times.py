"""Times of forward passes, adapter by adapter, and the answers of a precomputed prompt beside those of the prompt.

Only ratios between options of one call mean anything: they take turns within every round, so that a machine that slows
down slows all of them.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.audit.cost.work import DeploymentOption
from promptreach.backbone import Prepended, TokenBatch
from promptreach.hf import OpenModel, attach

LEAST_ROUNDS, MOST_ROUNDS = 3, 9
ENOUGH_SECONDS = 0.5
"""Rounds beyond the least are added until so much time has passed."""

SHORT = 0.05
"""Passes of up to so many seconds are run twice a round, and the quicker run counts: the first one also pays for caches
that the adapter before it left cold, which longer passes hardly notice."""

Hidden = Callable[[TokenBatch], Tensor]


@contextmanager
def running(model: OpenModel, option: DeploymentOption) -> Iterator[Hidden]:
    """A function from a batch to its last hidden states, (batch, seq, hidden), while the adapter is on the model."""
    module, cache = model.body, option.cache
    if cache is not None:
        yield lambda batch: module(**cache.inputs(batch.input_ids, batch.mask)).last_hidden_state
        return
    with nullcontext(Prepended()) if option.adapter is None else attach(model, option.adapter) as joined:

        def run(batch: TokenBatch) -> Tensor:
            # As generation runs it: a causal model keeps its keys and values.
            keeps = not model.both_ways and model.traits.states is not None
            states: Tensor = model.run(batch, joined, use_cache=keeps).last_hidden_state
            return states[:, -batch.input_ids.shape[1] :]

        yield run


@torch.no_grad()
def median_seconds(
    model: OpenModel, options: Sequence[DeploymentOption], batch: TokenBatch, *, next_token: bool = False
) -> dict[str, float]:
    """The median seconds of a forward pass, by the option's name; attaching an adapter is not counted.

    Args:
        next_token: True adds the logits at the last position, which makes it the time to the first new token.
    """
    seconds: dict[str, list[float]] = {option.name: [] for option in options}
    began, rounds = time.perf_counter(), 0
    while rounds < LEAST_ROUNDS or (rounds < MOST_ROUNDS and time.perf_counter() - began < ENOUGH_SECONDS):
        for option in options:
            with running(model, option) as hidden:
                took = _clocked(model, hidden, batch, next_token)
                if took < SHORT:
                    took = min(took, _clocked(model, hidden, batch, next_token))
                seconds[option.name].append(took)
        rounds += 1
    return {name: statistics.median(values) for name, values in seconds.items()}


def _clocked(model: OpenModel, hidden: Hidden, batch: TokenBatch, next_token: bool) -> float:
    start = time.perf_counter()
    states = hidden(batch)[:, -1]
    result = model.vocabulary_logits(states) if next_token else states
    float(result[0, 0])  # a device that works behind our back has finished when a number is read
    return time.perf_counter() - start


@torch.no_grad()
def answers(model: OpenModel, option: DeploymentOption, batch: TokenBatch) -> Float[Tensor, "batch out"]:
    """Each row's logits for the token after its last one; last hidden states where there is no language head."""
    with running(model, option) as hidden:
        states = hidden(batch)
    last = states[torch.arange(len(states), device=states.device), batch.mask.sum(dim=1) - 1]
    return model.vocabulary_logits(last) if model.task == "causal" else last


def difference(actual: Float[Tensor, "batch out"], expected: Float[Tensor, "batch out"]) -> tuple[float, bool]:
    """|actual - expected| / |expected| over all entries, and whether every row's largest entry is the same."""
    gap = (actual.double() - expected.double()).norm() / expected.double().norm()
    return float(gap), bool((actual.argmax(-1) == expected.argmax(-1)).all())
