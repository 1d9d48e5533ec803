"""The model card: the hub's fields, numbers with their intervals, and no markup out of the user's data."""

from dataclasses import replace
from pathlib import Path

import yaml

from helpers.tasks import labelled, model_of
from promptreach.commands.card import model_card
from promptreach.commands.folder import planned
from promptreach.commands.intervals import Interval
from promptreach.training.task.task import prepare
from promptreach.tuning import fit

METRICS = {
    "prompt": {"accuracy": Interval(0.75, 0.5, 0.875)},
    "the bare model": {"accuracy": Interval(0.5, 0.25, 0.75)},
}


def card_of(base: tuple[str, str | None], labels: list[str]) -> str:
    """The card of a head, whose training takes no time."""
    data = replace(labelled(classes=len(labels)), label_names=tuple(labels))
    task = prepare(model_of("bert"), data, pooling="mean")
    run = fit(model_of("bert"), data, "head", pooling="mean", quiet=True)
    plan = replace(planned(model_of("bert"), task, run, 128), base=base)
    return model_card(run, task, plan, METRICS, Interval(0.25, 0.125, 0.375), "Found somehow.")


def test_a_hub_base_is_named_with_its_revision() -> None:
    card = card_of(("someone/model", "a" * 40), ["no", "yes"])
    fields = yaml.safe_load(card.split("---")[1])
    assert fields["base_model"] == "someone/model"
    assert fields["pipeline_tag"] == "text-classification"
    assert f"revision `{'a' * 40}`" in card
    assert f"--revision {'a' * 40}`" in card
    for words in ("0.750 (0.500 to 0.875)", "+25.0 points", "Found somehow.", "2 labels: no, yes"):
        assert words in card


def test_a_base_on_a_disk_is_no_hub_id(tmp_path: Path) -> None:
    fields = yaml.safe_load(card_of((str(tmp_path), None), ["no", "yes"]).split("---")[1])
    assert "base_model" not in fields


def test_labels_are_no_markup() -> None:
    card = card_of(("someone/model", None), ["<script>", "two\nlines", "a`b|c"])
    head = card.split("```python")[0]
    assert "<script>" not in head
    assert "two\nlines" not in head
    assert "a`b" not in head
