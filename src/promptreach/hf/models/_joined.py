"""The refusal of what does not fit in front of a batch, or does not fit the model."""

from promptreach.backbone import Backbone, Prepended, TokenBatch
from promptreach.errors import Fault


def joined_faults(model: Backbone, batch: TokenBatch, joined: Prepended) -> list[Fault]:
    """The faults of what is joined to a batch: too long, of the wrong shape, or not to be had on this model."""
    faults = []
    total = joined.length + batch.input_ids.shape[1]
    if total > model.max_positions:
        seen = f"{total} positions, {joined.length} of them joined"
        faults.append(Fault("batch", seen, f"at most {model.max_positions}", "shorten the texts or the prompt"))
    own = (len(batch.input_ids),)  # in front, where every example brings its own
    if joined.prompt is not None:
        shape = tuple(joined.prompt.shape)
        if reason := model.lacks("prompt"):
            faults.append(Fault("prompt", f"one for {model.family}", "another method", reason))
        if len(shape) < 2 or shape[:-2] not in ((), own) or shape[-1] != model.embedding_size:
            faults.append(Fault("prompt", f"shape {shape}", f"(prompt, {model.embedding_size})"))
    prefix = [part for part in (joined.prefix_keys, joined.prefix_values) if part is not None]
    if len(prefix) == 1 or (prefix and joined.prompt is not None):
        faults.append(Fault("joined", "half a prefix, or a prefix and a prompt", "one whole thing to join"))
    if prefix and (reason := model.lacks("prefix")):
        faults.append(Fault("prefix", f"one for {model.family}", "another method", reason))
    for part, size in zip(prefix, (model.head_dim, model.value_dim), strict=False):
        shape = tuple(part.shape)
        fits = (shape[:1], shape[-3:-2], shape[-1:]) == ((model.num_layers,), (model.num_kv_heads,), (size,))
        if len(shape) < 4 or shape[1:-3] not in ((), own) or not fits:
            expected = f"({model.num_layers}, {model.num_kv_heads}, prompt, {size})"
            faults.append(Fault("prefix", f"shape {shape}", expected))
    return faults
