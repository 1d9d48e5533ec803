"""The search over one mass, against problems solved by hand and a dense scan."""

import math

import pytest
import torch

from helpers.oracle_problems import normal
from helpers.tolerances import TOLERANCES
from promptreach.limits.oracle.mass_search import minimise

VALUE = TOLERANCES["oracle value", torch.float64][0]


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_equal_masses_let_a_prompt_shrink_and_shift_but_never_amplify():
    """Content +-1, targets +-t: reached for t <= 1, an error of t - 1 beyond (Mondal, Shihab 2026)."""
    lse = torch.zeros(2, dtype=torch.float64)
    assert minimise(lse, column(1.0, -1.0), column(0.5, -0.5)).upper <= 1e-14
    beyond = minimise(lse, column(1.0, -1.0), column(1.5, -1.5))
    assert not beyond.attained
    assert beyond.lower == pytest.approx(0.5 * math.sqrt(2), rel=VALUE)


def test_a_zero_query_counts_its_slots():
    """Content +-1 with mass 4, m slots leave a share of 4 / (4 + m): targets +-0.7 fall between one slot and two."""
    lse = torch.full((2,), math.log(4.0), dtype=torch.float64)
    found = minimise(lse, column(1.0, -1.0), column(0.7, -0.7), whole_slots=True)
    assert math.exp(found.lse) == pytest.approx(2.0)
    assert found.lower == pytest.approx((0.7 - 4 / 6) * math.sqrt(2), rel=VALUE)
    nothing = minimise(lse, column(1.0, -1.0), column(1.2, -1.2), whole_slots=True)
    assert nothing.lse == -math.inf
    assert nothing.mean.tolist() == [0.0]
    assert math.isinf(nothing.boxes[-1, -1])
    assert nothing.lower == pytest.approx(0.2 * math.sqrt(2), rel=VALUE)


@pytest.mark.parametrize("seed", range(40))
def test_the_search_agrees_with_a_dense_scan_over_spread_masses(seed):
    draw = normal(seed)
    n, out, spread = 2 + seed % 7, 1 + seed % 4, (0.0, 0.1, 3.0, 30.0)[seed % 4]
    lse, content, targets = 50.0 * draw(1) + spread * draw(n), draw(n, out), draw(n, out) * 10.0 ** (seed % 5 - 2)
    found = minimise(lse, content, targets)
    points = torch.linspace(float(lse.min()) - 40, float(lse.max()) + 40, 2000, dtype=torch.float64)
    share = torch.sigmoid(points[:, None] - lse)[..., None]
    missing = targets - torch.sigmoid(lse - points[:, None])[..., None] * content
    mean = (share * missing).sum(1, keepdim=True) / share.square().sum(1, keepdim=True)
    assert float((missing - share * mean).flatten(1).norm(dim=1).min()) >= found.lower
    assert found.lower <= found.upper
    scale = float(targets.norm() + content.norm())
    assert found.upper - found.lower <= TOLERANCES["oracle gap", torch.float64][0] * found.upper + 1e-12 * scale
