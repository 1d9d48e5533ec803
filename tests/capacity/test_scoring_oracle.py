"""Losses behind virtual tokens against the plain way: one text at a time, through transformers' own forward."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import DynamicCache

from helpers.capacity_cases import OPENING, joined, random_ids, started, tiny_model
from helpers.tolerances import assert_close
from promptreach.backbone import Prepended
from promptreach.capacity import scoring
from promptreach.capacity.scoring import TextScores, blanked, recalled_freely, scored
from promptreach.errors import InputError
from promptreach.hf import OpenModel
from promptreach.training.side_by_side import JOINED_METHODS

LENGTHS = [5, 1, 9]


def plain_logits(model: OpenModel, ids: tuple[int, ...], method: str | None, own: tuple[Tensor, ...]) -> Tensor:
    """Logits at every token of one text, (tokens, vocab), by the whole causal model."""
    module = model.release()
    inputs = torch.tensor([[OPENING, *ids[:-1]]])
    if method == "prompt":
        content = module.get_input_embeddings()(inputs)
        logits = module(inputs_embeds=torch.cat([own[0][None], content], 1)).logits
    elif method == "prefix":
        pairs = [(key[None], value[None]) for key, value in zip(*own, strict=True)]
        logits = module(input_ids=inputs, past_key_values=DynamicCache(pairs)).logits
    else:
        logits = module(input_ids=inputs).logits
    return logits[0, -len(ids) :]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("method", [None, "prompt", "prefix"])
@pytest.mark.parametrize("positions", [4, 256])
def test_every_token_is_scored_as_the_whole_model_would(
    family: str, method: str | None, positions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "POSITIONS", positions)
    model, texts = tiny_model(family), random_ids(LENGTHS)
    own = started(model, method, 3, len(texts)) if method else ()
    found = scored(model, texts, OPENING, joined(own) if method else None, backward=method is not None)
    total = torch.zeros(())
    for row, (ids, scores) in enumerate(zip(texts, found, strict=True)):
        logits = plain_logits(model, ids, method, tuple(part[row] for part in own))
        losses = cross_entropy(logits, torch.tensor(ids), reduction="none")
        assert_close(scores.nats.float(), losses.detach(), "loss of a row")
        assert scores.right.tolist() == (logits.argmax(-1) == torch.tensor(ids)).tolist()
        total = total + losses.mean()
    if method:
        for part, expected in zip(own, torch.autograd.grad(total, own), strict=True):
            assert part.grad is not None
            assert float(expected.abs().max()) > 0
            assert_close(part.grad, expected, "loss of a row")


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("tokens", [1, 3])
def test_in_one_pass_the_last_virtual_token_stands_where_the_text_would(family: str, tokens: int) -> None:
    model, texts = tiny_model(family), random_ids(LENGTHS)
    (own,) = started(model, "prompt", tokens, len(texts))
    found = scored(model, texts, OPENING, blanked(Prepended(prompt=own)), backward=True)
    module, total = model.release(), torch.zeros(())
    for row, (ids, scores) in enumerate(zip(texts, found, strict=True)):
        opening = module.get_input_embeddings()(torch.tensor([OPENING]))
        inputs = torch.cat([own[row, :-1], opening, own[row, -1:].expand(len(ids) - 1, -1)])
        logits = module(inputs_embeds=inputs[None]).logits[0, -len(ids) :]
        losses = cross_entropy(logits, torch.tensor(ids), reduction="none")
        assert_close(scores.nats.float(), losses.detach(), "loss of a row")
        total = total + losses.mean()
    assert own.grad is not None
    (expected,) = torch.autograd.grad(total, own)
    # A text of one token asks nothing of the last virtual token.
    assert float(expected[[0, 2]].abs().amax((1, 2)).min()) > 0
    assert_close(own.grad, expected, "loss of a row")


def test_in_one_pass_nothing_of_the_text_is_read() -> None:
    model, (one, other) = tiny_model("llama"), random_ids([9, 9])
    (own,) = started(model, "prompt", 2, 1)
    front = blanked(Prepended(prompt=own.detach()))
    states = [model.hidden(model.batch([[OPENING, *ids]]), front) for ids in (one, other)]
    assert torch.equal(*states)
    read = [model.hidden(model.batch([[OPENING, *ids]]), Prepended(prompt=own.detach())) for ids in (one, other)]
    assert not torch.equal(*read)


@pytest.mark.parametrize("blank", [torch.zeros(3), torch.zeros(5, 16)])
def test_what_stands_in_place_of_a_text_is_as_wide_as_an_embedding_and_beside_a_prompt(blank: Tensor) -> None:
    model = tiny_model("llama")
    batch = model.batch([[OPENING, 1, 2]])
    prompt = torch.zeros(2, model.embedding_size)
    with pytest.raises(InputError, match="blank"):
        model.hidden(batch, Prepended(prompt=prompt, blank=blank))
    with pytest.raises(InputError, match="beside a prompt"):
        model.hidden(batch, Prepended(blank=torch.zeros(model.embedding_size)))


@pytest.mark.parametrize("method", JOINED_METHODS)
def test_a_text_moves_its_own_tensors_only(method: str) -> None:
    model, texts = tiny_model("llama"), random_ids(LENGTHS)
    together = started(model, method, 2, len(texts))
    scored(model, texts, OPENING, joined(together), backward=True)
    alone = tuple(part[1:2].detach().requires_grad_() for part in together)
    scored(model, texts[1:2], OPENING, joined(alone), backward=True)
    for part, single in zip(together, alone, strict=True):
        assert part.grad is not None
        assert single.grad is not None
        assert_close(part.grad[1:2], single.grad, "reordered states")


def test_without_backward_nothing_is_recorded() -> None:
    model, texts = tiny_model("gpt2"), random_ids(LENGTHS)
    own = started(model, "prompt", 2, len(texts))
    scored(model, texts, OPENING, joined(own))
    assert own[0].grad is None


def test_the_longest_beginning_ends_at_the_first_mistake() -> None:
    right = torch.tensor([True, True, False, True])
    assert TextScores(torch.ones(4), right).recalled == 2
    assert TextScores(torch.ones(4), torch.ones(4, dtype=torch.bool)).recalled == 4
    assert TextScores(torch.ones(1), torch.zeros(1, dtype=torch.bool)).recalled == 0


def greedy(model: OpenModel, own: tuple[Tensor, ...], method: str, length: int) -> list[int]:
    """What transformers' own `generate` writes behind the opening token."""
    module, inputs = model.release(), torch.tensor([[OPENING]])
    options = {"max_new_tokens": length, "min_new_tokens": length, "do_sample": False, "pad_token_id": 0}
    if method == "prompt":
        embedded = torch.cat([own[0][None], module.get_input_embeddings()(inputs)], 1)
        return module.generate(inputs_embeds=embedded, **options)[0].tolist()
    cache = DynamicCache([(key[None], value[None]) for key, value in zip(*own, strict=True)])
    mask = torch.ones(1, own[0].shape[-2] + 1, dtype=torch.long)
    written = module.generate(input_ids=inputs, attention_mask=mask, past_key_values=cache, **options)
    return written[0, 1:].tolist()


@pytest.mark.parametrize("method", JOINED_METHODS)
def test_writing_freely_is_transformers_greedy_decoding(method: str) -> None:
    model = tiny_model("llama")
    own = started(model, method, 2, 1)
    own = tuple(part.detach() for part in own)
    written = greedy(model, tuple(part[0] for part in own), method, 12)
    assert recalled_freely(model, written, OPENING, joined(own)) == 12
    wrong = [*written[:7], (written[7] + 1) % 40, *written[8:]]
    assert recalled_freely(model, wrong, OPENING, joined(own)) == 7
    # Up to the first mistake, reading the true tokens and writing one's own are the same.
    for text in (written, wrong):
        read = scored(model, [text], OPENING, joined(own))[0]
        assert read.recalled == recalled_freely(model, text, OPENING, joined(own))
