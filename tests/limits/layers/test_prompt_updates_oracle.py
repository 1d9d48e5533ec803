"""Changes of weights that stand for a prompt, against the reference layer in plain loops and real architectures."""

import dataclasses

import pytest
import torch

from helpers.lipschitz_cases import rotation
from helpers.models import tiny_model
from helpers.oracle_problems import normal, random_weights
from promptreach import reference
from promptreach.errors import InputError
from promptreach.hf import layer_weights
from promptreach.limits import prompt_to_update, update_errors
from promptreach.prompt import Prefix, SoftPrompt
from promptreach.weights import LayerWeights

ROUNDING = 1e-12


def layer_of(family):
    return layer_weights(tiny_model(family))[0].to(torch.float64)


def with_output(layer, output):
    return dataclasses.replace(layer, attention=dataclasses.replace(layer.attention, output=output))


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
def test_one_tokens_change_gives_the_layer_with_the_prompt_by_plain_loops(family):
    layer, draw = layer_of(family), normal(1)
    prompt, inputs = SoftPrompt(draw(3, 32)), draw(4, 32)
    update = prompt_to_update(layer, prompt, [inputs])
    wanted = reference.layer(layer, torch.cat([prompt.embeddings, inputs]))[3:]
    for token in range(4):
        changed = with_output(layer, layer.attention.output + torch.outer(update.left[token], update.right[token]))
        error = (reference.layer(changed, inputs)[token] - wanted[token]).abs().max() / wanted.abs().max()
        assert float(error) < ROUNDING
    shared = with_output(layer, layer.attention.output + update.down @ update.up)
    assert float((reference.layer(shared, inputs) - wanted).abs().max() / wanted.abs().max()) < 1e-9
    assert max(update.residual, update.shared_residual) < 1e-9


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "qwen3"])
def test_random_layers_of_four_families(family):
    layer, draw = layer_of(family), normal(2)
    weights = layer.attention
    turn = rotation(weights.head_dim, 9, 1.7) if weights.rotary else None
    for _ in range(10):
        random = layer._converted(lambda tensor: tensor + 0.1 * tensor.std().nan_to_num() * draw(*tensor.shape))
        inputs = [draw(6, 32), draw(6, 32)]
        soft = SoftPrompt(draw(3, 32))
        sizes = (1, weights.num_kv_heads, 3)
        prefix = Prefix(draw(*sizes, weights.head_dim), draw(*sizes, weights.head_dim))
        for prompt in (soft, prefix):
            update = prompt_to_update(random, prompt, inputs, turn)
            assert update.residual < ROUNDING
            ranks = torch.linalg.matrix_rank(update.left, rtol=update.tol)
            assert update.rank == int(ranks) == update.down.shape[1] == update.up.shape[0] <= 12
            assert update.shared_residual < 1e-6


def test_one_slot_with_one_mass_takes_from_every_token_what_it_had():
    weights = random_weights(8, 8, 3, bias=False)
    layer, inputs = LayerWeights(weights), normal(5)(5, 8)
    direction = normal(6)(8)
    # What a slot adds lies on one line; what it takes away is a share of what each token had.
    still = Prefix(torch.zeros(1, 1, 1, 8, dtype=torch.float64), direction[None, None, None])
    assert prompt_to_update(layer, still, [inputs]).rank == 5
    one = prompt_to_update(layer, still, [inputs[:1]])
    assert one.rank == 1
    torch.testing.assert_close(one.down @ one.up, torch.outer(one.left[0], one.right[0]))


def test_a_looser_tolerance_asks_for_less_rank_and_leaves_more():
    layer, draw = layer_of("gpt2"), normal(4)
    prompt, inputs = SoftPrompt(draw(2, 32)), [draw(12, 32)]
    ranks = [prompt_to_update(layer, prompt, inputs, tol=tol) for tol in (1e-9, 0.05, 0.5)]
    assert ranks[0].rank > ranks[1].rank > ranks[2].rank >= 1
    assert ranks[0].shared_residual < ranks[1].shared_residual < ranks[2].shared_residual
    for item in ranks:
        assert item.rank == int((item.singular_values > item.tol * item.singular_values[0]).sum())


def test_equal_states_that_the_prompt_treats_differently_cannot_share_a_change():
    weights, draw = random_weights(8, 8, 1, bias=False), normal(7)
    first = draw(1, 8)
    # Alone, a token's head output is its own value, whatever its query; the same state twice asks for the same change.
    again = prompt_to_update(LayerWeights(weights), SoftPrompt(draw(2, 8)), [first, first])
    assert again.rank == 1
    assert again.shared_residual < ROUNDING
    flat = dataclasses.replace(weights, value=weights.value * torch.tensor([1.0] + [0.0] * 7).double()[:, None])
    crowded = prompt_to_update(LayerWeights(flat), SoftPrompt(draw(2, 8)), [draw(1, 8), draw(1, 8), draw(1, 8)])
    assert crowded.residual < ROUNDING < 1e-3 < crowded.shared_residual


@pytest.mark.parametrize(("tokens", "width"), [(5, 9), (30, 6)])
def test_no_change_of_a_rank_does_better_than_its_error_and_one_does_as_well(tokens, width):
    draw = normal(tokens)
    heads, changes = draw(tokens, width), draw(tokens, 7)
    errors = update_errors(heads, changes)
    assert (errors[:-1] >= errors[1:]).all()
    assert float(errors[0]) == pytest.approx(1.0)
    inside = heads @ torch.linalg.lstsq(heads, changes).solution
    turned, sizes, across = torch.linalg.svd(inside, full_matrices=False)
    for rank, least in enumerate(errors.tolist()):
        best = torch.linalg.lstsq(heads, (turned[:, :rank] * sizes[:rank]) @ across[:rank]).solution
        reached = float((heads @ best - changes).norm() / changes.norm())
        assert abs(reached - least) < 1e-9
        # Descent by turns from random starts, each half of the change solved exactly: never below, and here it arrives.
        ends = []
        for start in range(3 if rank else 0):
            down = normal(100 + start)(rank, 7)
            for _ in range(300):
                up = torch.linalg.lstsq(heads, changes @ torch.linalg.pinv(down)).solution
                down = torch.linalg.lstsq(heads @ up, changes).solution
            ends.append(float((heads @ up @ down - changes).norm() / changes.norm()))
        assert all(end >= least - ROUNDING for end in ends)
        assert not ends or min(ends) < least + 0.01
    assert float(errors[-1]) < 1e-9 if tokens < width else float(errors[-1]) > 0.5


def test_errors_by_rank_end_where_the_shared_change_does():
    layer, draw = layer_of("gpt2"), normal(4)
    update = prompt_to_update(layer, SoftPrompt(draw(2, 32)), [draw(12, 32)])
    errors = update_errors(torch.linalg.pinv(update.right).mT, update.left)
    assert float(errors[update.rank]) < 1e-9 < float(errors[update.rank - 1])
    still = update_errors(draw(3, 4), torch.zeros(3, 5, dtype=torch.float64))
    assert still.tolist() == [0.0] * 4


def test_rows_that_do_not_fit_are_refused_together():
    draw = normal(0)
    with pytest.raises(InputError) as raised:
        update_errors(draw(3, 4), draw(2, 4) / 0, rtol=1.0)
    assert [fault.where for fault in raised.value.faults] == ["rtol", "changes", "changes"]
    with pytest.raises(InputError, match="not empty"):
        update_errors(draw(0, 4), draw(0, 4))


def test_what_does_not_fit_is_refused_together():
    layer, draw = layer_of("llama"), normal(0)
    with pytest.raises(InputError) as raised:
        prompt_to_update(layer, SoftPrompt(draw(2, 8)), [draw(3, 9)], tol=0.0)
    assert [fault.where for fault in raised.value.faults] == ["tol", "inputs[0]", "rotate", "prompt"]
    with pytest.raises(InputError, match="no sequences"):
        prompt_to_update(layer_of("bert"), SoftPrompt(draw(2, 32)), [])
    with pytest.raises(InputError, match="one layer's"):
        prompt_to_update(layer_of("bert"), Prefix(draw(2, 4, 3, 8), draw(2, 4, 3, 8)), [draw(3, 32)])
    with pytest.raises(InputError, match="all heads give 0"):
        prompt_to_update(LayerWeights(random_weights(6, 6, 0, bias=False)), SoftPrompt(draw(2, 6)), [0 * draw(1, 6)])
