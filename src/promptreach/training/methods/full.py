"""Full fine-tuning: every weight of the model is trained, and every weight comes back.

All weights means embeddings too: this is the rival that a user's own training loop would be, and with tied embeddings
there is no output layer apart from them. Rows of the vocabulary that no training text holds get no gradient and stay.

While attached the model computes in float32 at least; the weights that were there lie untouched beside it, and leaving
puts the very same tensors back. A state holds the rows that differ from them, exactly.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from promptreach.backbone import Backbone
from promptreach.errors import Fault, InputError

_ROWS, _VALUES = "rows", "values"


class Unfrozen:
    """All weights of a module, trainable; fulfils `promptreach.backbone.Attachment`."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._start = {name: parameter.data for name, parameter in module.named_parameters()}

    def thaw(self) -> None:
        """Give every parameter a trainable copy of its tensor."""
        for parameter in self._module.parameters():
            parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32), copy=True)
            parameter.requires_grad_()

    def freeze(self) -> None:
        """Put the tensors back that were there at first."""
        for name, parameter in self._module.named_parameters():
            parameter.data = self._start[name]
            parameter.grad = None
            parameter.requires_grad_(False)

    def parameters(self) -> list[nn.Parameter]:
        """The weights; tied ones once."""
        return list(self._module.parameters())

    def state(self) -> dict[str, Tensor]:
        """For each weight the rows that are no longer what they were, by number, and what they are now."""
        state = {}
        for name, parameter in self._module.named_parameters():
            now = parameter.detach()
            rows = (now != self._start[name]).view(len(now), -1).any(1).nonzero().flatten()
            state[f"{_ROWS}/{name}"] = rows
            state[f"{_VALUES}/{name}"] = now[rows]
        return state

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Make the weights what they were when `state` was taken."""
        for name, parameter in self._module.named_parameters():
            parameter.data.copy_(self._start[name])
            rows = state[f"{_ROWS}/{name}"].to(parameter.device)
            parameter.data[rows] = state[f"{_VALUES}/{name}"].to(parameter)


@contextmanager
def unfrozen(backbone: Backbone) -> Iterator[Unfrozen]:
    """All of the backbone's weights trainable for the length of a `with` block, and bit for bit restored after it.

    Raises:
        InputError: when something trainable is attached to the model: it would be taken for a weight.
    """
    module = backbone.release()
    if any(parameter.requires_grad for parameter in module.parameters()):
        raise InputError(Fault("model", "has something trainable attached", "a bare model", "leave the other block"))
    _ = backbone.fingerprint  # taken of the weights that it names
    weights = Unfrozen(module)
    try:
        weights.thaw()
        yield weights
    finally:
        weights.freeze()
