"""One report for all heads: its error, its evidence and its recheck are those of the weakest head."""

import dataclasses

import torch

from promptreach.certificate import Evidence
from promptreach.inference import attend


def inputs(queries: int = 8, keys: int = 12, size: float = 0.1, heads: tuple[int, ...] = ()):
    generator = torch.Generator().manual_seed(0)
    shapes = ((*heads, queries, 4), (*heads, keys, 4), (*heads, keys, 3))
    query, key, value = (torch.randn(shape, generator=generator) for shape in shapes)
    return size * query, size * key, value


def test_one_report_speaks_for_all_heads():
    query, key, value = inputs(2304, 2304, 0.05, (2,))
    _, easy = attend(query, key, value)
    assert easy.error.evidence is Evidence.PROVED
    assert easy.error.recheck()
    assert "each of the 2 key/value heads" in easy.error.claim
    heads = [dict(head) for head in easy.error.witness["heads"]]
    for head in heads:
        wrong = [{**other, "output": other["output"] + (1.0 if other is head else 0.0)} for other in heads]
        assert not dataclasses.replace(easy.error, witness={"heads": wrong}).recheck()
    assert not dataclasses.replace(easy.error, witness={"heads": []}).recheck()
    query[1] *= 600
    _, mixed = attend(query, key, value, 0.1)
    assert mixed.method == "auto"
    assert mixed.error.evidence is Evidence.MEASURED
    assert not mixed.error.checker
    assert "16 rows" in mixed.error.sample
