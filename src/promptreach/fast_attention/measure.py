"""The two units of error, measuring either against exact rows in float64, and the recheck of certified outputs.

The *range error* is what the papers' max norm becomes when the values are put on [0, 1]; the *relative error* compares
with how much the exact output moves at all, so that a head that only returns its mean value cannot look good. They are
never mixed: `relative_to` names the one that is meant.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptreach.attention import Statistics, merge, statistics
from promptreach.certificate import Assumption, Certificate, Independence, Side, Statement, rechecks
from promptreach.errors import Fault, InputError
from promptreach.fast_attention.problem import AttentionProblem, Head, checked_problem
from promptreach.witness import choice, number

RELATIVE_TO = ("range", "deviation")

SAMPLED_HEADS, SAMPLED_ROWS = 4, 16
"""The numbers of heads, and of queries of each, on which exact attention is measured."""

RECHECKED_ROWS = 1024
"""Rows that a recheck computes at once."""


def value_range(value: Float[Tensor, "n value_dim"]) -> Float[Tensor, " value_dim"]:
    """max - min of each value coordinate over the visible keys, in float64: the unit of the range error."""
    # In the values' own dtype it may overflow, and errors relative to infinity would be 0.
    return value.amax(dim=0).double() - value.amin(dim=0).double()


def range_error(
    output: Float[Tensor, "*rows value_dim"],
    exact: Float[Tensor, "*rows value_dim"],
    spread: Float[Tensor, " value_dim"],
) -> float:
    """The largest |output - exact| of any entry over its coordinate's range; constant coordinates are left out.

    A constant coordinate has the constant as its output, whatever the weights: there is nothing to approximate. An
    entry that is not finite, in any coordinate, is an infinite error.
    """
    difference = (output.double() - exact.double()).abs()
    if not bool(difference.isfinite().all()):
        return math.inf
    errors = difference[..., spread > 0] / spread[spread > 0].double()
    return float(errors.max()) if errors.numel() else 0.0


def deviation_error(output: Float[Tensor, "rows value_dim"], exact: Float[Tensor, "rows value_dim"]) -> float:
    """|output - exact| over |exact - its mean over rows|, Frobenius; infinite where the exact output is constant and
    the other is not, and where an entry is not finite."""
    exact, output = exact.double(), output.double()
    if not bool((output - exact).isfinite().all()):
        return math.inf
    error, deviation = output - exact, exact - exact.mean(dim=0)
    # Both in units of the largest entry: squares of small numbers would underflow.
    size = torch.maximum(error.abs().max(), deviation.abs().max())
    return 0.0 if not bool(error.any()) else float((error / size).norm() / (deviation / size).norm())


def unit_error(
    output: Float[Tensor, "rows value_dim"], exact: Float[Tensor, "rows value_dim"], value: Tensor, relative_to: str
) -> float:
    """The error in one of the two units, for these values."""
    if relative_to == "range":
        return range_error(output, exact, value_range(value.detach()))
    return deviation_error(output, exact)


def exact_rows(head: Head, rows: Int[Tensor, " rows"], workspace: int = 2**28) -> Statistics:
    """Log mass and mean of the queries at `rows` of ``head.rows`` over the keys they see, a block of keys at a time.

    The reference that errors are measured against; the mean of a query that sees nothing is 0, and that of a constant
    coordinate the constant, without any rounding. No more than about `workspace` bytes are held at once.
    """
    query = head.rows[rows].detach().double()
    seen = None if head.seen is None else head.seen[rows % head.query.shape[1]]
    # Scores, their exponentials and the weights live at once.
    block = max(1, workspace // (4 * 8 * max(len(rows), head.key.shape[1] + head.value.shape[1])))
    total = Statistics(query.new_full((len(rows),), -torch.inf), query.new_zeros(len(rows), head.value.shape[1]))
    for start in range(0, len(head.key), block):
        key, value = (item[start : start + block].detach().double() for item in (head.key, head.value))
        mask = None if seen is None else torch.arange(start, start + len(key), device=key.device) < seen[:, None]
        total = merge(total, statistics(query, key, value, head.scale, mask))
    constant = (value_range(head.value.detach()) == 0) & (total.lse > -torch.inf)[:, None]
    return Statistics(total.lse, torch.where(constant, head.value[0].detach().double(), total.mean))


def sampled_error(
    problem: AttentionProblem,
    output: Float[Tensor, "*batch q value_dim"],
    relative_to: str,
    generator: torch.Generator,
    workspace: int,
) -> tuple[float, str]:
    """The largest error of a few drawn heads on a few drawn queries each, against float64, and the sample in words.

    With ``relative_to="deviation"`` the mean and the deviation are those of the drawn rows.
    """
    worst, parts = 0.0, list(problem.parts())
    chosen = sorted(torch.randperm(len(parts), generator=generator)[:SAMPLED_HEADS].tolist())
    outputs = output.detach().reshape(len(parts), -1, output.shape[-1])
    for index in chosen:
        head = parts[index].head
        drawn = torch.randint(len(head.rows), (SAMPLED_ROWS,), generator=generator).to(head.query.device)
        exact = exact_rows(head, drawn, workspace).mean
        worst = max(worst, unit_error(outputs[index][drawn], exact, head.value, relative_to))
    return worst, f"{SAMPLED_ROWS} rows against float64 in each of {len(chosen)} of {len(parts)} heads"


def attention_statement(witness: Mapping[str, Any]) -> Statement:
    """The statement of a certified output: the error of every head, in the unit of the witness.

    Raises:
        InputError: for a witness that is no problem with its output.
    """
    problem = _witnessed(witness)
    per, unit = "for every head", "|output - exact| <= value |exact - mean of exact over rows| in Frobenius norms"
    if choice(witness, "relative_to", RELATIVE_TO) == "range":
        per = "for every head, query and value coordinate"
        unit = "|output - exact| <= value times the range of that value coordinate over the visible keys"
    wanted = (*problem.query.shape[:-1], problem.value.shape[-1])
    if tuple(witness["output"].shape) != wanted or not witness["output"].is_floating_point():
        raise InputError(Fault("output", f"shape {tuple(witness['output'].shape)}", f"{wanted}, floats"))
    return Statement(
        claim=f"{per}, {unit}; exact is softmax attention in exact arithmetic on the inputs as given",
        side=Side.UPPER,
        theorem="polynomial-remainder",
        assumptions=(
            Assumption("all inputs are finite", True, "looked at each"),
            Assumption("matrix products are formed in the working dtype", True, "torch's setting was read"),
        ),
    )


def heads_statement(witness: Mapping[str, Any]) -> Statement:
    """The statement of several heads that were certified one by one: that of each, about all."""
    heads = witness["heads"]
    said = [attention_statement(head) for head in heads]
    if len(heads) < 2 or len(set(said)) > 1:
        raise InputError(Fault("heads", f"{len(heads)} heads with {len(set(said))} statements", "several with one"))
    claim = (
        f"each of the {len(heads)} key/value heads has an error of at most value, in the sense of its own claim: "
        f"{len(heads)} PROVED, of which the largest: {said[0].claim}"
    )
    return replace(said[0], claim=claim)


def _witnessed(witness: Mapping[str, Any]) -> AttentionProblem:
    number(witness, "scale")
    if type(witness["causal"]) is not bool:
        raise InputError(Fault("causal", repr(witness["causal"]), "True or False"))
    return checked_problem(*(witness[name] for name in ("query", "key", "value", "causal", "mask", "scale")))


def exact_work(witness: Mapping[str, Any]) -> int:
    """Multiplications and additions of exact attention, over all heads of a witness; an exponential counts as 32."""
    if "heads" in witness:
        return sum(map(exact_work, witness["heads"]))
    query, key, value = (witness[name] for name in ("query", "key", "value"))
    return int(query[..., 0].numel()) * int(key.shape[-2]) * int(query.shape[-1] + value.shape[-1] + 32)


QUICK_WORK = 2**30
"""Work that takes about a second on one core."""


@rechecks(Independence.FULL, states=attention_statement, size=exact_work, quick=QUICK_WORK, most=2**39)
def recheck_attention(certificate: Certificate) -> bool:
    """Second code path of a certified output: exact attention in float64, every row compared, in quadratic time.

    Exact attention is computed from its definition; nothing of the fast path is used. Values count from the first one,
    so that an offset that they share costs no digits. Only as fine as float64's own rounding, and only while the inputs
    have not been changed in place. About a second at `QUICK_WORK`, ten minutes at most.
    """
    witness = certificate.witness
    problem = _witnessed(witness)
    output = witness["output"].reshape(-1, problem.num_heads // problem.num_kv_heads, *witness["output"].shape[-2:])
    worst = 0.0
    for found, part in zip(output.double(), problem.heads(), strict=True):
        origin = part.value[0].double()
        head = replace(part.to(torch.float64), value=part.value.double() - origin)
        rows = torch.arange(len(head.rows), device=head.key.device)
        exact = torch.cat([exact_rows(head, block).mean for block in torch.split(rows, RECHECKED_ROWS)])
        exact, found = exact.reshape(found.shape), found - origin
        if head.seen is not None:
            exact, found = exact[:, head.seen > 0], found[:, head.seen > 0]
        pairs = zip(found, exact, strict=True)
        worst = max(worst, *(unit_error(*pair, head.value, witness["relative_to"]) for pair in pairs))
    return math.isfinite(worst) and worst <= certificate.value


@rechecks(Independence.FULL, states=heads_statement, size=exact_work, quick=QUICK_WORK, most=2**39)
def recheck_heads(certificate: Certificate) -> bool:
    """Whether every head's witness keeps to the certificate of all."""
    return all(recheck_attention(replace(certificate, witness=witness)) for witness in certificate.witness["heads"])
