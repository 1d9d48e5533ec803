"""A prefix for encoders that take no cache: slots laid in front of keys and values at the door of attention.

DistilBERT, ModernBERT, ALBERT and many others have no argument for keys and values from elsewhere. Their attention is
found by name all the same, so slots can be put in front of what it is called with. Every query sees them, whatever
window or padding the mask holds, and, as they take no positions, content stands where it stands without them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from promptreach.hf.running.interface import AttentionFunction, through
from promptreach.prompt import Prefix


@contextmanager
def slots_in_front(
    module: PreTrainedModel, keys: Float[Tensor, "layer *batch kv_head prompt dim"], values: Tensor
) -> Iterator[None]:
    """Every call of attention in this block finds its layer's slots in front of its keys and values.

    Args:
        module: an encoder that makes one call a layer.
        keys, values: by call, in order; without a batch axis every example gets the same.
    """
    call = 0

    def join(own: AttentionFunction, name: str, attention: Any, arguments: dict[str, Any]) -> Any:
        nonlocal call
        key, value = arguments["key"], arguments["value"]
        slots = [part[call].to(key).expand(len(key), -1, -1, -1) for part in (keys, values)]
        call += 1
        joined = {"key": torch.cat([slots[0], key], dim=2), "value": torch.cat([slots[1], value], dim=2)}
        count = slots[0].shape[2]
        for mask in ("attention_mask", "position_bias", "attention_bias"):
            if isinstance(arguments.get(mask), Tensor):
                joined[mask] = _widened(arguments[mask], count)
        return own(attention, **{**arguments, **joined})

    with through(module, join):
        yield


def _widened(mask: Tensor, count: int) -> Tensor:
    """A mask or bias with `count` columns in front that hide nothing and add nothing."""
    front = mask.new_ones if mask.dtype == torch.bool or mask.ndim == 2 else mask.new_zeros
    return torch.cat([front((*mask.shape[:-1], count)), mask], dim=-1)


def prefix_of(cache: DynamicCache) -> Prefix:
    """The keys and values of the first row of a filled cache."""
    home = cache.layers[0].keys.device
    keys, values = (
        torch.stack([getattr(layer, name)[0].to(home) for layer in cache.layers]) for name in ("keys", "values")
    )
    return Prefix(keys, values)
