"""Fewer slots for a long prefix or a key/value cache, with the error measured on queries that the fit never saw.

A prefix acts on a query only through its mass and value sum there, so one with fewer slots can stand for it wherever
these agree. Layer by layer and head by head that is a small problem of its own: a closed form starts, gradients refine
it, and the last part of the sampled queries is kept aside to measure.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptreach import shapes
from promptreach.attention import Statistics
from promptreach.certificate import Certificate, Evidence, Side
from promptreach.compression.compaction import compact, refine
from promptreach.compression.sampled import PrefixHeads, PrefixSlots, prefix_heads
from promptreach.errors import Fault, raise_if_any
from promptreach.fast_attention.problem import entry_faults
from promptreach.limits import slots_needed
from promptreach.prompt import Prefix

LARGEST = 2.0**50
"""Entries up to here have squares, and products with one another, that float32 can sum."""

HELD_OUT = 0.25
LEAST_SAMPLES = 8
BUDGETS = ("equal", "by head")
JUDGED = 16
"""Held-out queries of a head on which the least number of slots is proved, in about a tenth of a second."""


@dataclass(frozen=True, eq=False)
class Shrunk:
    """A shorter prefix and what it costs.

    Attributes:
        prefix: it has as many slots as the largest budget; heads with a smaller one repeat some of theirs.
        budgets: the different slots of each head; their sum is at most tokens * layers * key/value heads.
        errors: |out - full|_F / |full - mean of full over queries|_F of each head's output on the held-out queries.
        certificate: the largest of them, MEASURED.
        least: a head, layer by layer: the slots that any prefix at all needs to come as near as this one does, on 16 of
            the held-out queries; LOWER, PROVED, see `promptreach.limits.slots_needed`.
    """

    prefix: Prefix
    budgets: Int[Tensor, "layer kv_head"]
    errors: Float[Tensor, "layer kv_head"]
    certificate: Certificate
    least: tuple[Certificate, ...]


@torch.no_grad()
def shrink(
    prefix: Prefix,
    queries: Float[Tensor, "layer heads sample head_dim"],
    tokens: int,
    *,
    content: Statistics | None = None,
    scale: float | None = None,
    budgets: str = "equal",
    steps: int = 100,
    generator: torch.Generator | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Shrunk:
    """A prefix of fewer slots that gives these queries nearly the same attention output.

    The error of every head is measured on the last quarter of the samples, which no fit sees; it says nothing of
    queries from other text. Positions are left alone: a shorter prefix pushes the content back less far, and where
    keys carry a position (rotary), `promptreach.hf.rerotated` has to move them along.

    Args:
        prefix: keys and values (layer, kv_head, prompt, head_dim).
        queries: (layer, heads, sample, head_dim), after any position encoding, as the attention with the full prefix
            sees them; samples of the same text next to each other, since the last ones are held out.
        tokens: slots wanted, for every head or on average, below the prefix's length.
        content: what each query sees besides the prefix: lse (layer, heads, sample) and mean (layer, heads,
            sample, value_dim), with the same scale. None stands for content of the prefix's own mass.
        scale: the factor on q.k; None means 1/sqrt(head_dim).
        budgets: "equal": `tokens` slots for each head. "by head": as many slots in all, more for heads that need them,
            up to twice `tokens`, which then is the length of the prefix.
        steps: of gradient refinement; 0 keeps the closed form.
        generator: for the refinement's order of samples; None means seed 0.
        progress: called with (layers done, layers).

    Raises:
        InputError: listing everything that does not fit.

    Reference: theorem key ``statistics-complete``; attention matching, 2602.16284 (mass and value matching).
    """
    raise_if_any(_faults(prefix, queries, tokens, content, scale, budgets, steps))
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    layers = _layers(prefix, queries, content, scale)
    fitted = round(layers[0].samples * (1 - HELD_OUT))
    seen, unseen = ([layer.take(part) for layer in layers] for part in (slice(0, fitted), slice(fitted, None)))
    sizes = _sizes(seen, tokens, prefix.length, budgets)
    done, least = [], []
    for index, (fit, held, budget) in enumerate(zip(seen, unseen, sizes, strict=True)):
        done.append(_fit_layer(fit, held, budget, int(sizes.max()), steps, generator))
        least += _least(held, *done[-1][:2])
        if progress is not None:
            progress(index + 1, len(layers))
    keys, values, errors = (torch.stack(parts) for parts in zip(*done, strict=True))
    certificate = _certificate(errors, unseen[0].samples)
    return Shrunk(Prefix(keys, values, certificate), sizes, errors, certificate, tuple(least))


def _layers(prefix: Prefix, queries: Tensor, content: Statistics | None, scale: float | None) -> list[PrefixHeads]:
    """The layers' problems, in float32 at least."""
    dtype = torch.promote_types(prefix.keys.dtype, torch.float32)
    factor = queries.shape[-1] ** -0.5 if scale is None else scale
    parts = (part.to(dtype) for part in (prefix.keys, prefix.values, queries, *(() if content is None else content)))
    return [
        prefix_heads(keys, values, query, Statistics(*seen) if seen else None, factor)
        for keys, values, query, *seen in zip(*parts, strict=True)
    ]


def _fit_layer(
    seen: PrefixHeads,
    unseen: PrefixHeads,
    sizes: Int[Tensor, " kv_head"],
    width: int,
    steps: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Float[Tensor, " kv_head"]]:
    """Keys and values (kv_head, width, dim) of one layer, and each head's error on the queries that no fit saw."""
    keys, values = (part.new_empty(len(part), width, part.shape[-1]) for part in (seen.keys, seen.values))
    errors = keys.new_empty(len(keys))
    for size in sorted(set(sizes.tolist())):
        heads = sizes == size  # heads of one budget are fitted together
        chosen = seen.of(heads)
        slots = compact(chosen, _log_copies(size, width).to(keys))
        slots = refine(chosen, slots, steps, generator) if steps else slots
        keys[heads], values[heads] = slots.repeated()
        # Measured on what is handed out, every copy written down.
        errors[heads] = unseen.of(heads).errors(PrefixSlots(keys[heads], values[heads], keys.new_zeros(width)))
    return keys, values, errors


def _least(unseen: PrefixHeads, keys: Tensor, values: Tensor) -> list[Certificate]:
    """For each head the slots that any prefix needs for the error of this one, on some of the held-out queries."""
    some = unseen.take(torch.linspace(0, unseen.samples - 1, min(JUDGED, unseen.samples)).round().long())
    reached = some.output(PrefixSlots(keys, values, keys.new_zeros(keys.shape[1])))
    error = (reached - some.target).double().square().mean(dim=(1, 2)).sqrt()
    # What the outputs were rounded by is no reason to ask for slots.
    rounding = 16 * torch.finfo(reached.dtype).eps * some.target.abs().amax(dim=(1, 2)).double()
    return [
        slots_needed(wanted, allowed, content)
        for wanted, allowed, content in zip(
            some.target, (error + rounding).tolist(), some.content.mean.expand_as(some.target), strict=True
        )
    ]


def _log_copies(size: int, width: int) -> Float[Tensor, " slot"]:
    """The number of times that each of `size` slots stands among `width`, as evenly as it goes: in logarithms."""
    copies = torch.full((size,), width // size, dtype=torch.float64)
    copies[: width % size] += 1
    return copies.log()


def _sizes(seen: list[PrefixHeads], tokens: int, length: int, budgets: str) -> Int[Tensor, "layer kv_head"]:
    """The number of different slots of each head; by head, from the errors of closed forms on what fits may see."""
    equal = torch.full((len(seen), len(seen[0].keys)), tokens)
    if budgets == "equal":
        return equal
    ladder = sorted({max(1, tokens // 2), tokens, max(1, 3 * tokens // 2), 2 * tokens})
    ladder = [size for size in ladder if size < length]
    errors = [
        torch.cat([layer.errors(compact(layer, layer.keys.new_zeros(size))) for layer in seen]) for size in ladder
    ]
    return torch.tensor(_allocate(torch.stack(errors) ** 2, ladder, tokens * equal.numel())).reshape(equal.shape)


def _allocate(squares: Float[Tensor, "step head"], ladder: list[int], total: int) -> list[int]:
    """Sizes from the ladder with a sum of at most `total`: always the step up that removes most error for a slot."""
    costs = [large - small for small, large in itertools.pairwise(ladder)]
    drops = ((here - above).tolist() for here, above in itertools.pairwise(squares))
    gains = [[drop / cost for drop in heads] for heads, cost in zip(drops, costs, strict=True)]
    level = [0] * squares.shape[1]
    left = total - ladder[0] * len(level)
    while True:
        steps = [
            (gains[here][head], -head)
            for head, here in enumerate(level)
            if here < len(costs) and costs[here] <= left and gains[here][head] > 0
        ]
        if not steps:
            return [ladder[here] for here in level]
        head = -max(steps)[1]
        left -= costs[level[head]]
        level[head] += 1


def _certificate(errors: Float[Tensor, "layer kv_head"], held_out: int) -> Certificate:
    layers, heads = errors.shape
    return Certificate(
        claim="the largest relative error |out - full|_F / |full - mean|_F of any head's output on the sample is value",
        value=float(errors.max()),
        side=Side.EXACT,
        evidence=Evidence.MEASURED,
        witness={"errors": errors},
        sample=f"{held_out} held-out queries for each of {heads} key/value heads in {layers} layers",
    )


def _faults(
    prefix: Prefix,
    queries: Tensor,
    tokens: int,
    content: Statistics | None,
    scale: float | None,
    budgets: str,
    steps: int,
) -> list[Fault]:
    layers, kv_heads, length, head_dim = prefix.keys.shape
    faults = []
    if isinstance(tokens, bool) or not isinstance(tokens, int) or not 1 <= tokens < length:
        faults.append(Fault("tokens", repr(tokens), f"a whole number, 1 to {length - 1}, fewer than the prefix has"))
    if budgets not in BUDGETS:
        faults.append(Fault("budgets", repr(budgets), f"one of {', '.join(map(repr, BUDGETS))}"))
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        faults.append(Fault("steps", repr(steps), "a whole number, 0 or more"))
    if scale is not None and not 0 < scale < float("inf"):
        faults.append(Fault("scale", repr(scale), "a positive finite number"))
    dims = {"layers": layers, "head_dim": head_dim, "value_dim": prefix.values.shape[3]}
    misfits = shapes.faults("queries", queries, "layers heads sample head_dim", dims)
    if misfits or dims["heads"] % kv_heads:
        return faults + (misfits or shapes.group_faults("queries", dims["heads"], kv_heads))
    if dims["sample"] < LEAST_SAMPLES:
        remedy = "a quarter of them is held out; some hundreds are better"
        faults.append(Fault("queries", f"{dims['sample']} samples", f"at least {LEAST_SAMPLES}", remedy))
    named = {"queries": queries, "prefix.keys": prefix.keys, "prefix.values": prefix.values}
    faults += entry_faults({name: item for name, item in named.items() if item.numel()}, queries, scale, LARGEST)
    if content is not None:
        faults += shapes.faults("content.lse", content.lse, "layers heads sample", dims)
        faults += shapes.faults("content.mean", content.mean, "layers heads sample value_dim", dims)
        if content.mean.numel():
            faults += entry_faults({"content.mean": content.mean}, queries, None, LARGEST)
        if not (content.lse < torch.inf).all():
            seen = "entries that are NaN or infinite mass"
            faults.append(Fault("content.lse", seen, "numbers, or -inf for no mass"))
    return faults
