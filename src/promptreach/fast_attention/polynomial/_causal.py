"""The two ways queries meet keys: all keys at once, or, under causality, exact inside a chunk and a state before it.

Both yield blocks of rows with their computed quotients and a bound on each entry's error, so that what comes after does
not know which one it was.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptreach.fast_attention.polynomial.features import Monomials, evaluate, moments
from promptreach.fast_attention.polynomial.preprocess import HeadProblem
from promptreach.fast_attention.polynomial.remainder import Account, Block, key_sums, row_errors, tail_factor
from promptreach.rounding import gamma, unit

CHUNK = 1024
"""Keys a chunk at most: inside it attention is exact and quadratic."""


def all_keys(
    problem: HeadProblem, state: Float[Tensor, "columns rank"], table: Monomials, account: Account, tail: Tensor
) -> Iterator[Block]:
    """Every query against the moments of all keys, some rows at a time; `tail` are the rows' tail factors."""
    for start in range(0, len(tail), problem.block):
        rows = slice(start, start + problem.block)
        sums = evaluate(table, problem.prepared.query[:, rows], state)
        output = sums[:-1] / sums[-1]
        yield row_errors(tail[rows], problem.prepared.query_norm[rows], output, sums[-1], account, problem.columns.unit)


def leading_keys(problem: HeadProblem, seen: Int[Tensor, " q"], table: Monomials, account: Account) -> Iterator[Block]:
    """Every query against the keys that it sees; blocks run over query positions, all heads of the group in each.

    `account.sums` must be those of no keys; sums and moments grow chunk by chunk, and each block's bound counts
    only what lies before its chunk. A query that sees nothing has output and error 0.
    """
    prepared, columns, group = problem.prepared, problem.columns, len(problem.head.query)
    query, sizes = prepared.query.reshape(-1, group, len(seen)), prepared.query_norm.reshape(group, -1)
    chunk = max(16, min(CHUNK, int((problem.workspace / (16 * group * query.element_size())) ** 0.5)))
    weighted = torch.cat([columns.value * prepared.weight, prepared.weight[None]])
    state = torch.zeros(len(weighted), table.rank, dtype=torch.float64, device=query.device)
    done = int((seen == 0).sum())
    if done:
        nothing = columns.value.new_zeros(len(columns.value), group * done)
        yield Block(nothing, columns.spread * 0, sizes[:, :done].flatten() * 0)
    for start in range(0, prepared.key.shape[1], chunk):
        keys, values = prepared.key[:, start : start + chunk], weighted[:, start : start + chunk]
        stop = start + keys.shape[1]
        last = int((seen <= stop).sum())
        if last > done:
            rows = query[:, :, done:last].flatten(1)
            visible = torch.arange(start, stop, device=seen.device) < seen[done:last, None].repeat(group, 1)
            shares = torch.exp(rows.mT @ keys).masked_fill(~visible, 0.0).mT
            sums = values @ shares + evaluate(table, rows, state)
            output = sums[:-1] / sums[-1]
            near = values.detach().abs() @ shares.detach()
            size = sizes[:, done:last].flatten()
            tail = tail_factor(rows, size, account.sums, account.degree)
            yield row_errors(tail, size, output, sums[-1], account, columns.unit, near)
            done = last
        if stop < prepared.key.shape[1]:
            state = state + moments(table, keys, values)
            inside = slice(start, stop)
            mass, value, norm = prepared.weight[inside], columns.value[:, inside], prepared.key_norm[inside]
            added = key_sums(keys, norm, mass, value, account.degree, problem.reach, chunk)
            account = replace(account, sums=account.sums + added)


def near_roundings(variables: int, score: float, dtype: torch.dtype) -> float:
    """At least the relative error of a chunk's sums: of scores up to `score` nats, their exponentials, and the sums."""
    exponent = gamma(variables + 2, dtype) * score + 4 * unit(dtype)
    return math.expm1(exponent) + gamma(CHUNK + 8, dtype) * 2 if exponent < 1 else math.inf
