"""A prompt's keys and values, computed once: the front, and this room's one door to Hugging Face models.

What runs stands in `promptreach.hf.cache`; this room itself never needs a model.
"""

import importlib
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from promptreach.prompt import Adapter, Prefix


@runtime_checkable
class SharedPrompt(Protocol):
    """A prompt computed once for one model, as `precompute` returns it."""

    prefix: Prefix
    """The prompt's keys and values, as attention sees them, in the model's dtype."""

    @property
    def length(self) -> int:
        """The number of prompt positions."""

    def request(self) -> Any:
        """A fresh transformers cache for one batch of any size; nothing of the prompt is copied or computed for it."""

    def inputs(self, input_ids: Tensor, mask: Tensor | None = None) -> dict[str, Any]:
        """What the model's ``forward`` and ``generate`` take for these tokens behind the prompt."""

    def save(self, path: str | Path) -> Path:
        """Write keys and values as a safetensors file, which `promptreach.hf.load_cache` reads."""


def precompute(model: Any, prompt: Adapter | str | Path, **options: Any) -> SharedPrompt:
    """The keys and values of a trained prompt or prefix on a causal model: computed once, shared by every request.

    For every input, ``model(**cache.inputs(ids))`` gives the next-token logits that PEFT gives with the same adapter,
    up to the rounding of sums in another order: in a causal model with the prompt in front no prompt state sees the
    input, so the prompt is some per-layer prefix exactly.

    Args:
        model: an `OpenModel`, a transformers model, or a hub id, folder or GGUF file to open.
        prompt: the prompt, a prefix, or a PEFT folder that holds one.
        options: for `promptreach.hf.open_model`, when `model` is opened here.

    Raises:
        InputError: for an encoder, whose prompt states differ for every input; for a prompt that is neither of the two
            or does not fit the model.
        AdapterError: for a damaged PEFT folder.
        ModelError: when the model cannot be opened.

    Example:
        ```python
        cache = pr.inference.precompute("HuggingFaceTB/SmolLM2-135M-Instruct", "my-adapter")
        cache.model.release().generate(**cache.inputs(input_ids), max_new_tokens=32)
        ```

    Reference: the causal case of the mixture identity, theorem key ``mixture-identity``.
    """
    shared: SharedPrompt = importlib.import_module("promptreach.hf").precompute(model, prompt, **options)
    return shared
