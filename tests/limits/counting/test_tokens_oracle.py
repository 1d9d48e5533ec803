"""How many tokens data need, against prompts that exist and low-rank updates that fit."""

import dataclasses
import math

import pytest
import torch

from helpers.changed_certificates import changed_fields, changed_witnesses
from helpers.oracle_problems import normal, prompted, random_sequences, random_weights
from helpers.tolerances import TOLERANCES
from promptreach.certificate import Evidence, Side
from promptreach.limits import compare_with_lora, low_rank_fit, token_lower_bound, tokens_needed, unmemorisable_pair
from promptreach.limits.oracle.forward import last_outputs

TRAINED = TOLERANCES["trained to the target", torch.float64][1]


@pytest.mark.parametrize("examples", [1, 3, 8])
def test_data_that_need_a_token_each(examples):
    weights = random_weights(20, 16, examples, out=20)
    sequences, targets, certificate, prompt = tokens_needed(weights, examples)
    assert len(sequences) == len(targets) == prompt.length == examples
    assert torch.equal(last_outputs(weights, sequences, None, prompt), targets)
    assert (certificate.value, certificate.side, certificate.evidence) == (examples, Side.LOWER, Evidence.PROVED)
    assert certificate.recheck()
    assert not dataclasses.replace(certificate, value=examples + 1.0).recheck()


def trained(parameters, outputs, targets, steps=300):
    """The root-mean-square error that L-BFGS reaches from these parameters."""
    search = torch.optim.LBFGS(parameters, max_iter=steps, line_search_fn="strong_wolfe", tolerance_change=1e-18)
    best = [float("inf")]

    def closure():
        search.zero_grad()
        loss = (outputs(*parameters) - targets).square().mean()
        loss.backward()
        best[0] = min(best[0], float(loss.detach()) ** 0.5)
        return loss

    for parameter in parameters:
        parameter.requires_grad_()
    search.step(closure)
    return best[0]


def test_training_needs_as_many_tokens_as_the_bound_says_and_a_low_rank_update_as_many_units():
    weights = random_weights(12, 8, 2, bias=False)
    sequences, targets, certificate, _ = tokens_needed(weights, 3, seed=2)
    inputs = torch.stack(sequences)
    query = inputs[:, -1] @ weights.query[0].mT * weights.softmax_scale

    def with_prompt(prompt):
        joined = torch.cat([prompt.expand(len(inputs), -1, -1), inputs], dim=1)
        scores = (joined @ weights.key[0].mT @ query[..., None])[..., 0]
        return (torch.softmax(scores, 1)[:, None] @ joined @ weights.value[0].mT)[:, 0]

    reached = {
        length: min(trained([normal(start)(length, 12)], with_prompt, targets) for start in range(2))
        for length in (1, 2, 3)
    }
    assert reached[1] > reached[2] > 0.05
    assert reached[3] < TRAINED
    assert certificate.value == 3
    bare = last_outputs(weights, sequences)

    def with_units(up, up_bias, down):
        return bare + torch.relu(bare @ up.mT + up_bias) @ down.mT

    draw = normal(7)
    # Units that all start switched on: a unit that is off for every input has no gradient.
    assert (
        trained([0.1 * draw(3, 8), torch.ones(3, dtype=torch.float64), 0.1 * draw(8, 3)], with_units, targets) < TRAINED
    )


def test_the_bound_never_exceeds_the_length_of_a_prompt_that_fits():
    for seed in range(10):
        weights = random_weights(24, 16, seed, bias=False)
        sequences = random_sequences(24, 5, seed)
        for length in (1, 2, 4):
            bound = token_lower_bound(last_outputs(weights, sequences), prompted(weights, sequences, length, seed))
            assert bound.certified.evidence is Evidence.UNKNOWN


def test_independence_is_what_decides():
    draw = normal(0)
    outputs, targets = draw(3, 8), draw(3, 8)
    assert token_lower_bound(outputs, targets).certified.value == 3
    dependent = targets.clone()
    dependent[2] = targets[0] + outputs[1]
    unknown = token_lower_bound(outputs, dependent)
    assert unknown.certified.evidence is Evidence.UNKNOWN
    assert unknown.measured.value == 3
    assert "more vectors" in token_lower_bound(draw(5, 8), draw(5, 8)).certified.reason


def test_a_dependent_witness_is_refused():
    certificate = token_lower_bound(normal(0)(2, 8), normal(1)(2, 8)).certified
    targets = certificate.witness["targets"].clone()
    targets[1] = certificate.witness["outputs"][0]
    assert not dataclasses.replace(certificate, witness={**certificate.witness, "targets": targets}).recheck()


def test_a_certificate_of_tokens_that_was_changed_is_refused():
    certificate = token_lower_bound(normal(0)(2, 8), normal(1)(2, 8)).certified
    assert certificate.rechecked
    changed = [*changed_fields(certificate), *changed_witnesses(certificate)]
    accepted = [what for what, other in changed if other.recheck()]
    # Other independent vectors need as many tokens.
    assert all(
        what in ("outputs.up", "outputs.down", "targets.up", "targets.down", "outputs.negative", "targets.negative")
        for what in accepted
    )
    for value in (3.0, -1.0, -math.inf, math.inf):
        assert not dataclasses.replace(certificate, value=value).recheck()


@pytest.mark.parametrize("size", [1e-200, 1e25])
def test_vectors_of_any_size_are_seen_to_be_independent(size):
    assert token_lower_bound(size * normal(0)(2, 8), normal(1)(2, 8)).certified.value == 2


@pytest.mark.parametrize(("count", "hidden"), [(1, 4), (5, 4), (30, 16)])
def test_a_low_rank_update_fits_any_targets(count, hidden):
    inputs, targets = normal(count)(count, hidden), normal(count + 1)(count, hidden)
    fit = low_rank_fit(inputs, targets)
    reached = inputs + torch.relu(inputs @ fit.up.T + fit.up_bias) @ fit.down.T
    assert float((reached - targets).abs().max()) <= 1e-8
    assert fit.error <= 1e-8
    assert fit.parameters == 2 * count * hidden + count


def test_a_low_rank_update_fits_what_no_prompt_fits():
    weights = random_weights(6, 6, 2, out=6)
    pair = unmemorisable_pair(weights)
    outputs = last_outputs(weights, pair.sequences)
    assert low_rank_fit(outputs, pair.targets).error <= 1e-8 < pair.certificate.value


def test_the_table_counts():
    (row,) = compare_with_lora(64, [4])
    assert (row.tokens, row.prompt_parameters, row.lora_parameters, row.fewer) == (4, 256, 516, "prompt")
    (row,) = compare_with_lora(64, [4], width=256)
    assert row.lora_parameters == 2 * 4 * (64 + 256)


@pytest.mark.parametrize("size", [1.0, 1e8])
def test_dependent_vectors_are_seen_whatever_their_size(size: float) -> None:
    vectors = size * normal(21)(6, 12)
    vectors[5] = vectors[:5].sum(dim=0)
    assert token_lower_bound(vectors[:3], vectors[3:]).certified.evidence is Evidence.UNKNOWN
    assert token_lower_bound(vectors[:2], vectors[2:4]).certified.evidence is Evidence.PROVED
