"""Refitted landmarks are the ridge solution."""

import torch

from helpers.attention_problems import smooth_head
from helpers.tolerances import assert_close
from promptreach.fast_attention.fused import fused_statistics
from promptreach.fast_attention.sampled.centres import draw_centres
from promptreach.fast_attention.sampled.refit import Refit


def test_refit_is_the_ridge_solution_on_either_side() -> None:
    query, key, value = smooth_head(400, 900, dtype=torch.float64)
    query, key = query * 8**-0.5, key - key.mean(dim=0)
    exact = fused_statistics(query, key, value)
    slots = draw_centres(query, exact.lse[:64], key, value, 60, torch.Generator().manual_seed(0))
    for rows in (30, 300):
        part = type(exact)(exact.lse[:rows], exact.mean[:rows])
        refit = Refit(query[:rows], part, slots, value)
        assert refit.dual == (rows < len(slots.key))
        ridge = 1e-3 * rows / 1000
        normal = refit.phi.T @ refit.phi + ridge * torch.eye(len(slots.key), dtype=torch.float64)
        wanted = refit.prior + torch.linalg.solve(normal, refit.phi.T @ refit.rest)
        landmarks = refit.landmarks(1e-3)
        assert landmarks is not None
        assert_close(landmarks.weight, wanted[:, -1] / refit.unit, "fused statistic")
        assert_close(landmarks.numerator, wanted[:, :-1] + landmarks.weight[:, None] * refit.middle, "fused statistic")
