"""The statistics of a head once more, in extended precision: numpy's long doubles, of 64 bits where there are any.

The definitions are written out: query, norm, keys, scores, softmax. Nothing is shared with `statistics` but the order
of the steps, and no account of rounding is kept; sums are in pairs, so that a result errs by less than a hundredth of
what `statistics` allows for.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from promptreach.weights import AttentionWeights, NormWeights


def wide_statistics(weights: AttentionWeights, sequences: Sequence[Tensor], head: int) -> tuple[Any, Any]:
    """Log masses (examples,) and means (examples, value_dim) of one head at the last token that all sequences share."""
    group = head * weights.num_kv_heads // weights.num_heads
    token = _wide(sequences[0][-1])
    query = _normed(weights.query_norm, _affine(weights.query[head], _row(weights.query_bias, head), token))
    query = query * np.longdouble(weights.softmax_scale)
    lses, mixtures = [], []
    for sequence in sequences:
        inputs = _wide(sequence)
        if weights.key_norm is None:
            scores = _times(_times(_wide(weights.key[group].mT), query), inputs)
            if weights.key_bias is not None:
                scores = scores + (_wide(weights.key_bias[group]) * query).sum()
        else:
            keys = _affine(weights.key[group], _row(weights.key_bias, group), inputs)
            scores = _times(query, _normed(weights.key_norm, keys))
        top = scores.max()
        masses = np.exp(scores - top)
        lses.append(top + np.log(masses.sum()))
        mixtures.append((np.ascontiguousarray(inputs.T) * (masses / masses.sum())).sum(1))
    means = _affine(weights.value[group], _row(weights.value_bias, group), np.stack(mixtures))
    return np.array(lses), means


def _affine(matrix: Tensor, bias: Any, vectors: Any) -> Any:
    """W x + b of each row x."""
    out = (
        np.stack([_times(_wide(matrix), row) for row in vectors])
        if vectors.ndim == 2
        else _times(_wide(matrix), vectors)
    )
    return out if bias is None else out + bias


def _times(matrix: Any, vector: Any) -> Any:
    """The products of rows with a vector; either may be the one with rows, and numpy sums the last axis in pairs."""
    return (matrix * vector).sum(-1)


def _normed(norm: NormWeights | None, vectors: Any) -> Any:
    """LayerNorm or RMSNorm of each row."""
    if norm is None:
        return vectors
    if norm.kind == "layer":
        vectors = vectors - vectors.mean(-1, keepdims=True)
    out = vectors / np.sqrt((vectors**2).mean(-1, keepdims=True) + np.longdouble(norm.eps)) * _wide(norm.weight)
    return out if norm.bias is None else out + _wide(norm.bias)


def _row(bias: Tensor | None, index: int) -> Any:
    return None if bias is None else _wide(bias[index])


def _wide(tensor: Tensor) -> Any:
    return np.ascontiguousarray(tensor.detach().numpy()).astype(np.longdouble)
