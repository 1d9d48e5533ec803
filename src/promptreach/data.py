"""The two kinds of task data: labelled texts, and prompts with their completions.

Records only; `promptreach.tables` reads them from files and says what is wrong with a file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class LabelledTexts:
    """A classification task.

    Attributes:
        texts: one text an example.
        labels: for each text the index of its label in `label_names`.
        label_names: the labels as the user wrote them, sorted.
        source: where the data came from, for the report.
        rows: each example's row in the source (1 is the first data row), for messages about it.
        remarks: what may be meant otherwise in the source, one sentence each, for the report.
    """

    texts: tuple[str, ...]
    labels: tuple[int, ...]
    label_names: tuple[str, ...]
    source: str = "memory"
    rows: tuple[int, ...] = ()
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The texts that the model reads."""
        return self.texts

    @property
    def answers(self) -> tuple[str, ...]:
        """The right answers, in the user's words."""
        return tuple(self.label_names[label] for label in self.labels)

    def take(self, indices: Sequence[int]) -> "LabelledTexts":
        """The examples at `indices`, in that order."""
        return replace(
            self,
            texts=tuple(self.texts[i] for i in indices),
            labels=tuple(self.labels[i] for i in indices),
            rows=tuple(self.rows[i] for i in indices) if self.rows else (),
        )


@dataclass(frozen=True)
class Completions:
    """A completion task: the model reads a prompt and should continue with the completion.

    Attributes:
        prompts, completions: one of each an example; the completion is tokenized right behind its prompt.
        source, rows, remarks: as in `LabelledTexts`.
    """

    prompts: tuple[str, ...]
    completions: tuple[str, ...]
    source: str = "memory"
    rows: tuple[int, ...] = ()
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The texts that the model reads."""
        return self.prompts

    @property
    def answers(self) -> tuple[str, ...]:
        """The right answers."""
        return self.completions

    def take(self, indices: Sequence[int]) -> "Completions":
        """The examples at `indices`, in that order."""
        return replace(
            self,
            prompts=tuple(self.prompts[i] for i in indices),
            completions=tuple(self.completions[i] for i in indices),
            rows=tuple(self.rows[i] for i in indices) if self.rows else (),
        )


TaskData = LabelledTexts | Completions


def train_test_split(data: TaskData, held_out: float, seed: int) -> tuple[TaskData, TaskData]:
    """A training and a held-out part; the same seed gives the same split.

    Identical inputs never stand on both sides, so that a held-out score is not a memory of the training rows; shares
    therefore count different inputs. Of N different inputs, M = round(held_out N) are held out, but at least one and
    at most N - 1. Of every label's n different inputs, n M / N are held out, rounded up or down.

    Args:
        data: with fewer than two different inputs everything is for training.
        held_out: the share of the different inputs held out, in (0, 1).
        seed: for the shuffle.
    """
    if not 0 < held_out < 1:
        raise ValueError(f"held_out is {held_out}; expected a share between 0 and 1")
    rows_of: dict[str, list[int]] = {}
    for index, text in enumerate(data.inputs):
        rows_of.setdefault(text, []).append(index)
    inputs = list(rows_of)
    import torch  # here: a wrong call is told from its data alone, and must not wait for this

    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(inputs), generator=generator).tolist()
    if isinstance(data, LabelledTexts):
        # An input with several labels counts for the first. The sort is stable: within a label the order stays random.
        order.sort(key=lambda position: data.labels[rows_of[inputs[position]][0]])
    count = min(max(round(held_out * len(inputs)), 1), len(inputs) - 1)
    offset = int(torch.randint(max(len(inputs), 1), (), generator=generator))
    sides: tuple[list[int], list[int]] = ([], [])
    for rank, position in enumerate(order):
        # Systematic sampling: the held-out ones are spread evenly over the order, and so over the labels.
        is_held = (rank * count + offset) % len(inputs) < count
        sides[is_held].extend(rows_of[inputs[position]])
    return data.take(sorted(sides[0])), data.take(sorted(sides[1]))
