"""Answers that are one of several texts, and the choice among them by their likelihood.

The model is trained to continue a prompt with the right text, as with any completion. It is asked by the likelihood of
every text behind the prompt: the likeliest is its answer, in all or per character. No end token stands behind the
texts: what is asked is which of them comes next.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Options:
    """The options of all examples as token ids, one behind the other.

    Attributes:
        sequences: the prompt with one option behind it, as the model reads them.
        answer_lengths: the option's tokens of each.
        counts: how many options each example has.
        true: of each example the place of the right one.
        characters: of each option.
    """

    sequences: tuple[tuple[int, ...], ...]
    answer_lengths: tuple[int, ...]
    counts: tuple[int, ...]
    true: tuple[int, ...]
    characters: tuple[int, ...]

    @property
    def starts(self) -> list[int]:
        """The place of each example's first option."""
        return [sum(self.counts[:row]) for row in range(len(self.counts))]

    def take(self, indices: Sequence[int]) -> "Options":
        """The options of the examples at `indices`, in that order."""
        starts = self.starts
        places = [place for i in indices for place in range(starts[i], starts[i] + self.counts[i])]
        return Options(
            tuple(self.sequences[place] for place in places),
            tuple(self.answer_lengths[place] for place in places),
            tuple(self.counts[i] for i in indices),
            tuple(self.true[i] for i in indices),
            tuple(self.characters[place] for place in places),
        )

    @property
    def digest(self) -> str:
        """A hash of all that a choice depends on."""
        seen = (self.sequences, self.answer_lengths, self.counts, self.true, self.characters)
        return hashlib.sha256(repr(seen).encode()).hexdigest()

    def chosen(self, nats: Float[Tensor, " options"], *, per_character: bool = False) -> Int[Tensor, " examples"]:
        """Of each example the place of its likeliest option, from the summed loss of every option.

        Args:
            nats: of each option, over all its tokens.
            per_character: whether options are compared by their loss per character: a long one is not at a
                disadvantage then. So does ``acc_norm`` of the lm-evaluation-harness.
        """
        worth = nats.double() / torch.tensor(self.characters) if per_character else nats.double()
        spans = zip(self.starts, self.counts, strict=True)
        return torch.stack([worth[start : start + count].argmin() for start, count in spans])
