"""The front of fast attention: check the call, choose a method, run it, say how far off it may be."""

import time
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from promptreach.errors import Fault
from promptreach.fast_attention.planner import METHODS, automatic
from promptreach.fast_attention.problem import HALF, checked_problem
from promptreach.fast_attention.report import AttentionReport
from promptreach.fast_attention.tolerance import Request, request_faults


def attend(
    query: Float[Tensor, "*query_batch q head_dim"],
    key: Float[Tensor, "*key_batch n head_dim"],
    value: Float[Tensor, "*value_batch n value_dim"],
    tol: float = 1e-2,
    method: str = "auto",
    causal: bool = False,
    *,
    mask: Bool[Tensor, "*mask_batch n"] | None = None,
    scale: float | None = None,
    relative_to: str = "range",
    generator: torch.Generator | None = None,
    workspace: int = 2**28,
) -> tuple[Tensor, AttentionReport]:
    """softmax(scale * query key^T) value, (..., heads, q, value_dim), and a report of how it was computed.

    The error in the report is of the kind that its evidence names: an UPPER bound PROVED for every entry (polynomial);
    an UPPER bound MEASURED on held-out exact rows with a stated confidence (landmark, clustered); or what a few rows
    show, without a bound for the others (exact). A method chosen by name either keeps to `tol` or raises; "auto" plans,
    and falls back to exact attention.

    Args:
        query: (..., heads, q, head_dim); two axes are one head.
        key, value: (..., kv_heads, n, head_dim) and (..., kv_heads, n, value_dim), prompt positions first if there are
            any. Batch axes broadcast to those of the query.
        tol: the largest error wanted.
        method: "auto", or a key of `planner.METHODS`.
        causal: whether the queries are the last positions and see no later key.
        mask: (..., n), True at visible keys; the same for every head.
        scale: the factor on q.k; None means 1/sqrt(head_dim).
        relative_to: "range", the largest |out - exact| of any entry over the max - min of that value coordinate; or
            "deviation", |out - exact|_F over |exact - mean of exact over rows|_F. The larger of any head counts.
        generator: for methods that sample; None means seed 0, so that the same call gives the same result.
        workspace: bytes that may be held at once beyond inputs and output.

    Raises:
        InputError: listing everything about the call that does not fit.
        ToleranceNotReachedError: when the named method cannot reach `tol`.
    """
    start = time.perf_counter()
    faults = request_faults(tol, relative_to, workspace)
    faults += method_faults(method) or _dtype_faults(method, query, key, value)
    problem = checked_problem(query, key, value, causal, mask, scale, others=faults)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    request = Request(tol, relative_to, generator, workspace)
    output, report = automatic(problem, request) if method == "auto" else METHODS[method].run(problem, request)
    return output, replace(report, seconds=time.perf_counter() - start)


def method_faults(method: str) -> list[Fault]:
    """A fault where `attend` knows no method of that name."""
    known = ("auto", *METHODS)
    return [] if method in known else [Fault("method", repr(method), f"one of {', '.join(known)}")]


def _dtype_faults(method: str, *tensors: Tensor) -> list[Fault]:
    halves = sorted({str(item.dtype) for item in tensors if item.dtype in HALF})
    if not halves or method == "auto" or METHODS[method].half:
        return []
    remedy = 'Convert with .float(), or use method="exact"'
    return [Fault("query, key, value", " and ".join(halves), "float32 or float64 to certify an error", remedy)]
