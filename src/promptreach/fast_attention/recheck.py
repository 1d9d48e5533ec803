"""The second code path of a certified output: exact attention in float64, row by row, in quadratic time."""

import math
from dataclasses import replace

import torch

from promptreach.certificate import Certificate, Independence, rechecks
from promptreach.fast_attention.measure import deviation_error, exact_rows, range_error, value_range
from promptreach.fast_attention.problem import AttentionProblem

ROWS = 1024


@rechecks(Independence.FULL, quick=8_000_000)
def recheck_attention(certificate: Certificate) -> bool:
    """Whether the witness's output is as near to exact attention as the certificate says, every row compared.

    Exact attention is computed in float64 from its definition; nothing of the fast path is used. Only as fine as
    float64's own rounding, and only while the inputs have not been changed in place.
    """
    witness = certificate.witness
    names = ("query", "key", "value", "causal", "mask", "scale")
    problem = AttentionProblem(**{name: witness[name] for name in names})
    output = witness["output"].reshape(-1, problem.num_heads // problem.num_kv_heads, *witness["output"].shape[-2:])
    worst = 0.0
    for index, head in enumerate(problem.heads()):
        rows = torch.arange(len(head.rows), device=head.key.device)
        exact = torch.cat([exact_rows(head, part).mean for part in torch.split(rows, ROWS)])
        exact = exact.reshape(output[index].shape).double()
        found = output[index].double()
        if head.seen is not None:
            exact, found = exact[:, head.seen > 0], found[:, head.seen > 0]
        if witness["relative_to"] == "range":
            worst = max(worst, range_error(found, exact, value_range(head.value)))
        else:
            worst = max(worst, *(deviation_error(*pair) for pair in zip(found, exact, strict=True)))
    return math.isfinite(worst) and worst <= certificate.value


@rechecks(Independence.FULL, quick=8_000_000)
def recheck_heads(certificate: Certificate) -> bool:
    """Whether every head's witness keeps to the certificate of all."""
    heads = certificate.witness["heads"]
    return bool(heads) and all(recheck_attention(replace(certificate, witness=witness)) for witness in heads)
