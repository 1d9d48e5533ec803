"""The least number of slots that given outputs need to within a tolerance, whatever the keys and values of the slots.

r slots answer query i with sum_j p_ij v_j, where the p_ij add up to 1: a softmax, whatever keys, masks and queries made
it. So all answers lie in the affine space through v_1, ..., v_r, of dimension r - 1 at most, and with O_c the wanted
outputs less their mean, D_m the distance from all matrices of rank m,

    sum_i |o_i - answer_i|^2  >=  D_{r-1}(O_c)^2 = sum over j >= r of sigma_j(O_c)^2:

the mean is the best point that all rows may be moved by, so no choice of v_1 makes the rest smaller. Every r for which
this exceeds what the tolerance allows is too few.

Beside content that is there anyway, with outputs c_i of its own, the slots take a share of the attention: the answer is
lambda_i c_i plus the rest, and `token_floor` is what too few slots leave. None may be needed at all there.

Neither count exceeds the number of value dimensions by more than one, since so many slots span everything. That is what
this bound does not see: keys that would have to be found to weigh them rightly. The rank of the attention matrix, often
much larger, is no bound: slots need not come near the weights of all keys where their values are chosen freely.

Reference: theorem key ``slots-needed``; docs/theory/hu-3-1-hardness.md.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.certificate import Assumption, Certificate, Independence, Side, Statement, rechecks
from promptreach.errors import Fault, raise_if_any
from promptreach.limits.counting.token_floors import recheck_token_floor, rotated, tail_of, token_floor
from promptreach.limits.oracle.checks import number_faults
from promptreach.limits.oracle.scales import exponent, times_power
from promptreach.rounding import gamma, shown_bound
from promptreach.witness import number, tensor

_PER_SECOND = 2**24


def slots_needed(outputs: Tensor, tolerance: float, content: Tensor | None = None) -> Certificate:
    """The least number of slots with which any attention comes as near to these outputs: LOWER, PROVED.

    For every set of fewer than value slots, whatever their keys, values and masks and whatever the queries: the
    root-mean-square error over all entries of `outputs` exceeds `tolerance`.

    Args:
        outputs: (n, out), the wanted outputs of one head, one row a query.
        tolerance: the root-mean-square error allowed, per entry, in the unit of the outputs.
        content: (n, out), what each query gets from content that it attends to beside the slots, where there is any;
            some dozens of rows, since the search grows with their third power. None: slots alone.

    Raises:
        InputError: for shapes that do not agree, no rows, numbers that are none, or a negative tolerance.

    Reference: theorem key ``slots-needed``.
    """
    raise_if_any(_faults(outputs, tolerance, content))
    wanted = outputs.detach().to("cpu", torch.float64)
    beside = None if content is None else content.detach().to("cpu", torch.float64)
    witness: dict[str, Any] = {"outputs": wanted, "content": beside, "tolerance": float(tolerance), "multipliers": None}
    if beside is None:
        return Certificate.stated(recheck_slots_needed, float(_alone(wanted, tolerance)), witness).checked()
    count, witness["multipliers"] = _beside(wanted, tolerance, beside)
    return Certificate.stated(recheck_slots_needed, float(count), witness).checked()


def _alone(wanted: Float[Tensor, "n out"], tolerance: float) -> int:
    """One slot and as many as there are singular values whose tail the tolerance does not allow."""
    power = exponent(wanted) or 0
    scaled = times_power(wanted, -power)
    centred = scaled - scaled.mean(dim=0)
    values = torch.linalg.svdvals(centred)
    tails = values.square().flip(0).cumsum(0).flip(0).sqrt()
    # The mean, its subtraction, and a backward stable decomposition.
    slip = gamma(64 * sum(wanted.shape)) * float(scaled.norm())
    allowed = math.ldexp(tolerance, -power) * math.sqrt(wanted.numel()) * (1 + gamma(8))
    return 1 + int((tails * (1 - gamma(8)) - slip > allowed).sum())


def _beside(wanted: Tensor, tolerance: float, content: Tensor) -> tuple[int, Tensor | None]:
    """The first number of slots whose floor the tolerance allows, found by halves, and the multipliers of the last that
    it does not."""
    low, high, multipliers = 0, len(wanted), None
    while low < high:
        middle = (low + high) // 2
        floor = token_floor(content, wanted, middle)
        if floor.value > tolerance:
            low, multipliers = middle + 1, floor.witness["multipliers"]
        else:
            high = middle
    return low, multipliers


def _faults(outputs: Tensor, tolerance: float, content: Tensor | None) -> list[Fault]:
    faults = number_faults("outputs", outputs)
    if outputs.ndim != 2 or not outputs.numel():
        faults.append(Fault("outputs", f"shape {tuple(outputs.shape)}", "(n, out), not empty"))
    if content is not None:
        faults += number_faults("content", content)
        if content.shape != outputs.shape:
            faults.append(Fault("content", f"shape {tuple(content.shape)}", f"{tuple(outputs.shape)}, as the outputs"))
    if not 0 <= tolerance < math.inf:
        faults.append(Fault("tolerance", str(tolerance), "a finite number, not negative"))
    return faults


def _states(witness: Mapping[str, Any]) -> Statement:
    outputs = tensor(witness, "outputs", None, None)
    content = None if witness["content"] is None else tensor(witness, "content", *outputs.shape)
    if witness["multipliers"] is not None and content is None:
        raise ValueError("multipliers without content")
    allowed = shown_bound(number(witness, "tolerance", 0), Side.UPPER)
    beside = "" if content is None else " beside content with these outputs"
    return Statement(
        claim=f"attention over slots{beside}, whatever their keys, values and masks, comes within a root-mean-square "
        f"error of {allowed} of these {len(outputs)} outputs of {outputs.shape[1]} entries only with at least value "
        "slots",
        side=Side.LOWER,
        assumptions=(Assumption("outputs and content are finite numbers", True, "looked at one by one"),),
        theorem="slots-needed",
    )


def _work(witness: Mapping[str, Any]) -> int:
    """Multiplications that the second path takes, about: those of Jacobi's rotations, or in the floor's own measure."""
    rows, columns = witness["outputs"].shape
    if witness["content"] is None:
        return int(20 * min(rows, columns) ** 2 * max(rows, columns))
    wide = rows + columns
    return int(_PER_SECOND / 2000 * (rows * (10 + rows * wide / 1000) + rows * (1 + rows * wide / 10_000)))


@rechecks(Independence.ARITHMETIC, states=_states, size=_work, quick=_PER_SECOND, most=60 * _PER_SECOND, extended=True)
def recheck_slots_needed(certificate: Certificate) -> bool:
    """Second path: what one slot less leaves, in extended precision, by Jacobi's rotations or as the floor has it.

    A minute at most, on any witness.
    """
    witness, value = certificate.witness, certificate.value
    if not 0 <= value <= len(witness["outputs"]) + 1 or value != int(value):
        return False
    if witness["content"] is None:
        return value <= 1 or bool(_left_by(witness["outputs"].numpy(), int(value) - 2) > witness["tolerance"])
    if value == 0:
        return True
    floor = {
        "outputs": witness["content"][None],
        "targets": witness["outputs"],
        "multipliers": witness["multipliers"],
        "tokens": int(value) - 1,
        "output_error": 0.0,
    }
    least = math.nextafter(witness["tolerance"], math.inf)
    return Certificate.stated(recheck_token_floor, least, floor).recheck()


def _left_by(outputs: Any, rank: int) -> Any:
    """At most the root-mean-square distance of the centred outputs from all matrices of the rank.

    Singular vectors from float64 turn the shorter side nearly orthogonal, which changes singular values by a known
    factor, and rotations of pairs do the rest.
    """
    wide = outputs.astype(np.longdouble)
    largest = np.abs(wide).max() or np.longdouble(1)
    centred = (wide - wide.mean(axis=0)) / largest
    lines = centred.T if centred.shape[0] >= centred.shape[1] else centred
    turning = np.linalg.eigh((lines @ lines.T).astype(np.float64))[1].astype(np.longdouble)
    stretch = np.sqrt(((turning.T @ turning - np.eye(len(lines))) ** 2).sum())
    turned, turns = rotated(turning.T @ lines)
    tail = tail_of(turned, rank) / np.sqrt(1 + stretch)
    slip = np.finfo(np.longdouble).eps * (64 * sum(outputs.shape) + 16 * turns) * np.sqrt(((wide / largest) ** 2).sum())
    return max(tail - slip, 0) * largest / np.sqrt(np.longdouble(outputs.size))
