"""The objectives: what is minimised and what is scored; those of a single label and of completions.

Every objective gives, for each example, the summed loss in nats, over how many answers it was summed, and how many of
those were right; a score is then a ratio of sums, whatever the task. The objectives of other heads stand beside what
else belongs to their kind of task, in `promptreach.training.task.kinds`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from promptreach.backbone import Backbone, TokenBatch
from promptreach.training.task.encoding import Encoded
from promptreach.training.task.readout import LinearHead


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Per example: the loss in nats summed over its answers, the number of answers, and how many were right.

    A classified text has one answer; a completion has one a token (teacher-forced: each token is predicted from the
    true ones before it), words with tags one a word, and every other example one. A number is neither right nor wrong,
    and `right` is NaN there.

    What metrics need besides, each None where there is no such thing: what was given and what is true, as the label of
    a text, its number, the place among options, or 0 and 1 for each of several labels; with two labels the logit of the
    second less that of the first; and `parts`, which the kind of task says. One of several options is one answer, and
    the loss is that of all tokens of the right one. Where answers are written, `written` holds their tokens, -1 behind
    the end, and `judged` the numbers that `promptreach.training.task.text_metrics` adds up. `weight` is how much the
    example counts, where they do not count alike; loss, answers and right are multiplied by it already.
    """

    loss: Float[Tensor, " examples"]
    answers: Float[Tensor, " examples"]
    right: Float[Tensor, " examples"]
    given: Float[Tensor, "examples ..."] | None = None
    true: Float[Tensor, "examples ..."] | None = None
    score: Float[Tensor, " examples"] | None = None
    judged: Float[Tensor, "examples numbers"] | None = None
    written: Int[Tensor, "examples most"] | None = None
    parts: Float[Tensor, "examples parts"] | None = None
    weight: Float[Tensor, " examples"] | None = None

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that there is, by name."""
        return {name: tensor for name, tensor in vars(self).items() if tensor is not None}

    @property
    def mean_loss(self) -> float:
        """Nats per answer."""
        return float(self.loss.double().sum() / self.answers.double().sum())

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return float(self.right.double().sum() / self.answers.double().sum())

    @property
    def all_right(self) -> float:
        """The share of examples whose every answer is right; NaN where no answer is right or wrong."""
        if self.right.isnan().any():
            return math.nan
        weight = torch.ones_like(self.loss) if self.weight is None else self.weight
        return float(((self.right == self.answers) * weight).double().sum() / weight.double().sum())

    def weighted(self, weight: Float[Tensor, " examples"] | None) -> "Outcomes":
        """The same with every example counting so much; as they are for None."""
        if weight is None:
            return self
        weight = weight.to(self.loss)
        counted = {name: getattr(self, name) * weight for name in ("loss", "answers", "right")}
        return replace(self, weight=weight, **counted)

    def standard_error(self) -> float:
        """The standard error of `accuracy` over examples (a ratio estimate for completions)."""
        count = len(self.loss)
        if count < 2:
            return math.inf
        residual = (self.right - self.accuracy * self.answers).double()
        return float(residual.std() / self.answers.double().mean() / math.sqrt(count))


class Objective(ABC):
    """A loss over the last hidden states, and the head that is trained along with every method; one without tensors
    where the model has its own."""

    def __init__(self, head: nn.Module) -> None:
        self.head = head

    @abstractmethod
    def outcomes(
        self, backbone: Backbone, hidden: Tensor, batch: TokenBatch, data: Encoded, rows: Sequence[int]
    ) -> Outcomes:
        """The outcomes of `data`'s examples `rows`, which `batch` holds; differentiable in `hidden` and in the head."""

    def head_parameters(self) -> list[nn.Parameter]:
        """The head's trainable tensors."""
        return [part for part in self.head.parameters() if part.requires_grad]

    def head_state(self) -> dict[str, Tensor]:
        """A detached copy of the head with its fixed standardisation, empty where it has no tensors."""
        return {name: tensor.detach().clone() for name, tensor in self.head.state_dict().items()}

    def load_head(self, state: dict[str, Tensor]) -> None:
        """Put such a copy back."""
        self.head.load_state_dict(state)


class HeadObjective(Objective):
    """An objective of a linear head, whose outputs are all that a hidden state tells it."""

    head: LinearHead

    def outcomes(
        self, backbone: Backbone, hidden: Tensor, batch: TokenBatch, data: Encoded, rows: Sequence[int]
    ) -> Outcomes:
        """What the head's outputs are worth."""
        return self.answered(self.head(hidden, batch.mask), data, rows)

    @abstractmethod
    def answered(self, outputs: Float[Tensor, "batch ..."], data: Encoded, rows: Sequence[int]) -> Outcomes:
        """The outcomes of such outputs of a head for `data`'s examples `rows`."""


class Classification(HeadObjective):
    """Cross-entropy of a linear head on pooled hidden states, each label's times its weight where there are any."""

    def __init__(self, head: LinearHead, class_weights: Float[Tensor, " classes"] | None = None) -> None:
        super().__init__(head)
        self.class_weights = class_weights

    def answered(self, outputs: Float[Tensor, "batch ..."], data: Encoded, rows: Sequence[int]) -> Outcomes:
        """One answer an example."""
        assert data.labels is not None
        logits, labels = outputs, data.labels[torch.tensor(rows)].to(outputs.device)
        loss = cross_entropy(logits, labels, reduction="none")
        if self.class_weights is not None:
            loss = loss * self.class_weights.to(loss)[labels]
        given = logits.argmax(-1)
        return Outcomes(
            loss,
            torch.ones_like(loss),
            (given == labels).to(loss.dtype),
            given=given.to(loss.dtype),
            true=labels.to(loss.dtype),
            score=logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else None,
        )


class Completion(Objective):
    """Next-token cross-entropy on the completion's tokens, through the model's own language head."""

    def __init__(self) -> None:
        super().__init__(nn.Module())

    def outcomes(
        self, backbone: Backbone, hidden: Tensor, batch: TokenBatch, data: Encoded, rows: Sequence[int]
    ) -> Outcomes:
        """One answer a completion token, predicted from the hidden state before it."""
        where, _, losses, right = answer_losses(backbone, hidden, batch, data, rows)
        where = where.to(losses.device)

        def per_example(values: Tensor) -> Tensor:
            return torch.zeros(len(rows), dtype=losses.dtype, device=losses.device).index_add(0, where, values)

        return Outcomes(per_example(losses), per_example(torch.ones_like(losses)), per_example(right))


class RightOption(Completion):
    """The loss of all tokens of the right option, through the model's own language head: one answer an example.

    Whether it is the chosen one takes the other options, see `promptreach.training.task.task.Task.evaluate`.
    """

    def outcomes(
        self, backbone: Backbone, hidden: Tensor, batch: TokenBatch, data: Encoded, rows: Sequence[int]
    ) -> Outcomes:
        """One answer an example; right where every token is."""
        found = super().outcomes(backbone, hidden, batch, data, rows)
        return Outcomes(found.loss, torch.ones_like(found.loss), (found.right == found.answers).to(found.loss.dtype))


def answer_losses(
    backbone: Backbone, hidden: Tensor, batch: TokenBatch, data: Encoded, rows: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All completion tokens of `data`'s examples `rows`: which example of the batch, which position, nats, and right.

    A token is right (1) when it is the likeliest behind the true ones before it.
    """
    assert data.answer_lengths is not None
    ends = batch.mask.sum(1).tolist()
    examples, positions = [], []
    for index, (row, end) in enumerate(zip(rows, ends, strict=True)):
        for position in range(end - data.answer_lengths[row], end):
            examples.append(index)
            positions.append(position)
    where, at = torch.tensor(examples), torch.tensor(positions)
    # The language head is the widest matrix of the model: only the rows that are scored go through it.
    logits = backbone.vocabulary_logits(hidden[where, at - 1]).float()
    targets = batch.input_ids[where, at]
    losses = cross_entropy(logits, targets, reduction="none")
    return where, at, losses, (logits.argmax(-1) == targets).to(losses.dtype)


def gather(parts: Sequence[Outcomes], rows: Sequence[Sequence[int]]) -> Outcomes:
    """Outcomes of batches in the order of the examples, detached and on the CPU."""
    order = torch.tensor([row for batch in rows for row in batch])

    def sort(name: str) -> Tensor:
        joined = torch.cat([getattr(part, name).detach().float().cpu() for part in parts])
        result = torch.empty_like(joined)
        result[order] = joined
        return result

    return Outcomes(**{name: sort(name) for name in parts[0].tensors})
