"""The two kinds of task data: labelled texts, and prompts with their completions.

Records only; `promptreach.tables` reads them from files and says what is wrong with a file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch


@dataclass(frozen=True)
class LabelledTexts:
    """A classification task.

    Attributes:
        texts: one text an example.
        labels: for each text the index of its label in `label_names`.
        label_names: the labels as the user wrote them, sorted.
        source: where the data came from, for the report.
        rows: each example's row in the source (1 is the first data row), for messages about it.
    """

    texts: tuple[str, ...]
    labels: tuple[int, ...]
    label_names: tuple[str, ...]
    source: str = "memory"
    rows: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the model reads."""
        return self.texts

    @property
    def answers(self) -> tuple[str, ...]:
        """What it should answer, in the user's words."""
        return tuple(self.label_names[label] for label in self.labels)

    def take(self, indices: Sequence[int]) -> Self:
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
        prompts, completions: one of each an example; they are tokenized apart and joined as tokens.
        source, rows: as in `LabelledTexts`.
    """

    prompts: tuple[str, ...]
    completions: tuple[str, ...]
    source: str = "memory"
    rows: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the model reads."""
        return self.prompts

    @property
    def answers(self) -> tuple[str, ...]:
        """What it should answer."""
        return self.completions

    def take(self, indices: Sequence[int]) -> Self:
        """The examples at `indices`, in that order."""
        return replace(
            self,
            prompts=tuple(self.prompts[i] for i in indices),
            completions=tuple(self.completions[i] for i in indices),
            rows=tuple(self.rows[i] for i in indices) if self.rows else (),
        )


TaskData = LabelledTexts | Completions


def split(data: TaskData, held_out: float, seed: int) -> tuple[TaskData, TaskData]:
    """A training and a held-out part; the same seed gives the same split.

    Identical inputs never stand on both sides, so that a held-out score is not a memory of the training rows. With
    labels, each label keeps its share as nearly as its rows allow.

    Args:
        data: at least two different inputs.
        held_out: the share of examples held out, in (0, 1).
        seed: for the shuffle.
    """
    if not 0 < held_out < 1:
        raise ValueError(f"held_out is {held_out}; expected a share between 0 and 1")
    strata: dict[str, dict[str, list[int]]] = {}
    homes: dict[str, str] = {}
    for index, (text, answer) in enumerate(zip(data.inputs, data.answers, strict=True)):
        # An input seen before stays with its first occurrence, whatever its answer says now.
        stratum = homes.setdefault(text, answer if isinstance(data, LabelledTexts) else "")
        strata.setdefault(stratum, {}).setdefault(text, []).append(index)
    generator = torch.Generator().manual_seed(seed)
    train: list[int] = []
    held: list[int] = []
    for name in sorted(strata):
        groups = list(strata[name].values())
        order = torch.randperm(len(groups), generator=generator).tolist()
        wanted = held_out * sum(map(len, groups))
        taken = 0
        for position, group in enumerate(order):
            # Each side keeps at least one group where there are two.
            last_for_train = position == len(order) - 1 and taken == sum(len(groups[g]) for g in order[:position])
            if taken < wanted and not (last_for_train and len(order) > 1):
                held += groups[group]
                taken += len(groups[group])
            else:
                train += groups[group]
    return data.take(sorted(train)), data.take(sorted(held))
