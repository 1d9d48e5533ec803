"""The tuning methods: what each of them joins to the frozen model and trains.

One row of `METHODS` is one method. A method makes its start, says what is joined in a forward pass, and turns its
tensors into an adapter. Training itself is the same for all of them.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from promptreach.backbone import Attachment, Backbone, Prepended
from promptreach.errors import Fault, InputError, raise_if_any
from promptreach.hf.adapters.by_config import attached_by_config, config_of
from promptreach.hf.models.model import OpenModel
from promptreach.prompt import Adapter, LowRankUpdate, Prefix, SoftPrompt
from promptreach.training.arguments import choice_faults
from promptreach.training.methods.full import unfrozen
from promptreach.training.methods.initial import (
    PREFIX_INITS,
    PROMPT_INITS,
    WarmStart,
    initial_prefix,
    initial_prompt,
    lengthened,
    typical_entry,
)
from promptreach.training.methods.reparameterised import OFFSET, fold, reach, reparameterised


@dataclass(frozen=True, eq=False)
class Trainable:
    """The tensors that one method trains while it is attached to a backbone, and what they join.

    Attributes:
        parameters: the trainable tensors, by name.
        join: gives what goes into a forward pass with the tensors as they are now.
        rate_scale: what the method's learning rates are multiples of: the root mean square entry at the start, or 1.
        state: a detached copy of all that decides what is joined.
        load: puts such a copy back.
        dropout: of what is joined while training.
        seed: for the dropout.
    """

    parameters: Mapping[str, nn.Parameter]
    join: Callable[[], Prepended]
    rate_scale: float
    state: Callable[[], dict[str, Tensor]]
    load: Callable[[Mapping[str, Tensor]], None]
    dropout: float = 0.0
    seed: int = 0

    @property
    def size(self) -> int:
        """The number of trainable numbers."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    @property
    def joined(self) -> Prepended:
        """The tensors joined in a forward pass that only looks."""
        return self.join()

    def joined_for(self, examples: int, step: int) -> Prepended:
        """The tensors joined in the forward pass of a training step on that many examples.

        With dropout every entry of the prefix, in every layer and for every example on its own, is zero with that
        probability, and otherwise scaled up so that its mean stays. The draw depends on the seed and the step alone.
        """
        joined = self.join()
        if not self.dropout or joined.prefix_keys is None or joined.prefix_values is None:
            return joined
        # The generator takes 32 bits of its seed; a large odd number keeps steps and seeds apart there.
        generator = torch.Generator().manual_seed((self.seed + 1_000_003 * (step + 1)) % 2**32)

        def dropped(part: Tensor) -> Tensor:
            shape = (part.shape[0], examples, *part.shape[1:])
            kept = (torch.rand(shape, generator=generator) >= self.dropout).to(part)
            return part[:, None] * kept / (1.0 - self.dropout)

        return replace(joined, prefix_keys=dropped(joined.prefix_keys), prefix_values=dropped(joined.prefix_values))


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The size and the start of an adapter: the part of a run's settings that a method needs.

    Attributes:
        tokens: virtual tokens of a prompt, slots of a prefix.
        rank: of a LoRA update; its alpha is twice the rank.
        lora_targets: the projections that LoRA adapts, as `Backbone.low_rank` takes them; none means its own.
        init: the start's name, see `MethodSpec.inits`.
        seed: for the start, and for dropout; of a run also for the order of the examples.
        bottleneck: of UniPELT's adapters.
        reparameterise: whether a prefix is trained through a network, see `reparameterised`.
        dropout: of a prefix while training, as a probability.
        start: a trained prompt or prefix to start from; `init` then gives the rows that it lacks.
        own_text: token ids of the text that the start `OWN` takes; otherwise none.
        peft: the config of a method of PEFT, as `as_text` writes it; of `CONFIGURED` alone.
    """

    tokens: int
    rank: int
    init: str
    seed: int = 0
    bottleneck: int = 0
    reparameterise: bool = False
    dropout: float = 0.0
    start: WarmStart | None = None
    lora_targets: tuple[str, ...] = ()
    own_text: tuple[int, ...] = ()
    peft: str = ""

    def texts(self, sequences: Sequence[Sequence[int]]) -> Sequence[Sequence[int]]:
        """The token sequences that a start is taken from: the user's own text, or the training rows."""
        return [self.own_text] if self.own_text else sequences


@dataclass(frozen=True)
class MethodSpec:
    """One tuning method.

    Attributes:
        attach: a context manager that joins the method to a backbone.
        adapter: turns a state into the record that can be saved, or None where there is none.
        inits: the starts it knows; the first is the default.
        rates: learning rates worth a trial, in units of a typical entry of the start.
        sizes: the fields of `Shape` that say how large it is.
    """

    attach: Callable[[Backbone, Shape, Sequence[Sequence[int]]], AbstractContextManager[Trainable]]
    adapter: Callable[[Mapping[str, Tensor], Shape], Adapter | None]
    inits: tuple[str, ...]
    rates: tuple[float, ...]
    sizes: tuple[str, ...]

    @property
    def uses_tokens(self) -> bool:
        """False when the number of virtual tokens means nothing to it."""
        return "tokens" in self.sizes


@contextmanager
def _prompt(backbone: Backbone, shape: Shape, sequences: Sequence[Sequence[int]]) -> Iterator[Trainable]:
    start = initial_prompt(backbone, shape.tokens, shape.init, shape.texts(sequences), shape.seed).embeddings
    if shape.start is not None:
        start = lengthened(start, _fitting(shape.start, "prompt", shape, backbone)["embeddings"])
    tensors = {"embeddings": _parameter(start)}
    yield _of_tensors(tensors, lambda: Prepended(prompt=tensors["embeddings"]), _typical(tensors))


@contextmanager
def _prefix(backbone: Backbone, shape: Shape, sequences: Sequence[Sequence[int]]) -> Iterator[Trainable]:
    start = initial_prefix(backbone, shape.tokens, shape.init, shape.texts(sequences), shape.seed)
    if shape.start is not None:
        own = _fitting(shape.start, "prefix", shape, backbone)
        start = Prefix(lengthened(start.keys, own["keys"]), lengthened(start.values, own["values"]))
    tensors: dict[str, Tensor] = {"keys": _parameter(start.keys), "values": _parameter(start.values)}
    rate_scale = _typical(tensors)
    if shape.reparameterise:
        network = reparameterised(start, backbone.hidden_size, shape.seed)
        tensors = {name: part if name == OFFSET else _parameter(part) for name, part in network.items()}
        # At the same rate the prefix then takes first steps as large as those of a plain one.
        rate_scale /= reach(tensors)

    def join() -> Prepended:
        keys, values = _keys_and_values(tensors)
        return Prepended(prefix_keys=keys, prefix_values=values)

    yield replace(_of_tensors(tensors, join, rate_scale), dropout=shape.dropout, seed=shape.seed)


@contextmanager
def _lora(backbone: Backbone, shape: Shape, sequences: Sequence[Sequence[int]]) -> Iterator[Trainable]:
    with backbone.low_rank(shape.rank, 2.0 * shape.rank, shape.seed, shape.lora_targets) as update:
        yield _of_attachment(update)


@contextmanager
def _unipelt(backbone: Backbone, shape: Shape, sequences: Sequence[Sequence[int]]) -> Iterator[Trainable]:
    start = initial_prefix(backbone, shape.tokens, shape.init, shape.texts(sequences), shape.seed)
    with backbone.unipelt(start, shape.rank, shape.bottleneck, shape.seed) as parts:
        yield _of_attachment(parts)


@contextmanager
def _head(backbone: Backbone, shape: Shape, sequences: Sequence[Sequence[int]]) -> Iterator[Trainable]:
    yield _of_tensors({}, Prepended, 1.0)


@contextmanager
def _full(backbone: Backbone, shape: Shape, sequences: Sequence[Sequence[int]]) -> Iterator[Trainable]:
    with unfrozen(backbone) as weights:
        yield _of_attachment(weights)


@contextmanager
def _configured(backbone: Backbone, shape: Shape, sequences: Sequence[Sequence[int]]) -> Iterator[Trainable]:
    if not isinstance(backbone, OpenModel):
        raise InputError(Fault("model", type(backbone).__name__, "what promptreach.hf.open_model returns"))
    with attached_by_config(backbone, config_of(json.loads(shape.peft)), shape.seed) as inside:
        yield replace(_of_attachment(inside), join=lambda: inside.joined)


def _parameter(start: Tensor) -> nn.Parameter:
    """A trainable copy, at least float32: in half precision Adam's small steps would round to nothing."""
    return nn.Parameter(start.to(torch.promote_types(start.dtype, torch.float32), copy=True))


def _fitting(start: WarmStart, method: str, shape: Shape, backbone: Backbone) -> dict[str, Tensor]:
    """The tensors of a warm start that fits.

    Raises:
        InputError: when it does not.
    """
    raise_if_any(start.faults(method, shape.tokens) or start.misfits(backbone))
    return start.tensors


def _keys_and_values(tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    return fold(tensors) if OFFSET in tensors else (tensors["keys"], tensors["values"])


def _typical(tensors: Mapping[str, Tensor]) -> float:
    squares = [typical_entry(tensor.detach()) ** 2 for tensor in tensors.values()]
    return math.sqrt(sum(squares) / len(squares))


def _of_tensors(tensors: Mapping[str, Tensor], join: Callable[[], Prepended], rate_scale: float) -> Trainable:
    """Tensors beside the model: its parameters are trained, the others are part of the state alone."""

    def state() -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in tensors.items()}

    def load(saved: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            tensor.data.copy_(saved[name])

    parameters = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, nn.Parameter)}
    return Trainable(parameters, join, rate_scale, state, load)


def _of_attachment(inside: Attachment) -> Trainable:
    """Tensors inside the model. Some start at zero, so the start gives no scale, and rates are absolute."""
    parameters = {str(index): parameter for index, parameter in enumerate(inside.parameters())}
    return Trainable(parameters, Prepended, 1.0, inside.state, inside.load)


METHODS: dict[str, MethodSpec] = {
    "prompt": MethodSpec(
        attach=_prompt,
        adapter=lambda state, shape: SoftPrompt(state["embeddings"]),
        inits=PROMPT_INITS,
        rates=(0.3, 1.0, 3.0),  # seven of ten searches in benchmarks/diagnosis end between 0.3 and 9
        sizes=("tokens",),
    ),
    "prefix": MethodSpec(
        attach=_prefix,
        adapter=lambda state, shape: Prefix(*_keys_and_values(state)),
        inits=PREFIX_INITS,
        rates=(0.01, 0.03, 0.1),
        sizes=("tokens",),
    ),
    "lora": MethodSpec(
        attach=_lora,
        adapter=lambda state, shape: LowRankUpdate(shape.rank, 2.0 * shape.rank, dict(state)),
        inits=("zero",),
        rates=(3e-4, 1e-3, 3e-3),
        sizes=("rank",),
    ),
    "unipelt": MethodSpec(
        attach=_unipelt,
        adapter=lambda state, shape: None,  # PEFT has no folder for it
        inits=PREFIX_INITS,
        rates=(3e-4, 1e-3, 3e-3),
        sizes=("tokens", "rank", "bottleneck"),
    ),
    "head": MethodSpec(
        attach=_head,
        adapter=lambda state, shape: None,
        inits=("probe",),
        rates=(1.0,),
        sizes=(),
    ),
    "full": MethodSpec(
        attach=_full,
        adapter=lambda state, shape: None,  # it is another model
        inits=("pretrained",),
        rates=(1e-5, 3e-5, 1e-4),  # Devlin et al. 2019 try 2e-5, 3e-5 and 5e-5
        sizes=(),
    ),
}
"""Every method by the name that `fit` and the command line use."""

CONFIGURED = "peft"
"""The name of a run that trains what a config of PEFT describes."""
_BY_CONFIG = MethodSpec(
    attach=_configured,
    adapter=lambda state, shape: None,  # PEFT writes its folder itself, see `save_by_config`
    inits=("config",),
    rates=(3e-4, 3e-3, 3e-2),
    sizes=(),
)

UNIPELT_SIZES: Mapping[str, Mapping[str, int]] = {
    "small": {"tokens": 4, "rank": 2, "bottleneck": 12},
    "published": {"tokens": 10, "rank": 8, "bottleneck": 48},
    "large": {"tokens": 32, "rank": 32, "bottleneck": 192},
}
"""Sizes of UniPELT by name, to be passed to `fit`; the published one is that of Mao et al. 2022 for hidden size 768."""


def method_named(name: str) -> MethodSpec:
    """The method called `name`.

    Raises:
        InputError: listing the names that exist.
    """
    if name == CONFIGURED:
        return _BY_CONFIG
    raise_if_any(method_faults(name))
    return METHODS[name]


def method_faults(method: str, init: str | None = None) -> list[Fault]:
    """Faults of a method's name and of its start's, as arguments; None is every method's own start."""
    if method not in METHODS:
        return choice_faults("method", method, METHODS)
    return choice_faults("init", init, METHODS[method].inits, f" for {method}")


def first_init(backbone: Backbone, method: str) -> str:
    """The start that a method takes by itself: the first of its own that this architecture allows."""
    inits = method_named(method).inits
    return next((init for init in inits if not backbone.lacks(method, init)), inits[0])


def lacking_faults(where: str, backbone: Backbone, method: str, init: str | None = None) -> list[Fault]:
    """The refusal of a method, or of its start, that this architecture cannot have."""
    reason = backbone.lacks(method, init or "")
    if not reason:
        return []
    asked = f"{method!r} from {init!r}" if init and not backbone.lacks(method) else repr(method)
    return [Fault(where, f"{asked} on {backbone.family}", "what this architecture can have", f"Not here: {reason}")]


def positions_of(config: Any) -> int:
    """How many positions a config of PEFT's puts in front of the content."""
    return int(getattr(config, "num_virtual_tokens", None) or 0) if config.is_prompt_learning else 0


def as_text(config: Any) -> str:
    """A config of PEFT as one text that is equal for equal settings."""
    said = {key: value for key, value in config.to_dict().items() if value is not None}
    return json.dumps(
        said, sort_keys=True, default=lambda value: sorted(value) if isinstance(value, set) else str(value)
    )
