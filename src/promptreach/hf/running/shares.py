"""The share of attention that a prompt receives where the answer is read, from what one layer was seen to do."""

import torch

from promptreach.hf.running.capture import LayerCapture

_ROWS = 4
"""Examples of a batch that are looked at; more would cost more than looking on may."""


def share_of_prompt(layer: LayerCapture, virtual_tokens: int) -> float:
    """The softmax weight that the first `virtual_tokens` keys receive at each row's last position, in the mean.

    The last position is the last one that a later key could not replace: where padding follows, its last real one. Sinks
    and soft-caps take their part, as in `LayerCapture.weights`. MEASURED on the rows that are looked at.

    Args:
        layer: one layer's attention; the prompt's keys, its own or those of a prefix, stand first among its keys.
        virtual_tokens: how many they are.

    Returns:
        A number in [0, 1]: the mean over heads and over the first rows of the batch.
    """
    rows, keys = min(_ROWS, len(layer.query)), layer.key.shape[2]
    seen = layer.mask[:rows, 0, -1]
    last = (torch.arange(keys, device=seen.device) * seen).amax(dim=1) - (keys - layer.query.shape[2])
    bias = None if layer.bias is None else layer.bias.expand(len(layer.query), *layer.bias.shape[1:])
    shares = []
    for row in range(rows):
        position = max(0, int(last[row]))
        at = slice(position, position + 1)
        one = LayerCapture(
            layer=layer.layer,
            query=layer.query[row : row + 1, :, at].detach(),
            key=layer.key[row : row + 1].detach(),
            value=layer.value[row : row + 1].detach(),
            mask=layer.mask[row : row + 1, :, at],
            scale=layer.scale,
            output=layer.output[row : row + 1, :, at].detach(),
            prompt_length=virtual_tokens,
            softcap=layer.softcap,
            sinks=layer.sinks,
            bias=None if bias is None else bias[row : row + 1, :, at],
        )
        shares.append(float(one.weights()[..., :virtual_tokens].sum(-1).mean()))
    return sum(shares) / len(shares)
