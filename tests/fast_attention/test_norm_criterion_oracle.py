"""The norm criterion on queries and keys whose answer is known by hand."""

import math

import pytest
import torch
from jaxtyping import config as jaxtyping_config

from promptreach.errors import InputError
from promptreach.fast_attention import norm_criterion as module
from promptreach.fast_attention.norm_criterion import norm_criterion


@pytest.fixture
def captured():
    """Two heads on one key/value head; the prompt is position 0, position 3 of the second sequence is padding."""
    query = torch.zeros(2, 2, 4, 4)
    key = torch.zeros(2, 1, 4, 4)
    query[0, 0, 1], query[0, 1, 2] = torch.tensor([2.0, 0, 0, 0]), torch.tensor([0, -3.0, 0, 0])
    key[0, 0, 0], key[0, 0, 3] = torch.tensor([5.0, 0, 0, 0]), torch.tensor([1.0, 1.0, 0, 0])
    query[1, :, 3], key[1, :, 3] = 100.0, 100.0
    mask = torch.tensor([[True] * 4, [True, True, True, False]])
    return query, key, mask


def test_criterion_by_hand(captured):
    query, key, mask = captured
    result = norm_criterion(query, key, prompt_length=1, mask=mask)
    assert result.joined.query_max.tolist() == [2.0, 3.0]
    assert result.joined.key_max.tolist() == [5.0, 5.0]
    # Scale 1/2: head 0 reads 2 * 5 / 2 at the prompt, head 1 reads 3 * 1 / 2 at the last token.
    assert result.joined.score_max.tolist() == [5.0, 1.5]
    assert result.content.key_max.tolist() == [1.0, 1.0]
    assert result.content.score_max.tolist() == [1.0, 1.5]
    assert result.raised_by_prompt.tolist() == [True, False]
    assert (result.joined.length, result.content.length) == (4, 3)
    # Means of sequence 0: keys (1.5, .25), queries (.5, 0) and (0, -.75).
    assert result.joined.centred_key_max.tolist() == [3.5, 3.5]
    assert result.joined.centred_query_max.tolist() == [1.5, 2.25]
    assert result.joined.centred_score_max[0].item() == 1.5 * 3.5 / 2
    assert result.joined.sqrt_log_length == math.sqrt(math.log(4))
    # Scores of head_dim 4 at scale 1/2 are q'.k'/4 with q' = sqrt(2) q.
    expected = [math.sqrt(2) * 5 / math.sqrt(math.log(4))] * 2
    assert result.joined.ratio.tolist() == pytest.approx(expected, rel=1e-6)
    assert result.joined.centred_ratio.tolist() == pytest.approx([x * 3.5 / 5 for x in expected], rel=1e-6)


def test_queries_of_the_content_alone_are_enough_for_a_prefix(captured):
    query, key, mask = captured
    result = norm_criterion(query[:, :, 1:], key, prompt_length=1, mask=mask)
    assert result.joined.score_max.tolist() == [5.0, 1.5]
    assert result.joined.query_max.tolist() == [2.0, 3.0]
    assert result.content.query_max.tolist() == [2.0, 3.0]


def test_without_a_prompt_both_sides_agree(captured):
    query, key, mask = captured
    result = norm_criterion(query, key, mask=mask)
    assert torch.equal(result.joined.centred_score_max, result.content.centred_score_max)
    assert not result.raised_by_prompt.any()


def test_padding_would_have_shown(captured):
    query, key, _ = captured
    assert norm_criterion(query, key).joined.score_max.tolist() == [20000.0, 20000.0]


def test_chunks_do_not_change_the_answer(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(2, heads, 50, 8, generator=generator) for heads in (4, 2))
    whole = norm_criterion(query, key, 3)
    blocks = []
    split = torch.Tensor.split
    monkeypatch.setattr(module, "CHUNK_BYTES", 4 * 50 * 4 * 7)
    monkeypatch.setattr(torch.Tensor, "split", lambda *a, **k: blocks.extend(split(*a, **k)) or split(*a, **k))
    chunked = norm_criterion(query, key, 3)
    assert max(block.shape[1] for block in blocks) == 7
    assert torch.allclose(whole.joined.score_max, chunked.joined.score_max, rtol=1e-6)
    assert torch.allclose(whole.content.centred_score_max, chunked.content.centred_score_max, rtol=1e-6)


def test_wrong_arguments_are_all_named():
    with pytest.raises(InputError) as caught:
        norm_criterion(torch.zeros(1, 3, 4, 2), torch.zeros(1, 2, 4, 2), prompt_length=4)
    assert [fault.where for fault in caught.value.faults] == ["key", "prompt_length"]
    with pytest.raises(InputError, match=r"query: 3 positions; expected 6 \(all\), or 4"):
        norm_criterion(torch.zeros(1, 2, 3, 2), torch.zeros(1, 2, 6, 2), prompt_length=2)


@pytest.mark.parametrize(
    ("query", "key", "named"),
    [
        ((1, 2, 4, 8), (1, 2, 4, 6), ["key"]),
        ((2, 2, 4, 8), (3, 2, 4, 8), ["key"]),
        ((2, 2, 4, 8), (3, 2, 4, 6), ["key", "key"]),
        ((2, 4, 8), (2, 4, 8), ["query", "key"]),
        ((1, 2, 4, 8), (1, 0, 4, 8), ["key"]),
    ],
)
def test_captured_shapes_that_do_not_fit_are_named(query, key, named, monkeypatch):
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    with pytest.raises(InputError) as caught:
        norm_criterion(torch.zeros(query), torch.zeros(key))
    assert [fault.where for fault in caught.value.faults] == named
