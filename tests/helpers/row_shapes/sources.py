"""Parts of their own, and files that are not what they seem."""

import json

from helpers.row_shapes.shape import FINE, LABELS, PLAIN, TEXT_AND_LABEL, TEXTS, RowShape, cells, columns, led_to

SHAPES = (
    # Own parts -----------------------------------------------------------------------------------------------------
    RowShape(
        "a column called split",
        {"a.jsonl": columns(text=["fine", "bad", "so"], label=["pos", "neg", "pos"], split=["train", "train", "test"])},
        input="fine",
        answer="pos",
        columns={**TEXT_AND_LABEL, "split": "split"},
        parts={"train": 2, "held_out": 1},
    ),
    RowShape(
        "a column called partition",
        {
            "a.jsonl": columns(
                text=["fine", "bad", "so"], label=["pos", "neg", "pos"], partition=["TRAIN", "Train", "val"]
            )
        },
        input="fine",
        answer="pos",
        columns={**TEXT_AND_LABEL, "split": "partition"},
        parts={"train": 2, "validation": 1},
    ),
    RowShape(
        "a column called split that names no parts",
        {"a.jsonl": columns(text=TEXTS, label=LABELS, split=["north", "south"])},
        unused=("split",),
        **FINE,
    ),
    RowShape(
        "a column called split, one of its values unknown",
        {"a.jsonl": columns(text=["fine", "bad", "so"], label=["pos", "neg", "pos"], split=["later", "train", "test"])},
        refused=("'later' (row 1)", "Rename the value, or drop the rows", "needs another name"),
        followed=RowShape(
            "",
            {
                "a.jsonl": columns(
                    text=["fine", "bad", "so"], label=["pos", "neg", "pos"], split=["train", "train", "dev"]
                )
            },
            columns={**TEXT_AND_LABEL, "split": "split"},
            input="fine",
            answer="pos",
            parts={"train": 2, "validation": 1},
        ),
    ),
    RowShape(
        "a column of parts, one of its values unknown",
        {"a.jsonl": columns(text=["fine", "bad", "so"], label=["pos", "neg", "pos"], part=["train", "train", "later"])},
        {"split_col": "part"},
        refused=("'later' (row 3)", "Rename the value"),
        followed=led_to(
            "a.jsonl",
            columns(text=["fine", "bad", "so"], label=["pos", "neg", "pos"], part=["train", "train", "dev"]),
            options={"split_col": "part"},
            input="fine",
            answer="pos",
            columns={**TEXT_AND_LABEL, "split": "part"},
            parts={"train": 2, "validation": 1},
        ),
    ),
    RowShape(
        "a file for each part",
        {
            "a.jsonl": columns(text=TEXTS, label=LABELS),
            "v.csv": cells(("text", "label"), ("so", "pos")),
            "t.jsonl": columns(text=["x", "y"], label=LABELS),
        },
        {"validation": "v.csv", "test": "t.jsonl"},
        parts={"train": 2, "validation": 1, "held_out": 2},
        **FINE,
    ),
    RowShape(
        "a label of the test part that training never sees",
        {"a.jsonl": columns(text=TEXTS, label=LABELS), "t.jsonl": columns(text=["x", "y"], label=["pos", "new"])},
        {"test": "t.jsonl"},
        refused=("'new' (row 2)", "Add rows of it to the training part, or drop these"),
        followed=RowShape(
            "",
            {"a.jsonl": columns(text=TEXTS, label=LABELS), "t.jsonl": columns(text=["x"], label=["pos"])},
            {"test": "t.jsonl"},
            parts={"train": 2, "held_out": 1},
            **FINE,
        ),
    ),
    # Files that are not what they seem -----------------------------------------------------------------------------
    RowShape(
        "rows inside one object",
        {"a.json": json.dumps({"data": [{"text": "fine", "label": "pos"}]}, indent=1)},
        refused=("goes over several lines", ".data[]"),
        followed=PLAIN,
    ),
    RowShape(
        "semicolons in CSV",
        {"a.csv": cells(("text", "label"), ("fine", "pos"), ("bad", "neg"), mark=";")},
        refused=("separated by ';'", "write commas"),
        followed=led_to("a.csv", cells(("text", "label"), ("fine", "pos"), ("bad", "neg")), **FINE),
    ),
    RowShape(
        "text that is not UTF-8",
        {"a.csv": "text,label\nfine,pos\ncaf\xe9,neg\n".encode("latin-1")},
        refused=("is not UTF-8", "iconv -f latin1 -t utf-8"),
        followed=led_to("a.csv", "text,label\nfine,pos\ncaf\xe9,neg\n", **FINE),
    ),
    RowShape(
        "a spreadsheet",
        {"a.xlsx": b"PK"},
        refused=("'.xlsx'", "Convert"),
        followed=led_to("a.csv", cells(("text", "label"), ("fine", "pos"), ("bad", "neg")), **FINE),
    ),
)
