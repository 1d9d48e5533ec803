"""What the oracle says to bad arguments, word for word and all at once: where, what stands there, what should, and what
to try."""

import dataclasses
import math

import pytest
import torch

from helpers.oracle_problems import normal, random_weights
from promptreach.errors import InputError
from promptreach.limits import memorisable, memorisable_statistics, unmemorisable_pair
from promptreach.weights import AttentionWeights, NormWeights


def weights(**changes: object) -> AttentionWeights:
    return dataclasses.replace(random_weights(4, 4, 0), **changes)


def asked(**changes: object) -> object:
    """The oracle on two fine examples, but for `changes`."""
    draw = normal(0)
    given = {"weights": weights(), "sequences": [draw(3, 4), draw(2, 4)], "targets": draw(2, 4), **changes}
    return memorisable(**given)


def captured(**changes: object) -> object:
    draw = normal(0)
    return memorisable_statistics(
        **{"query": draw(4), "lse": draw(3), "mean": draw(3, 4), "targets": draw(3, 4), **changes}
    )


def rms(**changes: float) -> NormWeights:
    return NormWeights("rms", ones(4), **changes)


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(*shape, dtype=torch.float64)


CASES = [
    (
        lambda: asked(sequences=[]),
        "sequences: none; expected at least one (tokens, hidden) tensor\n"
        "targets: shape (2, 4); expected (0, 4), one row a sequence",
    ),
    (
        lambda: asked(sequences=[ones(3, 4), ones(3, 5)], targets=ones(2, 4)),
        "sequences[1]: shape (3, 5); expected (tokens, 4), at least one token",
    ),
    (
        lambda: asked(sequences=[ones(3, 4), ones(0, 4)]),
        "sequences[1]: shape (0, 4); expected (tokens, 4), at least one token",
    ),
    (
        lambda: asked(sequences=[ones(3, 4), ones(2, 4).long()]),
        "sequences[1]: dtype torch.int64; expected a floating dtype. Convert with .double()",
    ),
    (
        lambda: asked(sequences=[ones(3, 4), math.nan * ones(2, 4)]),
        "sequences[1]: 8 entries that are NaN or infinite; expected finite numbers",
    ),
    (
        lambda: asked(sequences=[ones(3, 4), 1e200 * ones(2, 4)]),
        "sequences[1]: an entry of size 1e+200; expected at most 1e+30",
    ),
    (lambda: asked(targets=ones(3, 4)), "targets: shape (3, 4); expected (2, 4), one row a sequence"),
    (
        lambda: asked(targets=math.inf * ones(2, 4)),
        "targets: 8 entries that are NaN or infinite; expected finite numbers",
    ),
    (lambda: asked(tol=0.0), "tol: 0.0; expected a number between 0 and 1"),
    (lambda: asked(tol=1.0), "tol: 1.0; expected a number between 0 and 1"),
    (
        lambda: asked(weights=weights(rotary=True)),
        "weights.rotary: True; expected False: rotary scores depend on positions."
        " Capture the rotated queries and keys and use memorisable_statistics",
    ),
    (
        lambda: asked(weights=weights(key=math.nan * ones(1, 4, 4))),
        "weights.key: 16 entries that are NaN or infinite; expected finite numbers",
    ),
    (lambda: asked(weights=weights(scale=math.inf)), "weights.scale: inf; expected a finite number"),
    (
        lambda: asked(weights=random_weights(4, 4, 0, size=1e3), sequences=[normal(0)(2, 4)[[k, 0]] for k in (0, 1)]),
        "sequences: log masses that spread over 1094919 nats; expected at most 600. Rescale the weights or the inputs",
    ),
    (lambda: captured(lse=ones(3, 1)), "lse: 2 axes; expected 1"),
    (
        lambda: captured(lse=ones(0), mean=ones(0, 4), targets=ones(0, 4)),
        "lse: no examples; expected at least one",
    ),
    (lambda: captured(mean=ones(2, 4)), "mean: 2 examples; expected 3, as in lse"),
    (lambda: captured(output=ones(5, 3), targets=ones(3, 5)), "output: shape (5, 3); expected (out, 4)"),
    (lambda: captured(targets=ones(3, 5)), "targets: shape (3, 5); expected (3, 4)"),
    (lambda: captured(query=math.nan * ones(4)), "query: 4 entries that are NaN or infinite; expected finite numbers"),
    (
        lambda: captured(lse=torch.tensor([0.0, 1.0, 700.0]).double()),
        "lse: log masses that spread over 700 nats; expected at most 600. Rescale the weights or the inputs",
    ),
    (lambda: captured(scale=math.inf), "scale: inf; expected a finite number"),
    (lambda: captured(scale=math.nan), "scale: nan; expected a finite number"),
    (lambda: captured(scale=1e200), "scale: 1e+200; expected at most 1e+30"),
    (
        lambda: asked(weights=weights(query_norm=NormWeights("rms", math.nan * ones(4)), key_norm=rms(eps=math.nan))),
        "weights.query_norm.weight: 4 entries that are NaN or infinite; expected finite numbers\n"
        "weights.key_norm.eps: nan; expected a positive finite number",
    ),
    (
        # Nothing that is accepted may overflow: a score is the product of four such numbers.
        lambda: asked(weights=weights(query=1e90 * ones(1, 4, 4), key=1e90 * ones(1, 4, 4))),
        "weights.query: an entry of size 1e+90; expected at most 1e+30\n"
        "weights.key: an entry of size 1e+90; expected at most 1e+30",
    ),
    (
        lambda: unmemorisable_pair(random_weights(4, 4, 0, out=1)),
        "weights: output dimension 1; expected at least 2."
        " One output dimension has no direction that a prompt cannot follow",
    ),
    (
        lambda: unmemorisable_pair(weights(value=math.nan * ones(1, 4, 4))),
        "weights.value: 16 entries that are NaN or infinite; expected finite numbers",
    ),
    (lambda: unmemorisable_pair(weights(value=ones(1, 4, 4))), "weights.value[0]: rank 1; expected full rank, 4"),
    (
        lambda: unmemorisable_pair(random_weights(4, 1, 0, out=3)),
        "weights.value: one value dimension; expected at least 2. Targets in its range lie on a line",
    ),
    (
        lambda: asked(sequences=[torch.zeros(3, 5)], targets=torch.zeros(2, 3), tol=2.0),
        "sequences[0]: shape (3, 5); expected (tokens, 4), at least one token\n"
        "targets: shape (2, 3); expected (1, 4), one row a sequence\n"
        "tol: 2.0; expected a number between 0 and 1",
    ),
    (
        lambda: captured(lse=math.nan * ones(3), mean=ones(2, 4)),
        "lse: 3 entries that are NaN or infinite; expected finite numbers\nmean: 2 examples; expected 3, as in lse",
    ),
]


@pytest.mark.parametrize(("call", "told"), CASES, ids=[told[:50] for _, told in CASES])
def test_bad_arguments_are_told_word_for_word(call, told):
    with pytest.raises(InputError) as caught:
        call()
    assert str(caught.value) == told


def test_the_largest_numbers_that_are_welcome_do_not_overflow():
    """A score is a product of the query's and the key's weights, two tokens and the scale."""
    huge = weights(query=1e30 * ones(1, 4, 4), key=1e30 * ones(1, 4, 4), scale=1e30)
    sequences = [1e30 * torch.tensor([[size] * 4, [0.5] * 4]).double() for size in (1.0, 0.75)]
    with pytest.raises(InputError, match=r"log masses that spread over \d+ nats"):
        asked(weights=huge, sequences=sequences)
