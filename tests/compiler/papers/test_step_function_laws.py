"""Step functions as relu layers: both forms hold every height exactly and agree with one plain layer."""

import pytest
import torch

from helpers.compiler_cases import feed_forward_weights, silent_attention
from promptreach import reference
from promptreach.compiler.papers.step_function import NarrowSteps, StepFunction, WideSteps, changes
from promptreach.compiler.parts.blocks import Stream
from promptreach.weights import LayerWeights


def random_staircase(count, out, generator):
    heights = torch.randint(0, 3, (count, out), generator=generator).double()
    ids = torch.arange(count) * 5 + torch.randint(1, 4, (count,), generator=generator)
    at = changes(heights)
    offset = ids[at].double()
    return ids, heights, StepFunction(torch.ones_like(offset), offset, heights.diff(dim=0)[at], heights[0])


def run(kind, staircase, t):
    out = staircase.jumps.shape[1]
    stream = Stream(t=1, y=out)
    ladder = kind("table", stream, "t", "y", staircase)
    states = torch.zeros(len(t), 1 + out, dtype=torch.float64)
    states[:, 0] = t.double()
    return ladder, ladder(states.clone())[:, 1:], states


@pytest.mark.parametrize("count", [1, 2, 40])
@pytest.mark.parametrize("out", [1, 2])
def test_both_forms_hold_every_height_exactly_and_agree_with_one_plain_layer(count, out):
    generator = torch.Generator().manual_seed(count)
    ids, heights, staircase = random_staircase(count, out, generator)
    between = torch.rand(100, generator=generator, dtype=torch.float64) * float(ids[-1] + 1)
    results = []
    for kind in (WideSteps, NarrowSteps):
        _, found, _ = run(kind, staircase, ids)
        assert torch.equal(found, heights)
        ladder, everywhere, states = run(kind, staircase, between)
        results.append(everywhere)
        weights = feed_forward_weights(ladder)
        for row, state in zip(everywhere, states, strict=True):
            plain = reference.layer(LayerWeights(silent_attention(len(state)), weights), state[None])[0]
            torch.testing.assert_close(plain[1:], row, rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(*results, rtol=1e-13, atol=1e-13)
    assert float(results[0].min()) >= float(heights.min())
    assert float(results[0].max()) <= float(heights.max())


def test_a_constant_needs_no_jump():
    heights = torch.ones(4, 1, dtype=torch.float64)
    none = torch.zeros(0, dtype=torch.float64)
    assert len(changes(heights)) == 0
    for kind in (WideSteps, NarrowSteps):
        _, found, _ = run(kind, StepFunction(none, none, none[:, None], heights[0]), torch.arange(4))
        assert torch.equal(found, heights)
