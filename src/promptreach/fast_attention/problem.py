"""One attention problem: queries, keys, values, who sees whom, and how it falls apart into single heads.

Every method works on one `Head` at a time: the queries of the group that shares a key/value head, and the keys that are
visible at all, hidden ones taken out. What is left of a mask is then one number a query position: how many of the
leading keys it sees. Batches, grouped-query heads, padding and causality meet here and nowhere else.

Reference: papers B, section 3 (attention with a prompt is attention over prompt and content keys, prompt first).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from promptreach import shapes
from promptreach.errors import Fault, raise_if_any

HALF = (torch.float16, torch.bfloat16)

LARGEST = 2.0**200
"""Entries up to here, about 1.6e60, have fourth powers that float64 can sum: what the moments of queries and keys take.
Every finite float32 number is far below."""


@dataclass(frozen=True, eq=False)
class Head:
    """The queries that share one key/value head of one batch row, and the keys that they can see at all.

    Attributes:
        query: (group, q, head_dim), the query heads of the group.
        key, value: (n, head_dim) and (n, value_dim), hidden positions left out.
        scale: the factor on q.k.
        seen: for causal attention, how many of the leading keys each query position sees: (q,), never decreasing, 0 for
            a padded query. None when every query sees every key.
    """

    query: Float[Tensor, "group q head_dim"]
    key: Float[Tensor, "n head_dim"]
    value: Float[Tensor, "n value_dim"]
    scale: float
    seen: Int[Tensor, " q"] | None = None

    @property
    def rows(self) -> Float[Tensor, "rows head_dim"]:
        """All queries as rows, one query head of the group after the other: (group * q, head_dim)."""
        return self.query.reshape(-1, self.query.shape[-1])

    def to(self, dtype: torch.dtype) -> "Head":
        """The head in another dtype."""
        return replace(self, query=self.query.to(dtype), key=self.key.to(dtype), value=self.value.to(dtype))


@dataclass(frozen=True, eq=False)
class AttentionProblem:
    """softmax(scale * q k^T) v for a batch of heads; `checked_problem` makes one from what a caller gave.

    Attributes:
        query: (..., heads, q, head_dim); a 2-d tensor is one head.
        key: (..., kv_heads, n, head_dim); query head h reads key/value head h * kv_heads // heads.
        value: (..., kv_heads, n, value_dim).
        causal: query position i sees the keys up to n - q + i: the queries are the last q positions, as for content
            behind a prompt.
        mask: (..., n), True at visible keys; None when all are. Under `causal` a query before the first visible key is
            padding itself: its output is 0, and no error is stated for it.
        scale: the factor on q.k; None means 1/sqrt(head_dim).
    """

    query: Float[Tensor, "*query_batch q head_dim"]
    key: Float[Tensor, "*key_batch n head_dim"]
    value: Float[Tensor, "*value_batch n value_dim"]
    causal: bool = False
    mask: Bool[Tensor, "*mask_batch n"] | None = None
    scale: float | None = None

    @property
    def factor(self) -> float:
        """The factor on q.k as a number."""
        return float(self.query.shape[-1] ** -0.5 if self.scale is None else self.scale)

    @property
    def dtype(self) -> torch.dtype:
        """Computing dtype of the methods: the widest input dtype, and at least float32."""
        wide = torch.promote_types(self.query.dtype, torch.promote_types(self.key.dtype, self.value.dtype))
        return torch.promote_types(wide, torch.float32)

    @property
    def batch(self) -> tuple[int, ...]:
        """The axes before the heads."""
        return tuple(self.query.shape[:-3])

    @property
    def num_heads(self) -> int:
        return math.prod(self.query.shape[-3:-2])

    @property
    def num_kv_heads(self) -> int:
        return math.prod(self.key.shape[-3:-2])

    @property
    def num_parts(self) -> int:
        """Key/value heads of all batch rows together."""
        return math.prod(self.batch) * self.num_kv_heads

    def parts(self) -> Iterator["AttentionProblem"]:
        """Every key/value head of every batch row as a problem of its own, batch-major; views of the same tensors."""
        count, n = self.num_kv_heads, self.key.shape[-2]
        flat = self.query.ndim == self.key.ndim == self.value.ndim == 3
        if flat and count == 1 and (self.mask is None or self.mask.ndim == 1):
            yield self
            return
        query = self.query.reshape(-1, count, self.num_heads // count, *self.query.shape[-2:])
        key, value = (
            item.expand(*self.batch, count, *item.shape[-2:]).reshape(len(query), count, 1, *item.shape[-2:])
            for item in (self.key, self.value)
        )
        mask = None if self.mask is None else self.mask.expand(*self.batch, n).reshape(-1, n)
        for row in range(len(query)):
            seen = None if mask is None else mask[row]
            for head in range(count):
                tensors = (query[row, head], key[row, head], value[row, head])
                yield AttentionProblem(*tensors, self.causal, seen, self.scale)

    def heads(self) -> Iterator[Head]:
        """Every key/value head of every batch row, batch-major, in the computing dtype."""
        return (part.head for part in self.parts())

    @cached_property
    def head(self) -> Head:
        """The one key/value head of a problem as `parts` cuts it, kept with it."""
        visible = None if self.mask is None or bool(self.mask.all()) else self.mask
        key, value = (item[0] if visible is None else item[0][visible] for item in (self.key, self.value))
        seen = None
        if self.causal:
            q, n = self.query.shape[-2], self.key.shape[-2]
            position = torch.arange(n - q, n, device=key.device)
            seen = position + 1 if visible is None else visible.cumsum(0)[position]
        return Head(self.query.to(self.dtype), key.to(self.dtype), value.to(self.dtype), self.factor, seen)

    def assemble(self, outputs: Sequence[Float[Tensor, "group q value_dim"]]) -> Tensor:
        """The outputs of `heads()`, in its order, as one tensor (..., heads, q, value_dim) of the values' dtype."""
        stacked = torch.stack([output.to(self.value.dtype) for output in outputs])
        return stacked.reshape(*self.query.shape[:-1], self.value.shape[-1])


def checked_problem(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    causal: bool = False,
    mask: Tensor | None = None,
    scale: float | None = None,
    others: Sequence[Fault] = (),
) -> AttentionProblem:
    """The problem, if everything fits.

    Args:
        others: faults that were found elsewhere in the same call.

    Raises:
        InputError: listing these and every shape, dtype or entry that does not fit.
    """
    raise_if_any([*others, *_faults(query, key, value, causal, mask, scale)])
    return AttentionProblem(query, key, value, causal, mask, scale)


def _faults(
    query: Tensor, key: Tensor, value: Tensor, causal: bool, mask: Tensor | None, scale: float | None
) -> list[Fault]:
    """Everything that does not fit; shapes first, entries once the shapes fit."""
    dims: dict[str, int] = {}
    named = {"query": query, "key": key, "value": value}
    faults = shapes.faults("query", query, "... heads? q head_dim", dims)
    faults += shapes.faults("key", key, "... kv_heads? n head_dim", dims)
    faults += shapes.faults("value", value, "... kv_heads? n value_dim", dims)
    faults += [
        Fault(name, f"dtype {item.dtype}", "floating point")
        for name, item in named.items()
        if not item.is_floating_point()
    ]
    faults += [
        Fault(name, f"an empty tensor of shape {tuple(item.shape)}", "at least one position of at least one entry")
        for name, item in named.items()
        if not item.numel()
    ]
    if dims.keys() >= {"heads", "kv_heads"}:
        faults += shapes.group_faults("key", dims["heads"], dims["kv_heads"])
    wanted = tuple(query.shape[:-3])
    faults += [
        Fault(name, f"batch axes {tuple(item.shape[:-3])}", f"axes that broadcast to those of the query, {wanted}")
        for name, item in (("key", key), ("value", value))
        if not shapes.expands(item.shape[:-3], wanted)
    ]
    devices = sorted({str(item.device) for item in named.values()})
    if len(devices) > 1:
        faults.append(Fault("query, key, value", f"devices {', '.join(devices)}", "one device"))
    if scale is not None and not (math.isfinite(scale) and scale):
        faults.append(Fault("scale", repr(scale), "a finite number that is not 0", "None means 1/sqrt(head_dim)"))
        return faults
    if any(item.ndim < 2 or not item.numel() or not item.is_floating_point() for item in named.values()):
        return faults
    if causal and query.shape[-2] > key.shape[-2]:
        seen = f"{query.shape[-2]} queries for {key.shape[-2]} keys under causal=True"
        faults.append(Fault("query", seen, "at most one query a key: the queries are the last positions"))
    faults += [] if mask is None else _mask_faults(mask, (*query.shape[:-3], key.shape[-2]))
    return faults + entry_faults(named, query, scale)


def _mask_faults(mask: Tensor, shape: tuple[int, ...]) -> list[Fault]:
    if mask.dtype != torch.bool:
        return [Fault("mask", f"dtype {mask.dtype}", "bool, True at visible keys")]
    if mask.ndim < 1 or mask.shape[-1] != shape[-1] or not shapes.expands(mask.shape, shape):
        return [Fault("mask", f"shape {tuple(mask.shape)}", f"{shape}: one flag a key, the same for every head")]
    hidden = (~mask.any(dim=-1)).flatten().nonzero().flatten().tolist()
    if hidden:
        seen = f"no visible key in batch row{'s' * (len(hidden) > 1)} {', '.join(map(str, hidden[:5]))}"
        return [Fault("mask", seen, "at least one visible key a row", "Leave fully masked rows out of the batch")]
    return []


def entry_faults(named: dict[str, Tensor], query: Tensor, scale: float | None, most: float = LARGEST) -> list[Fault]:
    """Tensors with an entry that is NaN or larger than `most`, each by its name, and a scale that makes a query so."""
    faults = []
    for name, tensor in named.items():
        # NaN is passed on by the extremes, so that one look finds everything; only then each entry is looked at.
        if not largest_entry(tensor) <= most:
            bad = (~(tensor.detach().abs().double() <= most)).nonzero()
            entry = tuple(bad[0].tolist())
            seen = f"{float(tensor[entry].detach())} at {entry} ({len(bad)} such entries)"
            faults.append(Fault(name, seen, f"finite numbers of at most {most:.2g}"))
    if scale is not None and not faults and not abs(scale) * largest_entry(query) <= most:
        seen = f"{scale!r} for queries up to {largest_entry(query):.2g}"
        faults.append(Fault("scale", seen, f"scaled queries of at most {most:.2g}"))
    return faults


def largest_entry(tensor: Tensor) -> float:
    """The largest size of any entry; NaN if one is NaN."""
    return float(torch.stack(torch.aminmax(tensor.detach())).abs().max())
