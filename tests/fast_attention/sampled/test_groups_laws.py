"""Groups of one size hold every point once, close together."""

import torch

from helpers.attention_problems import smooth_head
from helpers.tolerances import assert_close
from promptreach.fast_attention.sampled.groups import bisect, metric


def test_groups_hold_every_point_with_weight_one() -> None:
    points = torch.randn(1003, 5, generator=torch.Generator().manual_seed(0))
    groups = bisect(points, 64)
    assert groups.index.shape == (64, 16)
    weight = torch.zeros(1003).index_add_(0, groups.index.flatten(), groups.log_weight.flatten().exp())
    assert_close(weight, torch.ones(1003), "fused statistic")
    inside = (points[groups.index] - points[groups.index].mean(dim=1, keepdim=True)).square().sum()
    assert float(inside) < 0.5 * float((points - points.mean(dim=0)).square().sum())
    assert torch.equal(groups.index, bisect(points, 64).index)


def test_metric_measures_score_differences() -> None:
    query, key, _ = smooth_head(500, 20, dtype=torch.float64)
    centred = query - query.mean(dim=0)
    seen = (centred @ (key[0] - key[1])).square().mean().sqrt()
    assert_close(((key[0] - key[1]) @ metric(query)).norm(), seen, "fused statistic")
