"""Gradient checkpointing of a frozen model's layers: what they compute is computed again on the way back, not kept.

transformers has its own, for models in training mode, where it takes every cache away from the layers. A model that is
tuned here stays in evaluation mode, and a prefix is a cache: so the layers are wrapped from outside, and each finds the
cache as it was when its turn comes again.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def recomputed(layers: Sequence[nn.Module]) -> Iterator[None]:
    """Forward passes in the block keep the inputs of `layers` alone; the backward pass may come after it.

    Guarantees: the same values, and the same gradients up to the order of float summation, which is the same on a CPU.
    Layers must do the same when they run again: nothing random, nothing that is attached to them in between. Without
    gradients nothing changes.
    """
    if not torch.is_grad_enabled():
        yield
        return
    own = {layer: vars(layer).get("forward") for layer in layers}
    for layer in own:
        vars(layer)["forward"] = _wrapped(layer.forward)
    try:
        yield
    finally:
        for layer, forward in own.items():
            del vars(layer)["forward"]
            if forward is not None:
                vars(layer)["forward"] = forward


def _wrapped(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **options: Any) -> Any:
        kept = [_kept(given) for given in (*args, *options.values())]

        def again(*given: Any, **named: Any) -> Any:
            for back in kept:
                back()
            return forward(*given, **named)

        return checkpoint(again, *args, use_reentrant=False, preserve_rng_state=False, **options)

    return run


def _kept(given: Any) -> Callable[[], None]:
    """What makes an argument again what it is now: a cache, or the two of an encoder-decoder; others stay."""
    both = [getattr(given, name, None) for name in ("self_attention_cache", "cross_attention_cache")]
    caches = [cache for cache in (given, *both) if isinstance(getattr(cache, "layers", None), list)]
    # Keys and values are replaced when they grow, never changed in place.
    layers = [[copy.copy(layer) for layer in cache.layers] for cache in caches]
    updated = getattr(given, "is_updated", None)
    filled = dict(updated) if isinstance(updated, dict) else None

    def back() -> None:
        for cache, own in zip(caches, layers, strict=True):
            cache.layers[:] = [copy.copy(layer) for layer in own]
        if filled is not None:  # which layers' keys across stand there already
            given.is_updated.clear()
            given.is_updated.update(filled)

    return back
