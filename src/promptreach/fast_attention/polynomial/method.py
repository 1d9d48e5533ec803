"""The polynomial method: exp as a Taylor polynomial of a small score, with a certificate for every output entry.

Steps, for each key/value head:

1. `prepare`: the free moves make the scores small.
2. `key_sums`, `tail_factor`: the degree G from which on the remainder keeps to the tolerance.
3. `moments`: the keys as sums of monomials up to degree G.
4. `moment_norms`: the degree g <= G that queries have to read; what lies between is bounded by known moments.
5. `all_keys` or `leading_keys`: every query reads the moments, and every entry gets its bound.

The trivial answer, the mean of the values, is degree 0: a problem that is so easy is answered so, and the report says
so.

Reference: papers A and B's algorithm (Alman, Song 2023, 2302.13214) with other coefficients and another bound; theorem
keys ``polynomial-remainder`` and ``almost-linear-inference``.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.certificate import Certificate
from promptreach.errors import Fault, InputError
from promptreach.fast_attention._method import HeadContext, Method, Plan, Result
from promptreach.fast_attention.measure import QUICK_WORK, exact_work, recheck_attention
from promptreach.fast_attention.polynomial._causal import all_keys, leading_keys
from promptreach.fast_attention.polynomial._degrees import (
    MOST_DEGREE,
    RoundingError,
    cheap_degree,
    check_rank,
    first_degree,
    fixed_errors,
    least_degree,
    relative_rounding,
    sums_of,
)
from promptreach.fast_attention.polynomial.features import moments, monomials, rank
from promptreach.fast_attention.polynomial.preprocess import HeadProblem, head_problem, prepare
from promptreach.fast_attention.polynomial.remainder import Account, Block, moment_norms, tail_factor, underflow
from promptreach.fast_attention.problem import AttentionProblem, Head
from promptreach.fast_attention.report import AttentionReport, ToleranceNotReachedError
from promptreach.fast_attention.tolerance import BUDGET, Request
from promptreach.rounding import gamma

PLANNED_ROWS, PLANNED_BYTES = 512, 2**26
"""Queries and keys that the planner's pilot looks at, at most about, and what it may hold."""


@dataclass(frozen=True, eq=False)
class HeadResult:
    """Output of one head with what is proved of it.

    Attributes:
        output: (group, q, value_dim).
        range_error: at least the range error.
        relative_error: at least the relative error, the largest of the query heads; infinite where none is certified.
        degree: g, up to which queries read moments.
        known: G, up to which keys are summed to moments.
        variables: coordinates left by the free moves.
    """

    output: Tensor
    range_error: float
    relative_error: float
    degree: int
    known: int
    variables: int

    @property
    def rank(self) -> int:
        return rank(self.variables, self.known)


class PolynomialMethod(Method):
    """Attention by monomial features, its error PROVED for every entry of every head.

    Deterministic. Differentiable: gradients are those of the polynomial answer. Time is linear in queries and keys for
    a fixed degree, and the number of features is C(variables + degree, degree), so this is for small scores and few
    coordinates.

    `run` raises InputError when torch is set to multiply float32 matrices in less than float32, and
    ToleranceNotReachedError when the features of the degree that the tolerance needs exceed the workspace, or when
    rounding alone exceeds the tolerance.
    """

    name = "polynomial"

    def plan(self, context: HeadContext, limit: float = math.inf) -> Plan | None:
        """The method as a few queries and keys let it expect; None where no degree that pays promises the tolerance.

        First the directions that sampled queries and keys have in common after the free moves: they decide which
        degrees pay, up to `MOST_DEGREE` where there are one or two, hardly the fourth where there are thirty. Only then
        the sizes: the Taylor remainder's first term, its mean over the keys for the worst sampled query, says which
        degree is asked for. The method itself proves its error, on all rows, and may need the next degree; here only
        the cost is predicted.

        Args:
            limit: what one degree more than that may cost, in exact pairs.
        """
        head, tol = context.head, context.request.as_range_error
        step_q, step_k = (max(1, len(rows) // PLANNED_ROWS) for rows in (head.rows, head.key))
        sample = Head(
            head.rows.detach()[::step_q][None], head.key.detach()[::step_k], head.value.detach()[::step_k], head.scale
        )
        prepared = prepare(sample, BUDGET.pilot_dropped * tol, PLANNED_BYTES)
        coordinates, positions = len(prepared.key), len(head.rows) + len(head.key)
        scores = (prepared.query.mT @ prepared.key).abs().double()
        for degree in range(MOST_DEGREE):
            # A monomial feature of a query or a key costs about one exact pair of head size 32.
            if rank(coordinates, degree + 1) * positions > limit:
                return None
            if float((scores ** (degree + 1)).mean(dim=1).max()) / math.factorial(degree + 1) <= tol:
                break
        else:
            return None
        features = rank(coordinates, degree)
        reason = (
            f"sampled scores up to {float(scores.max()):.2g} nats in {coordinates} coordinates ask for about degree "
            f"{degree}, {features} features"
        )
        return Plan(
            self.name, float(features * positions), tol, reason, lambda: self.run(context.problem, context.request)
        )

    def run(self, problem: AttentionProblem, request: Request) -> Result:
        if torch.get_float32_matmul_precision() != "highest":
            seen = f"torch.get_float32_matmul_precision() is {torch.get_float32_matmul_precision()!r}"
            expected = "'highest', which the certificate's rounding account rests on"
            raise InputError(Fault("torch", seen, expected, 'Call torch.set_float32_matmul_precision("highest")'))
        solved = [solve_head(head, request, problem.value.dtype) for head in problem.heads()]
        results = [result for result, _ in solved]
        output = problem.assemble([result.output for result in results])
        largest = max(results, key=lambda result: result.rank)
        reasons: tuple[str, ...] = (
            f"moments up to degree {largest.known} ({largest.rank} features of {largest.variables} coordinates), of "
            f"which queries read degree {max(result.degree for result in results)}",
        )
        if all(result.degree == 0 for result in results):
            reasons += (
                "degree 0 is the weighted mean of the values, the same for every query: the problem is that easy",
            )
        certificate = _certificate(problem, output, max(error for _, error in solved), request.relative_to)
        return Result(output, AttentionReport(self.name, certificate, rank=largest.rank, reasons=reasons))


def solve_head(head: Head, request: Request, output_dtype: torch.dtype) -> tuple[HeadResult, float]:
    """One head, to a certified error of at most the tolerance, and that error.

    A relative error is first tried as if it were a range error; each result tells how the two compare here.
    """
    tol = range_tol = request.tol
    while True:
        try:
            result = _solve_range(head, range_tol, request.workspace, output_dtype)
        except ToleranceNotReachedError as failure:
            tried = f"a relative error of {tol:g} was aimed at by a range error of {range_tol:.2g}"
            reasons = [*failure.reasons, *([] if range_tol == tol else [tried])]
            raise ToleranceNotReachedError("polynomial", tol, reasons) from failure
        error = result.range_error if request.relative_to == "range" else result.relative_error
        if error <= tol:
            return result, error
        # A result that certifies no relative error at all was off by more than the output moves. Its range error is
        # above 0: without any, where values do not differ, the relative error is 0 too.
        last = min(result.range_error, range_tol)
        wanted = BUDGET.retry * tol / error
        range_tol = last * (min(BUDGET.retry_at_most, wanted) if math.isfinite(error) else BUDGET.retry_blind)


def _solve_range(head: Head, tol: float, workspace: int, output_dtype: torch.dtype) -> HeadResult:
    """One head to a certified range error, in its own dtype if rounding allows and in float64 otherwise."""
    if head.query.dtype != torch.float64:
        with contextlib.suppress(RoundingError):
            return _solve_in_dtype(head_problem(head, tol, workspace, output_dtype))
    return _solve_in_dtype(head_problem(head.to(torch.float64), tol, workspace, output_dtype))


def _solve_in_dtype(problem: HeadProblem) -> HeadResult:
    known = first_degree(problem)
    while True:
        for result in _results(problem, known):
            if result.range_error <= problem.tol:
                return result
        known += 1
        check_rank(problem, known)


def _results(problem: HeadProblem, known: int) -> Iterator[HeadResult]:
    """Results with moments up to degree `known`: first with the least degree that should do, then with all of them."""
    prepared, head = problem.prepared, problem.head
    table = monomials(problem.variables, known)
    relative = relative_rounding(problem, table)
    lost = underflow(prepared, problem.reach, problem.largest_key, table.rank)
    if head.seen is not None:
        none = sums_of(problem, known, slice(0, 0))
        account = Account(none, known, none.square.new_zeros(0, len(none.square) + 1), relative, lost)
        yield _finish(problem, leading_keys(problem, head.seen, table, account), known, known)
        return
    sums = sums_of(problem, known, slice(None))
    weighted = torch.cat([problem.columns.value * prepared.weight, prepared.weight[None]])
    state = moments(table, prepared.key, weighted)
    leading = moment_norms(table, state.detach())
    tail = tail_factor(prepared.query, prepared.query_norm, sums, known)
    least = max(least_degree(problem, sums, tail, leading, relative), cheap_degree(problem, table))
    for degree in sorted({least, known}):
        read = monomials(problem.variables, degree)
        account = Account(sums, known, leading[degree:], relative, lost)
        yield _finish(problem, all_keys(problem, state[:, : read.rank], read, account, tail), degree, known)


def _finish(problem: HeadProblem, blocks: Iterator[Block], degree: int, known: int) -> HeadResult:
    """The blocks as one output, and their bounds as one number in either unit."""
    head, columns = problem.head, problem.columns
    group, length, width = len(head.query), head.query.shape[1], head.value.shape[1]
    outputs, sizes = [], []
    worst, largest = columns.spread.new_zeros(width), columns.spread.new_zeros(width)
    for block in blocks:
        outputs.append(block.output)
        sizes.append(block.norm)
        worst = torch.maximum(worst, block.worst)
        largest = torch.maximum(largest, block.output.detach().abs().amax(dim=1).double())
    # Bidirectional blocks run over rows; causal ones over positions, all heads of the group in each.
    if head.seen is None:
        quotient, norm = (
            torch.cat(outputs, dim=1).reshape(-1, group, length),
            torch.cat(sizes).reshape(group, length),
        )
    else:
        quotient = torch.cat([part.reshape(len(part), group, -1) for part in outputs], dim=2)
        norm = torch.cat([part.reshape(group, -1) for part in sizes], dim=1)
    output = quotient.movedim(0, -1) * columns.scale + columns.centre
    if head.seen is not None:
        output = output.masked_fill((head.seen == 0)[:, None], 0.0)
    shift = fixed_errors(problem, largest)
    moving = columns.spread > 0
    ranged = ((worst + shift) / columns.spread)[moving]
    fixed = float((shift * columns.unit).norm()) * length**0.5
    total = (norm.norm(dim=1) + fixed) * (1 + gamma(norm.numel() + width + 64))
    largest_error = float(ranged.max()) * (1 + gamma(16)) if len(ranged) else 0.0
    if not bool(output.detach().isfinite().all()):
        # A mass of 0 has no quotient; where all values are the same only this tells.
        largest_error, total = math.inf, torch.full_like(total, math.inf)
    visible = slice(None) if head.seen is None else head.seen > 0
    relative = _relative(quotient[:, :, visible], columns.unit, total)
    return HeadResult(output, largest_error, relative, degree, known, problem.variables)


def _relative(
    quotient: Float[Tensor, "value_dim group rows"], unit: Float[Tensor, " value_dim"], error: Float[Tensor, " group"]
) -> float:
    """The largest bound on |out - exact| / |exact - its mean| over the group's query heads.

    Subtracting the mean over rows is a projection: the exact deviation is at least that of the output minus the error.
    Quotients are outputs less an offset, which no deviation sees. Where the unit of a coordinate is so far below the
    largest that it underflows, leaving it out costs less than the roundings that are counted.

    Args:
        quotient: in units of v'.
        unit: of v' in each coordinate, the largest 1.
        error: at least |output - exact| in Frobenius norm for each query head, in the same unit.
    """
    rows = (quotient.detach().double() * unit[:, None, None]).movedim(0, -1)
    deviation = (rows - rows.mean(dim=1, keepdim=True)).flatten(1).norm(dim=1) * (1 - gamma(4 * rows.numel() + 64))
    # About another point than their mean, rows deviate more: by at most what rounding moved the mean, once a row.
    moved = gamma(2 * rows.shape[1] + 8) * (rows.abs().amax(dim=1).norm(dim=1) * rows.shape[1] ** 0.5)
    least = deviation - moved - error
    relative = torch.where(least > 0, error / least * (1 + gamma(8)), torch.inf)
    # No error at all is no part of any deviation, be it 0.
    return float(relative.masked_fill(error == 0, 0.0).max())


def _certificate(problem: AttentionProblem, output: Tensor, value: float, relative_to: str) -> Certificate:
    """The certificate, with what its second path says where that takes a hundredth of a second."""
    witness = {
        "query": problem.query.detach(),
        "key": problem.key.detach(),
        "value": problem.value.detach(),
        "mask": problem.mask,
        "causal": problem.causal,
        "scale": problem.factor,
        "output": output.detach(),
        "relative_to": relative_to,
    }
    certificate = Certificate.stated(recheck_attention, value, witness)
    return certificate.checked() if exact_work(witness) <= QUICK_WORK / 100 else certificate
