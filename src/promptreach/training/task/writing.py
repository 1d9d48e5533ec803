"""Greedy writing behind prompts, token by token, the likeliest each time: the same in a batch and alone.

`promptreach.hf.running.generating` writes with a cache. Whether that is what the model itself gives is not known of
every architecture. So a few tokens are first written both ways, with the cache and by reading the whole sequence at
every step as training reads it, and the cache is used where the logits agree.
"""

from collections.abc import Collection, Sequence
from contextlib import suppress

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.backbone import UNBOUNDED, Backbone, Prepended
from promptreach.hf.models.model import OpenModel
from promptreach.hf.models.sizes import text_config
from promptreach.hf.running.generating import generated

BATCH = 32
"""Prompts that are written behind at the same time."""
_TRIED = 3  # tokens that are written both ways before the cache is trusted
_AGREE = {torch.float32: 1e-3, torch.float64: 1e-6}
_AGREE_SHORT = 5e-2  # of logits in half precision, as a share of their spread
Written = list[list[int]]


def greedy(
    model: Backbone,
    prompts: Sequence[Sequence[int]],
    most: int,
    stops: Collection[int],
    joined: Prepended | None = None,
) -> Written:
    """The likeliest token behind each prompt, and behind that the next, up to the first of `stops`, which is left away.

    Args:
        model: writes; one with an encoder reads the prompts there.
        prompts: token ids, none empty.
        most: tokens written at most; fewer where the context ends.
        stops: tokens that end an answer.
        joined: in front of the prompts or at every layer.
    """
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    found: Written = [[] for _ in prompts]
    with torch.no_grad():
        quick = _may_use_cache(model, prompts, order, joined, most)
        for at in range(0, len(order), BATCH):
            rows = order[at : at + BATCH]
            own = [prompts[row] for row in rows]
            written = (_cached if quick else _read_again)(model, own, most, stops, joined)[0]
            for row, ids in zip(rows, written, strict=True):
                found[row] = _ended(ids, stops)
    return found


def _ended(ids: Sequence[int], stops: Collection[int]) -> list[int]:
    end = next((at for at, token in enumerate(ids) if token in stops), len(ids))
    return list(ids[:end])


def _may_use_cache(
    model: Backbone, prompts: Sequence[Sequence[int]], order: Sequence[int], joined: Prepended | None, most: int
) -> bool:
    """Whether writing with a cache, padded on the left, gives the logits of reading all at every step."""
    if not isinstance(model, OpenModel) or not prompts:
        return False
    longest = len(prompts[order[-1]]) + (joined.length if joined else 0)
    if longest + most > even_length(model):  # a few tokens would not show what later ones see
        return False
    pair = [prompts[order[0]], prompts[order[-1]]]
    with suppress(Exception):  # whatever an architecture raises there, the other way is open
        slow, fast = (way(model, pair, _TRIED, (), joined) for way in (_read_again, _cached))
        spread = (slow[1].amax(-1) - slow[1].amin(-1)).amax()
        allowed = _AGREE.get(model.vocabulary.dtype, _AGREE_SHORT) * spread
        return slow[0] == fast[0] and bool((slow[1] - fast[1]).abs().max() <= allowed)
    return False


def even_length(model: OpenModel) -> int:
    """The length up to which a model treats all positions alike: no window, no chunk, no other rotation."""
    config = text_config(model.release().config)
    windows = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    bounds = (model.max_positions, model.turning[1] if model.turning else None, *windows)
    return min((bound for bound in bounds if isinstance(bound, int)), default=UNBOUNDED)


def _read_again(
    model: Backbone,
    prompts: Sequence[Sequence[int]],
    most: int,
    stops: Collection[int],
    joined: Prepended | None,
) -> tuple[Written, Float[Tensor, "tokens rows vocab"]]:
    """What is written where the whole sequence is read at every step, and the logits of steps that all rows take."""
    before = joined.length if joined else 0
    written: Written = [[] for _ in prompts]
    going = [row for row, ids in enumerate(prompts) if len(ids) + before < model.max_positions]
    seen = []
    for _ in range(most):
        if not going:
            break
        sequences = [[*prompts[row], *written[row]] for row in going]
        batch = model.batch(sequences, [len(written[row]) for row in going])
        last = batch.mask.sum(1) - 1
        hidden = model.hidden(batch, joined)[torch.arange(len(going), device=last.device), last]
        logits = model.vocabulary_logits(hidden).float()
        seen += [logits] if len(going) == len(prompts) else []
        for row, token in zip(going, logits.argmax(-1).tolist(), strict=True):
            written[row].append(token)
        going = [
            row
            for row in going
            if written[row][-1] not in stops and len(prompts[row]) + len(written[row]) + before < model.max_positions
        ]
    return written, torch.stack(seen) if seen else torch.empty(0, len(prompts), 0)


def _cached(
    model: Backbone,
    prompts: Sequence[Sequence[int]],
    most: int,
    stops: Collection[int],
    joined: Prepended | None,
) -> tuple[Written, Float[Tensor, "tokens rows vocab"]]:
    """What is written with a cache, and the logits of every step."""
    assert isinstance(model, OpenModel)
    return generated(model, prompts, most, stops, joined)
