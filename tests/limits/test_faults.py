"""What the limits apart from the oracle say to bad arguments, word for word: where, what stands there, what should,
and what to try."""

import math

import pytest
import torch

from helpers.lipschitz_cases import contracting
from helpers.oracle_problems import normal, random_weights
from promptreach.errors import InputError
from promptreach.limits import (
    compare_with_lora,
    injective_consequence,
    invert,
    low_rank_fit,
    prompt_length,
    token_lower_bound,
    tokens_needed,
)


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(*shape, dtype=torch.float64)


CASES = [
    (lambda: prompt_length(0, 1, 1.0, 0.1), "dim: 0; expected at least 1"),
    (lambda: prompt_length(1, 0, 1.0, 0.1), "tokens: 0; expected at least 1"),
    (lambda: prompt_length(1, 1, 1.0, 0.1, hidden_size=0), "hidden_size: 0; expected at least 1"),
    (lambda: prompt_length(1, 1, -1.0, 0.1), "lipschitz: -1.0; expected a finite number, not negative"),
    (lambda: prompt_length(1, 1, 1.0, 0.0), "tol: 0.0; expected a positive finite number"),
    (
        lambda: prompt_length(1, 1, 1.0, 0.1, alpha=0.5),
        "alpha: 0.5; expected at least 1; infinity is the largest entry",
    ),
    (
        lambda: prompt_length(1, 1, 1.0, 0.1, precision=0.5),
        "precision: 0.5; expected bits per prompt entry, at least 1",
    ),
    (
        lambda: token_lower_bound(ones(2, 3), ones(3, 3)),
        "targets: shape (3, 3); expected that of outputs, (2, 3)",
    ),
    (
        lambda: token_lower_bound(ones(0, 3), ones(0, 3)),
        "outputs: shape (0, 3); expected (examples, dim), not empty",
    ),
    (lambda: token_lower_bound(ones(3), ones(3)), "outputs: shape (3,); expected (examples, dim), not empty"),
    (lambda: low_rank_fit(ones(3), ones(3)), "inputs: shape (3,); expected (examples, dim), not empty"),
    (
        lambda: low_rank_fit(normal(0)(2, 3), math.nan * ones(2, 3)),
        "targets: 6 entries that are NaN or infinite; expected finite numbers",
    ),
    (lambda: low_rank_fit(ones(2, 3), ones(3, 3)), "targets: shape (3, 3); expected that of inputs, (2, 3)"),
    (
        lambda: low_rank_fit(ones(2, 3), ones(2, 3)),
        "inputs: two equal vectors; expected distinct ones. Equal inputs cannot have two targets",
    ),
    (lambda: tokens_needed(random_weights(4, 4, 0), 3), "examples: 3; expected 1 to 2, half the value dimension"),
    (lambda: tokens_needed(random_weights(4, 4, 0), 0), "examples: 0; expected 1 to 2, half the value dimension"),
    (
        lambda: tokens_needed(random_weights(4, 4, 0, heads=2), 1),
        "weights: 2 heads; expected one head. Take one with weights.head(index)",
    ),
    (lambda: compare_with_lora(0, [1]), "hidden_size: 0; expected a positive number"),
    (lambda: compare_with_lora(8, [1, 5]), "examples[1]: 5; expected 1 to hidden_size / 2 = 4"),
    (lambda: compare_with_lora(8, [1], width=0), "width: 0; expected a positive number"),
    (lambda: invert([contracting(0)], ones(2, 3)), "outputs: shape (2, 3); expected (tokens, 4)"),
    (
        lambda: invert([contracting(0)], math.nan * ones(2, 4)),
        "outputs: entries that are not finite; expected finite numbers",
    ),
    (lambda: invert([contracting(0)], ones(2, 4), tol=0.0), "tol: 0.0; expected a positive finite number"),
    (lambda: injective_consequence([contracting(0)], 0.0, 3), "radius: 0.0; expected a positive finite number"),
    (lambda: injective_consequence([contracting(0)], 1.0, 0), "tokens: 0; expected at least 1"),
]


@pytest.mark.parametrize(("call", "told"), CASES, ids=[told[:50] for _, told in CASES])
def test_bad_arguments_are_told_word_for_word(call, told):
    with pytest.raises(InputError) as caught:
        call()
    assert str(caught.value) == told
