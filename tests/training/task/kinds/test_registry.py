"""The kinds by the names that task data carry."""

from typing import get_args

from promptreach.data import Completions, KindName, LabelledTexts, NumberedTexts
from promptreach.training.task.kinds.registry import KINDS, kind_of


def test_every_kind_of_data_but_completions_has_a_head() -> None:
    assert {*KINDS, "completions"} <= set(get_args(KindName))
    assert all(kind.name == name and kind.metrics for name, kind in KINDS.items())


def test_data_find_their_kind() -> None:
    assert kind_of(LabelledTexts(("a",), (0,), ("x",))) is KINDS["labels"]
    assert kind_of(NumberedTexts(("a",), (0.5,))) is KINDS["number"]
    assert kind_of(Completions(("a",), ("b",))) is None
