"""The front of fast attention: check the call, choose a method, run it, say how far off it may be.

A method is a function of (problem, tol, relative_to, generator, workspace) that returns the output and its report, or
raises `ToleranceNotReachedError`. Adding one is adding a row to `METHODS`.
"""

import time
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from promptreach.errors import Fault, InputError, raise_if_any
from promptreach.fast_attention.exact import exact
from promptreach.fast_attention.measure import RELATIVE_TO
from promptreach.fast_attention.planner import MethodFunction, automatic
from promptreach.fast_attention.polynomial.polynomial import polynomial
from promptreach.fast_attention.problem import HALF, AttentionProblem
from promptreach.fast_attention.report import AttentionReport
from promptreach.fast_attention.sampled.clustered import clustered
from promptreach.fast_attention.sampled.landmark import landmark

LEAST_WORKSPACE = 2**20


@dataclass(frozen=True)
class Method:
    """A way to compute attention.

    Attributes:
        run: the function.
        half: whether it takes float16 and bfloat16; a path that states an error below their rounding does not.
    """

    run: MethodFunction
    half: bool = False


METHODS: dict[str, Method] = {
    "exact": Method(exact, half=True),
    "polynomial": Method(polynomial),
    "landmark": Method(landmark),
    "clustered": Method(clustered),
}


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
        method: "auto", or a key of `METHODS`.
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
    faults = _call_faults(query, key, value, tol, method, relative_to, workspace)
    try:
        problem = AttentionProblem(query, key, value, causal, mask, scale)
    except InputError as error:
        raise InputError([*faults, *error.faults]) from None
    raise_if_any(faults)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    if method == "auto":
        runs = {name: row.run for name, row in METHODS.items()}
        output, report = automatic(problem, tol, relative_to, generator, workspace, runs)
    else:
        output, report = METHODS[method].run(problem, tol, relative_to, generator, workspace)
    return output, replace(report, seconds=time.perf_counter() - start)


def _call_faults(
    query: Tensor, key: Tensor, value: Tensor, tol: float, method: str, relative_to: str, workspace: int
) -> list[Fault]:
    faults = []
    if not 0 < tol < float("inf"):
        faults.append(Fault("tol", repr(tol), "a positive finite number", 'For no error use method="exact"'))
    if relative_to not in RELATIVE_TO:
        faults.append(Fault("relative_to", repr(relative_to), f"one of {', '.join(RELATIVE_TO)}"))
    if workspace < LEAST_WORKSPACE:
        faults.append(Fault("workspace", f"{workspace} bytes", f"at least {LEAST_WORKSPACE}"))
    if method not in ("auto", *METHODS):
        return [*faults, Fault("method", repr(method), f"one of auto, {', '.join(METHODS)}")]
    chosen = METHODS["exact" if method == "auto" else method]
    halves = sorted({str(item.dtype) for item in (query, key, value) if item.dtype in HALF})
    if halves and not chosen.half:
        remedy = 'Convert with .float(), or use method="exact"'
        faults.append(
            Fault("query, key, value", " and ".join(halves), "float32 or float64 to certify an error", remedy)
        )
    return faults
