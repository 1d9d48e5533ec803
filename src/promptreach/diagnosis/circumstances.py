"""The circumstances of a comparison, as records that rules read: the parts of the rows, and the adapter brought.

They are no scores. They say what a score on these rows, or of this adapter, can be evidence of.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class PartsNumbers:
    """The parts that the rows are split into, as far as a verdict depends on them.

    Attributes:
        train_labels, held_out_labels: rows of each label, also of those with none; empty for completions.
        held_out_rows: in the part that is judged on.
        known_rows: those of them that the training part holds too: the same tokens after the cut, or the same text but
            for upper and lower case and white space.
        cut_side: the side at which a row loses tokens.
        room: tokens of a row that the context leaves beside the longest prompt.
        context: positions of the model.
        remarks: what may be meant otherwise in the data, one sentence each.
    """

    train_labels: Mapping[str, int]
    held_out_labels: Mapping[str, int]
    held_out_rows: int
    known_rows: int
    cut_side: Literal["end", "beginning"]
    room: int
    context: int
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class BroughtNumbers:
    """The user's adapter itself, apart from how well it scores.

    Attributes:
        unchanged: whether the model's hidden states with it are those without it.
        zero_updates, updates: how many of its LoRA updates are zero, of how many; 0 for a prompt or a prefix.
        numbering: the data's label for each output of its classifier that stands for another one in the sorted order.
        extra_outputs, missing_outputs: outputs of its classifier that stand for no label, and labels without an output.
        other_base: the base model that it names, where that is another; otherwise empty.
        added_tokens: of its own tokenizer, which the texts were read with.
    """

    unchanged: bool
    zero_updates: int = 0
    updates: int = 0
    numbering: Mapping[str, str] = field(default_factory=dict)
    extra_outputs: int = 0
    missing_outputs: int = 0
    other_base: str = ""
    added_tokens: tuple[str, ...] = ()
