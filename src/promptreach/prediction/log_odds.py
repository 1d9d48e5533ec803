"""The log odds of an answer: the one number an answer that a prediction follows.

The cross-entropy of an answer with probability p is softplus(-m), where m = log(p / (1 - p)) are its log odds, however
many classes or tokens the model chose among. So a model of how m moves is a model of the loss, exact in its value and
its first derivative where training starts, and the logistic function supplies the curvature. A completion's tokens are
gathered into a few groups, each with the log odds of its geometric mean probability, since one derivative a token would
cost one backward pass a token.

Notation: m log odds; a the derivative of m by the class logits ("sides"), which sums to zero over the classes; x the
standardised features that the head reads, so that the derivative of m by the head's weight is a x'.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from promptreach.backbone import Backbone, TokenBatch
from promptreach.training.task.encoding import Encoded
from promptreach.training.task.objective import answer_positions
from promptreach.training.task.readout import LinearHead

_LEAST_LOSS = 1e-6
"""Nats; a group that the model is surer of than this has nothing left to teach."""


@dataclass(frozen=True, eq=False)
class BatchScores:
    """The scores of one batch, one row a group of answers; `log_odds` is differentiable in the hidden states.

    Attributes:
        log_odds: m, natural logarithm.
        answers: how many answers the group holds; 0 where an example has fewer answers than there are groups.
        right: how many of them are right.
        features: x of each example, or None without a head.
        sides: a of each example, or None without a head.
    """

    log_odds: Float[Tensor, "groups batch"]
    answers: Float[Tensor, "groups batch"]
    right: Float[Tensor, "groups batch"]
    features: Float[Tensor, "batch hidden"] | None = None
    sides: Float[Tensor, "batch classes"] | None = None


@dataclass(frozen=True, eq=False)
class Reader:
    """The linear classifiers that read a part of the data: one for all examples, or one for each of several folds.

    Attributes:
        head: standardises what it reads.
        weight, bias: of the classifiers.
        fold: which classifier reads each example of the part.
    """

    head: LinearHead
    weight: Float[Tensor, "folds classes hidden"]
    bias: Float[Tensor, "folds classes"]
    fold: Int[Tensor, " examples"]

    def logits(self, features: Float[Tensor, "batch hidden"], rows: Sequence[int]) -> Float[Tensor, "batch classes"]:
        """The class logits of the part's examples `rows` from their standardised features."""
        fold = self.fold[torch.tensor(rows)]
        weight, bias = self.weight[fold].to(features), self.bias[fold].to(features)
        return torch.einsum("bch,bh->bc", weight, features) + bias


def score(
    reader: Reader | None,
    backbone: Backbone,
    hidden: Float[Tensor, "batch seq hidden"],
    batch: TokenBatch,
    data: Encoded,
    rows: Sequence[int],
    groups: int,
) -> BatchScores:
    """The scores of `data`'s examples `rows`, which `batch` holds.

    With a reader an example has one group whatever `groups` is. Without one, the completion's tokens fall into `groups`
    runs of equal length, up to one token, and into as many as there are tokens when those are fewer.
    """
    if reader is None:
        return _of_tokens(backbone, hidden, batch, data, rows, groups)
    return _of_classes(reader, hidden, batch, data, rows)


def _of_classes(reader: Reader, hidden: Tensor, batch: TokenBatch, data: Encoded, rows: Sequence[int]) -> BatchScores:
    assert data.labels is not None
    features = reader.head.standardised(hidden, batch.mask)
    logits = reader.logits(features, rows)
    labels = data.labels[torch.tensor(rows)].to(logits.device)
    true = one_hot(labels, logits.shape[1]).bool()
    others = logits.masked_fill(true, -torch.inf)
    log_odds = logits[true] - others.logsumexp(1)
    sides = (true.to(logits.dtype) - others.softmax(1)).detach()
    return BatchScores(
        log_odds=log_odds[None],
        answers=torch.ones_like(log_odds)[None],
        right=(logits.argmax(1) == labels).to(logits.dtype)[None],
        features=features.detach(),
        sides=sides,
    )


def _of_tokens(
    backbone: Backbone, hidden: Tensor, batch: TokenBatch, data: Encoded, rows: Sequence[int], groups: int
) -> BatchScores:
    assert data.answer_lengths is not None
    where, at = answer_positions(batch, data, rows)
    logits = backbone.vocabulary_logits(hidden[where, at - 1]).float()
    targets = batch.input_ids[where, at]
    losses = cross_entropy(logits, targets, reduction="none")
    lengths = torch.tensor([data.answer_lengths[row] for row in rows])
    ends = batch.mask.sum(1).cpu()
    order = at - (ends - lengths)[where]  # 0 at an answer's first token
    runs = torch.minimum(lengths, torch.tensor(groups))
    place = ((order * runs[where]) // lengths[where] * len(rows) + where).to(losses.device)

    def gathered(values: Tensor) -> Tensor:
        flat = torch.zeros(groups * len(rows), dtype=losses.dtype, device=losses.device)
        return flat.index_add(0, place, values).reshape(groups, len(rows))

    answers = gathered(torch.ones_like(losses))
    mean = gathered(losses) / answers.clamp(min=1.0)
    log_odds = -mean.clamp(min=_LEAST_LOSS).expm1().log()
    right = gathered((logits.argmax(-1) == targets).to(losses.dtype))
    return BatchScores(log_odds, answers, right)
