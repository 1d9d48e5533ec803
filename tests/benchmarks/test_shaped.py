"""Every shape of the benchmark of tasks: its file is read as meant, and goes through an audit of a tiny model."""

import random
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks" / "tasks"))

import shapes

from helpers.models import tiny_model
from helpers.pairs import pair_model
from promptreach import audit
from promptreach.audit.settings import BUDGETS, Settings
from promptreach.hf import OpenModel
from promptreach.tables import read_task
from promptreach.training.task.limits import Limits

KINDS = {"STS-B": "number", "CoNLL": "tags", "SQuAD": "span"}
METRICS = {"CoLA": "mcc", "STS-B": "pearson", "MRPC": "f1", "QQP": "f1", "CoNLL": "entity_f1", "SQuAD": "token_f1"}


def sentences(count: int = 90) -> list[tuple[str, str]]:
    """Sentences of two clauses with a name in the second, and a label."""
    draw = random.Random(0)
    found: dict[str, str] = {}
    while len(found) < count:
        what, how, name = (draw.choice(one) for one in (("cat", "dog", "film"), ("good", "bad"), ("Ann", "Bob Bell")))
        does = draw.choice(("ran", "sat", "saw"))
        place = draw.choice(("on the mat", "under the tree", "with the book"))
        found[f"the {what} was {how}, and then {name} {does} {place} with a {draw.choice(('cat', 'dog'))}"] = how
    return list(found.items())


def model_of(task: str) -> OpenModel:
    """An encoder, a decoder or both behind each other, in turn."""
    place = list(shapes.SHAPES).index(task)
    return pair_model("t5") if place % 4 == 3 else tiny_model("llama" if place % 2 else "bert")


@pytest.mark.parametrize("task", shapes.SHAPES)
def test_a_shape_goes_from_its_file_to_a_verdict(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUDGETS, "quick", Settings("quick", 0, Limits(32, 12, 16, 32), (2,), 2, 2, 8, 4))
    shape = shapes.SHAPES[task]
    data = tmp_path / f"rows{shape.suffix}"
    data.write_text(shape.text(sentences(), 60), encoding="utf-8")
    rows = read_task(data)
    assert rows.kind == KINDS.get(task, "labels")
    assert rows.unused_columns == ("idx",)
    assert shape.metric == METRICS.get(task, "accuracy")
    rates = {"prompt": 0.1, "lora": 0.001}
    result = audit(
        model_of(task), data, budget="quick", metric=shape.metric, methods=("prompt", "lora"), learning_rates=rates
    )
    found = {finding.check: finding for finding in result.findings}
    assert [check for check, finding in found.items() if finding.status == "failed"] == []
    assert found["training"].values["metric"] == shape.metric


def test_the_rules_say_what_they_say() -> None:
    given, draw = sentences(), random.Random(0)
    texts = {text for text, _ in given}
    for row in shapes.acceptability(given, draw):
        assert (row["sentence"] in texts) == bool(row["label"])
    for row in shapes.spans(given, draw):
        for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True):
            assert row["context"][start : start + len(text)] == text
            assert text in ("Ann", "Bob Bell")
    for row in shapes.similarity(given, draw):
        kept = sum(a == b for a, b in zip(row["sentence1"].split(), row["sentence2"].split(), strict=True))
        assert kept >= round(row["score"] / 5 * len(row["sentence1"].split())) - 1
    named = {tag for row in shapes.entities(given, draw) for tag in row["ner_tags"]}
    assert named == {"O", "B-ONE", "B-FULL", "I-FULL"}
    denied = [row for row in shapes.inference(given, draw) if row["label"] == "contradiction"]
    assert all(" was not " in row["hypothesis"] for row in denied)
