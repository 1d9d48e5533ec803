"""The attention mask of a forward pass, in full."""

from typing import Any

from torch import Tensor
from transformers.masking_utils import sdpa_mask


def spelled_mask(*args: Any, **options: Any) -> Tensor:
    """The mask spelled out, where transformers would leave it away for being plainly causal or plainly full.

    For `transformers.AttentionMaskInterface.register`, which says what it is called with.
    """
    mask: Tensor = sdpa_mask(*args, **{**options, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False})
    return mask
