"""A head's statistics: their rounding account against exact fractions, queries of 0, and the grouping by query."""

import math
from fractions import Fraction

import torch

from helpers.oracle_problems import random_sequences, random_weights
from promptreach.limits.oracle.statistics import group_by_query, head_statistics
from promptreach.weights import AttentionWeights


def test_a_query_that_cancels_exactly_is_seen_as_zero_and_one_that_almost_does_is_not():
    query = torch.tensor([[[1.0, 1.0], [2.0, 2.0]]], dtype=torch.float64)
    weights = AttentionWeights(query, query, query)
    exact = torch.tensor([[1.0, 0.0], [1.0, -1.0]], dtype=torch.float64)
    assert head_statistics(weights, [exact]).zero_query
    near = exact.clone()
    near[1, 1] = -1.0 + 2**-50
    assert not head_statistics(weights, [near]).zero_query


def test_groups_are_told_apart_bit_by_bit_except_for_the_sign_of_zero():
    one = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    assert group_by_query([one, one.clone(), torch.tensor([[-0.0, 1.0]]).double(), one + 2**-50]) == [[0, 1, 2], [3]]


def test_the_rounding_account_of_the_statistics_holds_against_many_digits():
    weights, sequences = random_weights(6, 4, 6, size=4.0), random_sequences(6, 3, 6)
    statistics = head_statistics(weights, sequences)
    exact = [
        [[Fraction(x) for x in row] for row in m.tolist()] for m in (weights.query[0], weights.key[0], weights.value[0])
    ]
    biases = [[Fraction(x) for x in b[0].tolist()] for b in (weights.query_bias, weights.key_bias, weights.value_bias)]

    def project(index, token):
        rows = zip(exact[index], biases[index], strict=True)
        return [sum((w * Fraction(x) for w, x in zip(row, token, strict=True)), bias) for row, bias in rows]

    for example, sequence in enumerate(sequences):
        query = project(0, sequence[-1].tolist())
        keys = [project(1, token) for token in sequence.tolist()]
        scores = [Fraction(weights.softmax_scale) * sum(q * k for q, k in zip(query, key, strict=True)) for key in keys]
        # The scores are exact here; math.exp and fsum then err by a few units in the last place.
        top = max(scores)
        lse = float(top) + math.log(math.fsum(math.exp(float(score - top)) for score in scores))
        assert abs(float(statistics.lse[example]) - lse) <= float(statistics.lse_error[example])
        assert float(statistics.lse_error[example]) < 1e-11
        assert float(statistics.mean_error[example]) < 1e-11
