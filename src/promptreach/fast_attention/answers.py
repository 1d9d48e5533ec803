"""From options to answers: methods that are judged on held-out rows, head by head, and their common report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.certificate import Certificate
from promptreach.fast_attention.job import HeadJob
from promptreach.fast_attention.measure import value_range
from promptreach.fast_attention.problem import AttentionProblem, Head
from promptreach.fast_attention.report import CONFIDENCE, AttentionReport, Candidate, ToleranceNotReachedError, of_heads
from promptreach.fast_attention.sampled.holdout import certify

LOOKS = 3
"""Certificates that one option may ask for; they share its part of the confidence."""

NEAR_MISS = 1.5
"""Times the tolerance, up to which a certificate is worth a second look."""

SECONDS_PER_PAIR = 1.2e-9
"""Wall time of one exact query-key pair at head size 32 on two cores, for predictions in seconds only: choices compare
pairs, so that they do not depend on how busy the machine is."""


@dataclass(frozen=True, eq=False)
class Answer:
    """The outputs of all rows of one head.

    Attributes:
        output: (rows, value_dim).
        rank: slots a query attended to.
        better: a better answer at little cost, where there is one, for when this one just misses.
    """

    output: Float[Tensor, "rows value_dim"]
    rank: int
    better: "Callable[[], Answer] | None" = None


@dataclass(frozen=True, eq=False)
class Option:
    """One way to answer one head.

    Attributes:
        method: the method's name.
        pairs: predicted cost, in query-key pairs of exact attention.
        error: predicted.
        reason: as in `Candidate`.
        run: the answer, or ToleranceNotReachedError.
    """

    method: str
    pairs: float
    error: float
    reason: str
    run: Callable[[], Answer]

    @property
    def candidate(self) -> Candidate:
        return Candidate(self.method, self.pairs * SECONDS_PER_PAIR, self.error, self.reason)


Options = Callable[[HeadJob, int], Sequence[Option]]


def answer_all(
    method: str,
    problem: AttentionProblem,
    tol: float,
    relative_to: str,
    generator: torch.Generator,
    workspace: int,
    options: Options,
) -> tuple[Tensor, AttentionReport]:
    """Every head by the first of its `options` that holds on its held-out rows.

    The confidence is shared out over the heads, so that the certificates of all hold together.
    """
    if problem.causal:
        raise ToleranceNotReachedError(method, tol, ["it is for attention where every query sees every key"])
    heads = list(problem.heads())
    outputs, reports = [], []
    for head in heads:
        job = HeadJob.of(head, relative_to, tol, generator)
        output, report = first_that_holds(method, head, job, options(job, workspace), len(heads))
        outputs.append(output)
        reports.append(report)
    return problem.assemble(outputs), of_heads(reports)


def first_that_holds(
    method: str, head: Head, job: HeadJob, options: Sequence[Option], heads: int = 1
) -> tuple[Tensor, AttentionReport]:
    """The answer (group, q, value_dim) of the first option whose certificate keeps to the tolerance.

    Raises:
        ToleranceNotReachedError: when none does, with every reason.
    """
    failed: list[str] = []
    for option in options:
        try:
            output, report = certified(option, job, heads * len(options))
        except ToleranceNotReachedError as failure:
            failed += failure.reasons
            continue
        return output.view(*head.query.shape[:2], -1), replace(report, reasons=(option.reason,))
    raise ToleranceNotReachedError(
        method, job.tol, failed or ["the pilot predicts no number of slots that is worth its cost"]
    )


def certified(option: Option, job: HeadJob, looks: int) -> tuple[Float[Tensor, "rows value_dim"], AttentionReport]:
    """The option's answer with its certificate, which keeps to the job's tolerance.

    A certificate that just misses is made once more from more rows, where these say it with less to spare (a largest
    error they only raise), and then for the option's better answer: either costs little beside giving the option up.

    Args:
        looks: how many options, over all heads, share the confidence; the looks at one option share its part. What is
            reported is chosen among them, so it holds with the confidence that all have together.

    Raises:
        ToleranceNotReachedError: when the trial, or the held-out rows, say that it does not.
    """
    answer = option.run()
    spread = value_range(job.value.detach())
    values = []

    def look(output: Tensor, rows: Tensor, exact: Tensor) -> Certificate:
        certificate = certify(output.detach()[rows], exact, job.relative_to, spread, CONFIDENCE, LOOKS * looks)
        values.append(f"{certificate.value:.3g}")
        return certificate

    rows, exact = job.held, job.exact(job.held)
    certificate = look(answer.output, rows, exact)
    if job.tol < certificate.value <= NEAR_MISS * job.tol:
        if job.relative_to == "deviation":
            rows, exact = job.more_held, job.exact(job.more_held)
            certificate = look(answer.output, rows, exact)
        if certificate.value > job.tol and answer.better is not None:
            answer = answer.better()
            certificate = look(answer.output, rows, exact)
    if certificate.value <= job.tol:
        return answer.output, AttentionReport(option.method, certificate, rank=answer.rank)
    reason = f"{option.reason}: {' and then '.join(values)} on the held-out rows"
    raise ToleranceNotReachedError(option.method, job.tol, [reason])
