"""Laws of the Lipschitz bounds: what they are never above, when they certify, and what they refuse."""

import dataclasses
import math

import pytest
import torch

from helpers.lipschitz_cases import normal, random_case
from helpers.tampering import damaged, said_otherwise
from promptreach.certificate import Certificate, Evidence, Side, Verdict
from promptreach.checkers import find
from promptreach.errors import InputError
from promptreach.limits.layers.lipschitz import lipschitz
from promptreach.limits.layers.norm_routines import FAST, NormRoutines
from promptreach.weights import AttentionWeights, FeedForwardWeights, LayerWeights, NormWeights

TWICE = NormRoutines(lambda matrix: 2 * FAST.spectral(matrix), lambda left, right: 2 * FAST.product(left, right))
"""Norms that disagree with the first path's."""


def plain(seed, *, heads=2, hidden=4, scale=1.0, causal=False, feed_forward=True):
    g = torch.Generator().manual_seed(seed)
    shape = (heads, 2, hidden)
    attention = AttentionWeights(
        *(normal(g, *shape, scale=scale) for _ in range(3)), normal(g, hidden, 2 * heads, scale=scale), causal=causal
    )
    mlp = FeedForwardWeights(normal(g, 6, hidden, scale=scale), normal(g, hidden, 6, scale=scale), "relu")
    return LayerWeights(attention, mlp if feed_forward else None)


@pytest.mark.parametrize("seed", range(25))
def test_the_bound_is_never_above_the_published_ones(seed):
    g = torch.Generator().manual_seed(seed)
    radius, tokens = 10 ** float(2 * torch.rand((), generator=g) - 1), int(torch.randint(1, 200, (), generator=g))
    for causal in (False, True):
        layer = plain(seed, scale=10 ** float(2 * torch.rand((), generator=g) - 1.5), causal=causal)
        (bound,) = lipschitz([layer], radius, tokens, states=[torch.zeros(1, 4)])
        assert set(bound.published) == {"Castin et al. 2024"} | (set() if causal else {"Wang et al. 2023"})
        assert all(bound.attention.value <= value for value in bound.published.values())


@pytest.mark.parametrize("seed", range(30))
def test_certificates_are_proved_confirmed_and_survive_a_file(seed):
    case = random_case(seed)
    (bound,) = lipschitz([case.layer], case.radius, case.tokens)
    for certificate in (bound.attention, bound.mlp, bound.total):
        assert (certificate.side, certificate.evidence) == (Side.UPPER, Evidence.PROVED)
        assert Certificate.from_dict(certificate.to_dict()).recheck()
        assert not dataclasses.replace(certificate, value=0.99 * certificate.value).recheck()
    for certificate in (bound.attention_lower, bound.mlp_lower):
        assert (certificate.side, certificate.evidence) == (Side.LOWER, Evidence.MEASURED)


@pytest.mark.parametrize("seed", range(10))
def test_bounds_grow_with_the_ball_and_with_the_tokens(seed):
    case = random_case(seed)

    def values(radius, tokens):
        (bound,) = lipschitz([case.layer], radius, tokens, iterations=1)
        return [bound.attention.value, bound.mlp.value, bound.total.value, bound.mlp_radius, bound.output_radius]

    base = values(1.0, 5)
    assert all(x <= y for x, y in zip(base, values(2.0, 5), strict=True))
    assert all(x <= y for x, y in zip(base, values(1.0, 9), strict=True))


def test_small_weights_are_certified_and_a_norm_behind_the_sum_never_is():
    layer = plain(0, scale=0.2)
    (bound,) = lipschitz([layer], 1.0, 4)
    assert (bound.invertible, bound.reasons) == (Verdict.POSSIBLE, ())
    norm = NormWeights("layer", torch.ones(4, dtype=torch.float64))
    behind = LayerWeights(layer.attention, layer.feed_forward, norm, norm, "post")
    (bound,) = lipschitz([behind], 1.0, 4)
    assert bound.invertible is Verdict.UNKNOWN
    assert "norm stands behind" in bound.reasons[0]
    (bound,) = lipschitz([plain(0, scale=3.0)], 1.0, 4)
    assert bound.invertible is Verdict.UNKNOWN
    assert len(bound.reasons) == 2


def test_bounds_are_tight_where_attention_is_linear():
    """Without scores every token becomes the mean: steepness |W_o W_v| exactly, at any length."""
    layer = plain(1, heads=1, feed_forward=False)
    layer = dataclasses.replace(layer, attention=dataclasses.replace(layer.attention, query=0 * layer.attention.query))
    (bound,) = lipschitz([layer], 5.0, 7, iterations=60)
    assert bound.attention_lower.value <= bound.attention.value <= bound.attention_lower.value * (1 + 1e-6)


def test_every_fault_is_named_at_once():
    layer = plain(0)
    nan = dataclasses.replace(layer, attention=layer.attention.to(torch.float64))
    nan.attention.query[0, 0, 0] = math.nan
    mixed = dataclasses.replace(plain(1), feed_forward=plain(1).feed_forward.to(torch.float32))
    narrow = LayerWeights(dataclasses.replace(plain(2).attention, output=torch.zeros(3, 4, dtype=torch.float64)))
    with pytest.raises(InputError) as error:
        lipschitz([nan, mixed, narrow], -1.0, 0)
    assert [fault.where for fault in error.value.faults] == [
        "layers[0]",
        "layers[1]",
        "layers[2]",
        "radius",
        "tokens",
    ]
    with pytest.raises(InputError, match="at least one layer"):
        lipschitz([], 1.0, 1)
    with pytest.raises(InputError, match="outside the ball"):
        lipschitz([plain(3)], 1.0, 2, states=[torch.full((2, 4), 3.0)])
    with pytest.raises(InputError, match="one for each layer"):
        lipschitz([plain(3)], 1.0, 2, states=[])


SMALL = lipschitz([plain(3, heads=1, hidden=2, scale=0.5)], 1.5, 3)[0]


@pytest.mark.parametrize("part", ["attention", "mlp", "total"])
def test_what_was_changed_is_refused(part):
    certificate = getattr(SMALL, part)
    assert certificate.rechecked
    assert [name for name, changed in said_otherwise(certificate) if changed.recheck()] == []
    assert [name for name, changed in damaged(certificate) if changed.recheck()] == []


@pytest.mark.parametrize(("part", "changes"), [("attention", {"ball": 3.0}), ("attention", {"tokens": 30})])
def test_a_larger_ball_or_more_tokens_need_a_larger_bound(part, changes):
    certificate = getattr(SMALL, part)
    other = {**certificate.witness, **changes}
    assert not dataclasses.replace(certificate, witness=other).recheck()
    assert not Certificate.stated(find(certificate.checker), certificate.value, other).recheck()


def test_the_network_behind_a_gate_is_looked_at_on_its_own_ball():
    gated = dataclasses.replace(plain(4).feed_forward, gate=plain(5).feed_forward.up)
    certificate = lipschitz([dataclasses.replace(plain(4), feed_forward=gated)], 1.0, 3)[0].mlp
    assert certificate.rechecked
    wider = {**certificate.witness, "ball": 1.01 * certificate.witness["ball"]}
    assert not Certificate.stated(find(certificate.checker), certificate.value, wider).recheck()


def test_a_bound_that_is_not_confirmed_certifies_no_layer(monkeypatch):
    monkeypatch.setattr("promptreach.limits.layers.lipschitz.THOROUGH", TWICE)
    (bound,) = lipschitz([plain(0, scale=0.2)], 1.0, 4)
    assert bound.attention.evidence is Evidence.UNKNOWN
    assert bound.invertible is Verdict.UNKNOWN
    assert "not confirmed: its second code path did not confirm it" in bound.reasons[0]
