"""Parts of their own, names in capitals, columns that hold all, and files that are not what they seem."""

import json

from helpers.row_shapes.shape import (
    FINE,
    LABELS,
    PLAIN,
    TEXT_AND_LABEL,
    TEXTS,
    RowShape,
    cells,
    columns,
    led_to,
    lines,
    turns,
)

_CHATS = RowShape(
    "",
    {"a.jsonl": lines({"messages": turns("1+1?", "2")}, {"messages": turns("2+2?", "4")})},
    input="user: 1+1?",
    answer="2",
    columns={"messages": "messages"},
)

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
        refused=("'.xlsx'", "Save the sheet as CSV"),
        followed=led_to("a.csv", cells(("text", "label"), ("fine", "pos"), ("bad", "neg")), **FINE),
    ),
    # Names in capitals, and columns that hold all ---------------------------------------------------------------------
    RowShape(
        "text and label in capitals",
        {"a.csv": cells(("Id", "Text", "Label"), ("1", "fine", "pos"), ("2", "bad", "neg"))},
        input="fine",
        answer="pos",
        columns={"text": "Text", "label": "Label"},
        unused=("Id",),
    ),
    RowShape(
        "a text with somebody's comment",
        {"a.csv": cells(("text", "label", "comment"), ("fine", "pos", "sure"), ("bad", "neg", "so so"))},
        unused=("comment",),
        **FINE,
    ),
    RowShape(
        "a text and its sentiment",
        {"a.csv": cells(("Tweet", "Sentiment"), ("fine", "pos"), ("bad", "neg"))},
        refused=("no column for the label", "Did you mean 'Sentiment'"),
        followed=RowShape(
            "",
            {"a.csv": cells(("Tweet", "Sentiment"), ("fine", "pos"), ("bad", "neg"))},
            {"label_col": "Sentiment"},
            "fine",
            "pos",
            {"text": "Tweet", "label": "Sentiment"},
        ),
    ),
    RowShape(
        "comments with a column for each label",
        {"a.csv": cells(("id", "comment_text", "toxic", "threat"), (1, "fine", 0, 0), (2, "bad", 1, 1))},
        refused=("no column for the label", "list those that are in one column 'label'"),
        followed=RowShape(
            "",
            {"a.jsonl": columns(comment_text=["fine", "bad"], label=[[], ["toxic", "threat"]])},
            input="fine",
            answer="none",
            columns={"text": "comment_text", "label": "label"},
        ),
    ),
    RowShape(
        "rows one level down",
        {"a.jsonl": lines({"data": {"text": "fine", "label": "pos"}}, {"data": {"text": "bad", "label": "neg"}})},
        refused=("'data'", "jq -c '.data' OLD"),
        followed=PLAIN,
    ),
    RowShape(
        "all parts in one object",
        {"a.json": json.dumps({"train": [{"text": "fine"}, {"text": "bad"}], "test": [{"text": "so"}]})},
        refused=("jq -c '.train[]' OLD > train.jsonl", "call it with train.jsonl --test test.jsonl"),
        followed=RowShape(
            "",
            {"train.jsonl": next(iter(PLAIN.files.values())), "test.jsonl": lines({"text": "so", "label": "pos"})},
            {"test": "test.jsonl"},
            input="fine",
            answer="pos",
            columns=TEXT_AND_LABEL,
            parts={"train": 2, "held_out": 1},
        ),
    ),
    RowShape(
        "UltraChat's texts that take turns",
        {"a.jsonl": lines({"id": "1", "data": ["1+1?", "2"]}, {"id": "2", "data": ["2+2?", "4"]})},
        refused=("take turns", "{messages: ["),
        followed=_CHATS,
    ),
    RowShape(
        "a chat in which a tool is called",
        {
            "a.jsonl": lines(
                {
                    "messages": [
                        {"role": "user", "content": "1+1?"},
                        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "add"}}]},
                        {"role": "tool", "content": "2"},
                        {"role": "assistant", "content": "2"},
                    ]
                },
                {"messages": turns("2+2?", "4")},
            )
        },
        refused=("row 1", "turn 2 (the assistant's) calls a tool", "Drop the calls and the answers of tools"),
        followed=_CHATS,
    ),
    RowShape(
        "lines of plain text",
        {"a.txt": "pos\tfine\nneg\tbad\n"},
        refused=("'.txt'", '{"text": "so fine", "label": "good"}'),
        followed=PLAIN,
    ),
    RowShape(
        "rows as Arrow keeps them",
        {"a.arrow": b"ARROW1"},
        refused=("'.arrow'", "write Parquet from it"),
        followed=PLAIN,
    ),
)
