"""What the norm report refuses, by name and all at once."""

import math

import pytest
import torch
from jaxtyping import config as jaxtyping_config

from promptreach.errors import InputError
from promptreach.fast_attention.norm_report import norm_report


@pytest.fixture
def shapes_unchecked(monkeypatch):
    """Users run without the shape checks of the test run, which would speak first."""
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)


def test_the_norm_report_refuses_what_it_cannot_measure(shapes_unchecked):
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(2, 2, 9, 4, generator=generator) for _ in range(2))
    hidden = torch.ones(2, 9, dtype=torch.bool)
    hidden[1, 3:] = False
    for changed, options, named in (
        ((query * math.nan, key), {}, "query"),
        ((query, key * math.inf), {}, "key"),
        ((query.double() * 1e200, key), {}, "query"),
        ((query, key), {"scale": math.inf}, "scale"),
        ((query, key), {"prompt_length": 3, "mask": hidden}, "mask"),
        ((query, key[..., :3]), {}, "key"),
        ((query[:1], key), {}, "key"),
        ((query[None], key[None]), {}, "query"),
    ):
        with pytest.raises(InputError, match=named):
            norm_report(*changed, **options)
    with pytest.raises(InputError) as caught:
        norm_report(query * math.nan, key[..., :3], tol=0.0)
    assert [fault.where for fault in caught.value.faults] == ["tol", "query", "key"]


def test_the_norm_report_names_its_faults_together(shapes_unchecked):
    with pytest.raises(InputError) as caught:
        norm_report(torch.ones(2, 5, 4), torch.ones(2, 6, 4), prompt_length=9, tol=0.0)
    assert len(caught.value.faults) >= 2
