"""The numbers that measurements leave and rules read: one frozen record a measurement, and their form in JSON."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar

from promptreach.data import KindName
from promptreach.training.task.metric_names import Metric, ScoreMetric
from promptreach.training.task.readout import Pooling

Goal = Literal["generalise", "memorise"]
Kind = TypeVar("Kind")
Setting = str | int | float | None
BASELINES = ("prompt", "prefix", "lora")
"""The methods that are compared where none are chosen."""
USER = "yours"
"""The key of the user's own training among the methods that were trained here."""


@dataclass(frozen=True)
class Comparison:
    """The gain of one run over another on the same rows: accuracy, or nats per answer saved.

    Attributes:
        gain: the difference.
        low, high: its 90 % interval.
        error: its standard error.
    """

    gain: float
    low: float
    high: float
    error: float


SAME = Comparison(0.0, 0.0, 0.0, 0.0)
"""A run compared with itself."""


@dataclass(frozen=True)
class DataNumbers:
    """Size, lengths and contradictions of the rows, as the model sees them after tokenization and truncation.

    Attributes:
        classes: of one label a row; 0 for every other kind of task.
        majority_share: of the rows, those with the most frequent answer.
        conflicting_rows: those that contradict another row.
        loss_floor: the least mean loss of any function of the tokens read, nats per answer.
        best_accuracy: the largest share of rows that any such function gets right.
        truncated: rows that are cut at `max_length` tokens.
        cut_answers: those of them that lost the end of their completion, or all or a part of their answer.
        kind: of the task.
    """

    rows: int
    classes: int
    majority_share: float
    different_inputs: int
    conflicting_rows: int
    loss_floor: float
    best_accuracy: float
    truncated: int
    median_tokens: int
    longest_tokens: int
    max_length: int
    cut_answers: int = 0
    kind: KindName = "labels"


@dataclass(frozen=True)
class Scores:
    """The scores of one run on the rows judged.

    Attributes:
        loss: nats per answer; of a completion, per token.
        accuracy: the share of right answers, with its standard error in `accuracy_error`.
        all_right: the share of rows with every answer right.
        value: the score in the metric that is shown beside or in the place of accuracy; None where there is none.
        value_error: its standard error.

    Where no answer is right or wrong, accuracy and what belongs to it are NaN, which reports write as null.
    """

    loss: float
    accuracy: float
    accuracy_error: float
    all_right: float
    value: float | None = field(default=None, kw_only=True)
    value_error: float | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class BareNumbers(Scores):
    """The control: the head alone, read at `pooling`, or the bare model.

    Attributes:
        pooling: None for completions.
        majority_accuracy: what always giving the most frequent label of the training rows scores; None for every other
            kind of task.
        constant: what the best answer that ignores its input scores in the metric that decides; None for completions.
    """

    pooling: Pooling | None
    majority_accuracy: float | None
    constant: float | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class RunNumbers(Scores):
    """One full run: its settings, and how its training went.

    Attributes:
        train_loss: the mean over the last stretch of training; None where it is not finite.
        start_loss: on the validation rows, before any step.
        steps: that were taken.
        schedule: the steps that its learning rate's schedule was for; more than `steps` where it stopped early.
        best_step: of the state that was kept and is scored; 0 where no step did any good.
        train_fell: nats by which the training loss fell from the first stretch to the last.
        rate_at_edge: whether its learning rate is the largest of those tried.
        still_falling: nats by which the validation loss fell over the last stretch below every look that came before
            it, the start left out: a rise that was made good is no fall.
        starts_tried: the starts that were trained from; `init` is the best of them.
    """

    method: str
    tokens: int
    rank: int
    init: str
    learning_rate: float
    parameters: int
    status: str
    seconds: float
    steps: int
    schedule: int
    best_step: int
    train_loss: float | None
    train_fell: float
    validation_loss: float
    start_loss: float
    rate_at_edge: bool
    still_falling: float
    starts_tried: tuple[str, ...] = ()


@dataclass(frozen=True)
class UserNumbers(Scores):
    """The user's own training: the attempt, trained again, or the adapter as it is.

    Attributes:
        status: ``diverged`` when the attempt's loss stopped being a number.
        kind: ``adapter`` or ``attempt``.
    """

    status: str
    kind: str
    method: str
    tokens: int
    rank: int


@dataclass(frozen=True)
class InContextNumbers(Scores):
    """The bare model with an instruction, or examples, in front of every row.

    Attributes:
        against_lora: its gain over LoRA; None where the two cannot be compared.
        against_soft: what the best prompt or prefix gains over it.
        cut_rows: rows that did not fit into the context with all these words.
        median_tokens: of a row with them.
    """

    against_lora: Comparison | None
    against_soft: Comparison | None
    cut_rows: int
    median_tokens: int


@dataclass(frozen=True)
class TrainingNumbers:
    """Everything trained on the same rows with the same steps, and compared.

    Attributes:
        rows_judged: the rows that scores are from, in words.
        methods: each run by its name.
        against_lora, against_head, against_user: the comparison of every other run with that one, by name; the user's
            own stands under `USER`.
        lora: the name of the LoRA run; empty where it was left out.
        lengths_left_out: of prompts that were not trained.
        user: None where nothing was brought.
        against_shorter: every prompt, and every prefix, compared with each shorter one of its form, by both names.
        layers: of the model.
        most_tokens: the virtual tokens that fit into the context beside the content.
        longer_possible: the forms of which one length beyond those asked for fits and was not trained yet.
        beyond: the runs beyond the lengths asked for, trained because length decided.
        not_here: by method, why this architecture cannot have it.
        left_out: those of `BASELINES` that were not asked for.
        beside: the metric of every run's `value`: the one that decides, or F1 where few rows are of one of two labels.
        in_context: the bare model with words in front of the rows, by what they are.
        not_needed: what was not trained because the verdict did not hang on it, by its name, and why.
        steps_asked: the steps of a run that were asked for; runs have more where the verdict hung on their end.
        more_steps_possible: whether all of them may be trained longer still.
    """

    metric: Metric
    goal: Goal
    rows_judged: str
    train_rows: int
    held_out_rows: int
    methods: Mapping[str, RunNumbers]
    against_lora: Mapping[str, Comparison]
    against_head: Mapping[str, Comparison]
    against_user: Mapping[str, Comparison]
    lora: str
    lengths_left_out: tuple[int, ...] = ()
    user: UserNumbers | None = None
    against_shorter: Mapping[str, Mapping[str, Comparison]] = field(default_factory=dict)
    layers: int = 0
    most_tokens: int = 0
    longer_possible: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()
    not_here: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    beside: ScoreMetric | None = None
    in_context: Mapping[str, InContextNumbers] = field(default_factory=dict)
    not_needed: Mapping[str, str] = field(default_factory=dict)
    steps_asked: int = 0
    more_steps_possible: bool = False


@dataclass(frozen=True)
class Geometry:
    """Virtual tokens against the vocabulary.

    Attributes:
        norm_ratio: their median norm over that of the vocabulary's rows.
        longer_than: the share of vocabulary rows that are shorter than it.
        nearest_cosine: the median over virtual tokens of the cosine to the nearest vocabulary row.
    """

    norm_ratio: float
    longer_than: float
    nearest_cosine: float


@dataclass(frozen=True)
class StartNumbers:
    """The starts of virtual tokens, and the validation loss there.

    Attributes:
        bare_loss: without any.
        prompt_start_loss, prefix_start_loss: by start, before any step.
        geometry: of the starts, of the trained prompt and of the user's own.
        far_out: the names of those far longer than the vocabulary's rows.
    """

    bare_loss: float
    prompt_start_loss: Mapping[str, float]
    prefix_start_loss: Mapping[str, float]
    geometry: Mapping[str, Geometry]
    far_out: tuple[str, ...]


@dataclass(frozen=True)
class PoolingNumbers:
    """The accuracy of a head fitted at each place where it may read; the metric that decides, where it is no label.

    Attributes:
        chosen: the place of the task's own read-out.
        user_pooling: where the user's head reads, if that is known.
        bare, adapter: on the frozen model, and with the user's adapter where there is one.
        user_accuracy: the user's adapter through the read-out that it was trained with, if that is known.
        worth: what the chosen place gains over it.
    """

    chosen: Pooling
    user_pooling: Pooling | None
    bare: Mapping[Pooling, float]
    adapter: Mapping[Pooling, float]
    user_accuracy: float | None = None
    worth: Comparison | None = None


@dataclass(frozen=True)
class ChangedSetting:
    """One step of the path from the user's settings to those that fit: what it is worth, and the score it leads to."""

    setting: str
    before: Setting
    after: Setting
    worth: Comparison
    score: float


@dataclass(frozen=True)
class AttemptNumbers:
    """The losses of the user's own training, setting by setting.

    Attributes:
        start: as it is.
        diverged_at: the steps after which its loss stopped being a number, or None.
        settings, fitting: its settings, and those of the run of the same form and size that was trained here.
        path: the settings changed, one at a time.
        whole: what all of them gain together.
    """

    start: Scores
    diverged_at: int | None
    settings: Mapping[str, Setting]
    fitting: Mapping[str, Setting]
    path: tuple[ChangedSetting, ...]
    whole: Comparison


@dataclass(frozen=True)
class CollapseNumbers:
    """The spread of the rows over the classes by the user's classifier.

    Attributes:
        favourite: the class given most often, to `share` of the rows; it is true of `true_share`.
        classes_never_given: though some row is of them.
        collapsed: whether nearly all rows are given the favourite.
    """

    favourite: str
    share: float
    true_share: float
    classes_never_given: int
    collapsed: bool


@dataclass(frozen=True)
class ForgettingNumbers:
    """The loss on plain text, nats per token: the bare model's, and its rise with each adapter on."""

    bare_loss: float
    rise: Mapping[str, Comparison]
    source: str


def numbers_of(found: Iterable[object], kind: type[Kind]) -> Kind | None:
    """The record of that kind among `found`, or None."""
    return next((numbers for numbers in found if isinstance(numbers, kind)), None)


_JSON_NAMES = {
    "user": USER,
    "against_user": "against_yours",
    "user_pooling": "yours",
    "user_accuracy": "own",
    "favourite": "class",
}
"""Fields that reports call otherwise; readers of old reports know them by these names."""


def as_values(numbers: Any) -> dict[str, Any]:
    """A record, or values by name, as reports hold them: JSON types under the names of the published format."""
    if isinstance(numbers, Mapping):
        return dict(numbers)
    return asdict(numbers, dict_factory=_json_object)


def _json_object(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    return {
        _JSON_NAMES.get(name, name): _plain(value)
        for name, value in fields
        # A report on completions has no such number, where other numbers that are missing stand as null.
        if not (name in ("majority_accuracy", "constant", "value_error") and value is None)
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return None if isinstance(value, float) and math.isnan(value) else value
