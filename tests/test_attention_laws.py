"""Laws of the split that hold for every query, key, value, mask, scale and grouping of heads."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import config as jaxtyping_config

from helpers.tolerances import assert_close
from promptreach.attention import Statistics, merge, split, statistics
from promptreach.errors import InputError


@st.composite
def problems(draw):
    """Arguments of `split` in float64: any batch, grouping of heads, lengths (also 0), mask, and size of scores."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    kv_heads, group, q, n, m = (draw(st.integers(low, 3)) for low in (1, 1, 1, 0, 0))
    batch = draw(st.sampled_from([(), (2,)]))
    spread = draw(st.sampled_from([0.1, 1.0, 30.0]))

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    heads = kv_heads * group
    mask = {
        "none": None,
        "bool": torch.rand((*batch, heads, q, n), generator=generator) < 0.6,
        "float": normal(*batch, 1, q, n).masked_fill(
            torch.rand((*batch, 1, q, n), generator=generator) < 0.4, -math.inf
        ),
    }[draw(st.sampled_from(["none", "bool", "float"]))]
    return {
        "query": spread * normal(*batch, heads, q, 4),
        "keys": normal(*batch, kv_heads, n, 4),
        "values": normal(*batch, kv_heads, n, 3),
        "prompt_keys": normal(kv_heads, m, 4),
        "prompt_values": normal(kv_heads, m, 3),
        "scale": draw(st.sampled_from([None, 1.0, 0.3, -0.5])),
        "mask": mask,
    }


def dense(query, keys, values, prompt_keys, prompt_values, scale=None, mask=None):
    """Softmax attention over [prompt, content] by the textbook: the weights (..., q, m + n) and the output."""
    groups = query.shape[-3] // keys.shape[-3]
    batch = keys.shape[:-3]
    keys = torch.cat([prompt_keys.expand(*batch, *prompt_keys.shape), keys], dim=-2).repeat_interleave(groups, -3)
    values = torch.cat([prompt_values.expand(*batch, *prompt_values.shape), values], dim=-2).repeat_interleave(
        groups, -3
    )
    scores = query @ keys.mT * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    m = prompt_keys.shape[-2]
    if mask is not None:
        content = scores[..., m:]
        content = torch.where(mask, content, -math.inf) if mask.dtype == torch.bool else content + mask
        scores = torch.cat([scores[..., :m], content], dim=-1)
    weights = torch.softmax(scores, dim=-1)
    return weights, weights @ values


@settings(max_examples=150)
@given(problems())
def test_the_mixture_is_softmax_attention(problem):
    weights, output = dense(**problem)
    m = problem["prompt_keys"].shape[-2]
    sees_something = weights.isfinite().all(-1) if weights.shape[-1] else weights.new_zeros(weights.shape[:-1]).bool()
    result = split(**problem)
    assert_close(result.output[sees_something], output[sees_something], "attention output")
    assert_close(result.share[sees_something], weights[..., :m].sum(-1)[sees_something], "attention share")
    assert_close(
        torch.sigmoid(-result.log_odds)[sees_something], weights[..., m:].sum(-1)[sees_something], "attention share"
    )
    assert (result.output[~sees_something] == 0).all()


@settings(max_examples=100)
@given(problems())
def test_the_prompt_never_changes_the_content_output(problem):
    without = split(
        **{**problem, "prompt_keys": problem["prompt_keys"][:, :0], "prompt_values": problem["prompt_values"][:, :0]}
    )
    assert_close(split(**problem).content, without.content, "attention output")
    assert (without.share == 0).all()
    assert (without.prompt == 0).all()


@settings(max_examples=100)
@given(problems())
def test_split_is_two_statistics(problem):
    content = statistics(*(problem[name] for name in ("query", "keys", "values", "scale", "mask")))
    prompt = statistics(*(problem[name] for name in ("query", "prompt_keys", "prompt_values", "scale")))
    result = split(**problem)
    assert_close(result.content, content.mean, "attention output")
    assert_close(result.prompt, prompt.mean, "attention output")
    seen = content.lse.isfinite() & prompt.lse.isfinite()
    assert_close(result.log_odds[seen], (prompt.lse - content.lse)[seen], "attention statistic")
    assert_close(result.output, merge(content, prompt).mean, "attention output")


def assert_same(first: Statistics, second: Statistics) -> None:
    assert_close(first.lse, second.lse, "attention statistic")
    assert_close(first.mean, second.mean, "attention output")


@settings(max_examples=100)
@given(st.integers(0, 2**32), st.sampled_from([0.1, 1.0, 100.0]), st.tuples(*[st.integers(0, 3)] * 3))
def test_merging_is_commutative_associative_and_has_a_neutral_element(seed, spread, sizes):
    generator = torch.Generator().manual_seed(seed)
    query = spread * torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    sets = [torch.randn(2, 2, n, 4, generator=generator, dtype=torch.float64) for n in sizes]
    a, b, c = (statistics(query, keys, values) for keys, values in sets)
    empty = Statistics(torch.full_like(a.lse, -math.inf), torch.zeros_like(a.mean))
    assert_same(merge(a, b), merge(b, a))
    assert_same(merge(merge(a, b), c), merge(a, merge(b, c)))
    assert_same(merge(a, empty), a)
    assert_same(merge(empty, a), a)


def test_the_comparison_of_statistics_can_fail():
    one = Statistics(torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, 1, 2, dtype=torch.float64))
    with pytest.raises(AssertionError):
        assert_same(one, one._replace(lse=one.lse + 1e-9))
    with pytest.raises(AssertionError):
        assert_same(one, one._replace(mean=one.mean + 1e-9))


def test_merging_is_attention_over_the_union():
    generator = torch.Generator().manual_seed(0)
    query, keys, values = (torch.randn(2, 5, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    parts = [statistics(query, keys[:, i : i + 1], values[:, i : i + 1]) for i in range(5)]
    merged = parts[0]
    for part in parts[1:]:
        merged = merge(merged, part)
    assert_same(merged, statistics(query, keys, values))


@settings(max_examples=60)
@given(problems())
def test_gradients_are_finite_and_those_of_dense_attention(problem):
    leaves = [problem[name].requires_grad_() for name in ("query", "keys", "values", "prompt_keys", "prompt_values")]
    result = split(**problem)
    _, output = dense(**problem)
    finite = output.isfinite().all(-1)
    everything = result.output.square().sum() + result.share.sum() + result.content.sum() + result.prompt.sum()
    for gradient in torch.autograd.grad(everything, leaves, allow_unused=True, retain_graph=True):
        assert gradient is None or gradient.isfinite().all()
    if finite.all():
        ours = torch.autograd.grad(result.output.square().sum(), leaves)
        dense_gradients = torch.autograd.grad(output.square().sum(), leaves)
        for one, other in zip(ours, dense_gradients, strict=True):
            assert_close(one, other, "attention gradient")


def test_gradients_of_merge_are_finite_for_empty_sets():
    lse = torch.tensor([[0.0, -math.inf, -math.inf]], dtype=torch.float64)
    other = torch.tensor([[-math.inf, 0.0, -math.inf]], dtype=torch.float64)
    leaf = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    merged = merge(
        Statistics((leaf + 1).masked_fill(lse.isinf(), -math.inf), torch.zeros(1, 3, 2, dtype=torch.float64)),
        Statistics((leaf + 1).masked_fill(other.isinf(), -math.inf), torch.zeros(1, 3, 2, dtype=torch.float64)),
    )
    (gradient,) = torch.autograd.grad(merged.lse[:, :2].sum() + merged.mean.sum(), leaf)
    assert gradient.tolist() == [[1.0, 1.0, 0.0]]


@pytest.mark.parametrize(
    "change", ["head_dim", "positions", "heads", "mask dtype", "mask shape", "batch", "value_dim", "axes"]
)
def test_every_wrong_shape_is_named(change, monkeypatch):
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)  # the library's own message is under test
    arguments = {
        "query": torch.zeros(2, 4, 3, 8),
        "keys": torch.zeros(2, 2, 5, 8),
        "values": torch.zeros(2, 2, 5, 6),
        "prompt_keys": torch.zeros(2, 1, 8),
        "prompt_values": torch.zeros(2, 1, 6),
    }
    wrong, named = {
        "head_dim": ({"prompt_keys": torch.zeros(2, 1, 7)}, "prompt_keys"),
        "positions": ({"values": torch.zeros(2, 2, 4, 6)}, "values"),
        "heads": ({"keys": torch.zeros(2, 3, 5, 8)}, "keys"),
        "mask dtype": ({"mask": torch.ones(3, 5, dtype=torch.int64)}, "mask"),
        "mask shape": ({"mask": torch.ones(2, 5, dtype=torch.bool)}, "mask"),
        "batch": ({"keys": torch.zeros(3, 2, 5, 8)}, "keys"),
        "value_dim": ({"prompt_values": torch.zeros(2, 1, 7)}, "prompt_values"),
        "axes": ({"values": torch.zeros(6)}, "values"),
    }[change]
    split(**arguments)
    with pytest.raises(InputError) as caught:
        split(**{**arguments, **wrong})
    assert [fault.where for fault in caught.value.faults] == [named]


@pytest.mark.parametrize(
    ("batches", "named"),
    [
        ((1, 2, 3, 1, 1), ["values"]),  # keys and values apart, where the query goes with both
        ((1, 2, 2, 3, 3), ["prompt_keys", "prompt_values"]),  # content and prompt apart, likewise
    ],
)
def test_batches_that_do_not_broadcast_among_all_are_named(batches, named, monkeypatch):
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    with pytest.raises(InputError) as caught:
        split(*(torch.zeros(batch, 1, 3, 4) for batch in batches))
    assert [fault.where for fault in caught.value.faults] == named


def test_a_mask_may_follow_the_batch_of_the_keys(monkeypatch):
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    query, keys, mask = torch.zeros(1, 1, 3, 4), torch.zeros(2, 1, 3, 4), torch.ones(2, 1, 3, 3, dtype=torch.bool)
    assert split(query, keys, keys, keys, keys, mask=mask).output.shape == (2, 1, 3, 4)


def test_no_heads_at_all_are_named(monkeypatch):
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    with pytest.raises(InputError, match="0 key/value heads"):
        split(*(torch.zeros(0, 3, 4) for _ in range(5)))


def test_all_wrong_shapes_are_named_at_once(monkeypatch):
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    with pytest.raises(InputError) as caught:
        split(torch.zeros(3, 8), torch.zeros(5, 7), torch.zeros(4, 6), torch.zeros(1, 7), torch.zeros(1, 6))
    assert [fault.where for fault in caught.value.faults] == ["keys", "values", "prompt_keys"]


def test_equal_statistics_are_equal_to_every_prompt_and_unequal_ones_are_not():
    generator = torch.Generator().manual_seed(2)
    query, keys, values, prompt_keys, prompt_values = (
        torch.randn(3, 4, generator=generator, dtype=torch.float64) for _ in range(5)
    )
    # Every key twice at half its mass: other content, same statistics.
    halved = torch.full((3, 6), -math.log(2), dtype=torch.float64)
    twin = split(query, keys.repeat(2, 1), values.repeat(2, 1), prompt_keys, prompt_values, mask=halved)
    original = split(query, keys, values, prompt_keys, prompt_values)
    assert_close(twin.output, original.output, "attention output")
    # Without the halving the mean is equal and the mass is not: the content alone does not show it, a prompt does.
    doubled = split(query, keys.repeat(2, 1), values.repeat(2, 1), prompt_keys, prompt_values)
    assert_close(doubled.content, original.content, "attention output")
    assert ((doubled.output - original.output).abs() > 1e-3).any(dim=-1).all()
