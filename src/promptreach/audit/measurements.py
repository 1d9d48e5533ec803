"""The numbers that rules read, and how they are said: one place for units, so that no rule formats a number itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MARGIN = {"accuracy": 0.04, "loss": 0.05}
"""What counts as "as good": share of right answers, or nats per token. Reruns of one configuration with other seeds
differ by up to 4 points on the public PEFT benchmark, so a smaller margin would judge luck."""


@dataclass(frozen=True)
class Measurements:
    """The numbers that rules read, by check."""

    data: Mapping[str, Any]
    bare: Mapping[str, Any]
    training: Mapping[str, Any]
    initialisation: Mapping[str, Any]

    @property
    def metric(self) -> str:
        return str(self.training["metric"])

    @property
    def margin(self) -> float:
        return MARGIN[self.metric]

    @property
    def lora(self) -> str:
        return str(self.training["lora"])

    def methods(self, *kinds: str) -> dict[str, Mapping[str, Any]]:
        """The trained runs of those methods, by name; diverged ones are left out."""
        return {
            name: run
            for name, run in self.training["methods"].items()
            if run["method"] in kinds and run["status"] == "finished"
        }

    def score(self, name: str) -> str:
        """A method's held-out score in words."""
        run = self.training["yours"] if name == "yours" else self.training["methods"][name]
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
    size = f"{run['tokens']} virtual tokens" if run["tokens"] else f"rank {run['rank']}"
    start = {"vocabulary": "vocabulary rows", "text": "the cache of real text"}.get(run["init"], run["init"])
    return f"a {run['method']} of {size} from {start} at learning rate {run['learning_rate']:.2g}"


def sentence(text: str) -> str:
    """`text` with a capital at its start."""
    return text[0].upper() + text[1:]
