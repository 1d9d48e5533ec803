"""Forward passes with a prompt: two ways agree, and the measured error is refused when lowered."""

import dataclasses

import pytest

from helpers.oracle_problems import normal, random_sequences, random_weights
from helpers.tolerances import assert_close
from promptreach.limits import memorisable
from promptreach.limits.oracle.forward import last_outputs
from promptreach.prompt import Prefix


@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (4, 2)])
def test_both_forward_passes_agree(heads, kv_heads):
    weights = random_weights(6, 3, 5, heads, kv_heads, out=5)
    sequences, draw = random_sequences(6, 3, 5), normal(5)
    prefix = Prefix(draw(1, kv_heads, 2, 3), draw(1, kv_heads, 2, 3))
    for given_prefix in (None, prefix):
        loops, products = (last_outputs(weights, sequences, given_prefix, None, loops) for loops in (True, False))
        assert_close(loops, products, "attention output")


def problem(hidden, count, seed):
    head_dim = max(2, hidden // (1 + seed % 2))
    out = (None, hidden, 3)[seed % 3]
    weights = random_weights(hidden, head_dim, seed, out=out, bias=seed % 2 == 0, size=(1.0, 3.0)[seed % 2])
    return weights, random_sequences(hidden, count, seed)


def test_a_measured_error_is_refused_when_lowered():
    weights, sequences = problem(5, 4, 3)
    upper = memorisable(weights, sequences, normal(3)(4, weights.output_size)).upper
    assert upper.recheck()
    assert not dataclasses.replace(upper, value=upper.value * 0.999).recheck()
