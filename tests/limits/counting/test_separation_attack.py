"""Data that need a token an example and one change of rank one: the bound, what fits, and changed certificates."""

import dataclasses
import math

import pytest
import torch

from helpers.changed_certificates import changed_fields
from helpers.oracle_problems import normal, random_weights
from helpers.tampering import damaged, said_otherwise
from promptreach import blocks
from promptreach.certificate import Evidence, Side
from promptreach.errors import InputError
from promptreach.limits import NotCertifiedError, nearly_one_slot, rank_one_separation, token_floors
from promptreach.limits.oracle.forward import last_outputs
from promptreach.weights import AttentionWeights, FeedForwardWeights, LayerWeights, NormWeights

ROUNDING = 1e-10


def contracting(hidden, width, seed, size=0.7, activation="gelu"):
    draw = normal(seed)
    up, down = draw(width, hidden), draw(hidden, width)
    down = down * size / (torch.linalg.matrix_norm(down, 2) * torch.linalg.matrix_norm(up, 2)) / 1.13
    return FeedForwardWeights(up, down, activation, up_bias=draw(width), down_bias=draw(hidden))


def layer_outputs(layer, sequences, change=None):
    """The layer at each last token in float64, its second matrix changed."""
    rows = []
    for item in sequences:
        stream = item[-1] + blocks.attend(layer.attention, item)[-1]
        network = layer.feed_forward
        if change is not None:
            network = dataclasses.replace(network, down=network.down + change)
        rows.append(stream + blocks.feed_forward(network, stream[None])[0])
    return torch.stack(rows)


@pytest.mark.parametrize(("hidden", "size", "out", "examples"), [(8, 8, None, 4), (20, 6, 9, 3), (6, 6, 8, 1)])
def test_a_head_needs_a_token_for_each_example_and_one_change_of_its_projection(hidden, size, out, examples):
    weights = random_weights(hidden, size, 3, out=out)
    data = rank_one_separation(LayerWeights(weights), examples, seed=1)
    assert (data.tokens.value, data.tokens.side, data.tokens.evidence) == (examples, Side.LOWER, Evidence.PROVED)
    assert (data.numbers.value, data.numbers.side) == (weights.output_size + size, Side.UPPER)
    assert data.tokens.recheck()
    assert data.numbers.recheck()
    assert data.prompt.length == len(data.sequences) == examples
    assert max(data.prompt_error, data.update_error) < ROUNDING
    assert bool((data.sizes > 0).all())
    wanted = last_outputs(weights, data.sequences) + data.sizes[:, None] * data.direction
    assert torch.allclose(data.targets, wanted, rtol=ROUNDING)
    reached = last_outputs(weights, data.sequences, None, data.prompt)
    assert torch.allclose(reached, data.targets, rtol=0, atol=ROUNDING * float(wanted.abs().max()))
    output = torch.eye(size, dtype=torch.float64) if out is None else weights.output
    changed = dataclasses.replace(weights, output=output + torch.outer(data.left, data.right))
    if out is None:
        changed = dataclasses.replace(changed, output_bias=weights.output_bias)
    assert torch.allclose(last_outputs(changed, data.sequences), data.targets, rtol=0, atol=1e-8)


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
def test_a_layer_with_a_contracting_network_needs_them_too(activation):
    layer = LayerWeights(random_weights(8, 8, 5), contracting(8, 20, 6, activation=activation))
    data = rank_one_separation(layer, 3)
    assert (data.tokens.value, data.numbers.value) == (3, 8 + 20)
    assert data.tokens.recheck()
    assert data.numbers.recheck()
    assert max(data.prompt_error, data.update_error) < ROUNDING
    change = torch.outer(data.left, data.right)
    assert torch.allclose(layer_outputs(layer, data.sequences, change), data.targets, rtol=0, atol=1e-8)
    with_prompt = [torch.cat([data.prompt.embeddings, item]) for item in data.sequences]
    assert torch.allclose(layer_outputs(layer, with_prompt), data.targets, rtol=0, atol=1e-8)


def test_one_slot_comes_as_near_as_one_likes_and_no_floor_says_otherwise():
    weights = random_weights(8, 8, 2)
    data = rank_one_separation(LayerWeights(weights), 4)
    errors = [nearly_one_slot(weights, data, size)[1] for size in (1e2, 1e4, 1e6)]
    assert errors[0] < 1
    assert errors[1] < errors[0] / 50
    assert errors[2] < errors[1] / 50
    floors = token_floors(weights, data.sequences, data.targets)
    assert all(floor.value <= error for floor in floors[:1] for error in errors)
    prefix, _ = nearly_one_slot(weights, data, 1e3)
    assert prefix.length == 1


def test_a_network_keeps_free_slots_off_too():
    layer = LayerWeights(random_weights(8, 8, 5), contracting(8, 20, 6))
    data = rank_one_separation(layer, 3)
    # The changes of the stream that the targets ask for differ in direction, since the network bends.
    moved = [torch.cat([data.prompt.embeddings, item]) for item in data.sequences]
    streams = [
        torch.stack([blocks.attend(layer.attention, item)[-1] for item in rows]) for rows in (data.sequences, moved)
    ]
    assert torch.linalg.matrix_rank(streams[1] - streams[0], rtol=1e-6) == 3
    assert token_floors(layer.attention, data.sequences, streams[1], [2])[0].value > 0


def test_dependent_data_are_refused():
    weights = random_weights(8, 8, 2)
    data = rank_one_separation(LayerWeights(weights), 3)
    witness = data.tokens.witness
    twice = [witness["sequences"][0], *witness["sequences"][:2]]
    assert not dataclasses.replace(data.tokens, witness={**witness, "sequences": twice}).recheck()
    bare = last_outputs(weights, data.sequences) - weights.output_bias
    assert not dataclasses.replace(data.tokens, witness={**witness, "direction": bare[1] - bare[0]}).recheck()
    near = bare[1] * (1 + 1e-15)
    assert not dataclasses.replace(data.tokens, witness={**witness, "direction": near}).recheck()


@pytest.mark.parametrize("with_network", [False, True])
def test_certificates_that_were_changed_are_refused(with_network):
    layer = LayerWeights(random_weights(5, 5, 2), contracting(5, 9, 6) if with_network else None)
    data = rank_one_separation(layer, 2)
    for certificate, step in ((data.tokens, 1.0), (data.numbers, -1.0)):
        assert [what for what, other in said_otherwise(certificate) if other.recheck()] == []
        assert [what for what, other in changed_fields(certificate) if other.recheck()] == []
        if not with_network:
            assert [what for what, other in damaged(certificate) if other.recheck()] == []
        for value in (certificate.value + step, math.inf, -math.inf):
            assert not dataclasses.replace(certificate, value=value).recheck()
        zero = torch.zeros_like(data.sizes)
        assert not dataclasses.replace(certificate, witness={**certificate.witness, "sizes": zero}).recheck()


def test_a_network_that_may_not_contract_is_not_taken_in_a_witness():
    layer = LayerWeights(random_weights(5, 5, 2), contracting(5, 9, 6))
    data = rank_one_separation(layer, 2)
    packed = data.tokens.witness["layer"]
    wide = {**packed, "feed_forward": {**packed["feed_forward"], "down": 3 * packed["feed_forward"]["down"]}}
    assert not dataclasses.replace(data.tokens, witness={**data.tokens.witness, "layer": wide}).recheck()


def test_layers_that_do_not_fit_are_refused_with_a_way_on():
    square = random_weights(6, 6, 0)
    for layer, examples, words in (
        (LayerWeights(random_weights(6, 6, 0, heads=2, out=6)), 2, "2 heads"),
        (LayerWeights(square), 6, "1 to 5"),
        (LayerWeights(square, contracting(6, 8, 1)), 4, "1 to 3"),
        (LayerWeights(square, contracting(6, 8, 1, size=2.0)), 2, "below 1"),
        (LayerWeights(random_weights(6, 3, 0, out=6), contracting(6, 8, 1)), 1, "spans the stream"),
        (
            LayerWeights(square, attention_norm=NormWeights("rms", torch.ones(6).double()), norm_position="pre"),
            2,
            "norms",
        ),
        (LayerWeights(dataclasses.replace(square, rotary=True)), 2, "rotary"),
    ):
        with pytest.raises(InputError, match=words):
            rank_one_separation(layer, examples)
    silent = AttentionWeights(square.query, square.key, torch.zeros_like(square.value))
    with pytest.raises(NotCertifiedError):
        rank_one_separation(LayerWeights(silent), 2)
    data = rank_one_separation(LayerWeights(square), 2)
    with pytest.raises(InputError, match="a positive number"):
        nearly_one_slot(square, data, 0.0)
    with pytest.raises(InputError, match="of another layer"):
        nearly_one_slot(random_weights(7, 7, 0), data, 10.0)
