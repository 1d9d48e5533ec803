"""Inverses against inputs that are known, refusals, and the two-layer map that loses its content."""

import dataclasses
import re
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
import torch

from helpers.lipschitz_cases import ACTIVATIONS, contracting, normal
from helpers.tampering import damaged, said_otherwise
from promptreach import reference, rounding
from promptreach.certificate import Certificate, Evidence, Side
from promptreach.checkers import find
from promptreach.errors import InputError, NotContractingError
from promptreach.limits.layers.invert import injective_consequence, invert
from promptreach.limits.layers.lipschitz import layer_sizes, lipschitz
from promptreach.weights import AttentionWeights, LayerWeights, NormWeights


def assert_recovered(found, inputs) -> None:
    assert float((found.inputs - inputs).norm()) <= found.error.value


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("gated", [False, True])
def test_the_inputs_come_back_within_the_certified_error(activation, causal, gated):
    layers = [contracting(seed, causal=causal, gated=gated, activation=activation) for seed in range(3)]
    g = torch.Generator().manual_seed(9)
    inputs = normal(g, 5, 4, scale=0.4)
    found = invert(layers, reference.transformer(layers, inputs))
    # The outputs are float64 values of the exact map, off by a rounding that the inverse map at most multiplies by 100.
    assert float((found.inputs - inputs).norm()) <= found.error.value + 1e-13
    assert found.error.value <= 1e-9
    assert (found.error.side, found.error.evidence) == (Side.UPPER, Evidence.PROVED)
    assert len(found.radii) == len(layers)
    assert Certificate.from_dict(found.error.to_dict()).recheck()


def test_a_coarse_tolerance_is_still_certified_and_a_false_error_is_refuted():
    layers = [contracting(0), contracting(1)]
    inputs = normal(torch.Generator().manual_seed(1), 3, 4, scale=0.4)
    found = invert(layers, reference.transformer(layers, inputs), tol=1e-2)
    assert_recovered(found, inputs)
    assert found.error.value > 1e-8
    assert not dataclasses.replace(found.error, value=1e-9).recheck()
    with pytest.raises(AssertionError):
        assert_recovered(found, inputs + 0.1)


def test_claims_name_no_larger_ball_than_the_one_that_was_looked_at():
    radius = 1.2345678
    layers = [contracting(0, causal=True)]
    assert f"radius {radius}," in injective_consequence(layers, radius, 4).claim
    bound = lipschitz(layers, radius, 4)[0]
    assert f"norm at most {radius}," in bound.attention.claim
    stated = float(re.search(r"norm at most (\S+),", bound.mlp.claim)[1])
    with localcontext(rounding.WIDE):
        assert stated <= layer_sizes(layers[0], Decimal(radius), 4).mlp_radius <= bound.mlp_radius
    found = invert(layers, reference.transformer(layers, normal(torch.Generator().manual_seed(1), 3, 4, scale=0.4)))
    assert f"at most {found.radii[0]}, exactly one" in found.error.claim


def test_weights_under_training_leave_no_graph():
    layer = contracting(0, causal=True)
    learning = dataclasses.replace(
        layer, attention=dataclasses.replace(layer.attention, value=layer.attention.value.clone().requires_grad_())
    )
    outputs = normal(torch.Generator().manual_seed(1), 3, 4, scale=0.4)
    found = invert([learning], outputs)
    assert not found.inputs.requires_grad
    assert found.error.recheck()
    assert injective_consequence([learning], 1.0, 4).recheck()
    assert lipschitz([learning], 1.0, 4)[0].attention.recheck()


def test_what_is_not_certified_is_refused_with_every_reason():
    outputs = torch.zeros(2, 4, dtype=torch.float64)
    norm = NormWeights("rms", torch.ones(4, dtype=torch.float64))
    normed = LayerWeights(contracting(0).attention, None, norm, None, "pre")
    rotary = LayerWeights(dataclasses.replace(contracting(0).attention, rotary=True))
    with pytest.raises(NotContractingError) as error:
        invert([normed, rotary], outputs)
    assert len(error.value.reasons) == 2
    with pytest.raises(NotContractingError, match="not below 1"):
        invert([contracting(0, scale=2.0)], outputs)
    with pytest.raises(NotContractingError):
        invert([contracting(0)], 1e6 + outputs)  # the ball that holds these inputs is too large
    with pytest.raises(InputError, match="shape"):
        invert([contracting(0)], torch.zeros(2, 3))
    with pytest.raises(InputError, match="not finite"):
        invert([contracting(0)], outputs / 0)


@pytest.mark.parametrize("seed", range(5))
def test_no_two_contents_come_closer_than_certified_behind_one_prompt(seed):
    layers = [contracting(seed + k, causal=True) for k in range(2)]
    consequence = injective_consequence(layers, radius=1.0, tokens=6)
    assert consequence.evidence is Evidence.PROVED
    assert 0 < consequence.value < 1
    assert Certificate.from_dict(consequence.to_dict()).recheck()
    assert not dataclasses.replace(consequence, value=consequence.value * (1 + 1e-6)).recheck()
    loose = [
        dataclasses.replace(layer, attention=dataclasses.replace(layer.attention, causal=False)) for layer in layers
    ]
    for tampered in ({"layers": [layer.packed() for layer in loose]}, {"radius": 2.0}, {"radius": 1e6}):
        assert not dataclasses.replace(consequence, witness={**consequence.witness, **tampered}).recheck()
    g = torch.Generator().manual_seed(seed)
    prompt = torch.nn.functional.normalize(normal(g, 2, 4), dim=1)
    for size in (1.0, 1e-3):
        first, change = 0.4 * torch.nn.functional.normalize(normal(g, 4, 4), dim=1), normal(g, 4, 4)
        second = first + 0.4 * size * change / change.norm()
        outputs = [reference.transformer(layers, torch.cat([prompt, x]))[2:] for x in (first, second)]
        assert float((outputs[0] - outputs[1]).norm()) >= consequence.value * float((first - second).norm())


def test_bidirectional_and_steep_stacks_get_no_consequence():
    for layers, reason in (
        ([contracting(0)], "bidirectional"),
        ([contracting(0, causal=True, scale=2.0)], "not below 1"),
    ):
        consequence = injective_consequence(layers, 1.0, 4)
        assert consequence.evidence is Evidence.UNKNOWN
        assert consequence.value == 0
        assert reason in consequence.reason
        assert not consequence.recheck()


def test_a_jointly_injective_bidirectional_map_may_lose_its_content():
    """Two linear layers (P, X) -> z + G z with |G| = 0.9 and 0.5: jointly invertible, yet X's output is constantly 0.

    The first sends content into the prompt's place and keeps a tenth of it; the second cancels the rest. So full
    contraction says nothing about content alone, and `injective_consequence` asks for causal layers.
    """
    first = torch.tensor([[0.0, 0.9], [-0.9, 0.0]], dtype=torch.float64)
    eye = torch.eye(2, dtype=torch.float64)
    # With P = 0 the stream after the first layer is (0.9 X, X). The second adds -g (0.9 X) ... to the content.
    reached = (eye + first) @ torch.tensor([0.0, 1.0], dtype=torch.float64)
    second = torch.outer(torch.tensor([0.0, -1.0], dtype=torch.float64), reached) / float(reached @ reached)
    assert torch.linalg.matrix_norm(first, ord=2) <= 0.9 + 1e-12
    size = float(torch.linalg.matrix_norm(second, ord=2))
    assert size < 1
    joint = (eye + second) @ (eye + first)
    assert abs(float(torch.linalg.det(joint))) > 0.2
    assert abs(float(joint[1, 1])) < 1e-15


# --- changed certificates, and the ends of float64


def made() -> dict[str, Certificate]:
    layers = [contracting(0, causal=True, heads=1, hidden=2)]
    inputs = normal(torch.Generator().manual_seed(2), 3, 2, scale=0.4)
    return {
        "inverse": invert(layers, reference.transformer(layers, inputs)).error,
        "injective": injective_consequence(layers, 1.0, 6),
    }


MADE = made()


@pytest.mark.parametrize("certificate", MADE.values(), ids=MADE)
def test_what_was_changed_is_refused(certificate):
    assert certificate.recheck()
    assert [name for name, changed in said_otherwise(certificate) if changed.recheck()] == []
    assert [name for name, changed in damaged(certificate) if changed.recheck()] == []


@pytest.mark.parametrize("step", [-1.0, -1e-6, 1e-6, 1.0])
@pytest.mark.parametrize("state", [0, 1, 2])
def test_inverses_and_outputs_that_were_shifted_are_refused(step, state):
    certificate = MADE["inverse"]
    shifted = certificate.witness["states"].clone()
    shifted[state] += step
    for value in (certificate.value, 1e-7):
        witness = {**certificate.witness, "states": shifted}
        assert not dataclasses.replace(certificate, value=value, witness=witness).recheck()


@pytest.mark.parametrize("factor", [0.5, 2.0, 1e6])
def test_another_ball_in_claim_and_witness_is_taken_only_where_it_holds(factor):
    """A smaller ball than the solution needs, and one on which nothing contracts, are refused with their own claims."""
    inverse, injective = MADE["inverse"], MADE["injective"]
    radii = inverse.witness["radii"]
    other = {**inverse.witness, "radii": factor * radii}
    assert not dataclasses.replace(inverse, witness=other).recheck()
    rewritten = Certificate.stated(find(inverse.checker), inverse.value, other)
    assert not rewritten.recheck()
    wider = Certificate.stated(find(injective.checker), injective.value, {**injective.witness, "radius": factor})
    assert wider.recheck() is (factor == 0.5)


@pytest.mark.parametrize("size", [1e-310, 1e-165, 1.0])
def test_the_smallest_outputs_come_back_within_their_error(size):
    """With one linear branch the inverse is known to any precision: x + W x = y."""
    weights = torch.tensor([[0.1, 0.3], [-0.2, 0.25]], dtype=torch.float64)
    zero = torch.zeros(1, 1, 2, dtype=torch.float64)
    layer = LayerWeights(
        AttentionWeights(zero, zero, weights[None], torch.eye(2, dtype=torch.float64), scale=1.0, causal=True)
    )
    outputs = size * torch.tensor([[0.7, -0.4]], dtype=torch.float64)
    found = invert([layer], outputs, tol=max(1e-12 * size, 5e-324))
    assert found.error.evidence is Evidence.PROVED
    (a, b), (c, d) = ([Fraction(x) for x in row] for row in weights.tolist())
    a, d = 1 + a, 1 + d
    first, second = (Fraction(x) for x in outputs[0].tolist())
    solution = [(d * first - b * second) / (a * d - b * c), (a * second - c * first) / (a * d - b * c)]
    squares = sum((Fraction(x) - y) ** 2 for x, y in zip(found.inputs[0].tolist(), solution, strict=True))
    assert squares <= Fraction(found.error.value) ** 2
    assert found.error.value <= 1e-9 * size + 1e-318
