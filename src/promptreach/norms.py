"""Norms with a side, and the norm criterion of paper B for attention heads.

Two kinds of number live here. Matrix norms are *certified*: an upper bound that no rounding error can have pushed below
the true norm, and a lower bound with the vector that attains it. The criterion is *descriptive*: it reports how large
the entries and scores of a head are next to sqrt(log n), and decides nothing.

The certificates rest on IEEE float64 and on matrix products that are sums of products in some order, as ordinary CPU
and GPU libraries form them (Strassen's scheme does not). A product of inner length k then errs entrywise by at most
gamma(k) |A||B|, where gamma(k) = k u / (1 - k u) and u = 2^-53; k roundings of positive numbers cost a factor of at
most 1 + gamma(k). Every count of roundings below is rounded up, which also covers underflow: it changes a result by
less than 1e-40 of its size, since the largest entry must lie between 1e-100 and 1e100.

Reference: Higham, Accuracy and Stability of Numerical Algorithms, chapters 3 and 10; Hu et al. 2025 (paper B), sec. 3.
"""

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from promptreach.certificate import Assumption, Certificate, Evidence, Independence, Side, rechecks
from promptreach.errors import Fault, InputError, raise_if_any

CHUNK_BYTES = 2**26
"""The most memory that one block of scores takes, in bytes."""

UNIT = 2.0**-53
"""The unit roundoff of float64."""


def gamma(count: int) -> float:
    """At least the relative error of `count` roundings in float64; the extra unit covers those made here."""
    return (count + 1) * UNIT / (1 - (count + 1) * UNIT)


def max_norm(matrix: Float[Tensor, "rows columns"]) -> Certificate:
    """The largest absolute entry, EXACT: the norm in which paper B states its criterion.

    Raises:
        InputError: for an empty or non-finite matrix, or a largest entry outside [1e-100, 1e100] but 0, as all norms.
    """
    matrix = _checked(matrix)
    claim = "value is the largest absolute entry of the witness matrix"
    return _proved(claim, float(matrix.abs().max()), Side.EXACT, "max-norm", matrix)


def frobenius(matrix: Float[Tensor, "rows columns"]) -> Certificate:
    """An UPPER bound on the root of the summed squares of all entries, within a factor 1 + gamma(entries + 8)."""
    matrix = _checked(matrix)
    claim = "the Frobenius norm of the witness matrix is at most value"
    return _proved(claim, _frobenius_above(matrix), Side.UPPER, "frobenius-upper", matrix)


def spectral_upper(matrix: Float[Tensor, "rows columns"]) -> Certificate:
    """An UPPER bound on the spectral norm: for every vector v, |A v| <= value |v| in exact arithmetic.

    Computed factors U, s, V are not exact, but whatever they are, A = U diag(s) V^T + R for *some* R, hence
    |A| <= |U| max(s) |V| + |R|. Each of these norms is bounded from the factors as they stand; nothing is assumed of
    how they were found. Re-checking never sees the factors: it proves that value^2 I - A A^T is positive semidefinite.

    Reference: theorem key ``spectral-upper``.
    """
    matrix = _checked(matrix)
    left, singular, right = torch.linalg.svd(matrix, full_matrices=False)
    claim = "for every vector v, |A v| <= value |v|, where A is the witness matrix and |.| the Euclidean norm"
    return _proved(claim, _norm_above(matrix, left, singular, right.mT), Side.UPPER, "spectral-upper", matrix)


def product_upper(left: Float[Tensor, "rows inner"], right: Float[Tensor, "inner columns"]) -> Certificate:
    """An UPPER bound on the spectral norm of the exact product: for every vector v, |A B v| <= value |v|.

    For an inner size far below the others, as in W_k^T W_q of one head: the factors of `spectral_upper` come from two
    QR factorisations and one small SVD, and the rounding of the product itself is added. Both factors and their product
    have to be matrices that the other norms take.

    Reference: theorem key ``spectral-upper``.
    """
    left, right = _checked(left), _checked(right)
    (left_basis, left_triangle), (right_basis, right_triangle) = torch.linalg.qr(left), torch.linalg.qr(right.mT)
    inner, singular, outer = torch.linalg.svd(left_triangle @ right_triangle.mT, full_matrices=False)
    value = _norm_above(_checked(left @ right), left_basis @ inner, singular, right_basis @ outer.mT)
    return Certificate(
        claim="for every vector v, |A B v| <= value |v|, where A and B are the witness's left and right",
        value=(value + _product_lost(left, right)) * _above(2),
        side=Side.UPPER,
        evidence=Evidence.PROVED,
        assumptions=(Assumption("every entry is a finite float64 number", checked=True, detail="looked at each"),),
        theorem="spectral-upper",
        witness={"left": left, "right": right},
        checker="norms:recheck_product_upper",
    )


def spectral_lower(matrix: Float[Tensor, "rows columns"]) -> Certificate:
    """A LOWER bound on the spectral norm: the witness vector v has |A v| >= value |v| in exact arithmetic.

    Re-checking compares both sides as fractions, which costs some microseconds an entry.

    Reference: theorem key ``spectral-lower``.
    """
    matrix = _checked(matrix)
    vector = torch.linalg.svd(matrix, full_matrices=False)[2][0]
    columns = matrix.shape[1]
    image = _frobenius_below(matrix @ vector)
    lost = gamma(columns) * _above(columns) * _frobenius_above(matrix.abs() @ vector.abs())
    value = max(0.0, image - lost * _above(3)) / _frobenius_above(vector) * (1 - gamma(4))
    claim = "the witness vector v has |A v| >= value |v|, where A is the witness matrix and |.| the Euclidean norm"
    return _proved(claim, value, Side.LOWER, "spectral-lower", matrix, vector=vector)


@dataclass(frozen=True, eq=False)
class HeadNorms:
    """How large the queries, keys and scores of each head are. "Centred" is after both means were taken out.

    Attributes:
        query_max, key_max: B_Q and B_K, the largest absolute entry as captured.
        score_max: T, the largest absolute score, scale included, over all pairs of visible positions (also those that
            a causal mask hides).
        centred_query_max, centred_key_max, centred_score_max: the same for centred queries and keys.
        length: the longest visible sequence, in tokens.
        normalisation: sqrt(scale * head_dim), which turns an entry into one for scores written q.k / head_dim.
    """

    query_max: Float[Tensor, " heads"]
    key_max: Float[Tensor, " heads"]
    score_max: Float[Tensor, " heads"]
    centred_query_max: Float[Tensor, " heads"]
    centred_key_max: Float[Tensor, " heads"]
    centred_score_max: Float[Tensor, " heads"]
    length: int
    normalisation: float

    @property
    def sqrt_log_length(self) -> float:
        """sqrt(log n), the growth rate at which paper B's phase transition stands."""
        return math.sqrt(math.log(self.length))

    @property
    def ratio(self) -> Float[Tensor, " heads"]:
        """The larger entry bound of query and key, normalised, over sqrt(log n). Infinite for a single token."""
        return torch.maximum(self.query_max, self.key_max) * self.normalisation / self.sqrt_log_length

    @property
    def centred_ratio(self) -> Float[Tensor, " heads"]:
        """`ratio` after centring."""
        return torch.maximum(self.centred_query_max, self.centred_key_max) * self.normalisation / self.sqrt_log_length


@dataclass(frozen=True, eq=False)
class NormCriterion:
    """Paper B's criterion for each head, with the prompt's positions and without them.

    Attributes:
        joined: prompt and content together.
        content: the same captured states, the prompt's positions left out.
        prompt_length: in tokens.
    """

    joined: HeadNorms
    content: HeadNorms
    prompt_length: int

    @property
    def raised_by_prompt(self) -> Bool[Tensor, " heads"]:
        """True for heads whose largest score involves the prompt."""
        return self.joined.score_max > self.content.score_max


def norm_criterion(
    query: Float[Tensor, "batch heads q head_dim"],
    key: Float[Tensor, "batch kv_heads n head_dim"],
    prompt_length: int = 0,
    mask: Bool[Tensor, "batch n"] | None = None,
    scale: float | None = None,
) -> NormCriterion:
    """How large each head's queries, keys and scores are next to sqrt(log n), with the prompt and without it.

    This describes; it never says "efficient: yes". Paper B's phase transition (entries of order sqrt(log n)) is
    asymptotic with unspecified constants, so *no finite length has a threshold*. Beyond it only worst-case inputs are
    hard, and conditionally on SETH; a real head there may still be approximated well, and one below it may need more
    features than n. The criterion takes the largest entry, not the spectral norm, covers one layer of inference, and is
    stated for scores q.k / head_dim: hence `HeadNorms.normalisation`. What an algorithm needs to know is `score_max`,
    or rather `centred_score_max`.

    Centring is exact: subtracting the mean key changes every score of a query alike, so softmax does not move;
    subtracting the mean query multiplies key j's weight by exp(scale * mean_q . k_j), which does not depend on the
    query. Each sequence and head has its own means. A head's centred score_max is at most 4 times the raw one, and on
    real heads mostly smaller.

    Args:
        query: as captured, after any rotation. Either for all n positions, or for the content's n - prompt_length only.
        key: as captured, the prompt's positions first.
        prompt_length: how many leading positions are the prompt's.
        mask: True at visible positions, prompt included; the others enter no maximum and no mean.
        scale: the factor on q.k. None means 1/sqrt(head_dim).

    Raises:
        InputError: listing every argument that does not fit.

    Reference: Hu et al. 2025, Theorems 3.1 and 3.2; theorem keys ``almost-linear-hardness``,
    ``almost-linear-inference`` and ``centring-invariance``.
    """
    raise_if_any(_criterion_faults(query, key, prompt_length, mask))
    dtype = torch.promote_types(torch.promote_types(query.dtype, key.dtype), torch.float32)
    query, key = query.detach().to(dtype), key.detach().to(dtype)
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    visible = key.new_ones(key.shape[0], key.shape[2], dtype=torch.bool) if mask is None else mask
    content = key.shape[2] - prompt_length
    joined = _head_norms(query, key, visible, factor)
    without = _head_norms(query[:, :, -content:], key[:, :, prompt_length:], visible[:, prompt_length:], factor)
    return NormCriterion(joined, without, prompt_length)


def centred(
    states: Float[Tensor, "batch heads seq head_dim"], mask: Bool[Tensor, "batch seq"]
) -> Float[Tensor, "batch heads seq head_dim"]:
    """The states minus their mean over visible positions, for each sequence and head; hidden positions become 0."""
    visible = mask[:, None, :, None]
    mean = states.masked_fill(~visible, 0.0).sum(dim=2, keepdim=True) / visible.sum(dim=2, keepdim=True)
    # A sequence without visible positions has no mean, and nothing left to subtract it from.
    return (states - mean).masked_fill(~visible, 0.0)


def _head_norms(
    query: Float[Tensor, "batch heads q head_dim"],
    key: Float[Tensor, "batch kv_heads n head_dim"],
    mask: Bool[Tensor, "batch n"],
    scale: float,
) -> HeadNorms:
    groups = query.shape[1] // key.shape[1]
    query_mask = mask[:, -query.shape[2] :]
    shown_query = query.masked_fill(~query_mask[:, None, :, None], 0.0)
    shown_key = key.masked_fill(~mask[:, None, :, None], 0.0)
    centred_query, centred_key = centred(query, query_mask), centred(key, mask)
    return HeadNorms(
        query_max=shown_query.abs().amax(dim=(0, 2, 3)),
        key_max=shown_key.abs().amax(dim=(0, 2, 3)).repeat_interleave(groups),
        score_max=_largest_score(shown_query, shown_key, scale),
        centred_query_max=centred_query.abs().amax(dim=(0, 2, 3)),
        centred_key_max=centred_key.abs().amax(dim=(0, 2, 3)).repeat_interleave(groups),
        centred_score_max=_largest_score(centred_query, centred_key, scale),
        length=max(1, int(mask.sum(dim=1).max())),
        normalisation=math.sqrt(abs(scale) * query.shape[-1]),
    )


def _largest_score(
    query: Float[Tensor, "batch heads q head_dim"], key: Float[Tensor, "batch kv_heads n head_dim"], scale: float
) -> Float[Tensor, " heads"]:
    """The largest |scale * q.k| per head, a block of queries at a time. Hidden positions are 0 and raise nothing."""
    heads = query.shape[1]
    rows = max(1, CHUNK_BYTES // (heads * key.shape[2] * key.element_size()))
    largest = query.new_zeros(heads)
    for queries, keys in zip(query, key.repeat_interleave(heads // key.shape[1], dim=1), strict=True):
        for block in queries.split(rows, dim=1):
            scores = block @ keys.mT
            largest = torch.stack([largest, scores.amax(dim=(1, 2)), -scores.amin(dim=(1, 2))]).amax(dim=0)
    return largest * abs(scale)


def _criterion_faults(query: Tensor, key: Tensor, prompt_length: int, mask: Tensor | None) -> list[Fault]:
    faults = [
        Fault(name, f"shape {tuple(tensor.shape)}", "(batch, heads, positions, head_dim), nothing empty")
        for name, tensor in (("query", query), ("key", key))
        if tensor.ndim != 4 or not tensor.numel()
    ]
    if faults:
        return faults
    for axis, what in ((3, "head_dim"), (0, "batch")):
        if query.shape[axis] != key.shape[axis]:
            faults.append(Fault("key", f"{what} {key.shape[axis]}", f"that of the query, {query.shape[axis]}"))
    if query.shape[1] % key.shape[1]:
        faults.append(Fault("key", f"{key.shape[1]} key/value heads", f"a divisor of the {query.shape[1]} query heads"))
    positions = key.shape[2]
    if not 0 <= prompt_length < positions:
        faults.append(Fault("prompt_length", str(prompt_length), f"0 to {positions - 1}, within the captured keys"))
    elif query.shape[2] not in (positions, positions - prompt_length):
        expected = f"{positions} (all), or {positions - prompt_length} (the content's)"
        faults.append(Fault("query", f"{query.shape[2]} positions", expected))
    if mask is not None and mask.shape != (key.shape[0], positions):
        faults.append(Fault("mask", f"shape {tuple(mask.shape)}", f"({key.shape[0]}, {positions}), prompt included"))
    return faults


def _above(count: int) -> float:
    """A factor that undoes `count` roundings down, its own rounding and that of the product with it included."""
    return 1 + gamma(count + 3)


def _frobenius_above(tensor: Tensor) -> float:
    return math.sqrt(float((tensor * tensor).sum())) * _above(tensor.numel() + 2)


def _frobenius_below(tensor: Tensor) -> float:
    return math.sqrt(float((tensor * tensor).sum())) * (1 - gamma(tensor.numel() + 4))


def _product_lost(left: Tensor, right: Tensor) -> float:
    """At least the Frobenius norm of what rounding does to the product."""
    return gamma(left.shape[1]) * _frobenius_above(left) * _frobenius_above(right) * _above(3)


def _norm_above(matrix: Tensor, left: Tensor, singular: Tensor, right: Tensor) -> float:
    """An upper bound on |matrix| from any factors left (rows, r), singular (r), right (columns, r)."""
    scaled = left * singular
    # The product errs by gamma(r + 1) |U| s |V|^T, the subtraction by u (|A| + |product|).
    remainder = _frobenius_above(matrix - scaled @ right.mT) + gamma(len(singular) + 3) * (
        _frobenius_above(scaled) * _frobenius_above(right) + _frobenius_above(matrix)
    )
    stretch = math.sqrt(_stretch_above(left) * _stretch_above(right))
    return (float(singular.max()) * stretch + remainder) * _above(8)


def _stretch_above(factor: Float[Tensor, "rows r"]) -> float:
    """An upper bound on |F|^2 for nearly orthonormal columns: |F|^2 = |F^T F| <= 1 + |F^T F - I|."""
    rows, rank = factor.shape
    defect = factor.mT @ factor - torch.eye(rank, dtype=factor.dtype)
    lost = gamma(rows + 1) * (_frobenius_above(factor) ** 2 + math.sqrt(rank))
    return (1 + _frobenius_above(defect) + lost) * _above(6)


def _checked(matrix: Tensor) -> Float[Tensor, "rows columns"]:
    """The matrix in float64 on the CPU, where these proofs hold."""
    if matrix.ndim != 2 or not matrix.numel():
        raise InputError(Fault("matrix", f"shape {tuple(matrix.shape)}", "(rows, columns), nothing empty"))
    largest = float(matrix.detach().abs().max())
    if largest and not 1e-100 <= largest <= 1e100:
        raise InputError(
            Fault("matrix", f"largest absolute entry {largest}", "0, or within [1e-100, 1e100]", "Rescale the matrix")
        )
    return matrix.detach().to("cpu", torch.float64)


def _proved(claim: str, value: float, side: Side, name: str, matrix: Tensor, **witness: Tensor) -> Certificate:
    return Certificate(
        claim=claim,
        value=value,
        side=side,
        evidence=Evidence.PROVED,
        assumptions=(Assumption("every entry is a finite float64 number", checked=True, detail="looked at each"),),
        theorem=name,
        witness={"matrix": matrix, **witness},
        checker=f"norms:recheck_{name.replace('-', '_')}",
    )


@rechecks(Independence.ARITHMETIC)
def recheck_max_norm(certificate: Certificate) -> bool:
    """Second path of `max_norm`: one entry at a time, without tensors."""
    return bool(certificate.value == max(abs(entry) for entry in certificate.witness["matrix"].flatten().tolist()))


@rechecks(Independence.ARITHMETIC)
def recheck_frobenius_upper(certificate: Certificate) -> bool:
    """Second path of `frobenius`: exact fractions."""
    entries = certificate.witness["matrix"].flatten().tolist()
    return certificate.value >= 0 and Fraction(certificate.value) ** 2 >= sum(Fraction(entry) ** 2 for entry in entries)


@rechecks(Independence.FULL)
def recheck_spectral_lower(certificate: Certificate) -> bool:
    """Second path of `spectral_lower`: |A v|^2 >= value^2 |v|^2 in exact fractions, with v not zero."""
    vector = [Fraction(entry) for entry in certificate.witness["vector"].tolist()]
    rows = certificate.witness["matrix"].tolist()
    image = [sum(Fraction(entry) * factor for entry, factor in zip(row, vector, strict=True)) for row in rows]
    size = sum(entry**2 for entry in vector)
    return size > 0 and sum(entry**2 for entry in image) >= max(Fraction(certificate.value), Fraction(0)) ** 2 * size


@rechecks(Independence.FULL)
def recheck_spectral_upper(certificate: Certificate) -> bool:
    """Second path of `spectral_upper`: value^2 I - A A^T is positive semidefinite, by a Cholesky factorisation.

    If the factorisation of H runs to completion, then H + gamma(r + 1) trace(H) I is positive semidefinite in exact
    arithmetic (Higham, Theorem 10.3; two more roundings are granted for pivots applied as reciprocals). H is
    (value^2 - margin) I minus the computed A A^T, where the margin covers that, the error of the product and the
    roundings on the diagonal.
    """
    matrix, value = certificate.witness["matrix"].to(torch.float64), certificate.value
    if not matrix.any():
        return value >= 0
    matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
    size, length = matrix.shape
    square = value * value
    margin = (gamma(size + 4) * size + 6 * UNIT) * square + gamma(length) * _frobenius_above(matrix) ** 2
    corner = square - margin * _above(8)
    factor, failed = torch.linalg.cholesky_ex(corner * torch.eye(size, dtype=torch.float64) - matrix @ matrix.mT)
    return value >= 0 and not bool(failed) and bool(factor.isfinite().all())


@rechecks(Independence.FULL)
def recheck_product_upper(certificate: Certificate) -> bool:
    """Second path of `product_upper`: that of `spectral_upper`, for the computed product and what rounding leaves."""
    left, right = (certificate.witness[name].to(torch.float64) for name in ("left", "right"))
    rest = (certificate.value - _product_lost(left, right)) * (1 - gamma(2))
    return recheck_spectral_upper(replace(certificate, value=rest, witness={"matrix": left @ right}))
