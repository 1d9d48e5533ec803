"""Plans: the numbers are those of the backbone that is built, and what will not fit is refused before anything is."""

import math
import time

import pytest
import torch

from helpers.compiler_cases import SIZES, small
from promptreach.compiler import PlanTooLargeError, build_backbone, plan_backbone
from promptreach.compiler.parts.blocks import FeedForward
from promptreach.errors import InputError


@pytest.mark.parametrize(("dim", "tokens"), SIZES)
@pytest.mark.parametrize("tol", [0.1, 0.3, 5.0])
def test_the_plan_counts_what_is_built(dim, tokens, tol):
    backbone = small(dim, tokens, tol)
    plan = backbone.plan
    assert sum(parameter.numel() for parameter in backbone.parameters()) == plan.parameters
    assert backbone.stream.size == plan.hidden_size
    assert tuple(item.name for item in backbone.passes) == plan.passes
    assert max(item.width for item in backbone.passes if isinstance(item, FeedForward)) == plan.width
    assert len(backbone.points()) == plan.evaluations
    values = backbone.points()
    assert backbone.rows(values).shape == (plan.slots, plan.hidden_size)
    assert plan.bound <= tol


def test_a_smaller_tol_never_takes_fewer_cells_or_bytes():
    for dim, tokens in SIZES:
        plans = [plan_backbone(dim, tokens, 1.0, tol, memory=2**60) for tol in (1.0, 0.3, 0.1, 0.03, 0.01)]
        assert [plan.cells for plan in plans] == sorted(plan.cells for plan in plans)
        assert [plan.bytes for plan in plans] == sorted(plan.bytes for plan in plans)


def test_the_prompt_is_no_longer_than_counting_asks_for_and_far_shorter_than_the_papers():
    for dim, tokens in SIZES:
        plan = plan_backbone(dim, tokens, 1.0, 0.03)
        assert plan.table_entries <= 2 * tokens * dim * plan.cells ** (dim * tokens)
        for row in plan.compared:
            assert row.achieved_log10 < row.paper_log10
        assert "Hu et al. 2025" in plan.summary()
        assert f"{plan.table_entries:,}" in plan.summary()


def test_the_paper_s_length_is_that_of_its_formula():
    numbers = plan_backbone(2, 2, 1.0, 0.1).compared[0]
    assert numbers.paper_log10 == pytest.approx(math.log10(2 * 2 * (2 * math.sqrt(4) / 0.1) ** 4))


@pytest.mark.parametrize(
    ("dim", "tokens", "lipschitz", "tol"), [(8, 16, 1.0, 0.1), (4, 3, 1.0, 0.01), (1, 1, 1.0, 1e-13), (2, 2, 1e6, 0.03)]
)
def test_plans_of_a_million_million_slots_are_refused_at_once_with_a_tol_that_fits(dim, tokens, lipschitz, tol):
    start = time.perf_counter()
    with pytest.raises(PlanTooLargeError) as error:
        build_backbone(dim, tokens, lipschitz, tol)
    assert time.perf_counter() - start < 5
    refused = error.value
    assert refused.plan.slots * refused.plan.hidden_size >= 10**12
    assert "slots" in str(refused)
    assert "bytes; granted are 2,147,483,648" in str(refused)
    if refused.nearest_tol is None:
        assert "no useful tol fits" in str(refused)
    else:
        assert f"tol={refused.nearest_tol:.3g} fits" in str(refused)
        assert plan_backbone(dim, tokens, lipschitz, refused.nearest_tol).bytes <= 2**31


def test_the_nearest_tol_fits_and_one_slightly_smaller_does_not():
    with pytest.raises(PlanTooLargeError) as error:
        plan_backbone(2, 2, 1.0, 0.001)
    near = error.value.nearest_tol
    assert plan_backbone(2, 2, 1.0, near).bytes <= 2**31
    with pytest.raises(PlanTooLargeError):
        plan_backbone(2, 2, 1.0, 0.95 * near)


def test_memory_can_be_granted():
    with pytest.raises(PlanTooLargeError):
        plan_backbone(1, 2, 1.0, 0.1, memory=2**20)
    assert plan_backbone(2, 2, 1.0, 0.01, memory=2**40).bytes > 2**31


def test_float32_is_refused_where_its_rounding_leaves_no_certificate():
    assert plan_backbone(1, 1, 1.0, 0.03, dtype=torch.float32).bound <= 0.03
    assert plan_backbone(2, 2, 1.0, 0.03, dtype=torch.float32).bound <= 0.03
    with pytest.raises(InputError, match="Use float64, or a larger tol"):
        plan_backbone(1, 1, 1.0, 0.0003, dtype=torch.float32)
    with pytest.raises(InputError, match="leaves no certificate"):
        plan_backbone(1, 3, 1.0, 1e-4, dtype=torch.float32, memory=2**60)


def test_constants_and_coarse_tols_take_one_cell():
    for backbone in (build_backbone(1, 2, 0.0, 0.01), build_backbone(2, 2, 1.0, 10.0)):
        assert backbone.plan.cells == 1
        prompt = backbone.prompt_for(lambda x: 0 * x + 0.25)
        assert prompt.certificate.recheck()
        x = torch.rand(20, *backbone.points().shape[1:], dtype=torch.float64)
        error = float((backbone(x, prompt) - 0.25).flatten(1).norm(dim=1).max())
        assert error <= backbone.sup_certificate(prompt).value
