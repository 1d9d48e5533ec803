"""The kinds of task data: texts with a label, several or a number, words with tags, questions to a context, prompts.

Records only; `promptreach.tables` reads them from files and says what is wrong with a file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, TypeVar

from promptreach.rows.chats import Chat

KindName = Literal["labels", "several_labels", "number", "tags", "span", "completions"]
"""The kinds of tasks by name."""

_PER_EXAMPLE = (
    *("texts", "labels", "label_sets", "numbers", "words", "tags", "questions", "contexts", "spans", "seconds"),
    *("prompts", "completions", "options", "chats", "rows", "parts", "weights"),
)

Kept = TypeVar("Kept", bound="_Rows")


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """The origin of a task's examples, whatever its kind; `LabelledTexts` tells the attributes."""

    kind: ClassVar[KindName]
    weights: tuple[float, ...] = ()
    parts: tuple[str, ...] = ()
    part_sources: Mapping[str, str] = field(default_factory=dict, compare=False)
    columns: Mapping[str, str] = field(default_factory=dict, compare=False)
    unused_columns: tuple[str, ...] = field(default=(), compare=False)

    def take(self: Kept, indices: Sequence[int]) -> Kept:
        """The examples at `indices`, in that order."""
        columns: dict[str, Any] = {name: getattr(self, name, ()) for name in _PER_EXAMPLE}
        taken: Any = {name: tuple(column[i] for i in indices) for name, column in columns.items() if column}
        return replace(self, **taken)


@dataclass(frozen=True)
class LabelledTexts(_Rows):
    """A classification task.

    Attributes:
        texts: one text an example.
        labels: for each text the index of its label in `label_names`.
        label_names: the labels as the user wrote them, sorted.
        source: where the data came from, for the report.
        rows: each example's row in the source (1 is the first data row), for messages about it.
        remarks: what may be meant otherwise in the source, one sentence each, for the report.
        seconds: the second text of each example, where two are judged together; empty where there is one.
        parts: the part of each example, ``"train"``, ``"validation"`` or ``"held_out"``, where the user divided the
            rows; empty where they are divided here.
        part_sources: the file, split or column that each of the user's parts came from.
        columns: the column of each role (text, pair, label, split and so on); empty for what was no table.
        unused_columns: the other columns of the table.
        weights: how much each example counts, in the loss and in every metric; empty where all count alike.
    """

    kind = "labels"
    texts: tuple[str, ...]
    labels: tuple[int, ...]
    label_names: tuple[str, ...]
    source: str = "memory"
    rows: tuple[int, ...] = ()
    remarks: tuple[str, ...] = ()
    seconds: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The texts that the model reads; two that are judged together with a line feed between them."""
        return _joined(self.texts, self.seconds)

    @property
    def answers(self) -> tuple[str, ...]:
        """The right answers, in the user's words."""
        return tuple(self.label_names[label] for label in self.labels)

    @property
    def strata(self) -> Sequence[Any]:
        """What each example is sorted by before the rows are divided, so that all parts have all of it."""
        return self.labels


@dataclass(frozen=True)
class SeveralLabels(_Rows):
    """A task of several labels a text, or none.

    Attributes:
        texts, label_names: as in `LabelledTexts`, and so are all that are not named here.
        label_sets: for each text the indices of its labels in `label_names`, ascending.
    """

    kind = "several_labels"
    texts: tuple[str, ...]
    label_sets: tuple[tuple[int, ...], ...]
    label_names: tuple[str, ...]
    source: str = "memory"
    rows: tuple[int, ...] = ()
    remarks: tuple[str, ...] = ()
    seconds: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The texts that the model reads."""
        return _joined(self.texts, self.seconds)

    @property
    def answers(self) -> tuple[str, ...]:
        """The right labels with commas between them; "none" where there is none."""
        return tuple(", ".join(self.label_names[label] for label in labels) or "none" for labels in self.label_sets)

    @property
    def strata(self) -> Sequence[Any]:
        """The sets of labels."""
        return self.label_sets


@dataclass(frozen=True)
class NumberedTexts(_Rows):
    """A task of one number a text: a score, a similarity, a degree.

    Attributes:
        texts: as in `LabelledTexts`, and so are all that are not named here.
        numbers: of each text, finite.
    """

    kind = "number"
    texts: tuple[str, ...]
    numbers: tuple[float, ...]
    source: str = "memory"
    rows: tuple[int, ...] = ()
    remarks: tuple[str, ...] = ()
    seconds: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The texts that the model reads."""
        return _joined(self.texts, self.seconds)

    @property
    def answers(self) -> tuple[str, ...]:
        """The right numbers."""
        return tuple(f"{number:g}" for number in self.numbers)

    @property
    def strata(self) -> Sequence[Any]:
        """The numbers."""
        return self.numbers


@dataclass(frozen=True)
class TaggedWords(_Rows):
    """A task of one tag a word.

    Attributes:
        words: of each text; the model reads them with blanks between them.
        tags: for each text the indices of its words' tags in `label_names`.
        label_names: the tags as the user wrote them, sorted.
        source, rows, remarks: as in `LabelledTexts`.
    """

    kind = "tags"
    words: tuple[tuple[str, ...], ...]
    tags: tuple[tuple[int, ...], ...]
    label_names: tuple[str, ...]
    source: str = "memory"
    rows: tuple[int, ...] = ()
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.words)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The texts that the model reads."""
        return tuple(" ".join(words) for words in self.words)

    @property
    def answers(self) -> tuple[str, ...]:
        """The right tags with blanks between them."""
        return tuple(" ".join(self.label_names[tag] for tag in tags) for tags in self.tags)

    @property
    def strata(self) -> Sequence[Any]:
        """The tags that occur in each text."""
        return [sorted(set(tags)) for tags in self.tags]


Span = tuple[int, str]
"""An answer in a context: the place of its first character, and its text."""


@dataclass(frozen=True)
class ContextSpans(_Rows):
    """A task of questions whose answer is a stretch of the context that stands beside them.

    Attributes:
        questions, contexts: one of each an example.
        spans: the answers to each question, any of which is right; none where the context does not answer it.
        source, rows, remarks: as in `LabelledTexts`.
    """

    kind = "span"
    questions: tuple[str, ...]
    contexts: tuple[str, ...]
    spans: tuple[tuple[Span, ...], ...]
    source: str = "memory"
    rows: tuple[int, ...] = ()
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.questions)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The texts that the model reads, with a line feed between question and context."""
        return _joined(self.questions, self.contexts)

    @property
    def answers(self) -> tuple[str, ...]:
        """The first answer to each question; "none" where there is none."""
        return tuple(spans[0][1] if spans else "none" for spans in self.spans)

    @property
    def strata(self) -> Sequence[Any]:
        """Whether there is an answer."""
        return [bool(spans) for spans in self.spans]


@dataclass(frozen=True)
class Completions(_Rows):
    """A completion task: the model reads a prompt and should continue with the completion.

    Attributes:
        prompts, completions: one of each an example; the completion is tokenized right behind its prompt.
        source, rows, remarks: as in `LabelledTexts`, and so are parts, part_sources, columns and unused_columns.
        chats: the turns of each example, where they are to be written by the model's chat template first; the prompts
            are transcripts then, for a reader. `promptreach.training.task.chats.rendered` empties this.
        chat_template: the template that is meant, in Jinja; empty for the model's own.
        needs_template: whether the chats cannot be read without one; instructions are their prompts as they stand.
        closed: whether the completions end as their template ends an answer, so that no end token is added.
        options: of each example the texts that its completion is one of; empty where any text may be an answer.
    """

    kind = "completions"
    prompts: tuple[str, ...]
    completions: tuple[str, ...]
    source: str = "memory"
    rows: tuple[int, ...] = ()
    remarks: tuple[str, ...] = ()
    chats: tuple[Chat, ...] = ()
    chat_template: str = ""
    needs_template: bool = True
    closed: bool = False
    options: tuple[tuple[str, ...], ...] = ()

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

    @property
    def strata(self) -> Sequence[Any]:
        """Nothing."""
        return ()


TaskData = LabelledTexts | SeveralLabels | NumberedTexts | TaggedWords | ContextSpans | Completions


def _joined(texts: tuple[str, ...], seconds: tuple[str, ...]) -> tuple[str, ...]:
    if not seconds:
        return texts
    return tuple(f"{one}\n{two}" for one, two in zip(texts, seconds, strict=True))


def common_options(data: TaskData) -> tuple[str, ...]:
    """The options that all examples share, in one order; empty where they differ or there are none."""
    options = data.options if isinstance(data, Completions) else ()
    return options[0] if options and all(own == options[0] for own in options) else ()


def train_test_split(data: TaskData, held_out: float, seed: int) -> tuple[TaskData, TaskData]:
    """A training and a held-out part; the same seed gives the same split.

    Identical inputs never stand on both sides, so that a held-out score is not a memory of the training rows; shares
    therefore count different inputs. Of N different inputs, M = round(held_out N) are held out, but at least one and
    at most N - 1. Of every label's n different inputs, n M / N are held out, rounded up or down; of every stretch of
    numbers, and of every set of labels or tags, likewise.

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
    if strata := data.strata:
        # An input with several labels counts for the first. The sort is stable: within a label the order stays random.
        order.sort(key=lambda position: strata[rows_of[inputs[position]][0]])
    count = min(max(round(held_out * len(inputs)), 1), len(inputs) - 1)
    offset = int(torch.randint(max(len(inputs), 1), (), generator=generator))
    sides: tuple[list[int], list[int]] = ([], [])
    for rank, position in enumerate(order):
        # Systematic sampling: the held-out ones are spread evenly over the order, and so over the labels.
        is_held = (rank * count + offset) % len(inputs) < count
        sides[is_held].extend(rows_of[inputs[position]])
    return data.take(sorted(sides[0])), data.take(sorted(sides[1]))
