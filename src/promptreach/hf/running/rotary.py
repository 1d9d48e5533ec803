"""Moving a prefix to other positions, where keys carry their position as a rotation.

A prefix of m slots stands at positions 0 to m - 1 and pushes the content to m. With n slots in its place the content
starts at n, and every query is rotated by n - m positions less. Rotating the keys by as much restores every score: a
rotary score depends on the difference of two positions alone.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.errors import UnsupportedModelError
from promptreach.hf.models.model import OpenModel
from promptreach.prompt import Prefix

# Frequencies that change with the length of the input: one rotation cannot undo another.
_CHANGING = ("dynamic", "longrope")


def moved(prefix: Prefix, model: OpenModel, by: int) -> Prefix:
    """The prefix with its keys `by` positions further on; unchanged where the model does not rotate keys.

    Where positions are embedded in the content's states instead (GPT-2), content that starts elsewhere is other
    content, and nothing done to the prefix makes up for it.

    Raises:
        UnsupportedModelError: when the model's rotation changes with the length of the input.
    """
    if not model.row.rotary:
        return prefix
    rotary = model.model.base_model.rotary_emb
    kind = getattr(rotary, "rope_type", "default")
    if kind in _CHANGING:
        raise UnsupportedModelError(f"{model.name} with {kind} rotary positions", ("fixed rotary positions",))
    frequencies = rotary.inv_freq.double().to(prefix.keys.device)
    return Prefix(_rotated(prefix.keys, by * frequencies), prefix.values, prefix.certificate)


def _rotated(
    keys: Float[Tensor, "layer kv_head prompt head_dim"], angles: Float[Tensor, " half"]
) -> Float[Tensor, "layer kv_head prompt head_dim"]:
    """Coordinates i and i + half turned by angle i, in float64; any beyond twice half stay."""
    half = len(angles)
    first, second, rest = keys.double().split([half, half, keys.shape[-1] - 2 * half], dim=-1)
    cosine, sine = angles.cos(), angles.sin()
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine, rest], dim=-1).to(keys)
