"""Texts, and pairs of texts, with labels and numbers."""

import json
from typing import Any

from helpers.row_shapes.shape import (
    FINE,
    LABELS,
    PLAIN,
    PROMPTS,
    TEXT_AND_LABEL,
    TEXTS,
    RowShape,
    cells,
    columns,
    led_to,
)

_PAIRED = {"input": "a cat\nan animal", "answer": "yes"}
_SETS = {"input": "fine", "answer": "news, sport", "columns": TEXT_AND_LABEL}
_NUMBER = {"input": "fine", "answer": "4.5", "columns": TEXT_AND_LABEL, "remark": "read as numbers"}


def _pair(one: str, two: str, label: str = "label", **more: Any) -> str:
    return columns(**{one: ["a cat", "a dog"], two: ["an animal", "a plant"], label: ["yes", "no"], **more})


SHAPES = (
    RowShape("CSV with text and label", {"a.csv": cells(("text", "label"), ("fine", "pos"), ("bad", "neg"))}, **FINE),
    RowShape("TSV", {"a.tsv": cells(("text", "label"), ("fine", "pos"), ("bad", "neg"), mark="\t")}, **FINE),
    RowShape("JSON, an object a line", {"a.jsonl": columns(text=TEXTS, label=LABELS)}, **FINE),
    RowShape(
        "JSON, one array",
        {"a.json": json.dumps([{"text": "fine", "label": "pos"}, {"text": "bad", "label": "neg"}], indent=2)},
        **FINE,
    ),
    RowShape(
        "columns of other names, named in the call",
        {"a.csv": cells(("body", "mood"), ("fine", "pos"), ("bad", "neg"))},
        {"text_col": "body", "label_col": "mood"},
        "fine",
        "pos",
        {"text": "body", "label": "mood"},
    ),
    RowShape(
        "columns that are not needed", {"a.jsonl": columns(text=TEXTS, label=LABELS, id=[1, 2])}, unused=("id",), **FINE
    ),
    RowShape(
        "truth values as labels",
        {"a.jsonl": columns(text=TEXTS, label=[True, False])},
        input="fine",
        answer="True",
        columns=TEXT_AND_LABEL,
    ),
    RowShape(
        "whole numbers with a decimal point as labels",
        {"a.jsonl": columns(text=TEXTS, label=[1.0, 0.0])},
        input="fine",
        answer="1",
        columns=TEXT_AND_LABEL,
    ),
    RowShape(
        "the same in CSV",
        {"a.csv": cells(("text", "label"), ("fine", "1.0"), ("bad", "0.0"))},
        input="fine",
        answer="1",
        columns=TEXT_AND_LABEL,
    ),
    RowShape(
        "-1 as a label",
        {"a.jsonl": columns(text=["fine", "bad", "so"], label=[1, 0, -1])},
        input="fine",
        answer="1",
        columns=TEXT_AND_LABEL,
        remark="drop these rows",
    ),
    RowShape(
        "stars from 1 to 5",
        {"a.jsonl": columns(text=list("abcde"), label=[1, 2, 3, 4, 5])},
        input="a",
        answer="1",
        columns=TEXT_AND_LABEL,
        remark="classes without an order",
    ),
    RowShape(
        "stars that are to be predicted as numbers",
        {"a.jsonl": columns(text=list("abcde"), label=[1, 2, 3, 4, 5])},
        {"label_kind": "number"},
        "a",
        "1",
        TEXT_AND_LABEL,
    ),
    RowShape("numbers with decimals", {"a.jsonl": columns(text=TEXTS, label=[4.5, 1.0])}, **_NUMBER),
    RowShape(
        "the same numbers in CSV", {"a.csv": cells(("text", "label"), ("fine", "4.5"), ("bad", "1.0"))}, **_NUMBER
    ),
    RowShape(
        "numbers with decimals that are meant as classes",
        {"a.jsonl": columns(text=TEXTS, label=[4.5, 1.0])},
        {"label_kind": "one"},
        refused=("numbers with decimals", "name each range"),
        followed=led_to(
            "a.jsonl", columns(text=TEXTS, label=["high", "low"]), input="fine", answer="high", columns=TEXT_AND_LABEL
        ),
    ),
    RowShape(
        "numbers, and one row without",
        {"a.csv": cells(("text", "label"), ("fine", "4.5"), ("bad", "low"))},
        {"label_kind": "number"},
        refused=("'low' (row 2)", "drop the row"),
        followed=led_to("a.jsonl", columns(text=TEXTS, label=[4.5, 1.0]), **_NUMBER),
    ),
    RowShape("several labels as a list", {"a.jsonl": columns(text=TEXTS, label=[["sport", "news"], ["art"]])}, **_SETS),
    RowShape(
        "several labels, or none",
        {"a.jsonl": columns(text=["so", *TEXTS], label=[[], ["news", "sport"], ["art"]])},
        input="so",
        answer="none",
        columns=TEXT_AND_LABEL,
    ),
    RowShape(
        "several labels as switches",
        {"a.jsonl": columns(text=TEXTS, label=[[1, 0, 1], [0, 1, 1]])},
        input="fine",
        answer="0, 2",
        columns=TEXT_AND_LABEL,
    ),
    RowShape(
        "lists of one label",
        {"a.jsonl": columns(text=TEXTS, label=[["sport"], ["art"]])},
        input="fine",
        answer="sport",
        columns=TEXT_AND_LABEL,
        remark="exactly one label",
    ),
    RowShape(
        "lists in some rows",
        {"a.jsonl": columns(text=TEXTS, label=[["sport", "news"], "art"])},
        refused=("single labels in 1 of 2 rows, first in row 2", "a list of one"),
        followed=led_to("a.jsonl", columns(text=TEXTS, label=[["sport", "news"], ["art"]]), **_SETS),
    ),
    *(
        RowShape(
            f"several labels in one cell, {name} between them",
            {"a.csv": cells(("text", "label"), *rows)},
            refused=("several labels in one cell", "--label-kind several"),
            followed=led_to(
                "a.csv",
                cells(("text", "label"), *rows),
                options={"label_kind": "several"},
                input="fine",
                answer="a, b",
                columns=TEXT_AND_LABEL,
            ),
        )
        for name, rows in {
            "commas": (("fine", "a,b"), ("bad", "a"), ("so", "b")),
            "bars": (("fine", "a|b"), ("bad", "b|c"), ("so", "a|c")),
        }.items()
    ),
    RowShape(
        "a comma in the name of one class",
        {"a.csv": cells(("text", "label"), ("fine", "Paris, France"), ("bad", "Rome"))},
        input="fine",
        answer="Paris, France",
        columns=TEXT_AND_LABEL,
        remark="taken as one class",
    ),
    RowShape(
        "rows without a label",
        {"a.jsonl": columns(text=["fine", "bad", "so"], label=["pos", "neg", None])},
        refused=("row 3", "Fill it in or drop the row"),
        followed=PLAIN,
    ),
    RowShape(
        "one class written in two ways",
        {"a.jsonl": columns(text=["fine", "bad", "so"], label=["pos", "neg", "Pos"])},
        refused=("upper and lower case", "Write each label in one way"),
        followed=led_to("a.jsonl", columns(text=["fine", "bad", "so"], label=["pos", "neg", "pos"]), **FINE),
    ),
    RowShape(
        "weights of rows",
        {"a.jsonl": columns(text=TEXTS, label=LABELS, weight=[1, 2])},
        input="fine",
        answer="pos",
        columns={**TEXT_AND_LABEL, "weight": "weight"},
    ),
    RowShape(
        "weights that are all alike",
        {"a.jsonl": columns(text=TEXTS, label=LABELS, weight=[1.0, 1.0])},
        unused=("weight",),
        **FINE,
    ),
    RowShape(
        "a negative weight",
        {"a.jsonl": columns(text=TEXTS, label=LABELS, sample_weight=[1, -1])},
        refused=("the weight -1", "drop the column"),
        followed=PLAIN,
    ),
    RowShape(
        "texts without labels",
        {"a.jsonl": columns(text=["1+1?2", "2+2?4"])},
        refused=("no column for the label", "their beginnings as 'prompt'"),
        followed=PROMPTS,
    ),
    # Two texts a row -----------------------------------------------------------------------------------------------
    *(
        RowShape(
            f"two texts: {one} and {two}",
            {"a.jsonl": _pair(one, two, idx=[0, 1])},
            unused=("idx",),
            columns={"text": one, "pair": two, "label": "label"},
            **_PAIRED,
        )
        for one, two in (
            ("premise", "hypothesis"),
            ("sentence1", "sentence2"),
            ("question1", "question2"),
            ("question", "sentence"),
            ("question", "context"),
            ("text", "hypothesis"),
        )
    ),
    RowShape(
        "two texts of other names",
        {"a.jsonl": _pair("claim", "evidence")},
        {"text_col": "claim", "pair_col": "evidence"},
        columns={"text": "claim", "label": "label", "pair": "evidence"},
        **_PAIRED,
    ),
    RowShape(
        "two texts and a score",
        {"a.jsonl": columns(sentence1=["a", "b"], sentence2=["c", "d"], score=[4.5, 1.2])},
        input="a\nc",
        answer="4.5",
        columns={"text": "sentence1", "pair": "sentence2", "label": "score"},
        remark="read as numbers",
    ),
    RowShape(
        "a question, a passage, yes or no",
        {"a.jsonl": _pair("question", "passage", "answer")},
        refused=("the columns of one task", "--text-col question --pair-col passage --label-col answer"),
        followed=led_to(
            "a.jsonl",
            _pair("question", "passage", "answer"),
            options={"text_col": "question", "pair_col": "passage", "label_col": "answer"},
            columns={"text": "question", "pair": "passage", "label": "answer"},
            **_PAIRED,
        ),
    ),
)
