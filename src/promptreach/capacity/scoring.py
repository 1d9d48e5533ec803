"""Next-token losses of a batch of texts, each behind virtual tokens of its own, and a greedy reading of them.

The language head is the widest matrix of a model, and its output for a long batch would be the largest tensor by far;
so it runs over a few hundred positions at a time, forwards and backwards, whatever the length of the texts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from promptreach.backbone import Backbone, Prepended
from promptreach.capacity.texts import inputs_of

ONE_PASS = "one_pass"
"""The method that writes a text in one pass: see `blanked`."""
POSITIONS = 256
"""Positions that go through the language head at once."""


@dataclass(frozen=True, eq=False)
class TextScores:
    """One text, teacher-forced: every token predicted from the true ones before it.

    Attributes:
        nats: the loss of each token, the first included.
        right: whether each token was the likeliest.
    """

    nats: Float[Tensor, " tokens"]
    right: Bool[Tensor, " tokens"]

    def bits(self, length: int) -> float:
        """The loss of the first `length` tokens, in bits."""
        return float(self.nats[:length].sum()) / math.log(2)

    @property
    def recalled(self) -> int:
        """How many tokens from the first on are right without a gap."""
        return int(self.right.long().cumprod(0).sum())


def scored(
    backbone: Backbone,
    texts: Sequence[Sequence[int]],
    opening: int,
    joined: Prepended | None = None,
    backward: bool = False,
) -> list[TextScores]:
    """The scores of each text behind the opening token and what is joined.

    Args:
        joined: tensors with a row for each text.
        backward: True leaves in the joined tensors the gradient of the sum over texts of the mean loss of a token.
            A text's tensors see its own loss only.
    """
    batch = backbone.batch(inputs_of(texts, opening))
    with torch.set_grad_enabled(backward):
        states = backbone.hidden(batch, joined)[batch.mask]
    lengths = [len(ids) for ids in texts]
    device = states.device
    targets = torch.tensor([token for ids in texts for token in ids], device=device)
    weights = torch.cat([torch.full((length,), 1.0 / length) for length in lengths]).to(device)
    leaf = states.detach().requires_grad_(backward)
    nats, right = [], []
    for start in range(0, len(targets), POSITIONS):
        part = slice(start, start + POSITIONS)
        with torch.set_grad_enabled(backward):
            logits = backbone.vocabulary_logits(leaf[part])
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            losses = cross_entropy(logits, targets[part], reduction="none")
        if backward:
            (losses * weights[part]).sum().backward()  # type: ignore[no-untyped-call]
        nats.append(losses.detach().double().cpu())
        right.append((logits.detach().argmax(-1) == targets[part]).cpu())
    if backward:
        states.backward(leaf.grad)  # type: ignore[no-untyped-call]
    parts = zip(torch.split(torch.cat(nats), lengths), torch.split(torch.cat(right), lengths), strict=True)
    return [TextScores(losses, hits) for losses, hits in parts]


def blanked(joined: Prepended) -> Prepended:
    """The virtual tokens of a prompt for one pass: the last one stands in place of every token of the text.

    So the model reads nothing that it is to write, and writes all of it at once, with the others of them in front.

    Reference: Mezentsev and Oseledets 2025 (2505.21189), with two virtual tokens.
    """
    assert joined.prompt is not None
    return Prepended(prompt=joined.prompt[..., :-1, :], blank=joined.prompt[..., -1, :])


@torch.no_grad()
def recalled_freely(backbone: Backbone, text: Sequence[int], opening: int, joined: Prepended) -> int:
    """How many tokens of the text the model writes by itself, always taking the likeliest, before the first wrong one.

    In exact arithmetic this is `TextScores.recalled`: up to its first mistake a model that writes reads what it was to
    write. It is measured all the same, since a batch of another shape rounds otherwise, and two tokens may be
    (nearly) equally likely.
    """
    written: list[int] = []
    for token in text:
        states = backbone.hidden(backbone.batch([[opening, *written]]), joined)
        if int(backbone.vocabulary_logits(states[0, -1]).argmax()) != token:
            break
        written.append(token)
    return len(written)
