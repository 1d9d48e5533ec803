"""The remainder of the Taylor polynomial is bounded, term by term."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.attention_problems import normal
from promptreach.fast_attention.polynomial.preprocess import norms
from promptreach.fast_attention.polynomial.remainder import key_sums, tail_factor, theta

SEEDS = st.integers(0, 2**31)


@given(st.integers(0, 20), st.floats(1e-3, 30))
@settings(max_examples=60)
def test_theta_bounds_the_scaled_remainder(degree, x):
    from decimal import Decimal, localcontext

    with localcontext() as context:
        context.prec = 250
        number = Decimal(x)
        for signed in (number, -number):
            taylor = sum(signed**order / math.factorial(order) for order in range(degree + 1))
            scaled = abs(signed.exp() - taylor) * math.factorial(degree + 1) / number ** (degree + 1)
            assert scaled <= Decimal(float(theta(torch.tensor([x], dtype=torch.float64), degree)))


@given(st.integers(0, 5), SEEDS)
@settings(max_examples=30)
def test_the_tail_factor_bounds_the_root_of_squared_remainders(degree, seed):
    for dtype in (torch.float64, torch.float32):
        query, key = normal(seed, 3, 10, dtype=dtype), normal(seed + 1, 3, 40, dtype=dtype)
        weight, value = normal(seed + 2, 40, dtype=dtype).abs(), normal(seed + 3, 2, 40, dtype=dtype)
        reach = float(norms(query).max())
        sums = key_sums(key, norms(key), weight, value, degree, reach, 16)
        scores = query.mT.double() @ key.double()
        rest = torch.exp(scores) - sum(scores**order / math.factorial(order) for order in range(degree + 1))
        exact = (rest.square() @ weight.double()).sqrt()
        assert (exact <= tail_factor(query, norms(query), sums, degree)).all()
