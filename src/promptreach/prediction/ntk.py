"""Scores of rows at the start of training, and the gradients that span the tangent kernel."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptreach.backbone import Backbone, Joined, TokenBatch
from promptreach.errors import Fault, InputError
from promptreach.prediction.gradients import Tangent
from promptreach.prediction.log_odds import BatchScores, Reader, score
from promptreach.training.task.encoding import Encoded, evaluation_batches

WIDTH = 8192
"""Numbers kept of a gradient in one block. A longer one is sketched: the part of a kernel entry k(i, j) that comes from
the block then carries an error of mean 0 and of standard deviation at most sqrt(2 k(i, i) k(j, j) / WIDTH)."""

_ACTIVATION = 100
"""Bytes that one position, layer and hidden coordinate takes in a backward pass, about: two dozen float32."""
_ACTIVATIONS = 2 * 10**9
"""Bytes that the activations of one batch may take, about."""


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


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of a part: one row a classified text or a group of answer tokens, in the order of the examples.

    Attributes:
        log_odds, answers, right, features, sides: as in `scores.BatchScores`, float64 on the CPU; the last two
            are None for completions.
        example: `Part.example` of each row's example.
    """

    log_odds: Float[Tensor, " rows"]
    answers: Float[Tensor, " rows"]
    right: Float[Tensor, " rows"]
    example: Int[Tensor, " rows"]
    features: Float[Tensor, "rows hidden"] | None
    sides: Float[Tensor, "rows classes"] | None


@dataclass(frozen=True, eq=False)
class ScoreGradients:
    """The scores of a part, and the gradients of their log odds.

    Attributes:
        scores: at the start of the largest adapter.
        blocks: `Tangent.split`'s blocks for every row, sketched where they are wider than asked; float32 on the CPU.
    """

    scores: Scores
    blocks: tuple[Float[Tensor, "rows _"], ...]


def start_scores(backbone: Backbone, part: Part, joined: Joined, groups: int, batch_size: int = 64) -> Scores:
    """The scores of a part with `joined` in front; forward passes only.

    Raises:
        InputError: when a loss is not a number.
    """
    with torch.no_grad():
        hidden_of = functools.partial(backbone.hidden, joined=joined)
        found = list(_passes(backbone, part, hidden_of, groups, batch_size))
    return _gathered(part, found, _order(found))


def measure(
    backbone: Backbone,
    part: Part,
    tangent: Tangent,
    groups: int,
    seed: int,
    *,
    width: int = WIDTH,
    batch_size: int = 64,
) -> ScoreGradients:
    """The scores of a part at the start of the largest adapter, with the gradients of their log odds.

    Besides one batch this takes 8 `width` bytes a row and block, and one forward and `groups` backward passes over the
    part.

    Args:
        backbone, part: whose examples, on which model.
        tangent: the method.
        groups: the most rows that a completion may have.
        seed: for the sketch; parts measured with the same seed can be compared.
        width: see `WIDTH`.
        batch_size: at most; fewer examples share a batch where a backward pass would take much memory.

    Raises:
        InputError: when a loss is not a number at the start.
    """
    leaves: list[Tensor] = []

    def hidden_of(batch: TokenBatch) -> Tensor:
        hidden, leaves[:] = tangent.forward(batch)
        return hidden

    sketch = _Sketch(width, seed)
    found, blocks = [], []
    batch_size = min(batch_size, _affordable(backbone, part, tangent))
    for rows, seen in _passes(backbone, part, hidden_of, groups, batch_size):
        last = len(seen.log_odds) - 1
        each = []
        for group, log_odds in enumerate(seen.log_odds):
            gradients = torch.autograd.grad(log_odds.sum(), leaves, retain_graph=group < last)
            each.append(sketch(tangent.split(gradients)))
        blocks.append([torch.stack(of_groups, dim=1).flatten(0, 1) for of_groups in zip(*each, strict=True)])
        found.append((rows, replace(seen, log_odds=seen.log_odds.detach())))  # or every batch's graph would stay
    order = _order(found)
    columns = [[batch[k] for batch in blocks] for k in range(len(tangent.sizes))]
    del blocks
    return ScoreGradients(_gathered(part, found, order), tuple(torch.cat(columns.pop(0))[order] for _ in tangent.sizes))


class _Sketch:
    """Random signed sums: products of vectors keep their expectation, and the sums are few (a count sketch)."""

    def __init__(self, width: int, seed: int) -> None:
        self.width = width
        self.generator = torch.Generator().manual_seed(seed)
        self.maps: list[tuple[Tensor, Tensor]] = []

    def __call__(self, blocks: list[Tensor]) -> list[Tensor]:
        """Each (batch, numbers) block as (batch, min(numbers, width)), on the CPU."""
        if not self.maps:  # the first batch knows how wide the blocks are
            self.maps = [self._map(block.shape[1]) for block in blocks]
        return [self._apply(block.float().cpu(), *one) for block, one in zip(blocks, self.maps, strict=True)]

    def _map(self, numbers: int) -> tuple[Tensor, Tensor]:
        place = torch.randint(self.width, (numbers,), generator=self.generator)
        return place, torch.randint(2, (numbers,), generator=self.generator).float() * 2 - 1

    def _apply(self, block: Tensor, place: Tensor, sign: Tensor) -> Tensor:
        if block.shape[1] <= self.width:
            return block
        return block.new_zeros(len(block), self.width).index_add_(1, place, block * sign)


def _affordable(backbone: Backbone, part: Part, tangent: Tangent) -> int:
    """As many examples as leave the activations of a backward pass within `_ACTIVATIONS`."""
    joined = tangent.start(tangent.sizes[-1]).length if tangent.start is not None else 0
    longest = max(map(len, part.data.sequences)) + joined
    return max(1, _ACTIVATIONS // (_ACTIVATION * backbone.num_layers * backbone.hidden_size * longest))


def _passes(
    backbone: Backbone, part: Part, hidden_of: Callable[[TokenBatch], Tensor], groups: int, batch_size: int
) -> Iterator[tuple[list[int], BatchScores]]:
    """The scores of every batch of a part, with the numbers of its examples."""
    data = part.data
    for rows in evaluation_batches([len(ids) for ids in data.sequences], batch_size):
        batch = backbone.batch([data.sequences[row] for row in rows])
        yield rows, score(part.reader, backbone, hidden_of(batch), batch, data, rows, groups)


_Found = Sequence[tuple[list[int], BatchScores]]


def _order(found: _Found) -> Tensor:
    """Where each row of the result stands in the batches laid end to end, examples before groups."""
    groups = len(found[0][1].answers)
    place = torch.cat([torch.tensor(rows)[:, None] * groups + torch.arange(groups) for rows, _ in found]).flatten()
    answered = torch.cat([seen.answers.T.flatten() for _, seen in found]).cpu() > 0
    order = place.argsort()
    return order[answered[order]]


def _gathered(part: Part, found: _Found, order: Tensor) -> Scores:
    groups = len(found[0][1].answers)

    def rows_of(name: str) -> Tensor:
        return torch.cat([getattr(seen, name).T.flatten() for _, seen in found]).double().cpu()[order]

    def examples_of(name: str) -> Tensor | None:
        if getattr(found[0][1], name) is None:
            return None
        return torch.cat([getattr(seen, name) for _, seen in found]).double().cpu()[order // groups]

    example = part.example[torch.cat([torch.tensor(rows) for rows, _ in found])[order // groups]]
    numbers = {name: rows_of(name) for name in ("log_odds", "answers", "right")}
    broken = set(example[~numbers["log_odds"].isfinite()].tolist())
    if broken:
        seen = f"{len(broken)} examples whose loss is not a number before any training"
        raise InputError(Fault("model", seen, "finite losses", "open it in float32, or look at its weights"))
    return Scores(
        **numbers,
        example=example,
        features=examples_of("features"),
        sides=examples_of("sides"),
    )
