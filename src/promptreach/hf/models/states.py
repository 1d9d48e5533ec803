"""The stream between layers: what each layer receives."""

import torch
from torch import Tensor

from promptreach.backbone import Joined, TokenBatch
from promptreach.hf.models.model import OpenModel


@torch.no_grad()
def layer_inputs(model: OpenModel, batch: TokenBatch, joined: Joined | None = None) -> list[Tensor]:
    """The states that enter each layer, (batch, seq, hidden), first layer first.

    With a prompt the joined positions are part of the sequence; a prefix adds none.

    Raises:
        InputError: as `OpenModel.hidden` does.
    """
    outputs = model.model.base_model(**model.inputs(batch, joined), output_hidden_states=True)
    return list(outputs.hidden_states[:-1])
