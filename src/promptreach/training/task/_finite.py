"""The refusal of a model whose own output is not finite, before anything is trained on it: which module breaks.

Weights may all be numbers and a layer's output still too large for half precision. A training would call that a
learning rate that is too large.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from promptreach.backbone import Backbone
from promptreach.errors import Fault

_LOOKED_AT = 32
"""Examples on which the module is looked for."""


def unfinite_fault(backbone: Backbone, sequences: Sequence[Sequence[int]], seen: str) -> Fault:
    """The fault of a bare model that gives numbers that are none, naming the first module that does.

    Args:
        backbone: the model.
        sequences: examples of which some break it.
        seen: how many, of what.
    """
    module = _first_broken(backbone, sequences[:_LOOKED_AT])
    where = f"; the first of its modules that gives such numbers is {module}" if module else ""
    narrow = backbone.vocabulary.dtype in (torch.float16, torch.bfloat16)
    remedy = "open it in float32" if narrow else "look at its weights: it is broken before anything is trained"
    return Fault("model", f"{seen}{where}", "finite hidden states and losses of the bare model", remedy)


def _first_broken(backbone: Backbone, sequences: Sequence[Sequence[int]]) -> str:
    """The name of the first leaf that turns finite inputs into others; empty when none does on these examples."""
    found: list[str] = []

    def look(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if not found and isinstance(output, Tensor) and not output.isfinite().all():
                found.append(name)

        return hook

    leaves = [(name, part) for name, part in backbone.release().named_modules() if not list(part.children())]
    hooks = [part.register_forward_hook(look(name)) for name, part in leaves]
    try:
        with torch.no_grad():
            hidden = backbone.hidden(backbone.batch(sequences))
            if backbone.task != "encoder":
                backbone.vocabulary_logits(hidden)
    finally:
        for handle in hooks:
            handle.remove()
    return found[0] if found else ""
