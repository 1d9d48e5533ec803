"""The numbers that rules read, and how they are said: one place for units, so that no rule formats a number itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MARGIN = {"accuracy": 0.04, "loss": 0.05}
"""What counts as "as good": share of right answers, or nats per token. Reruns of one configuration with other seeds
differ by up to 4 points on the public PEFT benchmark, so a smaller margin would judge luck."""
LENGTH_HELPS = 0.02
"""Nats by which a prompt beats the next shorter one where tokens still bind."""
FORMS = {"prompt": "a soft prompt", "prefix": "a prefix", "lora": "LoRA"}
"""What was trained, in words: a soft prompt means vectors at the input."""

_SAME = {"gain": 0.0, "low": 0.0, "high": 0.0, "error": 0.0}


@dataclass(frozen=True)
class Measurements:
    """The numbers that rules read, by check; a check that did not run left none."""

    data: Mapping[str, Any]
    training: Mapping[str, Any]
    bare: Mapping[str, Any] = field(default_factory=dict)
    initialisation: Mapping[str, Any] = field(default_factory=dict)
    planted: Mapping[str, Any] = field(default_factory=dict)
    attempt: Mapping[str, Any] = field(default_factory=dict)
    collapse: Mapping[str, Any] = field(default_factory=dict)
    reading: Mapping[str, Any] = field(default_factory=dict)

    @property
    def metric(self) -> str:
        return str(self.training["metric"])

    @property
    def margin(self) -> float:
        return MARGIN[self.metric]

    @property
    def lora(self) -> str:
        return str(self.training["lora"])

    @property
    def yours(self) -> Mapping[str, Any] | None:
        """The scores of the user's own training, or None."""
        own: Mapping[str, Any] | None = self.training["yours"]
        return own

    @property
    def your(self) -> str:
        """What the user brought, in words."""
        return "Your adapter" if self.yours and self.yours["kind"] == "adapter" else "Your attempt"

    @property
    def rows(self) -> str:
        """The rows that scores are from, in words."""
        return str(self.training["rows_judged"])

    def against_lora(self, name: str) -> Mapping[str, float]:
        """The paired difference of a run, or of the user's own, to LoRA; none for LoRA itself."""
        found: Mapping[str, float] = self.training["against_lora"].get(name, _SAME)
        return found

    def keeps_up(self, name: str) -> bool:
        """Whether a run is as good as LoRA: all of the interval lies above minus the margin.

        Where rows are to be memorised it must have memorised them, too.
        """
        return bool(self.against_lora(name)["low"] >= -self.margin) and self.has_memorised(name)

    def trails(self, name: str) -> bool:
        """Whether a run certainly falls short of LoRA, or of memorising what was to be memorised."""
        return bool(self.against_lora(name)["high"] < -self.margin / 2) or not self.has_memorised(name)

    def has_memorised(self, name: str) -> bool:
        """Whether a run comes within the margin of what contradictions allow; True where that is not the goal."""
        if self.training["goal"] != "memorise":
            return True
        run = self.numbers(name)
        if self.metric == "accuracy":
            return bool(run["accuracy"] >= self.data["best_accuracy"] - self.margin)
        return bool(run["loss"] <= self.data["loss_floor"] + self.margin)

    def loss_gap(self, name: str) -> float:
        """How far the loss of a run lies above the loss it is measured by: LoRA's, or the floor to be memorised to."""
        own = float(self.numbers(name)["validation_loss"])
        if self.training["goal"] == "memorise":
            return own - float(self.data["loss_floor"])
        return own - float(self.training["methods"][self.lora]["validation_loss"])

    def falls_short(self, name: str) -> str:
        """What a run that trails does not reach, in words."""
        if self.has_memorised(name):
            return f"trails LoRA ({self.gain(self.against_lora(name))})"
        return f"has not memorised the rows ({self.score(name)}; LoRA {self.score(self.lora)})"

    def numbers(self, name: str) -> Mapping[str, Any]:
        """The numbers of a run, or of the user's own."""
        found: Mapping[str, Any] = self.training["yours"] if name == "yours" else self.training["methods"][name]
        return found

    def same_form(self) -> dict[str, Mapping[str, Any]]:
        """The soft prompts that the question is about: of the user's own method, or all where none was brought."""
        if self.yours is not None and self.yours["method"] in ("prompt", "prefix"):
            return self.methods(self.yours["method"])
        return self.methods("prompt", "prefix")

    @property
    def form(self) -> str:
        """The form whose length is in question: a prefix where the user brought one, otherwise a prompt."""
        return "prefix" if self.yours is not None and self.yours["method"] == "prefix" else "prompt"

    def by_length(self) -> dict[str, Mapping[str, Any]]:
        """The finished runs of `form`, the shortest first."""
        return dict(sorted(self.methods(self.form).items(), key=lambda item: int(item[1]["tokens"])))

    def fitting(self) -> str | None:
        """The best prompt that keeps up, or the best prefix if no prompt does, among `same_form`."""
        for kind in ("prompt", "prefix"):
            names = [name for name, run in self.same_form().items() if run["method"] == kind and self.keeps_up(name)]
            if names:
                return min(names, key=lambda name: float(self.training["methods"][name]["validation_loss"]))
        return None

    def best_soft(self) -> str | None:
        """The run of `same_form` that comes closest to LoRA, or None if none finished."""
        return max(self.same_form(), key=lambda name: self.against_lora(name)["gain"], default=None)

    def methods(self, *kinds: str) -> dict[str, Mapping[str, Any]]:
        """The trained runs of those methods, by name; diverged ones are left out."""
        return {
            name: run
            for name, run in self.training["methods"].items()
            if run["method"] in kinds and run["status"] == "finished"
        }

    def score(self, name: str) -> str:
        """A method's held-out score in words."""
        run = self.numbers(name)
        return f"{run['accuracy']:.1%}" if self.metric == "accuracy" else f"{run['loss']:.3f} nats per token"

    def gain(self, comparison: Mapping[str, float]) -> str:
        """A paired difference in words."""
        if self.metric == "accuracy":
            gain, low, high = (100 * comparison[key] for key in ("gain", "low", "high"))
            return f"{gain:+.1f} points (90 % interval {low:+.1f} to {high:+.1f})"
        return f"{comparison['gain']:+.3f} nats (90 % interval {comparison['low']:+.3f} to {comparison['high']:+.3f})"

    @property
    def control(self) -> str:
        """What stands without any tuning, in words."""
        return "the head alone" if self.metric == "accuracy" else "the bare model"

    @property
    def margin_text(self) -> str:
        """The margin in words."""
        return f"{100 * self.margin:.0f} points" if self.metric == "accuracy" else f"{self.margin} nats"


def settings_of(run: Mapping[str, Any]) -> str:
    """A run's settings in words."""
    size = f"{run['tokens']} {unit_of(run['method'])}" if run["tokens"] else f"rank {run['rank']}"
    start = {"vocabulary": "vocabulary rows", "text": "the cache of real text"}.get(run["init"], run["init"])
    return f"a {run['method']} of {size} from {start} at learning rate {run['learning_rate']:.2g}"


def unit_of(method: str) -> str:
    """What the length of a prompt or a prefix counts."""
    return "slots" if method == "prefix" else "virtual tokens"


def sentence(text: str) -> str:
    """`text` with a capital at its start."""
    return text[0].upper() + text[1:]
