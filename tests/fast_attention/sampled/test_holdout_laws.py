"""What held-out rows claim is true as often as they say, whatever the errors look like."""

import math

import pytest
import torch
from torch import Tensor

from promptreach.certificate import Evidence, Side
from promptreach.fast_attention.sampled.holdout import LEAST_ROWS, certify, draw_rows, fraction_above, least_ratio

PROBLEMS = 400
CONFIDENCE = 0.9


def population(seed: int) -> tuple[Tensor, Tensor, torch.Generator]:
    """(output, exact, generator): errors from equal ones to one row in a thousand that carries everything."""
    generator = torch.Generator().manual_seed(seed)
    rows = int(torch.randint(100, 3000, (1,), generator=generator))
    exact = torch.randn(rows, 3, generator=generator, dtype=torch.float64).cumsum(0)
    kind = seed % 4
    error = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    if kind == 1:
        error *= torch.rand(rows, 1, generator=generator, dtype=torch.float64).clamp_min(1e-3) ** -1.5
    elif kind == 2:
        error *= (torch.rand(rows, 1, generator=generator) < 0.01) * 100.0
    elif kind == 3:
        error = torch.ones_like(error) * (1 + 1e-3 * seed)
    return exact + 0.01 * error, exact, generator


def false_claims(relative_to: str, problems: int, shrink: float = 1.0) -> int:
    """How many claims are false when each value is multiplied by `shrink`."""
    count = 0
    for seed in range(problems):
        output, exact, generator = population(seed)
        drawn = draw_rows(len(exact), 256, generator)
        spread = exact.amax(dim=0) - exact.amin(dim=0)
        claim = certify(output[drawn], exact[drawn], relative_to, spread, CONFIDENCE)
        value, fraction = claim.value * shrink, claim.witness["fraction"]
        if relative_to == "range":
            errors = ((output - exact).abs() / spread).amax(dim=1)
            count += float((errors > value).double().mean()) > fraction
        else:
            squares, cap = (output - exact).square().sum(dim=1), claim.witness["cap"]
            truth = (squares.clamp_max(cap**2).sum() / (exact - exact.mean(dim=0)).square().sum()).sqrt()
            count += float(truth) > value or float((squares > cap**2).double().mean()) > fraction
    return count


def most_false(problems: int) -> int:
    """Claims of exactly the stated confidence exceed this with probability below 1e-4."""
    return math.ceil(problems * (1 - CONFIDENCE) + 4 * (problems * CONFIDENCE * (1 - CONFIDENCE)) ** 0.5)


@pytest.mark.parametrize("relative_to", ["range", "deviation"])
def test_claims_hold_at_their_confidence(relative_to: str) -> None:
    assert false_claims(relative_to, PROBLEMS) <= most_false(PROBLEMS)


@pytest.mark.parametrize("relative_to", ["range", "deviation"])
def test_smaller_values_would_not_hold(relative_to: str) -> None:
    """The same count sees a claim that says too little."""
    assert false_claims(relative_to, PROBLEMS, shrink=0.7) > most_false(PROBLEMS)


def test_equal_errors_are_bounded_closely() -> None:
    exact = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    output = exact + 0.05
    claim = certify(output[:1024], exact[:1024], "deviation", torch.ones(4), 0.95)
    truth = 0.05 * (exact.numel() ** 0.5) / float((exact - exact.mean(dim=0)).norm())
    assert truth <= claim.value <= 1.25 * truth
    assert (claim.side, claim.evidence, claim.confidence) == (Side.UPPER, Evidence.MEASURED, 0.95)
    assert "0.95" in claim.claim
    assert "1024 held-out" in claim.sample


def test_no_error_and_no_deviation() -> None:
    exact = torch.randn(100, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert certify(exact, exact, "deviation", torch.ones(2), 0.95).value == 0
    assert certify(exact, exact, "range", torch.ones(2), 0.95).value == 0
    constant = torch.ones(100, 2, dtype=torch.float64)
    assert certify(constant + 1e-3, constant, "deviation", torch.zeros(2), 0.95).value == math.inf
    assert certify(constant + 1e-3, constant, "range", torch.zeros(2), 0.95).value == 0


def test_too_few_rows_are_refused() -> None:
    rows = torch.zeros(LEAST_ROWS - 1, 2)
    with pytest.raises(ValueError, match=f"at least {LEAST_ROWS}"):
        certify(rows, rows, "range", torch.ones(2), 0.95)


@pytest.mark.parametrize(("seen", "count"), [(0, 50), (3, 200), (17, 768)])
def testfraction_above_is_the_binomial_bound(seen: int, count: int) -> None:
    fraction = fraction_above(seen, count, 0.05)
    tail = sum(math.comb(count, k) * fraction**k * (1 - fraction) ** (count - k) for k in range(seen + 1))
    assert tail == pytest.approx(0.05, rel=1e-6)


def test_bets_lose_on_the_true_ratio() -> None:
    """With the true ratio a bet has no edge: 1/delta is won at most as often as delta says."""
    generator = torch.Generator().manual_seed(1)
    wins = 0
    for _ in range(400):
        above, below = (torch.rand(2, 128, generator=generator, dtype=torch.float64)).unbind()
        wins += least_ratio(above.square(), below, 0.1) < (1 / 3 / 0.5) ** 0.5
    assert wins <= 0.1 * 400 + 4 * (400 * 0.09) ** 0.5


@pytest.mark.parametrize("relative_to", ["range", "deviation"])
def test_certificates_that_share_a_confidence_are_those_of_a_higher_one(relative_to: str) -> None:
    generator = torch.Generator().manual_seed(5)
    exact = torch.randn(512, 4, generator=generator, dtype=torch.float64)
    output = exact + 0.01 * torch.randn(512, 4, generator=generator, dtype=torch.float64)
    one = certify(output, exact, relative_to, torch.ones(4), 0.875)
    shared = certify(output, exact, relative_to, torch.ones(4), 0.5, looks=4)
    assert shared.confidence == 0.5
    assert "with probability 0.5 " in shared.claim
    assert (shared.value, shared.witness) == (one.value, one.witness)


def test_rows_that_all_err_leave_every_fraction_possible():
    exact = torch.arange(64, dtype=torch.float64)[:, None] % 7
    output = exact.clone()
    output[16:] += 1  # The first quarter sets the cap.
    claim = certify(output, exact, "deviation", torch.ones(1), 0.95)
    assert claim.witness["fraction"] == 1.0


@pytest.mark.parametrize("size", [1e-200, 1e-320, 1e60])
def test_claims_are_the_same_at_any_size(size: float) -> None:
    """Squares of small errors underflow; a bound of 0 would be claimed of what is not 0."""
    output, exact, generator = population(1)
    drawn = draw_rows(len(exact), 256, generator)
    plain, other = (
        certify(size_ * output[drawn], size_ * exact[drawn], "deviation", torch.ones(3), CONFIDENCE)
        for size_ in (1.0, size)
    )
    assert other.value >= plain.value * (1 - 1e-2)
    assert other.value > 0
