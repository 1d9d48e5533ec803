"""The numbers that rules read, and how they are said: one place for units, so that no rule formats a number itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from promptreach.diagnosis.circumstances import BroughtNumbers, PartsNumbers
from promptreach.diagnosis.controls import OneLayerNumbers, PlantedNumbers, SeedNumbers
from promptreach.diagnosis.numbers import (
    SAME,
    USER,
    AttemptNumbers,
    BareNumbers,
    CollapseNumbers,
    Comparison,
    DataNumbers,
    PoolingNumbers,
    RunNumbers,
    Scores,
    StartNumbers,
    TrainingNumbers,
    UserNumbers,
)
from promptreach.report.formatting import counted
from promptreach.training.task.metric_names import Metric, ScoreMetric, in_words

MARGIN: Mapping[Metric, float] = {**dict.fromkeys(get_args(ScoreMetric), 0.04), "loss": 0.05}
"""The difference that still counts as "as good": share of right answers, another metric, or nats per token.
Reruns of one configuration with other seeds differ by up to 4 points on the public PEFT benchmark, so a smaller margin
would judge luck."""
LENGTH_HELPS = 0.02
"""Nats by which a prompt beats the next shorter one where tokens still bind."""
STILL_FALLING = 0.02
"""Nats by which the validation loss fell over the last quarter of a training run that was not done."""
LONGER = 4.0
"""Falling on as in the last quarter for as long again as the whole training: the gap that this would close is open."""
NEARLY_ALL = 0.9
"""The share of the control's loss from which a LoRA that leaves it on its own rows has hardly learnt anything."""
OUT_OF_REACH = 0.5
"""The share of LoRA's change of a model's one layer from which the form is what binds."""
ANSWERS: Mapping[str, str] = {
    "labels": "labels",
    "several_labels": "labels",
    "number": "numbers",
    "tags": "tags",
    "span": "answers",
    "completions": "completions",
}
"""What each kind of task asks for."""
FORMS = {"prompt": "a soft prompt", "prefix": "a prefix", "lora": "LoRA"}
"""The methods in words: a soft prompt means vectors at the input."""
POOLINGS_IN_WORDS = {
    "mean": "the mean over the content tokens",
    "first": "the first position",
    "last": "the last content token",
    "each": "every token by itself",
}
"""The places where a head may read, in words."""


@dataclass(frozen=True)
class Measurements:
    """The numbers that rules read; None where a measurement was not made."""

    data: DataNumbers
    training: TrainingNumbers
    bare: BareNumbers | None = None
    start: StartNumbers | None = None
    planted: PlantedNumbers | None = None
    attempt: AttemptNumbers | None = None
    collapse: CollapseNumbers | None = None
    pooling: PoolingNumbers | None = None
    parts: PartsNumbers | None = None
    brought: BroughtNumbers | None = None
    seeds: SeedNumbers | None = None
    one_layer: OneLayerNumbers | None = None

    @property
    def metric(self) -> Metric:
        return self.training.metric

    @property
    def margin(self) -> float:
        """What counts as "as good": what a seed is worth here, where that is known to be more than the usual."""
        return max(MARGIN[self.metric], 0.0 if self.seeds is None else self.seeds.worth)

    @property
    def lora(self) -> str:
        return self.training.lora

    @property
    def runs(self) -> Mapping[str, RunNumbers]:
        """Everything trained here, by name."""
        return self.training.methods

    @property
    def user(self) -> UserNumbers | None:
        """The scores of the user's own training, or None."""
        return self.training.user

    @property
    def your(self) -> str:
        """The user's own training in words."""
        return "Your adapter" if self.user and self.user.kind == "adapter" else "Your attempt"

    @property
    def rows(self) -> str:
        """The rows that scores are from, in words."""
        return self.training.rows_judged

    def against_lora(self, name: str) -> Comparison:
        """The paired difference of a run, or of the user's own, to LoRA; none for LoRA itself."""
        return self.training.against_lora.get(name, SAME)

    def keeps_up(self, name: str) -> bool:
        """Whether a run is as good as LoRA: all of the interval lies above minus the margin.

        Where rows are to be memorised it must have memorised them, too.
        """
        return self.against_lora(name).low >= -self.margin and self.has_memorised(name)

    def trails(self, name: str) -> bool:
        """Whether a run certainly falls short of LoRA, or of memorising what was to be memorised."""
        return self.against_lora(name).high < -self.margin / 2 or not self.has_memorised(name)

    def has_memorised(self, name: str) -> bool:
        """Whether a run comes within the margin of what contradictions allow; True where that is not the goal."""
        return self.training.goal != "memorise" or self.is_perfect(name)

    @property
    def nothing_left(self) -> bool:
        """Whether the control already comes within the margin of what contradictions allow any method."""
        return self.bare is not None and self._is_possible(self.bare)

    def is_perfect(self, name: str) -> bool:
        """Whether a run comes within the margin of what contradictions allow any method."""
        return self._is_possible(self.scores(name))

    def _is_possible(self, found: Scores) -> bool:
        if self.metric == "loss":
            return found.loss <= self.data.loss_floor + self.margin
        return self.value(found) >= self.most - self.margin

    def left_start(self, name: str) -> bool:
        """Whether training did anything: a look after the start was better than it, or the rows trained on were fitted
        better and better."""
        run = self.runs[name]
        return run.best_step > 0 or run.train_fell > STILL_FALLING

    @property
    def hardly_learnt(self) -> bool:
        """Whether the control is less than half way from a constant answer to what is possible, and LoRA leaves nearly
        all of the control's loss even on the rows it was trained on.

        Then that LoRA is no better than the control says nothing of what the rows allow: nobody has fitted them.
        """
        rival, control = self.runs[self.lora], self.runs["head"]
        if self.constant is None or rival.train_loss is None:
            return False
        half_way = 2 * self.value(control) >= self.constant + self.most
        return not half_way and rival.train_loss > NEARLY_ALL * control.validation_loss

    def harmed(self, name: str) -> bool:
        """Whether a prompt or prefix ends certainly below the control: its start did harm that stayed."""
        run, against = self.runs[name], self.training.against_head.get(name, SAME)
        return run.method in ("prompt", "prefix") and against.high < 0

    @property
    def bound_by_layer(self) -> bool:
        """Whether, in a model of one layer, most of what LoRA does is out of reach of any prompt."""
        return self.one_layer is not None and self.one_layer.share >= OUT_OF_REACH

    def missing(self, name: str) -> float:
        """What a run is short of, in the metric's unit: of LoRA; or of what contradictions allow, where rows are to be
        memorised or LoRA is no measure, since it was not trained to its end."""
        if self.training.goal != "memorise" and self.left_start(self.lora) and not self.rival_falls_on:
            return -self.against_lora(name).gain
        found = self.scores(name)
        if self.metric == "loss":
            return found.loss - self.data.loss_floor
        return self.most - self.value(found)

    def length_of_training(self, name: str) -> str:
        """The steps of a run as an advice states them: the schedule that was run, and the state that was kept."""
        run = self.runs[name]
        return f"over {run.schedule} steps, keeping the state of step {run.best_step}"

    @property
    def rival_falls_on(self) -> bool:
        """Whether LoRA, falling on as in its last quarter, would leave behind all prompts that do so, too."""
        rival, soft = self.runs[self.lora], self.same_form().values()
        if rival.still_falling < STILL_FALLING or not soft:
            return False
        ahead = min(run.validation_loss - LONGER * run.still_falling for run in soft)
        return rival.validation_loss - LONGER * rival.still_falling < ahead - MARGIN["loss"]

    @property
    def more_steps(self) -> str:
        """The check that a reason rests on which more steps would change: ``"steps"`` while more may be trained."""
        return "steps" if self.training.more_steps_possible else "training"

    def neither_done(self, name: str) -> bool:
        """Whether a run that keeps up with LoRA and LoRA both fall on, and LoRA would leave behind where it stands."""
        run, rival = self.runs[name], self.runs[self.lora]
        if self.is_perfect(name) or min(run.still_falling, rival.still_falling) < STILL_FALLING:
            return False
        ahead = max(self.data.loss_floor, rival.validation_loss - LONGER * rival.still_falling)
        return ahead < run.validation_loss - MARGIN["loss"] and LONGER * run.still_falling >= MARGIN["loss"]

    def loss_gap(self, name: str) -> float:
        """The loss of a run over the loss it is measured by: LoRA's, or the floor to be memorised to."""
        memorise = self.training.goal == "memorise"
        target = self.data.loss_floor if memorise else self.runs[self.lora].validation_loss
        return self.runs[name].validation_loss - target

    def settled(self, name: str, gap: float) -> bool:
        """Whether a run was trained as far and as fast as it could be, as far as a gap of so many nats is concerned."""
        run = self.runs[name]
        falls_on = run.still_falling >= STILL_FALLING and LONGER * run.still_falling >= gap
        return run.best_step > 0 and not run.rate_at_edge and not falls_on

    def falls_short(self, name: str) -> str:
        """The words for a run that trails: by how much, or what it has not memorised."""
        if self.has_memorised(name):
            return f"trails LoRA ({self.gain(self.against_lora(name))})"
        return f"has not memorised the rows ({self.score(name)}; LoRA {self.score(self.lora)})"

    def scores(self, name: str) -> RunNumbers | UserNumbers:
        """The scores of a run, or of the user's own."""
        return self.user if name == USER and self.user else self.runs[name]

    def same_form(self) -> dict[str, RunNumbers]:
        """The soft prompts that the question is about: of the user's own method, or all where none was brought.

        One that its start harmed is not compared as trained.
        """
        return {name: run for name, run in self.methods(*self.forms).items() if not self.harmed(name)}

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms that the question is about: the user's own, or both."""
        own = self.user is not None and self.user.method in ("prompt", "prefix")
        return (self.form,) if own else ("prompt", "prefix")

    @property
    def form(self) -> str:
        """The form whose length is in question first: a prefix where the user brought one, otherwise a prompt."""
        return "prefix" if self.user is not None and self.user.method == "prefix" else "prompt"

    def by_length(self, form: str) -> dict[str, RunNumbers]:
        """The finished runs of a form that no start harmed, the shortest first."""
        found = {name: run for name, run in self.methods(form).items() if not self.harmed(name)}
        return dict(sorted(found.items(), key=lambda item: item[1].tokens))

    def longer_gains(self, name: str) -> float:
        """The most that a longer run of the same form gains over a prompt or prefix; 0 where none is longer."""
        longer = (shorter[name] for shorter in self.training.against_shorter.values() if name in shorter)
        return max((against.gain for against in longer), default=0.0)

    def fitting(self) -> str | None:
        """The best prompt that keeps up, or the best prefix if no prompt does, among `same_form`.

        One whose best look is its start comes last: it was not trained.
        """
        for kind in ("prompt", "prefix"):
            names = [name for name, run in self.same_form().items() if run.method == kind and self.keeps_up(name)]
            if names:
                return min(names, key=lambda name: (self.runs[name].best_step == 0, self.runs[name].validation_loss))
        return None

    def best_soft(self) -> str | None:
        """The run of `same_form` that comes closest to LoRA, or None if none finished."""
        return max(self.same_form(), key=lambda name: self.against_lora(name).gain, default=None)

    @property
    def closest(self) -> str:
        """The name of `best_soft`, for rules that come after the one for none."""
        name = self.best_soft()
        assert name is not None
        return name

    def methods(self, *kinds: str) -> dict[str, RunNumbers]:
        """The trained runs of those methods, by name; diverged ones are left out."""
        return {name: run for name, run in self.runs.items() if run.method in kinds and run.status == "finished"}

    def best_scored(self) -> str:
        """The name of the run with the best score, whatever its method."""
        by_loss = self.metric == "loss"
        return max(self.runs, key=lambda name: -self.runs[name].loss if by_loss else self.value(self.runs[name]))

    def value(self, found: Scores) -> float:
        """A score in the metric of labels that decides."""
        return found.accuracy if self.metric == "accuracy" or found.value is None else found.value

    def value_error(self, found: Scores) -> float:
        """The standard error of that score."""
        error = found.accuracy_error if self.metric == "accuracy" or found.value is None else found.value_error
        return 0.0 if error is None else error

    @property
    def constant(self) -> float | None:
        """The score of the best answer that ignores its input, where that is known."""
        if self.bare is None or self.metric == "loss":
            return None
        return self.bare.majority_accuracy if self.metric == "accuracy" and self.data.classes else self.bare.constant

    @property
    def answers(self) -> str:
        """What is asked for, in words."""
        return ANSWERS[self.data.kind]

    @property
    def most(self) -> float:
        """The most that contradictions allow any method in that metric; for most metrics no such bound is known."""
        return self.data.best_accuracy if self.metric == "accuracy" else 1.0

    def score(self, name: str) -> str:
        """The score of a run, or of the user's own, in words."""
        return self.score_of(self.scores(name))

    def score_of(self, run: Scores) -> str:
        """Scores in words, in the metric that decides."""
        if self.metric == "accuracy":
            return f"{run.accuracy:.1%}"
        return (
            f"{run.loss:.3f} nats per token"
            if self.metric == "loss"
            else f"{in_words(self.metric)} {self.value(run):.3f}"
        )

    def gain(self, comparison: Comparison) -> str:
        """A paired difference in words."""
        gain, low, high = comparison.gain, comparison.low, comparison.high
        if self.metric != "loss":
            return f"{100 * gain:+.1f} points (90 % interval {100 * low:+.1f} to {100 * high:+.1f})"
        return f"{gain:+.3f} nats (90 % interval {low:+.3f} to {high:+.3f})"

    @property
    def control(self) -> str:
        """The control in words."""
        is_bare = self.metric == "loss" if self.bare is None else self.bare.pooling is None
        return "the bare model" if is_bare else "the head alone"

    @property
    def margin_text(self) -> str:
        """The margin in words."""
        return f"{100 * self.margin:.0f} points" if self.metric != "loss" else f"{self.margin} nats"


def settings_of(run: RunNumbers) -> str:
    """A run's settings in words."""
    size = size_of(run.method, run.tokens) if run.tokens else f"rank {run.rank}"
    starts = {"vocabulary": "vocabulary rows", "text": "the cache of real text", "own text": "your own text"}
    start = starts.get(run.init, run.init)
    return f"a {run.method} of {size} from {start} at learning rate {run.learning_rate:.2g}"


def size_of(method: str, tokens: int) -> str:
    """The length of a prompt or a prefix in words: ``"4 slots"``, ``"1 virtual token"``."""
    return counted(tokens, unit_of(method).removesuffix("s"))


def unit_of(method: str) -> str:
    """The unit that the length of a prompt or a prefix is counted in."""
    return "slots" if method == "prefix" else "virtual tokens"


def sentence(text: str) -> str:
    """`text` with a capital at its start."""
    return text[0].upper() + text[1:]
