"""The log odds of an answer: the one number an answer that a prediction follows.

The cross-entropy of an answer with probability p is softplus(-m), where m = log(p / (1 - p)) are its log odds, however
many classes or tokens the model chose among. So a model of how m moves is a model of the loss, exact in its value and
its first derivative where training starts, and the logistic function supplies the curvature. A completion's tokens are
gathered into a few groups, each with the log odds of its geometric mean probability, since one derivative a token would
cost one backward pass a token.

Notation: m log odds; a the derivative of m by the class logits ("sides"), which sums to zero over the classes; x the
standardised features that the head reads, so that the derivative of m by the head's weight is a x'.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from promptreach.backbone import Backbone, Prepended, TokenBatch
from promptreach.errors import Fault, InputError
from promptreach.training.task.encoding import Encoded, evaluation_batches
from promptreach.training.task.objective import answer_losses
from promptreach.training.task.readout import Reader

_LEAST_LOSS = 1e-6
"""Nats; a run of tokens that the model is surer of than this has nothing left to teach."""


@dataclass(frozen=True, eq=False)
class LogOdds:
    """The log odds of some examples: one row a classified text or a run of answer tokens, in the order of examples.

    Attributes:
        log_odds: m, natural logarithm; of a batch, differentiable in the hidden states.
        answers: how many answers the row stands for.
        right: how many of them are right.
        example: the row's example: by its place in a batch, or by `Part.example`.
        run: which of its example's rows it is.
        features, sides: x and a; without a head they have no columns.
    """

    log_odds: Float[Tensor, " rows"]
    answers: Float[Tensor, " rows"]
    right: Float[Tensor, " rows"]
    example: Int[Tensor, " rows"]
    run: Int[Tensor, " rows"]
    features: Float[Tensor, "rows hidden"]
    sides: Float[Tensor, "rows classes"]


@dataclass(frozen=True, eq=False)
class Part:
    """Examples with the classifiers that read them.

    Attributes:
        data: the examples.
        reader: their classifiers, or None for completions.
        example: the number of each, ascending: its place among the training examples, for examples drawn from there.
    """

    data: Encoded
    reader: Reader | None
    example: Int[Tensor, " examples"]


def log_odds_at_start(backbone: Backbone, part: Part, joined: Prepended, runs: int, batch_size: int = 64) -> LogOdds:
    """The log odds of a part with `joined` in front, float64 on the CPU; forward passes only.

    Args:
        backbone, part: whose examples, on which model.
        joined: the start of a tuning method.
        runs: the most rows that a completion may have.
        batch_size: of the passes.

    Raises:
        InputError: when a loss is not a number.
    """
    with torch.no_grad():
        hidden_of = functools.partial(backbone.hidden, joined=joined)
        return in_order(part, list(log_odds_of_batches(backbone, part, hidden_of, runs, batch_size)))[0]


def log_odds_of_batches(
    backbone: Backbone, part: Part, hidden_of: Callable[[TokenBatch], Tensor], runs: int, batch_size: int
) -> Iterator[tuple[list[int], LogOdds]]:
    """The examples of every batch of a part, with their log odds.

    With a reader an example has one row whatever `runs` is. Without one, the completion's tokens fall into `runs` runs
    of equal length, up to one token, and into as many as there are tokens when those are fewer.
    """
    data = part.data
    for examples in evaluation_batches([len(ids) for ids in data.sequences], batch_size):
        batch = data.batch(backbone, examples)
        hidden = hidden_of(batch)
        if part.reader is None:
            yield examples, _of_completions(backbone, hidden, batch, data, examples, runs)
        else:
            yield examples, _of_classes(part.reader, hidden, batch, data, examples)


def in_order(part: Part, batches: Sequence[tuple[list[int], LogOdds]]) -> tuple[LogOdds, Int[Tensor, " rows"]]:
    """The log odds of all batches in the order of the examples, and where each row stood in the batches end to end.

    Raises:
        InputError: when a loss is not a number.
    """
    place = torch.cat([torch.tensor(examples)[seen.example] for examples, seen in batches])
    order = place.argsort(stable=True)
    example = part.example[place[order]]

    def gathered(name: str) -> Tensor:
        return torch.cat([getattr(seen, name) for _, seen in batches]).double().cpu()[order]

    log_odds = gathered("log_odds")
    broken = set(example[~log_odds.isfinite()].tolist())
    if broken:
        seen = f"{len(broken)} examples whose loss is not a number before any training"
        raise InputError(Fault("model", seen, "finite losses", "open it in float32, or look at its weights"))
    return LogOdds(
        log_odds=log_odds,
        answers=gathered("answers"),
        right=gathered("right"),
        example=example,
        run=gathered("run").long(),
        features=gathered("features"),
        sides=gathered("sides"),
    ), order


def _of_classes(reader: Reader, hidden: Tensor, batch: TokenBatch, data: Encoded, examples: Sequence[int]) -> LogOdds:
    assert data.labels is not None
    features = reader.head.standardised(hidden, batch.mask)
    logits = reader.logits(features, examples)
    labels = data.labels[torch.tensor(examples)].to(logits.device)
    true = one_hot(labels, logits.shape[1]).bool()
    others = logits.masked_fill(true, -torch.inf)
    log_odds = logits[true] - others.logsumexp(1)
    return LogOdds(
        log_odds=log_odds,
        answers=torch.ones_like(log_odds),
        right=(logits.argmax(1) == labels).to(logits.dtype),
        example=torch.arange(len(examples)),
        run=torch.zeros(len(examples), dtype=torch.long),
        features=features.detach(),
        sides=(true.to(logits.dtype) - others.softmax(1)).detach(),
    )


def _of_completions(
    backbone: Backbone, hidden: Tensor, batch: TokenBatch, data: Encoded, examples: Sequence[int], runs: int
) -> LogOdds:
    assert data.answer_lengths is not None
    where, at, losses, right = answer_losses(backbone, hidden, batch, data, examples)
    lengths = torch.tensor([data.answer_lengths[example] for example in examples])
    order = at - (batch.mask.sum(1).cpu() - lengths)[where]  # 0 at an answer's first token
    run = order * lengths.clamp(max=runs)[where] // lengths[where]
    rows, row_of = torch.unique(where * runs + run, return_inverse=True)
    row_of = row_of.to(losses.device)

    def summed(values: Tensor) -> Tensor:
        return torch.zeros(len(rows), dtype=losses.dtype, device=losses.device).index_add(0, row_of, values)

    answers = summed(torch.ones_like(losses))
    mean = summed(losses) / answers
    log_odds = -mean.clamp(min=_LEAST_LOSS).expm1().log()
    none = log_odds.new_empty(len(rows), 0)
    return LogOdds(log_odds, answers, summed(right), rows // runs, rows % runs, features=none, sides=none)
