"""Tuning methods at their start, laid out so that one backward pass gives the gradient of every example.

Every example of a batch gets its own copy of what is trained, or, for LoRA, the gradient is put together from what
enters and leaves the trained factor. Gradients come in blocks, one for every step from a smaller to a larger adapter:
the tangent kernel of a smaller one is the sum of its blocks' Gram matrices, so one pass over the data serves all sizes.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from promptreach.backbone import Backbone, Joined, TokenBatch
from promptreach.training.methods.initial import initial_prefix, initial_prompt


@dataclass(frozen=True, eq=False)
class Tangent:
    """A tuning method at its start, ready for per-example gradients.

    Attributes:
        sizes: the lengths (or ranks) asked for, ascending.
        parameters: how many numbers a method of each size trains.
        forward: the last hidden states of a batch, and the per-example tensors to differentiate by.
        split: the gradients by those tensors as one (batch, numbers) matrix a block; block k holds what size k has
            beyond size k - 1.
        start: what a method of the given size joins at its start; None where every size starts from the bare model.
    """

    sizes: tuple[int, ...]
    parameters: tuple[int, ...]
    forward: Callable[[TokenBatch], tuple[Tensor, list[Tensor]]]
    split: Callable[[Sequence[Tensor]], list[Tensor]]
    start: Callable[[int], Joined] | None


@contextmanager
def prompt_tangent(
    backbone: Backbone, sizes: Sequence[int], init: str, sequences: Sequence[Sequence[int]], seed: int
) -> Iterator[Tangent]:
    """Prompts of `sizes` virtual tokens: the shorter ones are the first tokens of the longest."""
    longest = initial_prompt(backbone, sizes[-1], init, sequences, seed).embeddings.float()

    def forward(batch: TokenBatch) -> tuple[Tensor, list[Tensor]]:
        own = longest.repeat(len(batch.input_ids), 1, 1).requires_grad_()
        return backbone.hidden(batch, Joined(prompt=own)), [own]

    def split(gradients: Sequence[Tensor]) -> list[Tensor]:
        return _blocks(gradients[0].transpose(0, 1), sizes)

    yield Tangent(
        sizes=tuple(sizes),
        parameters=tuple(size * backbone.hidden_size for size in sizes),
        forward=forward,
        split=split,
        start=lambda size: Joined(prompt=longest[:size]),
    )


@contextmanager
def prefix_tangent(
    backbone: Backbone, sizes: Sequence[int], init: str, sequences: Sequence[Sequence[int]], seed: int
) -> Iterator[Tangent]:
    """Prefixes of `sizes` slots: the shorter ones are the first slots of the longest."""
    longest = initial_prefix(backbone, sizes[-1], init, sequences, seed)
    keys, values = longest.keys.float(), longest.values.float()

    def forward(batch: TokenBatch) -> tuple[Tensor, list[Tensor]]:
        examples = len(batch.input_ids)
        own = [part[:, None].repeat(1, examples, 1, 1, 1).requires_grad_() for part in (keys, values)]
        return backbone.hidden(batch, Joined(prefix_keys=own[0], prefix_values=own[1])), own

    def split(gradients: Sequence[Tensor]) -> list[Tensor]:
        # (part, layer, batch, kv_head, prompt, head_dim) with the slots and then the examples in front
        return _blocks(torch.stack(tuple(gradients)).permute(4, 2, 0, 1, 3, 5), sizes)

    each = 2 * keys[:, :, 0].numel()
    yield Tangent(
        sizes=tuple(sizes),
        parameters=tuple(size * each for size in sizes),
        forward=forward,
        split=split,
        start=lambda size: Joined(prefix_keys=keys[:, :, :size], prefix_values=values[:, :, :size]),
    )


@contextmanager
def lora_tangent(
    backbone: Backbone, sizes: Sequence[int], init: str, sequences: Sequence[Sequence[int]], seed: int
) -> Iterator[Tangent]:
    """LoRA updates of ranks `sizes`: the smaller ones are the first rows of the largest.

    One factor starts at zero, so that to first order only that factor moves the scores; the other one is a random
    projection of what the layer reads. The scale alpha / rank is 2 for every rank.
    """
    with backbone.low_rank(sizes[-1], 2.0 * sizes[-1], seed) as update:
        owned = {id(parameter) for parameter in update.parameters() if not parameter.any()}
        modules = [m for m in backbone.release().modules() if isinstance(m, nn.Linear) and id(m.weight) in owned]
        seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        hooks = [
            module.register_forward_hook(lambda m, x, y: seen.update({m: (x[0].detach(), y)})) for module in modules
        ]

        def forward(batch: TokenBatch) -> tuple[Tensor, list[Tensor]]:
            hidden = backbone.hidden(batch)
            return hidden, [seen[module][1] for module in modules]

        def split(gradients: Sequence[Tensor]) -> list[Tensor]:
            # d m / d B = sum over positions of (d m / d output) (A x)^T
            pairs = zip(modules, gradients, strict=True)
            own = [torch.einsum("bso,bsr->rbo", gradient, seen[module][0]) for module, gradient in pairs]
            return _blocks(torch.cat(own, dim=2), sizes)

        total = sum(parameter.numel() for parameter in update.parameters())
        try:
            yield Tangent(
                sizes=tuple(sizes),
                parameters=tuple(total * size // sizes[-1] for size in sizes),
                forward=forward,
                split=split,
                start=None,
            )
        finally:
            for hook in hooks:
                hook.remove()


TANGENTS = {"prompt": prompt_tangent, "prefix": prefix_tangent, "lora": lora_tangent}
"""The methods that have a tangent kernel of their own, by the name that `fit` uses."""


def _blocks(gradients: Float[Tensor, "size batch ..."], sizes: Sequence[int]) -> list[Tensor]:
    """Cut along the first axis at `sizes`; (batch, numbers) each."""
    edges = itertools.pairwise((0, *sizes))
    return [gradients[low:high].transpose(0, 1).flatten(1) for low, high in edges]
