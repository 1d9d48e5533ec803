"""Floors under the error of every prompt with too few tokens.

A prompt of m slots turns the output a_i of one head on example i into o_i = lambda_i a_i + (1 - lambda_i) g_i with
0 <= lambda_i <= 1 and g_i in the span of the m prompt values (behind the output projection). So the rows t_i - lambda_i
a_i are, up to the errors o_i - t_i, in a space of dimension m, and with G(lambda) = T - Lambda A

    sum_i |o_i - t_i|^2  >=  D_m(G(lambda))^2,    D_m(G)^2 = sum over j > m of sigma_j(G)^2,

the squared distance of G from all matrices of rank m. With several heads each has shares and m values of its own: G = T
- sum_h Lambda_h A_h, and the rank is heads times m.

What is left to bound is the least of this over all shares. Two steps, both for any r_i >= 0:

1. 0 <= lambda_i <= 1 means (lambda_i - 1/2)^2 <= 1/4. So D_m(G)^2 >= D_m([G, R (1/2 - lambda)])^2 - sum r_i^2 / 4,
   where one column r_i (1/2 - lambda_i) e_i stands behind G for each share: they add at most sum r_i^2 / 4.
2. The longer matrix is T' - Lambda A' with A' = [A, R] and T' = [T, R / 2], and no combination of the rows of A'
   matters behind the projection P off their span: D_m(T' - Lambda A') >= D_m(T' P), whatever the lambda are.

With r = 0 it is the distance of the targets off the span of the outputs, at least (n - m)^(1/2) times the least
singular value of all 2n vectors. Every r gives a floor; the best is that of a concave function of the r_i^2, and is
searched for. Outputs known to within e (Frobenius norm) lower the floor by e at most, since D_m is 1-Lipschitz.

Reference: theorem key ``token-floor``; docs/theory/wang-3-tokens.md.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor

from promptreach.certificate import Assumption, Certificate, Independence, Side, Statement, rechecks
from promptreach.errors import Fault, raise_if_any
from promptreach.limits.oracle.checks import number_faults, oracle_faults
from promptreach.limits.oracle.floor_witness import FloorProblem, layer_problem
from promptreach.limits.oracle.scales import exponent, lowered, times_power
from promptreach.rounding import gamma, shown_bound
from promptreach.weights import AttentionWeights
from promptreach.witness import number, tensor, whole

_SEARCHED = 256  # shares up to which multipliers are searched for, in about a second
_PER_SECOND = 2_000  # of `_work`


def token_floor(outputs: Tensor, targets: Tensor, tokens: int, output_error: float = 0.0) -> Certificate:
    """The least error that prompts of so many tokens can have, for heads with these outputs: LOWER, PROVED.

    For every prompt or prefix of at most `tokens` soft tokens or key/value slots, the same for all examples, whatever
    its keys and values and whatever each example's query: the root-mean-square error over all target entries is at
    least value. 0, which says nothing, from `tokens` times heads = n on at the latest.

    Args:
        outputs: (n, out), one head's output on each example without a prompt, behind the output projection and
            without its bias; or (heads, n, out), each head's part of it.
        targets: (n, out), the wanted outputs, without that bias.
        tokens: m, not negative.
        output_error: how far the outputs of each head may be off, in Frobenius norm, summed over heads.

    Raises:
        InputError: for shapes that do not agree, no examples, numbers that are none, or a negative count or error.

    Reference: theorem key ``token-floor``.
    """
    raise_if_any(_faults(outputs, targets, [tokens], output_error))
    heads, wanted = (item.detach().to("cpu", torch.float64) for item in (outputs, targets))
    heads = heads[None] if heads.ndim == 2 else heads
    power = exponent(heads, wanted) or 0
    scaled = times_power(heads, -power), times_power(wanted, -power)
    rank = min(tokens * len(heads), len(wanted))
    choices = [torch.zeros(heads.shape[:2], dtype=torch.float64), _multipliers(*scaled, rank)]
    lost = math.ldexp(output_error, -power)
    value, roots = max(((_floor(*scaled, roots, rank, lost), roots) for roots in choices), key=lambda pair: pair[0])
    witness = {
        "outputs": heads,
        "targets": wanted,
        "multipliers": times_power(roots, power),
        "tokens": tokens,
        "output_error": float(output_error),
    }
    return Certificate.stated(recheck_token_floor, lowered(value, power), witness).checked()


def token_floors(
    weights: AttentionWeights, sequences: Sequence[Tensor], targets: Tensor, lengths: Sequence[int] | None = None
) -> tuple[Certificate, ...]:
    """The least error of prompts of each length at one attention layer: one `token_floor` each, LOWER, PROVED.

    Args:
        weights: one attention layer, or one head of it.
        sequences: each (tokens, hidden); the last token is the query, and need not be shared.
        targets: (n, out), the wanted outputs of the layer at the last tokens.
        lengths: None means every length from 1 on at which the floor is not 0 for sure: below n / heads.

    Raises:
        InputError: as `memorisable` does, and for negative lengths.
    """
    raise_if_any([*oracle_faults(weights, sequences, targets, 0.5), *length_faults(lengths or ())])
    inputs = [sequence.detach().to("cpu", torch.float64) for sequence in sequences]
    problem = layer_problem(weights.detached(), inputs, targets.detach().to("cpu", torch.float64))
    chosen = range(1, -(-len(inputs) // weights.num_heads)) if lengths is None else lengths
    return problem_floors(problem, chosen)


def problem_floors(problem: FloorProblem, lengths: Sequence[int]) -> tuple[Certificate, ...]:
    """The `token_floor` at each length of what the oracle looks at, the rounding of its statistics included."""
    order = torch.tensor([index for group in problem.groups for index in group]).argsort()
    parts, lost = [], 0.0
    for head in range(len(problem.statistics[0])):
        mean = torch.cat([group[head].mean for group in problem.statistics])
        error = torch.cat([group[head].mean_error for group in problem.statistics])
        width = mean.shape[1]
        if problem.output is None:
            part = torch.zeros(len(mean), width * len(problem.statistics[0]), dtype=torch.float64)
            part[:, head * width : (head + 1) * width] = mean
            size = 1.0
        else:
            output = problem.output[:, head * width : (head + 1) * width]
            part, size = mean @ output.mT, float(output.norm())
        lost += size * (float(error.norm()) + gamma(width + 4) * float(mean.norm())) * (1 + gamma(mean.numel() + 16))
        parts.append(part[order])
    outputs, targets = torch.stack(parts), torch.cat(problem.parts)[order]
    lost += gamma(2) * float(targets.norm())  # taking the output bias off
    return tuple(token_floor(outputs, targets, length, lost) for length in lengths)


def _augmented(
    outputs: Float[Tensor, "heads n out"], targets: Float[Tensor, "n out"], roots: Float[Tensor, "heads n"]
) -> tuple[Tensor, Tensor]:
    """A' (heads n rows) and T' (n rows), with a column for each multiplier that is not 0."""
    used = roots.flatten() > 0
    behind = torch.cat([torch.diag(row) for row in roots], dim=1)[:, used] / 2
    return (
        torch.cat([outputs.flatten(0, 1), torch.diag(roots.flatten())[:, used]], dim=1),
        torch.cat([targets, behind], dim=1),
    )


def _floor(outputs: Tensor, targets: Tensor, roots: Tensor, rank: int, lost: float) -> float:
    """The floor as a root mean square, below the true one whatever was rounded; 0 where there is none.

    For the basis B as it was computed, I - B^T B has norm 1 as long as |B B^T - I| <= 1, so that it may stand in the
    proof for P; what it leaves of A' is taken off.
    """
    known, wanted = _augmented(outputs, targets, roots)
    sizes = known.norm(dim=1, keepdim=True).clamp(min=1e-300)
    _, found, basis = torch.linalg.svd(known / sizes, full_matrices=False)
    basis = basis[found > 1e-13 * found[0]]
    if float((basis @ basis.mT - torch.eye(len(basis), dtype=torch.float64)).norm()) > 0.5:
        return 0.0
    rest, left = (item - (item @ basis.mT) @ basis for item in (wanted, known))
    tail = float(torch.linalg.svdvals(rest)[rank:].norm())
    rounded = gamma(64 * sum((*known.shape, *wanted.shape))) * (len(basis) + 1)
    slip = rounded * float(known.norm() + wanted.norm())
    return _over_entries(tail - math.sqrt(len(outputs)) * float(left.norm()) - slip, roots, targets.numel(), lost)


def _over_entries(distance: float, roots: Tensor, entries: int, lost: float) -> float:
    """The floor per entry from the distance off all matrices of the rank, the multipliers' cost taken off."""
    cost = float(roots.square().sum()) / 4 * (1 + gamma(roots.numel() + 8))
    square = max(distance, 0.0) ** 2 * (1 - gamma(8)) - cost
    total = math.sqrt(max(square, 0.0)) * (1 - gamma(8)) - lost
    return max(total, 0.0) / math.sqrt(entries) * (1 - gamma(8))


def _multipliers(outputs: Tensor, targets: Tensor, rank: int) -> Tensor:
    """The r of the best floor found, (heads, n): ascent on a concave function of r^2, in its logarithms."""
    heads, count, _ = outputs.shape
    flat, wanted = outputs.flatten(0, 1).numpy(), targets.numpy()
    if heads * count > _SEARCHED or rank >= count:
        return torch.zeros(heads, count, dtype=torch.float64)
    sizes = np.maximum((flat**2).sum(1), 1e-6)
    owner = np.tile(np.eye(count), (1, heads)) / 2
    products, crossed, squares = flat @ flat.T, wanted @ flat.T, wanted @ wanted.T

    def loss(logs: Any) -> tuple[float, Any]:
        weights = sizes * np.exp(logs)
        mixed = crossed + owner * weights
        solved = np.linalg.solve(products + np.diag(weights), mixed.T).T
        values, vectors = np.linalg.eigh(squares + owner * weights @ owner.T - solved @ mixed.T)
        low = vectors[:, : count - rank].T
        slope = ((low @ (owner - solved)) ** 2).sum(0) - 0.25
        return float(weights.sum() / 4 - values[: count - rank].sum()), -slope * weights

    start = np.full(heads * count, -2.0)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(-20, 20)] * len(start), options={"maxiter": 60})
    return torch.from_numpy(np.sqrt(sizes * np.exp(found.x))).reshape(heads, count)


def _faults(outputs: Tensor, targets: Tensor, lengths: Sequence[int], output_error: float) -> list[Fault]:
    faults = [*number_faults("outputs", outputs), *number_faults("targets", targets)]
    shape = tuple(outputs.shape)
    if outputs.ndim not in (2, 3) or not outputs.numel():
        faults.append(Fault("outputs", f"shape {shape}", "(n, out) or (heads, n, out), not empty"))
    elif tuple(targets.shape) != shape[-2:]:
        faults.append(Fault("targets", f"shape {tuple(targets.shape)}", f"{shape[-2:]}, that of a head's outputs"))
    faults += length_faults(lengths)
    if not 0 <= output_error < math.inf:
        faults.append(Fault("output_error", str(output_error), "a finite number, not negative"))
    return faults


def length_faults(lengths: Sequence[int]) -> list[Fault]:
    """Lengths of prompts that are no counts."""
    wrong = [length for length in lengths if type(length) is not int or length < 0]
    return [Fault("tokens", repr(length), "a whole number from 0 on") for length in wrong]


def _states(witness: Mapping[str, Any]) -> Statement:
    targets = tensor(witness, "targets", None, None)
    outputs = tensor(witness, "outputs", None, *targets.shape)
    if bool((tensor(witness, "multipliers", *outputs.shape[:2]) < 0).any()):
        raise ValueError("a multiplier is negative")
    tokens, error = whole(witness, "tokens", 0), number(witness, "output_error", 0)
    heads = "one attention head" if len(outputs) == 1 else f"{len(outputs)} attention heads"
    near = f" to within {shown_bound(error, Side.UPPER)}" if error else ""
    return Statement(
        claim=f"no prompt or prefix of at most {tokens} tokens or slots of {heads} with these outputs{near} without a "
        f"prompt has a root-mean-square error below value over the {targets.numel()} target entries of "
        f"{len(targets)} examples",
        side=Side.LOWER,
        assumptions=(Assumption("outputs, targets and multipliers are finite numbers", True, "looked at one by one"),),
        theorem="token-floor",
    )


def _work(witness: Mapping[str, Any]) -> int:
    """Half milliseconds that the second path takes, about."""
    heads, count, out = witness["outputs"].shape
    rows, columns = heads * count, heads * count + out
    return int(count * (10 + count * columns / 1000) + rows * (1 + rows * columns / 10_000))


@rechecks(Independence.ARITHMETIC, states=_states, size=_work, quick=_PER_SECOND, most=120 * _PER_SECOND, extended=True)
def recheck_token_floor(certificate: Certificate) -> bool:
    """Second path: the same distance in extended precision, by Gram-Schmidt and by Jacobi's rotations.

    Minutes at most, on any witness.
    """
    witness = certificate.witness
    outputs, targets, roots = (witness[name] for name in ("outputs", "targets", "multipliers"))
    known, wanted = (item.numpy().astype(np.longdouble) for item in _augmented(outputs, targets, roots))
    unit = np.finfo(np.longdouble).eps
    basis = _orthonormal(known)
    if float(np.abs(basis @ basis.T - np.eye(len(basis))).sum()) > 0.5:
        return False
    rest, left = (item - (item @ basis.T) @ basis for item in (wanted, known))
    rows, turns = rotated(rest)
    tail = tail_of(rows, min(witness["tokens"] * len(outputs), len(targets)))
    whole_size = np.sqrt((known**2).sum()) + np.sqrt((wanted**2).sum())
    slip = unit * (64 * sum((*known.shape, *wanted.shape)) * (len(basis) + 1) + 16 * turns) * whole_size
    distance = max(tail - np.sqrt(len(outputs)) * np.sqrt((left**2).sum()) - slip, 0)
    square = distance**2 - (roots.numpy().astype(np.longdouble) ** 2).sum() / 4
    total = np.sqrt(max(square, 0)) - witness["output_error"]
    return bool(0 <= certificate.value <= max(total, 0) / np.sqrt(np.longdouble(targets.numel())))


def _orthonormal(rows: Any) -> Any:
    """An orthonormal basis of the rows' span, in their number type, without what is small beside the row it is of.

    What is left largest comes next: in any other order the digits that rounding leaves of dependent rows could pass for
    directions.
    """
    sizes = np.sqrt((rows**2).sum(1))
    left = rows[sizes > 0] / sizes[sizes > 0, None]
    basis = np.zeros((0, rows.shape[1]), dtype=rows.dtype)
    while len(left):
        sizes = np.sqrt((left**2).sum(1))
        largest = int(sizes.argmax())
        if sizes[largest] <= 1e-14:
            break
        found = left[largest] / sizes[largest]
        found = found - (basis @ found) @ basis
        basis = np.vstack([basis, found / np.sqrt((found**2).sum())])
        left = np.delete(left, largest, axis=0)
        left = left - np.outer(left @ basis[-1], basis[-1])
    return basis


def rotated(rows: Any) -> tuple[Any, int]:
    """The rows turned into each other until they are orthogonal (one-sided Jacobi), and how many turns that took."""
    rows, turns = rows.copy(), 0
    places = np.arange(len(rows) + len(rows) % 2)
    for _ in range(30):
        before = turns
        for _ in range(len(places) - 1):
            pairs = np.stack([places[: len(places) // 2], places[len(places) // 2 :][::-1]])
            first, second = pairs[:, (pairs < len(rows)).all(0)]
            one, two = rows[first], rows[second]
            a, b, across = (one**2).sum(1), (two**2).sum(1), (one * two).sum(1)
            turn = np.abs(across) > 16 * np.finfo(rows.dtype).eps * np.sqrt(a) * np.sqrt(b)
            half = (b - a)[turn] / (2 * across[turn])
            tangent = np.where(half < 0, -1, 1) / (np.abs(half) + np.sqrt(1 + half**2))
            cosine = (1 / np.sqrt(1 + tangent**2))[:, None]
            sine, one, two = cosine * tangent[:, None], one[turn], two[turn]
            rows[first[turn]], rows[second[turn]] = cosine * one - sine * two, sine * one + cosine * two
            turns += int(turn.sum())
            places = np.concatenate([places[:1], places[-1:], places[1:-1]])
        if turns == before:
            break
    return rows, turns


def tail_of(rows: Any, rank: int) -> Any:
    """At most the distance of rows that `rotated` left from all matrices of the rank, but for rounding.

    They are diag(sizes) times a matrix whose least singular value is above (1 - skew)^(1/2). Rows that rounding alone
    has left point anywhere: they count as moved to 0, which costs their size.
    """
    sizes = np.sqrt((rows**2).sum(1))
    noise = sizes <= 1e-15 * sizes.max()
    straight = rows[~noise] / sizes[~noise, None]
    skew = np.sqrt(((straight @ straight.T - np.eye(len(straight))) ** 2).sum())
    behind = np.sort(np.where(noise, 0, sizes))[: max(len(sizes) - rank, 0)]
    return np.sqrt((behind**2).sum()) * np.sqrt(max(1 - skew, 0)) - np.sqrt((sizes[noise] ** 2).sum())
