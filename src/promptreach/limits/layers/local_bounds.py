"""Upper bounds on the Lipschitz constant of attention near given activations, from the attention that is paid there.

Bounds on a whole ball (`attention_bounds`) have to allow for every pattern of attention. Near given states X0 the
pattern is known. For |X - X0| <= e in the Frobenius norm every query, key and value moves by at most its projection's
norm times e, every score by at most some h_i, and every weight a_ij stays within the factor g_i = exp(2 h_i). With
v_j values, k_j keys, q_i queries, t the softmax's scale and means under row i marked by a bar, one head changes by

    dO_i = sum_j a_ij dv_j  +  t sum_j a_ij (v_j - v_i) (q_i . dk_j)  +  t Cov_i(v, k) dq_i,

so that its Jacobian is at most |W_v| |A| + |W_k| |N| + |W_q| max_i t |Cov_i(v, k)| in norm, with N_ij = t a_ij |v_j -
v_i| |q_i|, a matrix that is not negative: the norm of a matrix of blocks is at most that of its blocks' norms. A, N
and Cov are taken at X0 and widened: A and N grow with their entries, and for centres c, d at most m and l from the
true means

    |Cov| <= |E0 (v - c)(k - d)^T| + (g - 1) E0 |v - c||k - d| + g E0 (|v - c| dk + |k - d| dv + dv dk) + m l.

Heads stand side by side: the layer's bound is the output projection's norm times the root of their squares' sum, or the
sum of theirs with the norms of their parts. What the numbers at X0 are off by rounding counts as movement.

Reference: theorem key ``attention-lipschitz-local``.
"""

import math
from collections.abc import Mapping
from decimal import localcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.balls import Ball, NormBall
from promptreach.certificate import Assumption, Certificate, Independence, Side, Statement, rechecks
from promptreach.errors import Fault, raise_if_any
from promptreach.limits.layers.norm_routines import FAST, THOROUGH, NormRoutines
from promptreach.limits.oracle.checks import number_faults, weight_faults
from promptreach.limits.oracle.scales import exponent, times_power
from promptreach.rounding import UNIT, WIDE, gamma, shown
from promptreach.weights import AttentionWeights
from promptreach.witness import number, size_of, tensor

_UP = 1 + 1e-9  # more than a million roundings of numbers that are not negative
_LEAST = 1e-25
_LOST = 1e-300  # at least what underflows of a softmax weight


def local_attention_bound(
    weights: AttentionWeights, state: Float[Tensor, "tokens hidden"], radius: float | int
) -> Certificate:
    """A bound on the slope of attention within `radius` of given activations: UPPER, PROVED.

    For all X, X' of as many tokens with |X - state|, |X' - state| <= radius: the outputs of attention differ by at most
    value |X - X'|. Frobenius norms over stacked tokens; no residual connection.

    Args:
        weights: of one layer, without rotation and without norms on queries and keys.
        state: what the projections read: behind the norm in front of attention, where there is one.
        radius: in units of the state, at least 0; 0 bounds the Jacobian at the state.

    Raises:
        InputError: for rotary or normed queries and keys, shapes that do not fit, numbers that are none, or values of a
            head that are all below 1e-25 without being 0.

    Reference: theorem key ``attention-lipschitz-local``.
    """
    raise_if_any(_faults(weights, state, radius))
    weights, state = weights.detached(), state.detach().to("cpu", torch.float64)
    witness = {"weights": weights.packed(), "state": state, "radius": radius}
    # A little more, so that a second path, whose norms differ by 1e-12, stays below.
    value = _bound(weights, state, float(radius), FAST) * _UP
    value = math.inf if math.isnan(value) else value
    return Certificate.stated(recheck_local, value, witness).confirmed()


def _bound(weights: AttentionWeights, state: Tensor, radius: float, routines: NormRoutines) -> float:
    size, groups = weights.value.shape[1], weights.num_heads // weights.num_kv_heads
    slopes = [_head_bound(weights, state, radius, head, head // groups, routines) for head in range(weights.num_heads)]
    if weights.output is None:
        return math.hypot(*slopes) * _UP
    parts = [_norm(weights.output[:, head * size : (head + 1) * size], routines) for head in range(weights.num_heads)]
    apart = sum(part * slope for part, slope in zip(parts, slopes, strict=True))
    return min(apart, _norm(weights.output, routines) * math.hypot(*slopes)) * _UP


def _head_bound(
    weights: AttentionWeights, state: Tensor, radius: float, head: int, group: int, routines: NormRoutines
) -> float:
    scale, tokens = abs(weights.softmax_scale), len(state)
    matrices = weights.query[head], weights.key[group], weights.value[group]
    norms = [_norm(matrix, routines) for matrix in matrices]
    biases = (weights.query_bias, head), (weights.key_bias, group), (weights.value_bias, group)
    images = [_image(matrix, *bias, state) for matrix, bias in zip(matrices, biases, strict=True)]
    (query, key, value), moved = (
        [item.centre for item in images],
        [(item.radius.norm(dim=1) + norm * radius) * _UP for item, norm in zip(images, norms, strict=True)],
    )
    moved_query, moved_key, moved_value = moved
    long_query, long_key = (item.norm(dim=1) * _UP for item in (query, key))
    scores = weights.softmax_scale * (query @ key.mT)
    hidden = torch.ones_like(scores, dtype=torch.bool).triu(1) if weights.causal else torch.zeros_like(scores).bool()
    off = torch.outer(long_query, moved_key) + torch.outer(moved_query, long_key + moved_key)
    off = scale * (off + gamma(query.shape[1] + 8) * torch.outer(long_query, long_key))
    off = off.masked_fill(hidden, 0.0).amax(dim=1) + 8 * UNIT * scores.masked_fill(hidden, 0.0).abs().amax(dim=1)
    grown = torch.exp(2 * (off + (tokens + 32) * UNIT) * _UP)[:, None]
    shares = scores.masked_fill(hidden, -math.inf).softmax(dim=1) + _LOST * ~hidden
    apart_value, mean_value, off_value = _apart(shares, value, grown, moved_value)
    apart_key, mean_key, off_key = _apart(shares, key, grown, moved_key)
    blocks = grown * shares * (apart_value + moved_value + off_value[:, None])
    blocks = scale * blocks * (long_query + moved_query)[:, None]
    centred = value[None] - mean_value[:, None], key[None] - mean_key[:, None]
    crossed = torch.einsum("ij,ijv,ijk->ivk", shares, *centred)
    both = (shares * apart_value * apart_key).sum(1)
    turned = (crossed.flatten(1).norm(dim=1) + gamma(2 * tokens + 16) * both) * norms[0]
    # The product's own rounding goes by Frobenius norms, at most the root of the head's size times the spectral one.
    rounded = gamma(3 * tokens + len(matrices[0]) + 32) * len(matrices[0]) * norms[0]
    direct = (crossed @ matrices[0]).flatten(1).norm(dim=1) + rounded * both
    rest = apart_value * moved_key + apart_key * moved_value + (moved_value * moved_key)
    rest = (grown[:, 0] - 1) * both + grown[:, 0] * (shares * rest).sum(1) + off_value * off_key
    through_query = float((torch.minimum(turned, direct) + rest * norms[0]).max()) * scale
    through_key = _norm(blocks * _UP, routines) * norms[1]
    through_value = _norm(grown * shares * _UP, routines) * norms[2]
    return (through_query + through_key + through_value) * _UP


def _apart(
    shares: Tensor, vectors: Tensor, grown: Tensor, moved: Tensor
) -> tuple[Float[Tensor, "n n"], Float[Tensor, "n size"], Float[Tensor, " n"]]:
    """Distances of each vector from each row's mean, these means, and how far the true means may be from them."""
    mean = shares @ vectors
    apart = (vectors[None] - mean[:, None]).norm(dim=2) * _UP
    lengths = shares @ vectors.norm(dim=1) + mean.norm(dim=1)
    off = gamma(2 * len(vectors) + 32) * lengths + (grown[:, 0] - 1) * (shares * apart).sum(1) + moved.max()
    return apart, mean, off * _UP


def _image(matrix: Tensor, bias: Tensor | None, index: int, state: Tensor) -> Ball:
    image = Ball.exact(state) @ Ball.exact(matrix.mT)
    return image if bias is None else image + Ball.exact(bias[index])


def _norm(matrix: Tensor, routines: NormRoutines) -> float:
    """At least the spectral norm, of a matrix of any size."""
    power = exponent(matrix) or 0
    with localcontext(WIDE):
        found = float(routines.of(NormBall.exact(times_power(matrix, -power))))
    return math.nextafter(math.ldexp(found, power), math.inf)


def _read(witness: Mapping[str, Any]) -> tuple[AttentionWeights, Tensor, float]:
    weights = AttentionWeights.unpacked(witness["weights"])
    state, radius = tensor(witness, "state", None, weights.hidden_size), number(witness, "radius", 0)
    raise_if_any(_faults(weights, state, radius))
    return weights.detached(), state, float(radius)


def _states(witness: Mapping[str, Any]) -> Statement:
    _, state, radius = _read(witness)
    return Statement(
        claim=f"For all X, X' of {len(state)} tokens within {shown(radius)} of the given state, in the Frobenius norm "
        "over stacked tokens, the outputs of attention differ by at most value |X - X'|.",
        side=Side.UPPER,
        theorem="attention-lipschitz-local",
        assumptions=(Assumption("weights and state are finite numbers", True, "looked at each"),),
    )


def _work(witness: Mapping[str, Any]) -> int:
    """Bytes of the witness and of the largest arrays that the second path forms."""
    heads, size, _ = witness["weights"]["query"].shape
    return size_of(witness) + 8 * int(heads) * len(witness["state"]) ** 2 * int(size)


@rechecks(Independence.ARITHMETIC, states=_states, size=_work, quick=2**20, most=2**30)
def recheck_local(certificate: Certificate) -> bool:
    """Second path: the formulas again, with all norms from singular values. Minutes at most."""
    weights, state, radius = _read(certificate.witness)
    found = _bound(weights, state, radius, THOROUGH)
    return bool(found <= certificate.value < math.inf)


def _faults(weights: AttentionWeights, state: Tensor, radius: float | int) -> list[Fault]:
    faults = weight_faults(weights)
    for name in ("query_norm", "key_norm"):
        if getattr(weights, name) is not None:
            faults.append(Fault(f"weights.{name}", "a norm", "none"))
    if state.ndim != 2 or state.shape[1] != weights.hidden_size or not len(state):
        faults.append(Fault("state", f"shape {tuple(state.shape)}", f"(tokens, {weights.hidden_size})"))
    faults += number_faults("state", state)
    # What is lost in underflow is below 1e-60, and each head's bound is at least the size of its values.
    for head, matrix in enumerate(weights.value):
        if 0 < (largest := float(matrix.detach().abs().max())) < _LEAST:
            seen = f"head {head} with a largest entry of {largest:.3g}"
            faults.append(Fault("weights.value", seen, f"0, or at least {_LEAST:g}", "Rescale values and projection"))
    if not 0 <= radius < math.inf:
        faults.append(Fault("radius", str(radius), "a finite number, not negative"))
    return faults
