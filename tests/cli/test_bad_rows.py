"""Rows and options that contradict each other, through the command line: named, all at once, and nothing is trained."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import run, saved_model
from helpers.kind_rows import ROWS, TEXTS

FAILING = "{% for m in messages %}{{ raise_exception('no users here') }}{% endfor %}"
CHATS = [
    {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": text.split()[0]}]}
    for text in TEXTS
]
SPLITS = ("train", "test", "validation", "train")
Rows = Sequence[dict[str, Any]]


def changed(rows: Rows, changes: dict[int, dict[str, Any]]) -> Rows:
    """The rows with some cells replaced, by the places of their rows."""
    return [row | changes.get(place, {}) for place, row in enumerate(rows)]


def parted(rows: Rows) -> Rows:
    """The rows in parts of their own."""
    return [row | {"split": SPLITS[place % 4]} for place, row in enumerate(rows)]


WEIGHED = [row | {"weight": 1.0 + place % 2} for place, row in enumerate(ROWS["labels"])]
CASES: dict[str, tuple[str, Rows, tuple[str, ...], tuple[str, ...]]] = {
    "an option that stands in no row": (
        "llama",
        [{"prompt": text, "completion": ("good", "bad")[place % 2]} for place, text in enumerate(TEXTS)],
        ("--options", "good,zebra,giraffe"),
        ("options: 'zebra', which is no row's answer", "options: 'giraffe'", "'bad' (row 2) and 19 other rows"),
    ),
    "a metric that does not fit the task": (
        "bert",
        ROWS["tags"],
        ("--metric", "spearman"),
        ("metric: 'spearman' on tags; expected one of entity_f1, accuracy",),
    ),
    "tags and tokens of different lengths": (
        "bert",
        changed(ROWS["tags"], {3: {"ner_tags": ["O"]}, 7: {"ner_tags": ["O"] * 9}}),
        (),
        ("row 4, column 'ner_tags'", "row 8, column 'ner_tags'", "a tag for each word"),
    ),
    "an answer that is not in its context": (
        "bert",
        changed(ROWS["span"], {2: {"answers": ["zebra"]}, 9: {"answers": ["giraffe"]}}),
        (),
        ("row 3, column 'answers'", "'zebra'", "row 10, column 'answers'", "'giraffe'", "a stretch of the context"),
    ),
    "a chat template that fails": (
        "llama",
        CHATS,
        ("--chat-template", FAILING),
        ("the chat template fails: no users here", "--chat-template"),
    ),
    "a split value that nobody knows": (
        "bert",
        changed(parted(ROWS["labels"]), {5: {"split": "later"}, 6: {"split": "never"}}),
        (),
        ("column 'split': values that name no part: 'later' (row 6), 'never' (row 7)", "Known are train"),
    ),
    "a label in the test part that training never saw": (
        "bert",
        changed(parted(ROWS["labels"]), {1: {"label": "perhaps"}, 2: {"label": "never"}}),
        (),
        ("test part: the label 'perhaps' (row 2)", "validation part: the label 'never' (row 3)"),
    ),
    "negative weights": (
        "bert",
        changed(WEIGHED, {1: {"weight": -1.0}, 2: {"weight": -0.5}, 3: {"weight": None}}),
        (),
        ("row 2, column 'weight' (line 2): the weight -1.0", "row 3, column 'weight'", "(line 4): no weight"),
    ),
    "negative weights of classes": (
        "bert",
        ROWS["labels"],
        ("--class-weights", "no=-1,perhaps=2"),
        ("-1.0 for 'no'", "the unknown class 'perhaps'"),
    ),
    "several faults of rows and options": (
        "bert",
        changed(
            parted(WEIGHED),
            {3: {"weight": -1.0}, 5: {"split": "later"}, 6: {"label": None}, 7: {"text": ""}},
        ),
        ("--metric", "spearmen", "--tokens", "0"),
        (
            "'spearmen'",
            "tokens: 0",
            "'later' (row 6)",
            "row 7, column 'label'",
            "row 8, column 'text'",
            "the weight -1",
        ),
    ),
    "several faults of options": (
        "llama",
        ROWS["completions"],
        ("--metric", "mcc", "--answer-pattern", "(", "--class-weights", "balanced"),
        ("'mcc' on completions", "answer_pattern: '('", "weights of classes for completions"),
    ),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder and a decoder."""
    base = tmp_path_factory.mktemp("bad")
    saved_model(base / "bert", "bert")
    saved_model(base / "llama")
    return base


def written(rows: Rows, folder: Path) -> Path:
    """The rows as a file."""
    place = folder / "rows.jsonl"
    place.write_text("\n".join(map(json.dumps, rows)))
    return place


@pytest.mark.parametrize("command", ["audit", "fit"])
@pytest.mark.parametrize("case", CASES)
def test_all_faults_are_named_at_once(case: str, command: str, models: Path, tmp_path: Path) -> None:
    family, rows, options, words = CASES[case]
    out = tmp_path / "out"
    status, shown, said = run(command, models / family, written(rows, tmp_path), "--out", out, *options, "--quiet")
    assert (status, shown) == (2, "")
    assert [part for part in words if part not in said] == [], said
    assert "Traceback" not in said
    assert all(line.startswith("promptreach: ") for line in said.splitlines())
    assert not (out / "report.html").exists()
    assert not (out / "README.md").exists()


def test_a_label_with_one_row_is_named(models: Path, tmp_path: Path) -> None:
    rows = written(changed(ROWS["labels"], {4: {"label": "perhaps"}}), tmp_path)
    how = ("--learning-rate", 0.01, "--steps", 2, "--tokens", 2, "--max-length", 16, "--quiet", "--json")
    status, shown, said = run("fit", models / "bert", rows, "--out", tmp_path / "own", *how)
    assert status == 0, said
    assert "row has the label 'perhaps'" in shown
