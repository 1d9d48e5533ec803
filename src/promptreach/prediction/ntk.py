"""The empirical neural tangent kernel (NTK) of a tuning method: gradients of log odds, example by example.

Every example of a batch gets its own copy of what is trained, or, for LoRA, the gradient is put together from what
enters and leaves the trained factor: one backward pass then gives the gradient of every example. Gradients come in
blocks, one for every step from a smaller to a larger adapter: the NTK of a smaller one is the sum of its blocks' Gram
matrices, so one pass over the data serves all sizes.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from promptreach.backbone import Backbone, Prepended, TokenBatch
from promptreach.prediction.log_odds import LogOdds, Part, in_order, log_odds_of_batches
from promptreach.training.methods.initial import initial_prefix, initial_prompt

WIDTH = 8192
"""Numbers kept of a gradient in one block. A longer one is sketched: the part of a kernel entry k(i, j) that comes from
the block then carries an error of mean 0 and of standard deviation at most sqrt(2 k(i, i) k(j, j) / WIDTH)."""

_ACTIVATION = 100
"""Bytes that one position, layer and hidden coordinate takes in a backward pass, about: two dozen float32."""
ACTIVATION_BYTES = 2 * 10**9
"""Bytes that the activations of one batch may take, about."""


@dataclass(frozen=True, eq=False)
class PerExample:
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
    start: Callable[[int], Prepended] | None


@contextmanager
def _prompts(
    backbone: Backbone, sizes: Sequence[int], init: str, sequences: Sequence[Sequence[int]], seed: int
) -> Iterator[PerExample]:
    """Prompts of `sizes` virtual tokens: the shorter ones are the first tokens of the longest."""
    longest = initial_prompt(backbone, sizes[-1], init, sequences, seed).embeddings.float()

    def forward(batch: TokenBatch) -> tuple[Tensor, list[Tensor]]:
        own = longest.repeat(len(batch.input_ids), 1, 1).requires_grad_()
        return backbone.hidden(batch, Prepended(prompt=own)), [own]

    def split(gradients: Sequence[Tensor]) -> list[Tensor]:
        return _blocks(gradients[0].transpose(0, 1), sizes)

    yield PerExample(
        sizes=tuple(sizes),
        parameters=tuple(size * backbone.embedding_size for size in sizes),
        forward=forward,
        split=split,
        start=lambda size: Prepended(prompt=longest[:size]),
    )


@contextmanager
def _prefixes(
    backbone: Backbone, sizes: Sequence[int], init: str, sequences: Sequence[Sequence[int]], seed: int
) -> Iterator[PerExample]:
    """Prefixes of `sizes` slots: the shorter ones are the first slots of the longest."""
    longest = initial_prefix(backbone, sizes[-1], init, sequences, seed)
    keys, values = longest.keys.float(), longest.values.float()

    def forward(batch: TokenBatch) -> tuple[Tensor, list[Tensor]]:
        examples = len(batch.input_ids)
        own = [part[:, None].repeat(1, examples, 1, 1, 1).requires_grad_() for part in (keys, values)]
        return backbone.hidden(batch, Prepended(prefix_keys=own[0], prefix_values=own[1])), own

    def split(gradients: Sequence[Tensor]) -> list[Tensor]:
        # (part, layer, batch, kv_head, prompt, head_dim) with the slots and then the examples in front
        return _blocks(torch.stack(tuple(gradients)).permute(4, 2, 0, 1, 3, 5), sizes)

    each = 2 * keys[:, :, 0].numel()
    yield PerExample(
        sizes=tuple(sizes),
        parameters=tuple(size * each for size in sizes),
        forward=forward,
        split=split,
        start=lambda size: Prepended(prefix_keys=keys[:, :, :size], prefix_values=values[:, :, :size]),
    )


@contextmanager
def _lora(
    backbone: Backbone, sizes: Sequence[int], init: str, sequences: Sequence[Sequence[int]], seed: int
) -> Iterator[PerExample]:
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
            yield PerExample(
                sizes=tuple(sizes),
                parameters=tuple(total * size // sizes[-1] for size in sizes),
                forward=forward,
                split=split,
                start=None,
            )
        finally:
            for hook in hooks:
                hook.remove()


PER_EXAMPLE = {"prompt": _prompts, "prefix": _prefixes, "lora": _lora}
"""The methods that have an NTK of their own, by the name that `fit` uses, each at its start."""


@dataclass(frozen=True, eq=False)
class Gradients:
    """The log odds of a part, and their gradients.

    Attributes:
        log_odds: at the start of the largest adapter.
        blocks: `PerExample.split`'s blocks for every row, sketched where they are wider than asked; float32 on the CPU.
    """

    log_odds: LogOdds
    blocks: tuple[Float[Tensor, "rows _"], ...]


def gradients_at_start(
    backbone: Backbone,
    part: Part,
    method: PerExample,
    runs: int,
    seed: int,
    *,
    width: int = WIDTH,
    batch_size: int = 64,
) -> Gradients:
    """The log odds of a part at the start of the largest adapter, and their gradients.

    Besides one batch this takes 8 `width` bytes a row and block, and one forward and `runs` backward passes over the
    part.

    Args:
        backbone, part: whose examples, on which model.
        method: the method.
        runs: the most rows that a completion may have.
        seed: for the sketch; parts measured with the same seed can be compared.
        width: see `WIDTH`.
        batch_size: at most; fewer examples share a batch where a backward pass would take much memory.

    Raises:
        InputError: when a loss is not a number at the start.
    """
    leaves: list[Tensor] = []

    def hidden_of(batch: TokenBatch) -> Tensor:
        hidden, leaves[:] = method.forward(batch)
        return hidden

    found, blocks = [], []
    batch_size = min(batch_size, _affordable(backbone, part, method))
    for examples, seen in log_odds_of_batches(backbone, part, hidden_of, runs, batch_size):
        last = int(seen.run.max())
        each = []
        for run in range(last + 1):
            total = seen.log_odds[seen.run == run].sum()
            own = method.split(torch.autograd.grad(total, leaves, retain_graph=run < last))
            each.append(_sketched(own, width, seed))
        blocks.append([torch.stack(of_runs)[seen.run, seen.example] for of_runs in zip(*each, strict=True)])
        found.append((examples, replace(seen, log_odds=seen.log_odds.detach())))  # or every batch's graph would stay
    log_odds, order = in_order(part, found)
    columns = [[batch[k] for batch in blocks] for k in range(len(method.sizes))]
    del blocks
    return Gradients(log_odds, tuple(torch.cat(columns.pop(0))[order] for _ in method.sizes))


def _sketched(blocks: Sequence[Float[Tensor, "batch _"]], width: int, seed: int) -> list[Float[Tensor, "batch _"]]:
    """Every block as at most `width` numbers a row, on the CPU; the same sums for blocks of the same sizes.

    Random signed sums keep the expectation of products of rows (a count sketch).
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for block in blocks:
        numbers = block.shape[1]
        place = torch.randint(width, (numbers,), generator=generator)
        sign = torch.randint(2, (numbers,), generator=generator).float() * 2 - 1
        own = block.float().cpu()
        sums = own.new_zeros(len(own), width)
        found.append(own if numbers <= width else sums.index_add_(1, place, own * sign))
    return found


def _affordable(backbone: Backbone, part: Part, method: PerExample) -> int:
    """As many examples as leave the activations of a backward pass within `ACTIVATION_BYTES`."""
    joined = method.start(method.sizes[-1]).length if method.start is not None else 0
    longest = max(map(len, part.data.sequences)) + joined
    return max(1, ACTIVATION_BYTES // (_ACTIVATION * backbone.num_layers * backbone.hidden_size * longest))


def _blocks(gradients: Float[Tensor, "size batch ..."], sizes: Sequence[int]) -> list[Tensor]:
    """Cut along the first axis at `sizes`; (batch, numbers) each."""
    edges = itertools.pairwise((0, *sizes))
    return [gradients[low:high].transpose(0, 1).flatten(1) for low, high in edges]
