"""The two ends of a model: what its first layer gets for a token, and the logits it makes of a last hidden state.

Neither is always a matrix. Gemma's embedding multiplies its rows by sqrt(d), and a prompt that starts from raw rows
would be that much too small; Gemma 2 caps its logits, Granite and Cohere scale theirs. So both are asked of the model's
own modules.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from promptreach.errors import Fault
from promptreach.hf.models.sizes import body_of
from promptreach.stored import is_plain

_ROWS = 4096
"""The tokens that are embedded at once."""


def embedding_faults(module: PreTrainedModel) -> list[Fault]:
    """The faults of an input embedding that is no lookup: one that mixes the tokens beside it, or has no rows."""
    where, remedy = f"{type(module).__name__}, input embedding", "this model cannot be read through token embeddings"
    try:
        embedding = module.get_input_embeddings()
    except NotImplementedError:
        embedding = None
    weight = getattr(embedding, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        return [Fault(where, "none that is a table of tokens", "one row a token", remedy)]
    if isinstance(embedding, nn.Embedding):
        return []
    ids = torch.arange(min(3, len(weight)), device=weight.device)[None]
    together = embedding(ids)
    if not isinstance(together, Tensor):
        seen = f"an embedding that gives a {type(together).__name__} for tokens"
        return [Fault(where, seen, "one vector a token", remedy)]
    apart = torch.cat([embedding(token[None, None]) for token in ids[0]], dim=1)
    lookup = together.shape[:2] == ids.shape and torch.equal(together, apart)
    return [] if lookup else [Fault(where, "a token's embedding depends on those beside it", "a lookup", remedy)]


@torch.no_grad()
def embedded_vocabulary(embedding: nn.Module) -> Float[Tensor, "vocab embedding"]:
    """The embedding of every token; of a plain table the table itself, without a copy."""
    weight = embedding.weight
    assert isinstance(weight, Tensor)
    if type(embedding) is nn.Embedding and is_plain(weight):
        return weight.detach()
    ids = torch.arange(len(weight), device=weight.device)
    return torch.cat([embedding(part[None])[0] for part in ids.split(_ROWS)])


def logits_of(module: PreTrainedModel, hidden: Float[Tensor, "... hidden"]) -> Float[Tensor, "... vocab"]:
    """The logits that the model's own forward makes of last hidden states: scaled and capped as it does it."""
    states = hidden.reshape(1, -1, hidden.shape[-1])
    with _body_gives(body_of(module), states):
        logits: Tensor = module(inputs_embeds=states, use_cache=False).logits
    return logits.reshape(*hidden.shape[:-1], -1)


def written_logits_of(module: PreTrainedModel, hidden: Float[Tensor, "... hidden"]) -> Float[Tensor, "... vocab"]:
    """`logits_of` for an encoder-decoder: what its own forward makes of its decoder's last hidden states."""
    states = hidden.reshape(1, -1, hidden.shape[-1])
    read = _Given(last_hidden_state=states)  # nobody looks at it
    with _body_gives(module.get_decoder(), states):
        given = {"encoder_outputs": read, "decoder_inputs_embeds": states, "use_cache": False}
        logits: Tensor = module(**given).logits
    return logits.reshape(*hidden.shape[:-1], -1)


class _Given(BaseModelOutputWithPast):
    """A body's output with nothing but states in it; what else a head may ask for is None."""

    def __getattr__(self, name: str) -> Any:
        return None


@contextmanager
def _body_gives(body: nn.Module, states: Tensor) -> Iterator[None]:
    """The body without its computation: its forward hands `states` on."""

    def forward(*args: Any, **options: Any) -> _Given:
        return _Given(last_hidden_state=states)

    body.forward = forward
    try:
        yield
    finally:
        del body.forward
