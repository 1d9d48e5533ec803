"""Attention problems for tests and benchmarks: the definition in float64, and draws that are meant to be hard."""

from dataclasses import dataclass

import torch
from torch import Tensor

from promptreach.attention import statistics
from promptreach.fast_attention.measure import exact_rows, range_error, value_range
from promptreach.fast_attention.problem import AttentionProblem, Head
from promptreach.fast_attention.sampled.rows import SampledHead
from promptreach.fast_attention.tolerance import Request

KINDS = ("normal", "clusters", "dependent", "outlier", "spikes", "shifted", "flat", "aligned")


@dataclass
class Draw:
    """One problem with the tolerance to ask for; `scale` None as in `attend`."""

    query: Tensor
    key: Tensor
    value: Tensor
    causal: bool
    mask: Tensor | None
    tol: float
    kind: str

    @property
    def problem(self) -> AttentionProblem:
        return AttentionProblem(self.query, self.key, self.value, self.causal, self.mask)


def draw(index: int, seed: int = 0, most_keys: int = 300, causal_share: float = 0.25) -> Draw:
    """One head of 1 to `most_keys` keys in up to 8 dimensions, benign and adversarial, scores from 0.1 to a few nats.

    The kinds: normal; two clusters of keys with different values; values that are a function of the keys; one key or
    query far outside; values of heavy tails; queries, keys and values with large means; coordinates that carry nothing;
    queries along the key that matters most, so that each row meets its largest score.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + index)

    def integer(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=generator))

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand(1, generator=generator))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    kind = KINDS[index % len(KINDS)]
    dtype = torch.float64 if integer(0, 1) else torch.float32
    causal = between(0, 1) < causal_share
    n, dim, width = integer(1, most_keys), integer(1, 8), integer(1, 4)
    rows = integer(1, n if causal else most_keys)
    size = 10 ** between(-1, 0.2)
    query, key, value = normal(rows, dim) * size**0.5, normal(n, dim) * size**0.5, normal(n, width)
    if kind == "clusters":
        key[: n // 2] += 2 * size**0.5 * normal(dim)
        value[: n // 2] += 3
    elif kind == "dependent":
        value = torch.sin(3 * key @ normal(dim, width))
    elif kind == "outlier":
        key[integer(0, n - 1)] *= 3
        query[integer(0, rows - 1)] *= 3
        value[integer(0, n - 1)] += 10
    elif kind == "spikes":
        value = value.sign() * value.abs() ** 5
    elif kind == "shifted":
        query, key, value = query + normal(dim), key + 3 * normal(dim), value + 100
    elif kind == "flat":
        key[:, : dim // 2] = 0.7
        query[:, dim // 2 :] *= 1e-4
        value[:, 0] = 2.5
    elif kind == "aligned":
        query = key[integer(0, n - 1)] * between(0.5, 2) + 0.01 * query
        value = torch.sign(key @ normal(dim, width)) * 0.5
    mask = None
    if integer(0, 3) == 0:
        mask = torch.rand(n, generator=generator) < 0.7
        mask[integer(0, n - 1)] = True
    tol = 10 ** between(-5, -1)
    return Draw(query.to(dtype), key.to(dtype), value.to(dtype), causal, mask, tol, kind)


def dense(problem: AttentionProblem) -> Tensor:
    """Attention from its definition in float64, with an n x n mask: what every method is compared with."""
    q, n = problem.query.shape[-2], problem.key.shape[-2]
    visible = torch.ones(q, n, dtype=torch.bool)
    if problem.causal:
        visible = visible.tril(n - q)
    if problem.mask is not None:
        mask = problem.mask.expand(*problem.batch, n)
        visible = visible & (mask[..., None, None, :] if problem.query.ndim > 2 else mask)
    inputs = (problem.query.double(), problem.key.double(), problem.value.double())
    return statistics(*inputs, scale=problem.factor, mask=visible).mean


def true_error(problem: AttentionProblem, output: Tensor) -> float:
    """The largest range error of any head; padded causal queries are left out."""
    outputs = output.detach().reshape(-1, problem.num_heads // problem.num_kv_heads, *output.shape[-2:])
    worst = 0.0
    for found, head in zip(outputs, problem.heads(), strict=True):
        exact = exact_rows(head, torch.arange(len(head.rows))).mean.reshape(found.shape)
        rows = slice(None) if head.seen is None else head.seen > 0
        worst = max(worst, range_error(found[:, rows], exact[:, rows], value_range(head.value)))
    return worst


def assert_certified(problem: AttentionProblem, output: Tensor, bound: float) -> None:
    """Fail unless the true error is at most `bound`; no tolerance."""
    error = true_error(problem, output)
    assert error <= bound, f"true error {error:.3e} above the certified {bound:.3e}"


def smooth_head(rows: int, n: int, size: float = 1.0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """Queries, keys in clusters of uneven size, and values that depend on the keys."""
    generator = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    decay = torch.logspace(0, -1, 8, dtype=torch.float64)
    middles = normal(24, 8)
    key = (middles[(normal(n) ** 2 * 4).long().clamp_max(23)] + 0.4 * normal(n, 8)) * decay * size
    query = (normal(rows, 8) + 0.3) * decay * size * 8**0.5
    value = torch.cat([torch.sin(key @ normal(8, 3)), normal(n, 1)], dim=1)
    return query.to(dtype), key.to(dtype), value.to(dtype)


def exact_of(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query.double() @ key.double().T * query.shape[1] ** -0.5).softmax(dim=1) @ value.double()


def sampled_head(query: Tensor, key: Tensor, value: Tensor) -> SampledHead:
    """The head with rows drawn from it, for a relative error of 0.05 at head size 8."""
    request = Request(0.05, "deviation", torch.Generator().manual_seed(0))
    return SampledHead(Head(query[None], key, value, 8**-0.5), request)


def normal(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
