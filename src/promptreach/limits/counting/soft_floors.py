"""Floors under the error of too few soft tokens at a head whose values tell the tokens.

A free key/value slot may have an enormous value and next to no attention, and so comes arbitrarily near to data that
only n slots fit exactly (`separation`). Where M = W_O W_V is injective a soft token cannot: its key follows from its
value. At example i a token x has score g_i.x + c_i, and there is an r_i with M^T r_i = g_i; so with values y = M x + b
behind the projection, r_i.y is the score but for a constant, and the mean of the scores of a softmax is the log of its
mass less its entropy H. With outputs a_i and log masses z_i without a prompt, log mass z_i + l of the prompt and w =
exp(l), the output o_i has

    r_i.(o_i - a_i) = w / (1 + w) (k_i + l - H),    k_i = z_i - c_i + r_i.(b - a_i),    0 <= H <= log m.     (1)

If o_i is within e of its target, the left side has the sign of r_i.(t_i - a_i), and at least p_i = |r_i.(t_i - a_i)| -
|r_i| e in size, where that is positive. With s = w / (1 + w), the prompt's share of the attention:

    sign +:  p_i <= s (k_i + l), which grows with l where it is positive;
    sign -:  p_i <= s (log m - k_i - l), which grows with l up to its maximum, where (1 - s) (log m - k_i - l) = 1.

Either way l is at least the l_i at which both sides are equal: the prompt takes at least the share s_i, however long
its tokens are.

Now the rows (t_i - a_i) + (1 - lambda_i) a_i, with 1 - lambda_i >= s_i, are within the errors of a matrix of rank m.
For every P with |P| <= 1 and D_m the distance from the matrices of rank m,

    |errors| >= min(e, D_m(diag(s) A P) - |(T - A) P|),                                                      (2)

since D_m(diag(1 - lambda) X) >= D_m(diag(s) X). P takes off the directions that the t_i - a_i mainly lie in.

Where a token x with M x = v has score c_i everywhere, (1) says nothing of targets a_i + s_i v, and rightly: the tokens
R x + x' come arbitrarily near as R grows.

Reference: theorem key ``soft-token-floor``.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import lambertw
from torch import Tensor

from promptreach.balls import Ball
from promptreach.certificate import Assumption, Certificate, Independence, Side, Statement, rechecks
from promptreach.errors import Fault, InputError, raise_if_any
from promptreach.limits.oracle.checks import oracle_faults
from promptreach.limits.oracle.statistics import head_statistics, scores_of
from promptreach.limits.oracle.wide_statistics import wide_statistics
from promptreach.rounding import gamma
from promptreach.weights import AttentionWeights
from promptreach.witness import number, tensor, whole

_HALVINGS = 24
_MOST_BYTES = 2**24
_NONE = -1e4  # a log mass that says nothing


def soft_token_floor(
    weights: AttentionWeights, sequences: Sequence[Tensor], targets: Tensor, tokens: int
) -> Certificate:
    """The least error that so many soft tokens can have at one head whose values tell the tokens: LOWER, PROVED.

    For every prompt of 1 to `tokens` soft tokens, of any size, the same for all examples: the root-mean-square error
    over all target entries is at least value. 0, which says nothing, where no floor was found: from n tokens on at the
    latest. Above `token_floor`, which holds for free slots as well, where targets lie near lines through the outputs.

    Args:
        weights: one head, without norms on keys, whose values behind the output projection determine the token: an
            injective value map, so hidden size at most the value dimension.
        sequences: each (tokens, hidden); the last token is the query, and need not be shared.
        targets: (n, out), the wanted outputs at the last tokens.
        tokens: m, at least 1.

    Raises:
        InputError: as `memorisable` does; for several heads, normed keys, a value map that is not shown to be
            injective, or a count below 1.

    Reference: theorem key ``soft-token-floor``.
    """
    raise_if_any(_faults(weights, sequences, targets, tokens))
    weights = weights.detached()
    inputs = [item.detach().to("cpu", torch.float64) for item in sequences]
    wanted = targets.detach().to("cpu", torch.float64)
    shares = _Shares.of(weights, inputs, wanted)
    axes = torch.linalg.svd(shares.changes.centre, full_matrices=False)[2]
    kept = {"weights": weights.packed(), "sequences": inputs, "targets": wanted, "tokens": tokens}
    best, witness = -1.0, {}
    for count in range(min(len(axes), len(wanted) + 1)):
        error = _error_to_allow(shares, axes[:count], tokens)
        masses = shares.least_masses(error, tokens)
        found = _floor(shares, axes[:count], masses, error, tokens)
        if found > best:
            span = axes[: max(count, 1)] if count else torch.zeros(1, axes.shape[1], dtype=torch.float64)
            best, witness = found, {**kept, "span": span.clone(), "log_masses": masses.clamp(min=_NONE), "error": error}
    value = best / math.sqrt(wanted.numel()) * (1 - gamma(8))
    return Certificate.stated(recheck_soft_floor, value, witness).checked()


class _Shares(NamedTuple):
    """What (1) is made of, for each example: the outputs a, the changes t - a, and bounds.

    Attributes:
        sign: of r_i.(t_i - a_i), where `pulled` is not 0.
        pulled: at most |r_i.(t_i - a_i)|.
        reach: at least |r_i|.
        offset: at least the sign times k_i.
    """

    bare: Ball
    changes: Ball
    sign: Float[Tensor, " n"]
    pulled: Float[Tensor, " n"]
    reach: Float[Tensor, " n"]
    offset: Float[Tensor, " n"]

    @staticmethod
    def of(weights: AttentionWeights, sequences: Sequence[Tensor], targets: Tensor) -> "_Shares":
        found = [head_statistics(weights, [item]) for item in sequences]
        mean, mean_error, lse, lse_error = (
            torch.cat([getattr(item, name) for item in found]) for name in ("mean", "mean_error", "lse", "lse_error")
        )
        bare = Ball(mean, mean_error[:, None].expand_as(mean))
        values = Ball.exact(weights.value[0].mT)
        shift = torch.zeros(1, mean.shape[1], dtype=torch.float64)
        middle = Ball.exact(shift if weights.value_bias is None else weights.value_bias)
        if weights.output is not None:
            bare, values, middle = (item @ Ball.exact(weights.output.mT) for item in (bare, values, middle))
        wanted = Ball.exact(targets)
        wanted = wanted if weights.output_bias is None else wanted - Ball.exact(weights.output_bias)
        changes = wanted - bare
        scores = [scores_of(weights, item[-1], 0)[1:3] for item in sequences]
        slopes, offsets = (
            Ball(torch.stack([item.centre for item in items]), torch.stack([item.radius for item in items]))
            for items in zip(*scores, strict=True)
        )
        rows = _preimages(values, slopes)
        pulled = _inner(rows, changes)
        level = Ball(lse, lse_error) - Ball(offsets.centre[:, 0], offsets.radius[:, 0])
        level = level + _inner(
            rows, Ball(middle.centre.expand_as(bare.centre), middle.radius.expand_as(bare.radius)) - bare
        )
        sign = pulled.centre.sign()
        return _Shares(
            bare,
            changes,
            sign,
            ((pulled.centre.abs() - pulled.radius) * (1 - gamma(4))).clamp(min=0),
            torch.tensor([Ball(*pair).norm() for pair in zip(rows.centre, rows.radius, strict=True)]).double(),
            sign * level.centre + level.radius * (1 + gamma(4)) + gamma(4) * level.centre.abs(),
        )

    def least_masses(self, error: float, tokens: int) -> Float[Tensor, " n"]:
        """The l_i, a little less; -inf where there is none. By Lambert's function."""
        pulled, most = self._terms(error, tokens)
        inside = (most - pulled).clamp(-600, 600).numpy()
        pull = pulled.clamp(min=1e-300).numpy()
        grown = lambertw(pull * np.exp(inside)).real
        shrunk = -lambertw(np.maximum(-pull * np.exp(-inside), (1e-9 - 1) / math.e), -1).real
        logs = torch.from_numpy(np.where(self.sign.numpy() > 0, np.log(pull) - np.log(grown), inside - shrunk))
        logs = logs - 1e-9 * (1 + logs.abs())
        return torch.where(self._allows(logs, error, tokens), logs, -math.inf)

    def _terms(self, error: float, tokens: int) -> tuple[Tensor, Tensor]:
        """p_i from below, and what stands beside l in the brackets from above."""
        pulled = self.pulled - self.reach * error * (1 + gamma(4)) - gamma(4) * self.pulled
        return pulled, self.offset + torch.where(self.sign > 0, 0.0, math.log(tokens) * (1 + gamma(4)))

    def _allows(self, logs: Float[Tensor, " n"], error: float, tokens: int) -> Tensor:
        """Whether every prompt whose error is at most this has at least these log masses beside the content's."""
        pulled, most = self._terms(error, tokens)
        share, room = logs.sigmoid(), gamma(8) * (most.abs() + logs.abs())
        bracket = most + self.sign * logs
        below = share * (bracket + room) * (1 + gamma(64)) <= pulled
        grows = (self.sign > 0) | ((1 - share) * (bracket - room) * (1 - gamma(64)) - gamma(4) >= 1)
        return (logs == -math.inf) | ((pulled > 0) & below & grows)

    def confirmed(self, logs: Float[Tensor, " n"], error: float, tokens: int) -> bool:
        """Whether these are log masses that every such prompt has at least."""
        return bool(self._allows(logs, error, tokens).all())


def _preimages(values: Ball, slopes: Ball) -> Ball:
    """The r_i with M^T r_i = g_i, for rows M^T of `values` (hidden, out).

    Raises:
        InputError: where the value map is not shown to be injective.
    """
    rows, columns = values.centre.shape
    least = -math.inf
    if rows <= columns:
        least = float(torch.linalg.svdvals(values.centre)[-1]) - Ball(0 * values.radius, values.radius).norm()
        least -= gamma(40 * (rows + columns)) * Ball.exact(values.centre).norm()
    if not least > 0:
        seen = f"{columns} dimensions of values for {rows} of tokens" if rows > columns else "rank deficient to float64"
        remedy = "Use token_floor: where keys are free of the values, a soft token is as free as a slot"
        raise InputError(Fault("weights.value", seen, "an injective value map", remedy))
    near = (torch.linalg.pinv(values.centre) @ slopes.centre.mT).mT
    missed = slopes - Ball.exact(near) @ values.transposed
    off = torch.tensor([Ball(*pair).norm() for pair in zip(missed.centre, missed.radius, strict=True)]).double()
    return Ball(near, (off / least * (1 + gamma(8)))[:, None].expand_as(near))


def _inner(left: Ball, right: Ball) -> Ball:
    """The inner product of each row of one with the same row of the other."""
    products = left * right
    ones = Ball.exact(torch.ones(products.centre.shape[1], 1, dtype=torch.float64))
    summed = products @ ones
    return Ball(summed.centre[:, 0], summed.radius[:, 0])


def _error_to_allow(shares: _Shares, span: Tensor, tokens: int) -> float:
    """An e at which both sides of the minimum in (2) are about equal; the second falls as e grows."""
    low, high = 0.0, float(shares.bare.centre.norm())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _distance(shares, span, shares.least_masses(middle, tokens), tokens) >= middle:
            low = middle
        else:
            high = middle
    return low


def _distance(shares: _Shares, span: Tensor, masses: Tensor, tokens: int) -> float:
    """At most D_m(diag(s) A P) - |(T - A) P|, P = 1 - V^T V for the rows V of `span`."""
    if tokens >= len(masses):
        return 0.0
    if float((span @ span.mT - torch.eye(len(span), dtype=torch.float64)).norm()) > 0.5 and bool(span.any()):
        return 0.0
    kept = (masses.sigmoid() * (1 - gamma(64)))[:, None] * shares.bare.centre
    rest, left = (item - (item @ span.mT) @ span for item in (kept, shares.changes.centre))
    tail = float(torch.linalg.svdvals(rest)[tokens:].norm())
    rounded = gamma(64 * (sum(rest.shape) + len(span))) * (len(span) + 1)
    slip = rounded * (float(kept.norm()) + float(shares.changes.centre.norm()))
    known = sum(Ball(0 * item.radius, item.radius).norm() for item in (shares.bare, shares.changes))
    return tail * (1 - gamma(8)) - float(left.norm()) * (1 + gamma(left.numel() + 8)) - slip - known


def _floor(shares: _Shares, span: Tensor, masses: Tensor, error: float, tokens: int) -> float:
    return max(0.0, min(error, _distance(shares, span, masses, tokens)))


def _read(witness: Mapping[str, Any]) -> tuple[AttentionWeights, list[Tensor], Tensor, int]:
    weights, sequences = AttentionWeights.unpacked(witness["weights"]), list(witness["sequences"])
    targets, tokens = tensor(witness, "targets", len(sequences), None), whole(witness, "tokens")
    raise_if_any(_faults(weights, sequences, targets, tokens))
    if any(item.dtype != torch.float64 for item in [*sequences, weights.query]):
        raise ValueError("the head or a sequence is not float64")
    return weights.detached(), sequences, targets, tokens


def _states(witness: Mapping[str, Any]) -> Statement:
    _, sequences, targets, tokens = _read(witness)
    return Statement(
        claim=f"no prompt of 1 to {tokens} soft tokens at this attention head has a root-mean-square error below value "
        f"over the {targets.numel()} target entries of these {len(sequences)} sequences",
        side=Side.LOWER,
        theorem="soft-token-floor",
        assumptions=(Assumption("the head's values tell its tokens", True, "least singular value above 0"),),
    )


@rechecks(Independence.SHARED, states=_states, quick=2**20, most=_MOST_BYTES, extended=True)
def recheck_soft_floor(certificate: Certificate) -> bool:
    """Second path: the outputs again in extended precision, and (1) and (2) for the masses and the span as they stand.

    The terms of (1) are formed by the first path's code.
    """
    witness = certificate.witness
    weights, sequences, targets, tokens = _read(witness)
    span, masses = tensor(witness, "span", None, targets.shape[1]), tensor(witness, "log_masses", len(sequences))
    error = float(number(witness, "error", 0))
    for item in sequences:
        found = head_statistics(weights, [item])
        lse, mean = wide_statistics(weights, [item], 0)
        off = np.abs(lse - found.lse.numpy())[0], np.sqrt(((mean - found.mean.numpy()) ** 2).sum())
        if not (off[0] <= float(found.lse_error[0]) and off[1] <= float(found.mean_error[0])):
            return False
    shares = _Shares.of(weights, sequences, targets)
    masses = torch.where(masses <= _NONE, -math.inf, masses)
    if not shares.confirmed(masses, error, tokens):
        return False
    found_floor = _floor(shares, span, masses, error, tokens) / math.sqrt(targets.numel())
    return bool(0 <= certificate.value <= found_floor)


def _faults(weights: AttentionWeights, sequences: Sequence[Tensor], targets: Tensor, tokens: int) -> list[Fault]:
    faults = oracle_faults(weights, sequences, targets, 0.5)
    if weights.num_heads != 1:
        faults.append(Fault("weights", f"{weights.num_heads} heads", "one head", "Take one with weights.head(index)"))
    if weights.key_norm is not None:
        faults.append(Fault("weights.key_norm", "a norm on keys", "none: keys then do not follow from values"))
    if type(tokens) is not int or tokens < 1:
        faults.append(Fault("tokens", repr(tokens), "a whole number from 1 on"))
    return faults
