"""Random and adversarial problems against the polynomial method's certificates: none may be violated, with no slack."""

import dataclasses
import statistics

import pytest
import torch

from helpers.attention_problems import KINDS, assert_certified, draw, true_error
from promptreach.certificate import Evidence, Side
from promptreach.inference import ToleranceNotReachedError, attend

WORKSPACE = 2**21


def answer(problem):
    """Output and report, or None where the method says that it cannot."""
    try:
        return attend(
            problem.query,
            problem.key,
            problem.value,
            problem.tol,
            "polynomial",
            problem.causal,
            mask=problem.mask,
            workspace=WORKSPACE,
        )
    except ToleranceNotReachedError:
        return None


def test_no_certificate_is_violated_and_few_are_loose():
    ratios, answered = [], dict.fromkeys(KINDS, 0)
    for index in range(200):
        problem = draw(index)
        solved = answer(problem)
        if solved is None:
            continue
        output, report = solved
        answered[problem.kind] += 1
        assert (report.error.side, report.error.evidence) == (Side.UPPER, Evidence.PROVED)
        assert report.error.value <= problem.tol
        assert_certified(problem.problem, output, report.error.value)
        error = true_error(problem.problem, output)
        if not problem.causal and error:
            ratios.append(report.error.value / error)
    assert all(answered.values()), answered
    assert sum(answered.values()) > 120
    assert statistics.median(ratios) <= 10


def test_the_certificate_in_the_other_unit_holds():
    for index in range(24):
        problem = draw(index, seed=7)
        inputs = (problem.query, problem.key, problem.value, 10 * problem.tol, "polynomial", problem.causal)
        try:
            _, report = attend(*inputs, mask=problem.mask, relative_to="deviation", workspace=WORKSPACE)
        except ToleranceNotReachedError:
            continue
        assert report.error.value <= 10 * problem.tol
        assert report.error.recheck()


def test_climbing_towards_the_worst_query_does_not_break_the_bound():
    """Gradient ascent on the error itself, certificate asked anew at every step."""
    generator = torch.Generator().manual_seed(3)
    key, value = (torch.randn(40, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    query = torch.randn(8, 3, generator=generator, dtype=torch.float64)
    for _ in range(12):
        query.requires_grad_()
        output, report = attend(query, key, value, 1e-2, "polynomial")
        exact, _ = attend(query, key, value, method="exact")
        error = (output - exact).abs()
        assert float((error.detach() / (value.amax(0) - value.amin(0))).max()) <= report.error.value
        (step,) = torch.autograd.grad(error.sum(), query)
        # Longer queries err more; the climb is among queries of bounded norm, or it would only go outwards.
        query = torch.nn.functional.normalize((query + 0.3 * step / step.norm().clamp_min(1e-12)).detach(), dim=1)


def test_a_violation_would_be_seen():
    problem = draw(0, causal_share=0.0)
    output, report = answer(problem)
    with pytest.raises(AssertionError, match="above the certified"):
        assert_certified(problem.problem, output + 20 * report.error.value, report.error.value)


def test_recheck_finds_a_wrong_output_and_a_lowered_value():
    problem = draw(2, causal_share=0.0)
    output, report = answer(problem)
    assert report.error.recheck()
    lowered = dataclasses.replace(report.error, value=0.5 * true_error(problem.problem, output))
    assert not lowered.recheck()
    moved = {**report.error.witness, "output": output + 1.0}
    assert not dataclasses.replace(report.error, witness=moved).recheck()
