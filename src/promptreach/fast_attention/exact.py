"""Exact attention: torch's fused kernel where it serves, and blocks of bounded memory everywhere.

The fused kernel keeps no n x n array, but takes a mask only as one. Hidden keys are therefore taken out before, and a
causal problem with padding is computed a block of queries at a time, each against the leading keys that it sees.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptreach.certificate import Certificate, Evidence, Side
from promptreach.fast_attention._method import HeadContext, Method, Plan, Result
from promptreach.fast_attention.fused import fused_attention
from promptreach.fast_attention.measure import sampled_error
from promptreach.fast_attention.problem import AttentionProblem, Head, largest_entry
from promptreach.fast_attention.report import AttentionReport
from promptreach.fast_attention.tolerance import Request


class ExactMethod(Method):
    """Attention as defined, in the computing dtype, or in float64 where sums could overflow it.

    Its error is that of rounding, MEASURED on a few rows against float64: the fused kernel's exponential has no proof.
    It may exceed the tolerance, which plays no part. No array beyond the inputs, the output and about `workspace` bytes
    is held.
    """

    name = "exact"
    half = True

    def plan(self, context: HeadContext, limit: float = math.inf) -> Plan:
        """The last resort, whatever it costs."""
        reason = "no cheaper method promised to keep to the tolerance"
        return Plan(self.name, context.pairs, 0.0, reason, lambda: self.run(context.problem, context.request))

    def run(self, problem: AttentionProblem, request: Request) -> Result:
        unit, workspace = request.relative_to, request.workspace
        output = problem.assemble([exact_head(head, workspace) for head in problem.heads()])
        # What the caller gets is what is measured: with half-precision values that includes the last conversion.
        value, sample = sampled_error(problem, output, unit, request.generator, workspace)
        certificate = Certificate(
            claim=f"the largest error of exact attention on the sampled rows, relative to {unit}, is value",
            value=value,
            side=Side.EXACT,
            evidence=Evidence.MEASURED,
            sample=sample,
        )
        return Result(output, AttentionReport(self.name, certificate))


def exact_head(head: Head, workspace: int) -> Float[Tensor, "group q value_dim"]:
    """Exact attention of one head; a query that sees no key has output 0."""
    if _may_overflow(head):
        return exact_head(head.to(torch.float64), workspace)
    if head.seen is None:
        return fused_attention(head.query, head.key, head.value, head.scale)
    if len(head.seen) == len(head.key) == int(head.seen[-1]) and int(head.seen[0]) == 1:
        return fused_attention(head.query, head.key, head.value, head.scale, causal=True)
    return _causal_blocks(head, head.seen, workspace)


def _may_overflow(head: Head) -> bool:
    """Whether a score, or a sum of values over the keys, may leave the dtype's range; never in float64, whose inputs
    are limited."""
    query, key, value = (largest_entry(item) for item in (head.query, head.key, head.value))
    score = head.key.shape[-1] * query * key * max(1.0, abs(head.scale))
    return head.key.dtype != torch.float64 and max(score, len(head.key) * value) > torch.finfo(head.key.dtype).max / 2


def _causal_blocks(head: Head, seen: Int[Tensor, " q"], workspace: int) -> Float[Tensor, "group q value_dim"]:
    # A block's mask has one byte an entry, and its scores up to two copies in the computing dtype.
    rows = max(1, workspace // (len(head.key) * len(head.query) * (1 + 2 * head.key.element_size())))
    outputs = []
    for queries, counts in zip(torch.split(head.query, rows, dim=1), torch.split(seen, rows), strict=True):
        # A row without keys would be NaN in the kernel: it looks at the first key and is put to 0 after.
        most = max(1, int(counts[-1]))
        visible = torch.arange(most, device=seen.device) < counts.clamp_min(1)[:, None]
        output = fused_attention(queries, head.key[:most], head.value[:most], head.scale, mask=visible)
        outputs.append(output.masked_fill((counts == 0)[:, None], 0.0))
    return torch.cat(outputs, dim=1)
