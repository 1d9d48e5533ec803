"""Exact attention: torch's fused kernel where it serves, and blocks of bounded memory everywhere.

The fused kernel keeps no n x n array, but takes a mask only as one. Hidden keys are therefore taken out before, and a
causal problem with padding is computed a block of queries at a time, each against the leading keys that it sees.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from promptreach.certificate import Certificate, Evidence, Side
from promptreach.fast_attention.measure import sampled_error
from promptreach.fast_attention.problem import AttentionProblem, Head, largest_entry
from promptreach.fast_attention.report import AttentionReport

SAMPLED_ROWS = 16


def exact(
    problem: AttentionProblem, tol: float, relative_to: str, generator: torch.Generator, workspace: int
) -> tuple[Tensor, AttentionReport]:
    """Attention as defined, in the computing dtype, or in float64 where sums could overflow it; `tol` plays no part.

    Its error is that of rounding, MEASURED on a few rows against float64: the fused kernel's exponential has no proof.
    No array beyond the inputs, the output and about `workspace` bytes is held.
    """
    outputs = [exact_head(head, workspace) for head in problem.heads()]
    output = problem.assemble(outputs)
    # What the caller gets is what is measured: with half-precision values that includes the last conversion.
    shown = list(output.detach().reshape(len(outputs), *outputs[0].shape))
    value, sample = sampled_error(problem, shown, relative_to, generator, SAMPLED_ROWS, workspace=workspace)
    certificate = Certificate(
        claim=f"the largest error of exact attention on the sampled rows, relative to {relative_to}, is value",
        value=value,
        side=Side.EXACT,
        evidence=Evidence.MEASURED,
        sample=sample,
    )
    return output, AttentionReport("exact", certificate)


def exact_head(head: Head, workspace: int) -> Float[Tensor, "group q value_dim"]:
    """Exact attention of one head; a query that sees no key has output 0."""
    if _may_overflow(head):
        return exact_head(head.to(torch.float64), workspace)
    key, value, width = _same_width(head.key, head.value)
    query = pad(head.query, (0, key.shape[-1] - head.query.shape[-1]))
    if head.seen is None:
        return _fused(query, key, value, head.scale)[..., :width]
    if len(head.seen) == len(key) == int(head.seen[-1]) and int(head.seen[0]) == 1:
        return _fused(query, key, value, head.scale, causal=True)[..., :width]
    return _causal_blocks(query, key, value, head, workspace)[..., :width]


def _may_overflow(head: Head) -> bool:
    """Whether a score, or a sum of values over the keys, may leave the dtype's range; never in float64, whose inputs
    are limited."""
    query, key, value = (largest_entry(item) for item in (head.query, head.key, head.value))
    score = head.key.shape[-1] * query * key * max(1.0, abs(head.scale))
    return head.key.dtype != torch.float64 and max(score, len(head.key) * value) > torch.finfo(head.key.dtype).max / 2


def _causal_blocks(query: Tensor, key: Tensor, value: Tensor, head: Head, workspace: int) -> Tensor:
    assert head.seen is not None
    # A block's mask has one byte an entry, and its scores up to two copies in the computing dtype.
    rows = max(1, workspace // (len(key) * len(query) * (1 + 2 * key.element_size())))
    outputs = []
    for queries, seen in zip(torch.split(query, rows, dim=1), torch.split(head.seen, rows), strict=True):
        most = int(seen[-1])
        if most == 0:
            outputs.append(queries.new_zeros(*queries.shape[:2], value.shape[-1]))
            continue
        visible = torch.arange(most, device=key.device) < seen[:, None]
        # A row without keys would be NaN in the kernel: it looks at the first key and is put to 0 after.
        visible[:, 0] = True
        output = _fused(queries, key[:most], value[:most], head.scale, mask=visible)
        outputs.append(output.masked_fill((seen == 0)[:, None], 0.0))
    return torch.cat(outputs, dim=1)


def _fused(
    query: Tensor, key: Tensor, value: Tensor, scale: float, causal: bool = False, mask: Tensor | None = None
) -> Tensor:
    """torch's kernel on one key/value head; the queries of the group are heads to it."""
    group = len(query)
    keys, values = (item.expand(group, *item.shape)[None] for item in (key, value))
    return scaled_dot_product_attention(query[None], keys, values, mask, is_causal=causal, scale=scale)[0]


def _same_width(key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, int]:
    """Keys and values padded with zeros to one width, which the fused kernel needs, and the values' own width."""
    width = max(key.shape[-1], value.shape[-1])
    return pad(key, (0, width - key.shape[-1])), pad(value, (0, width - value.shape[-1])), value.shape[-1]
