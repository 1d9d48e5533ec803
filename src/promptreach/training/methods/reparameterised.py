"""A prefix that is trained through a small network: P-tuning v2's reparameterisation.

Each slot has a row of a table; the row goes through a linear layer, a tanh and a second linear layer to that slot's
keys and values at every layer. All slots share the network, so that a step moves slots with similar rows together. The
network is needed for training alone: `fold` computes the keys and values once.

What the network computes is added to the prefix that the run starts from, and its last layer starts at zero: a
reparameterised prefix starts where the plain one does, whatever that is.

Reference: Liu et al., ACL 2022, "P-Tuning v2"; Li and Liang, ACL 2021, "Prefix-Tuning".
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.prompt import Prefix

OFFSET = "offset"
"""The one tensor that is not trained."""


def reparameterised(start: Prefix, width: int, seed: int) -> dict[str, Tensor]:
    """The tensors by name: keys and values are offset + outer tanh(inner row + inner_bias) + outer_bias.

    Args:
        start: the prefix that they fold into at first.
        width: the size of the table's rows and of the hidden layer.
        seed: for the table and the first layer. The global generator is left alone.
    """
    generator = torch.Generator().manual_seed(seed)
    # (prompt, part, layer, kv_head, head_dim): a row is all that belongs to one slot.
    offset = torch.stack([start.keys, start.values]).permute(3, 0, 1, 2, 4)
    numbers = offset[0].numel()
    tensors = {
        OFFSET: offset,
        "table": torch.randn(start.length, width, generator=generator),
        # As a linear layer starts.
        "inner": (2 * torch.rand(width, width, generator=generator) - 1) / math.sqrt(width),
        "inner_bias": torch.zeros(width),
        "outer": torch.zeros(numbers, width),
        "outer_bias": torch.zeros(numbers),
    }
    dtype = torch.promote_types(offset.dtype, torch.float32)
    return {name: tensor.to(offset.device, dtype) for name, tensor in tensors.items()}


def fold(tensors: Mapping[str, Tensor]) -> tuple[Float[Tensor, "layer kv_head prompt head_dim"], Tensor]:
    """The keys and values; gradients reach every tensor."""
    offset = tensors[OFFSET]
    moved = _features(tensors) @ tensors["outer"].T + tensors["outer_bias"]
    keys, values = (offset + moved.view_as(offset)).permute(1, 2, 3, 0, 4)
    return keys, values


def reach(tensors: Mapping[str, Tensor]) -> float:
    """The distance that an entry of the prefix moves, averaged over slots, when the last layer's entries move by one
    each in the direction that moves it most. A first step of Adam at rate r moves the prefix by r times this."""
    return 1.0 + float(_features(tensors).detach().abs().sum(1).mean())


def _features(tensors: Mapping[str, Tensor]) -> Float[Tensor, "prompt width"]:
    return torch.tanh(tensors["table"] @ tensors["inner"].T + tensors["inner_bias"])
