"""The rank of the change of weights that a trained prompt is worth, layer by layer.

The states that enter a layer are held as they are with the prompt: what the heads hand to the output projection with
the prompt's keys in sight is set beside what they hand over without them. By `update_errors` no LoRA of rank r on that
projection comes nearer at these tokens than what is told. The other way round, how much of LoRA a prefix of m slots can
be, is the floor by slots of the check `limits`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from promptreach.audit.check import Outcome, Shown
from promptreach.audit.context import AuditContext
from promptreach.backbone import TokenBatch
from promptreach.diagnosis.experiment import Measured, Skipped
from promptreach.errors import UnsupportedModelError
from promptreach.hf import attach, capture, layer_weights
from promptreach.hf.running.capture import LayerCapture, require_plain
from promptreach.limits import update_errors
from promptreach.prompt import Adapter
from promptreach.report.findings import Block, Cell, Table, Text

MOST_TOKENS = 512
"""Content tokens that are looked at: what a rank is told of costs their cube."""
WITHIN = 0.1
"""The error, beside what the prompt does, up to which a change of weights counts as doing it."""
_MEANING = (
    "The prompt's part: what it adds at that layer, over the output without it. Rank: the least with which one change "
    f"of the output projection does that for all tokens, up to {WITHIN:.0%} of it. What is left is the least over all "
    "changes of the rank, so no training of LoRA on that matrix does better. A rank far below LoRA's is a small change "
    "in the dress of tokens; one near the most there can be treats each token in its own way, as no small update does. "
    "The states that enter a layer are held as they are: what the prompt does through later layers is not in it."
)
_CAPTURED = 1e-6
"""The share of the heads' outputs below which their directions are rounding of float32."""


@dataclass(frozen=True)
class LayerWorth:
    """One layer's change: how large it is, and what changes of weights leave of it.

    Attributes:
        size: of what the prompt adds behind the output projection, over what comes out there without it.
        rank: the least that leaves `WITHIN` of it or less; None where no rank does.
        by_lora: the least that LoRA of the audit's rank leaves.
        by_any: what changes of every rank leave.
        most: the largest rank there can be, of so many tokens and so wide an output.
    """

    size: float
    rank: int | None
    by_lora: float
    by_any: float
    most: int


def measure(context: AuditContext) -> Outcome:
    """The best trained prompt and prefix, and the user's adapter, as changes of rank r."""
    if context.model.unread:
        return Skipped(f"The change is one of weights, and {context.model.unread}.")
    adapters = context.best_adapters("prompt", "prefix")
    if context.user_adapter is not None:
        adapters["your adapter"] = context.user_adapter
    batch, asked = first_tokens(context.probe_batch)
    try:
        measured = {name: layers_of(context, adapter, batch, asked) for name, adapter in adapters.items()}
    except UnsupportedModelError as error:
        return Skipped(str(error))
    found = {name: layers for name, layers in measured.items() if layers}
    if not found:
        return Skipped("No prompt or prefix was trained.")
    rank = context.rank
    blocks: list[Block] = [_table(name, layers, rank) for name, layers in found.items()]
    values = {
        name: {key: [getattr(layer, key) for layer in layers] for key in ("size", "rank", "by_lora", "by_any")}
        for name, layers in found.items()
    }
    sample = f"{int(asked.sum()):,} tokens of {len(asked)} held-out rows"
    parts = "; ".join(sentence(name, layers, rank) for name, layers in found.items())
    text = f"As a change of the output projection, in the median layer: {parts}."
    return Measured(values, sample), Shown(text, [*blocks, Text(text=_MEANING)])


def layers_of(
    context: AuditContext, adapter: Adapter, batch: TokenBatch, asked: Bool[Tensor, "batch content"]
) -> list[LayerWorth]:
    """Every layer with an adapter that adds keys there, at the tokens `asked`; none for one that adds none."""
    outputs = [layer_weights(context.model, index).attention.output for index in range(context.model.num_layers)]
    with attach(context.model, adapter) as joined:
        if joined.length == 0:
            return []
        return capture(context.model, batch, joined, reduce=lambda layer: worth_of(layer, asked, outputs, context.rank))


def without_and_with(
    layer: LayerCapture, asked: Bool[Tensor, "batch content"]
) -> tuple[Float[Tensor, "tokens concatenated"], Float[Tensor, "tokens concatenated"]]:
    """The heads' outputs side by side at the content tokens `asked`, without the prompt's keys and with them.

    Raises:
        UnsupportedModelError: where attention is more than a softmax of scaled scores under a mask.
    """
    require_plain(layer, "this model")
    length, groups = layer.prompt_length, layer.query.shape[1] // layer.key.shape[1]
    front = layer.query.shape[2] - asked.shape[1]
    bare, both = [], []
    for row, places in enumerate(asked.cpu()):
        at = front + places.nonzero()[:, 0]
        query, key, value = (part[row].to("cpu", torch.float64) for part in (layer.query, layer.key, layer.value))
        key, value = (part.repeat_interleave(groups, dim=0) for part in (key, value))
        scores = query[:, at] @ key.mT * layer.scale
        scores = scores.masked_fill(~layer.mask[row].cpu()[:, at], -torch.inf)
        bare.append(scores[..., length:].softmax(-1) @ value[:, length:])
        both.append(scores.softmax(-1) @ value)
    return torch.cat(bare, dim=1).transpose(0, 1).flatten(1), torch.cat(both, dim=1).transpose(0, 1).flatten(1)


def worth_of(
    layer: LayerCapture, asked: Bool[Tensor, "batch content"], outputs: Sequence[Tensor | None], rank: int
) -> LayerWorth:
    """One layer's change at the tokens `asked`, beside LoRA of this rank; `outputs` are all layers' projections."""
    bare, both = without_and_with(layer, asked)
    output = outputs[layer.layer]
    turned = torch.eye(bare.shape[1], dtype=torch.float64) if output is None else output.to("cpu", torch.float64)
    changes = (both - bare) @ turned.mT
    errors = update_errors(bare, changes, _CAPTURED).tolist()
    return LayerWorth(
        size=float(changes.norm() / (bare @ turned.mT).norm().clamp(min=1e-30)),
        rank=next((number for number, error in enumerate(errors) if error <= WITHIN), None),
        by_lora=errors[min(rank, len(errors) - 1)],
        by_any=errors[-1] if errors[-1] > _CAPTURED else 0.0,
        most=min(changes.shape),
    )


def first_tokens(batch: TokenBatch) -> tuple[TokenBatch, Bool[Tensor, "batch content"]]:
    """The rows with the first `MOST_TOKENS` content tokens, and where in them these are."""
    count = batch.mask.flatten().cumsum(0).view_as(batch.mask)
    asked = batch.mask & (count <= MOST_TOKENS)
    rows = int(asked.any(dim=1).sum())
    return batch.rows(slice(0, rows)), asked[:rows]


def _table(name: str, layers: Sequence[LayerWorth], rank: int) -> Table:
    rows: list[list[Cell]] = [
        [index, layer.size, "none" if layer.rank is None else layer.rank, layer.by_lora, layer.by_any]
        for index, layer in enumerate(layers)
    ]
    return Table(
        title=f"What {name} is worth as a change of each layer's output projection",
        columns=["layer", "the prompt's part", "rank", f"left by LoRA of rank {rank}", "left by any rank"],
        rows=rows,
    )


def sentence(name: str, layers: Sequence[LayerWorth], rank: int) -> str:
    """What one adapter is worth over its layers, in the middle of a sentence."""
    ranks = [layer.rank for layer in layers if layer.rank is not None]
    if not ranks:
        return f"{name} is no such change, of whatever rank"
    if not max(ranks):
        return f"{name} adds nothing anywhere"
    beyond = len(layers) - len(ranks)
    none = f", none in {beyond} of {len(layers)} layers" if beyond else ""
    left = median_low([layer.by_lora for layer in layers])
    return (
        f"{name} is worth rank {median_low(ranks)} ({min(ranks)} to {max(ranks)} of at most {layers[0].most}{none}), "
        f"and LoRA of rank {rank} there leaves {left:.0%} of it at least"
    )
