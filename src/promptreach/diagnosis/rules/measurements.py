"""The numbers that rules read, and how they are said: one place for units, so that no rule formats a number itself."""

from collections.abc import Mapping
from dataclasses import dataclass

from promptreach.diagnosis.numbers import (
    SAME,
    USER,
    AttemptNumbers,
    BareNumbers,
    BroughtNumbers,
    CollapseNumbers,
    Comparison,
    DataNumbers,
    Metric,
    PartsNumbers,
    PlantedNumbers,
    PoolingNumbers,
    RunNumbers,
    StartNumbers,
    TrainingNumbers,
    UserNumbers,
)

MARGIN: Mapping[Metric, float] = {"accuracy": 0.04, "loss": 0.05}
"""The difference that still counts as "as good": share of right answers, or nats per token. Reruns of one
configuration with other seeds differ by up to 4 points on the public PEFT benchmark, so a smaller margin would judge
luck."""
LENGTH_HELPS = 0.02
"""Nats by which a prompt beats the next shorter one where tokens still bind."""
FORMS = {"prompt": "a soft prompt", "prefix": "a prefix", "lora": "LoRA"}
"""The methods in words: a soft prompt means vectors at the input."""
POOLINGS_IN_WORDS = {
    "mean": "the mean over the content tokens",
    "first": "the first position",
    "last": "the last content token",
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

    @property
    def metric(self) -> Metric:
        return self.training.metric

    @property
    def margin(self) -> float:
        return MARGIN[self.metric]

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
        if self.training.goal != "memorise":
            return True
        run = self.scores(name)
        if self.metric == "accuracy":
            return run.accuracy >= self.data.best_accuracy - self.margin
        return run.loss <= self.data.loss_floor + self.margin

    def loss_gap(self, name: str) -> float:
        """The loss of a run over the loss it is measured by: LoRA's, or the floor to be memorised to."""
        memorise = self.training.goal == "memorise"
        target = self.data.loss_floor if memorise else self.runs[self.lora].validation_loss
        return self.runs[name].validation_loss - target

    def falls_short(self, name: str) -> str:
        """The words for a run that trails: by how much, or what it has not memorised."""
        if self.has_memorised(name):
            return f"trails LoRA ({self.gain(self.against_lora(name))})"
        return f"has not memorised the rows ({self.score(name)}; LoRA {self.score(self.lora)})"

    def scores(self, name: str) -> RunNumbers | UserNumbers:
        """The scores of a run, or of the user's own."""
        return self.user if name == USER and self.user else self.runs[name]

    def same_form(self) -> dict[str, RunNumbers]:
        """The soft prompts that the question is about: of the user's own method, or all where none was brought."""
        if self.user is not None and self.user.method in ("prompt", "prefix"):
            return self.methods(self.user.method)
        return self.methods("prompt", "prefix")

    @property
    def form(self) -> str:
        """The form whose length is in question: a prefix where the user brought one, otherwise a prompt."""
        return "prefix" if self.user is not None and self.user.method == "prefix" else "prompt"

    def by_length(self) -> dict[str, RunNumbers]:
        """The finished runs of `form`, the shortest first."""
        return dict(sorted(self.methods(self.form).items(), key=lambda item: item[1].tokens))

    def fitting(self) -> str | None:
        """The best prompt that keeps up, or the best prefix if no prompt does, among `same_form`."""
        for kind in ("prompt", "prefix"):
            names = [name for name, run in self.same_form().items() if run.method == kind and self.keeps_up(name)]
            if names:
                return min(names, key=lambda name: self.runs[name].validation_loss)
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

    def score(self, name: str) -> str:
        """The score of a run, or of the user's own, in words."""
        run = self.scores(name)
        return f"{run.accuracy:.1%}" if self.metric == "accuracy" else f"{run.loss:.3f} nats per token"

    def gain(self, comparison: Comparison) -> str:
        """A paired difference in words."""
        gain, low, high = comparison.gain, comparison.low, comparison.high
        if self.metric == "accuracy":
            return f"{100 * gain:+.1f} points (90 % interval {100 * low:+.1f} to {100 * high:+.1f})"
        return f"{gain:+.3f} nats (90 % interval {low:+.3f} to {high:+.3f})"

    @property
    def control(self) -> str:
        """The control in words."""
        return "the head alone" if self.metric == "accuracy" else "the bare model"

    @property
    def margin_text(self) -> str:
        """The margin in words."""
        return f"{100 * self.margin:.0f} points" if self.metric == "accuracy" else f"{self.margin} nats"


def settings_of(run: RunNumbers) -> str:
    """A run's settings in words."""
    size = f"{run.tokens} {unit_of(run.method)}" if run.tokens else f"rank {run.rank}"
    start = {"vocabulary": "vocabulary rows", "text": "the cache of real text"}.get(run.init, run.init)
    return f"a {run.method} of {size} from {start} at learning rate {run.learning_rate:.2g}"


def unit_of(method: str) -> str:
    """The unit that the length of a prompt or a prefix is counted in."""
    return "slots" if method == "prefix" else "virtual tokens"


def sentence(text: str) -> str:
    """`text` with a capital at its start."""
    return text[0].upper() + text[1:]
