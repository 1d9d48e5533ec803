"""The trainable parts: what each tuning method joins to the frozen model.

One row of `METHODS` is one method. A method makes its start, says what is joined in a forward pass, and turns its
tensors into an adapter. Training itself is the same for all of them.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from promptreach.errors import Fault, InputError
from promptreach.prompt import Adapter, LowRankUpdate, Prefix, SoftPrompt
from promptreach.tuning.backbone import Backbone, Joined, LowRank
from promptreach.tuning.initial import PREFIX_INITS, PROMPT_INITS, initial_prefix, initial_prompt, typical_entry


@dataclass(frozen=True, eq=False)
class Trainable:
    """What one method trains while it is attached to a backbone.

    Attributes:
        parameters: the trainable tensors, by name.
        joined: what goes into the next forward pass.
        unit: the size of a typical entry at the start; learning rates scale with it.
        state: a detached copy of the tensors.
        load: puts such a copy back.
    """

    parameters: Mapping[str, nn.Parameter]
    joined: Joined
    unit: float
    state: Callable[[], dict[str, Tensor]]
    load: Callable[[Mapping[str, Tensor]], None]

    @property
    def size(self) -> int:
        """The number of trainable numbers."""
        return sum(parameter.numel() for parameter in self.parameters.values())


@dataclass(frozen=True)
class Shape:
    """How large an adapter is and how it starts: the part of a run's settings that a method needs.

    Attributes:
        tokens: virtual tokens of a prompt, slots of a prefix.
        rank: of a LoRA update; its alpha is twice the rank.
        init: the start's name, see `MethodSpec.inits`.
        seed: for the start.
    """

    tokens: int
    rank: int
    init: str
    seed: int


@dataclass(frozen=True)
class MethodSpec:
    """One tuning method.

    Attributes:
        attach: a context manager that joins the method to a backbone.
        adapter: turns a state into the record that can be saved.
        inits: the starts it knows; the first is the default.
        rates: learning rates worth a trial, in units of a typical entry of the start.
        uses_tokens: False when the number of virtual tokens means nothing to it.
    """

    attach: Callable[[Backbone, Shape, Sequence[Sequence[int]]], AbstractContextManager[Trainable]]
    adapter: Callable[[Mapping[str, Tensor], Shape], Adapter | None]
    inits: tuple[str, ...]
    rates: tuple[float, ...]
    uses_tokens: bool


@contextmanager
def _prompt(backbone: Backbone, shape: Shape, sequences: Sequence[Sequence[int]]) -> Iterator[Trainable]:
    start = initial_prompt(backbone, shape.tokens, shape.init, sequences, shape.seed)
    embeddings = _parameter(start.embeddings)
    yield _of_tensors({"embeddings": embeddings}, Joined(prompt=embeddings))


@contextmanager
def _prefix(backbone: Backbone, shape: Shape, sequences: Sequence[Sequence[int]]) -> Iterator[Trainable]:
    start = initial_prefix(backbone, shape.tokens, shape.init, sequences, shape.seed)
    keys, values = _parameter(start.keys), _parameter(start.values)
    yield _of_tensors({"keys": keys, "values": values}, Joined(prefix_keys=keys, prefix_values=values))


@contextmanager
def _lora(backbone: Backbone, shape: Shape, sequences: Sequence[Sequence[int]]) -> Iterator[Trainable]:
    with backbone.low_rank(shape.rank, 2.0 * shape.rank, shape.seed) as update:
        yield _of_update(update)


@contextmanager
def _head(backbone: Backbone, shape: Shape, sequences: Sequence[Sequence[int]]) -> Iterator[Trainable]:
    yield _of_tensors({}, Joined())


def _parameter(start: Tensor) -> nn.Parameter:
    """A trainable copy, at least float32: in half precision Adam's small steps would round to nothing."""
    return nn.Parameter(start.to(torch.promote_types(start.dtype, torch.float32), copy=True))


def _of_tensors(parameters: dict[str, nn.Parameter], joined: Joined) -> Trainable:
    def state() -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in parameters.items()}

    def load(saved: Mapping[str, Tensor]) -> None:
        for name, parameter in parameters.items():
            parameter.data.copy_(saved[name])

    squares = [typical_entry(parameter.detach()) ** 2 for parameter in parameters.values()]
    unit = math.sqrt(sum(squares) / len(squares)) if squares else 1.0
    return Trainable(parameters, joined, unit, state, load)


def _of_update(update: LowRank) -> Trainable:
    parameters = {str(index): parameter for index, parameter in enumerate(update.parameters())}
    # One factor starts at zero, so the start gives no scale; LoRA's published rates are absolute.
    return Trainable(parameters, Joined(), 1.0, update.state, update.load)


METHODS: dict[str, MethodSpec] = {
    "prompt": MethodSpec(
        attach=_prompt,
        adapter=lambda state, shape: SoftPrompt(state["embeddings"]),
        inits=PROMPT_INITS,
        rates=(0.03, 0.1, 0.3),
        uses_tokens=True,
    ),
    "prefix": MethodSpec(
        attach=_prefix,
        adapter=lambda state, shape: Prefix(state["keys"], state["values"]),
        inits=PREFIX_INITS,
        rates=(0.003, 0.01, 0.03),
        uses_tokens=True,
    ),
    "lora": MethodSpec(
        attach=_lora,
        adapter=lambda state, shape: LowRankUpdate(shape.rank, 2.0 * shape.rank, dict(state)),
        inits=("zero",),
        rates=(3e-4, 1e-3, 3e-3),
        uses_tokens=False,
    ),
    "head": MethodSpec(
        attach=_head,
        adapter=lambda state, shape: None,
        inits=("probe",),
        rates=(1.0,),
        uses_tokens=False,
    ),
}
"""Every method by the name that `fit` and the command line use."""


def method_named(name: str) -> MethodSpec:
    """The method called `name`.

    Raises:
        InputError: listing the names that exist.
    """
    if name not in METHODS:
        raise InputError(Fault("method", repr(name), f"one of {', '.join(METHODS)}"))
    return METHODS[name]
