"""The shapes that rows come in, as files: read as meant, or refused with a remedy that leads to what is."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RowShape:
    """One shape of rows.

    Attributes:
        title: what it is called on the documentation's page.
        files: the content of each file by its name; the first is the data.
        options: of `read_task`; names of files stand for their paths.
        input, answer: what the model reads of the first row and should answer, where the rows are read.
        columns: role and column of all that is used.
        unused: the other columns.
        parts: how many rows each part has; empty where they are divided later.
        remark: words of a remark on the rows.
        refused: words of the fault and of its remedy, where the rows are refused.
        followed: the shape after the remedy; what it reads is what was meant.
    """

    title: str
    files: Mapping[str, str | bytes]
    options: Mapping[str, Any] = field(default_factory=dict)
    input: str = ""
    answer: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    parts: Mapping[str, int] = field(default_factory=dict)
    remark: str = ""
    refused: tuple[str, ...] = ()
    followed: "RowShape | None" = None

    def written(self, folder: Path) -> tuple[Path, dict[str, Any]]:
        """The files written below a folder: the data's path, and the options with paths in them."""
        folder.mkdir(exist_ok=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        options = {key: str(folder / value) if value in self.files else value for key, value in self.options.items()}
        return folder / next(iter(self.files)), options


_ARC = {"text": ["c", "d"], "label": ["A", "B"]}


def lines(*rows: Mapping[str, object]) -> str:
    """JSON, an object a line."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def cells(*rows: Sequence[object], mark: str = ",") -> str:
    """CSV with a header."""
    stream = io.StringIO()
    csv.writer(stream, delimiter=mark, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def turns(
    *said: str, who: Sequence[str] = ("user", "assistant"), keys: Sequence[str] = ("role", "content")
) -> list[Any]:
    """A chat in which two take turns."""
    return [{keys[0]: who[i % 2], keys[1]: text} for i, text in enumerate(said)]


def _two(**columns: Sequence[object]) -> str:
    """Rows by column, an object a line."""
    return lines(*(dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)))


_TEXTS, _LABELS = ["fine", "bad"], ["pos", "neg"]
_FINE = {"input": "fine", "answer": "pos", "columns": {"text": "text", "label": "label"}}
_PAIRED = {"input": "a cat\nan animal", "answer": "yes"}
_SHARE = {"who": ("human", "gpt"), "keys": ("from", "value")}
_ASKED = {"input": "1+1?", "answer": "2", "columns": {"prompt": "prompt", "completion": "completion"}}


def _pair(one: str, two: str, label: str = "label", **more: Any) -> str:
    return _two(**{one: ["a cat", "a dog"], two: ["an animal", "a plant"], label: ["yes", "no"], **more})


def _read(name: str, text: str | bytes, **more: Any) -> RowShape:
    """The shape that a remedy leads to."""
    return RowShape("", {name: text}, **more)


_PROMPTS = _read("a.jsonl", _two(prompt=["1+1?", "2+2?"], completion=["2", "4"]), **_ASKED)
_SETS = {"input": "fine", "answer": "news, sport", "columns": _FINE["columns"]}
_SPANS = {"question": "question", "context": "context", "answers": "answers"}
_NUMBER = {"input": "fine", "answer": "4.5", "columns": _FINE["columns"], "remark": "read as numbers"}
_PLAIN = _read("a.jsonl", _two(text=_TEXTS, label=_LABELS), **_FINE)

SHAPES = (
    # Texts with labels -------------------------------------------------------------------------------------------
    RowShape("CSV with text and label", {"a.csv": cells(("text", "label"), ("fine", "pos"), ("bad", "neg"))}, **_FINE),
    RowShape("TSV", {"a.tsv": cells(("text", "label"), ("fine", "pos"), ("bad", "neg"), mark="\t")}, **_FINE),
    RowShape("JSON, an object a line", {"a.jsonl": _two(text=_TEXTS, label=_LABELS)}, **_FINE),
    RowShape(
        "JSON, one array",
        {"a.json": json.dumps([{"text": "fine", "label": "pos"}, {"text": "bad", "label": "neg"}], indent=2)},
        **_FINE,
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
        "columns that are not needed", {"a.jsonl": _two(text=_TEXTS, label=_LABELS, id=[1, 2])}, unused=("id",), **_FINE
    ),
    RowShape(
        "truth values as labels",
        {"a.jsonl": _two(text=_TEXTS, label=[True, False])},
        input="fine",
        answer="True",
        columns=_FINE["columns"],
    ),
    RowShape(
        "whole numbers with a decimal point as labels",
        {"a.jsonl": _two(text=_TEXTS, label=[1.0, 0.0])},
        input="fine",
        answer="1",
        columns=_FINE["columns"],
    ),
    RowShape(
        "the same in CSV",
        {"a.csv": cells(("text", "label"), ("fine", "1.0"), ("bad", "0.0"))},
        input="fine",
        answer="1",
        columns=_FINE["columns"],
    ),
    RowShape(
        "-1 as a label",
        {"a.jsonl": _two(text=["fine", "bad", "so"], label=[1, 0, -1])},
        input="fine",
        answer="1",
        columns=_FINE["columns"],
        remark="drop these rows",
    ),
    RowShape(
        "stars from 1 to 5",
        {"a.jsonl": _two(text=list("abcde"), label=[1, 2, 3, 4, 5])},
        input="a",
        answer="1",
        columns=_FINE["columns"],
        remark="classes without an order",
    ),
    RowShape(
        "stars that are to be predicted as numbers",
        {"a.jsonl": _two(text=list("abcde"), label=[1, 2, 3, 4, 5])},
        {"label_kind": "number"},
        "a",
        "1",
        _FINE["columns"],
    ),
    RowShape("numbers with decimals", {"a.jsonl": _two(text=_TEXTS, label=[4.5, 1.0])}, **_NUMBER),
    RowShape(
        "the same numbers in CSV", {"a.csv": cells(("text", "label"), ("fine", "4.5"), ("bad", "1.0"))}, **_NUMBER
    ),
    RowShape(
        "numbers with decimals that are meant as classes",
        {"a.jsonl": _two(text=_TEXTS, label=[4.5, 1.0])},
        {"label_kind": "one"},
        refused=("numbers with decimals", "name each range"),
        followed=_read(
            "a.jsonl", _two(text=_TEXTS, label=["high", "low"]), input="fine", answer="high", columns=_FINE["columns"]
        ),
    ),
    RowShape(
        "numbers, and one row without",
        {"a.csv": cells(("text", "label"), ("fine", "4.5"), ("bad", "low"))},
        {"label_kind": "number"},
        refused=("'low' (row 2)", "drop the row"),
        followed=_read("a.jsonl", _two(text=_TEXTS, label=[4.5, 1.0]), **_NUMBER),
    ),
    RowShape("several labels as a list", {"a.jsonl": _two(text=_TEXTS, label=[["sport", "news"], ["art"]])}, **_SETS),
    RowShape(
        "several labels, or none",
        {"a.jsonl": _two(text=["so", *_TEXTS], label=[[], ["news", "sport"], ["art"]])},
        input="so",
        answer="none",
        columns=_FINE["columns"],
    ),
    RowShape(
        "several labels as switches",
        {"a.jsonl": _two(text=_TEXTS, label=[[1, 0, 1], [0, 1, 1]])},
        input="fine",
        answer="0, 2",
        columns=_FINE["columns"],
    ),
    RowShape(
        "lists of one label",
        {"a.jsonl": _two(text=_TEXTS, label=[["sport"], ["art"]])},
        input="fine",
        answer="sport",
        columns=_FINE["columns"],
        remark="exactly one label",
    ),
    RowShape(
        "lists in some rows",
        {"a.jsonl": _two(text=_TEXTS, label=[["sport", "news"], "art"])},
        refused=("single labels in 1 of 2 rows, first in row 2", "a list of one"),
        followed=_read("a.jsonl", _two(text=_TEXTS, label=[["sport", "news"], ["art"]]), **_SETS),
    ),
    *(
        RowShape(
            f"several labels in one cell, {name} between them",
            {"a.csv": cells(("text", "label"), *rows)},
            refused=("several labels in one cell", "--label-kind several"),
            followed=_read(
                "a.csv",
                cells(("text", "label"), *rows),
                options={"label_kind": "several"},
                input="fine",
                answer="a, b",
                columns=_FINE["columns"],
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
        columns=_FINE["columns"],
        remark="taken as one class",
    ),
    RowShape(
        "rows without a label",
        {"a.jsonl": _two(text=["fine", "bad", "so"], label=["pos", "neg", None])},
        refused=("row 3", "Fill it in or drop the row"),
        followed=_PLAIN,
    ),
    RowShape(
        "one class written in two ways",
        {"a.jsonl": _two(text=["fine", "bad", "so"], label=["pos", "neg", "Pos"])},
        refused=("upper and lower case", "Write each label in one way"),
        followed=_read("a.jsonl", _two(text=["fine", "bad", "so"], label=["pos", "neg", "pos"]), **_FINE),
    ),
    RowShape(
        "weights of rows",
        {"a.jsonl": _two(text=_TEXTS, label=_LABELS, weight=[1, 2])},
        input="fine",
        answer="pos",
        columns={**_FINE["columns"], "weight": "weight"},
    ),
    RowShape(
        "weights that are all alike",
        {"a.jsonl": _two(text=_TEXTS, label=_LABELS, weight=[1.0, 1.0])},
        unused=("weight",),
        **_FINE,
    ),
    RowShape(
        "a negative weight",
        {"a.jsonl": _two(text=_TEXTS, label=_LABELS, sample_weight=[1, -1])},
        refused=("the weight -1", "drop the column"),
        followed=_PLAIN,
    ),
    RowShape(
        "texts without labels",
        {"a.jsonl": _two(text=["1+1?2", "2+2?4"])},
        refused=("no column for the label", "their beginnings as 'prompt'"),
        followed=_PROMPTS,
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
        {"a.jsonl": _two(sentence1=["a", "b"], sentence2=["c", "d"], score=[4.5, 1.2])},
        input="a\nc",
        answer="4.5",
        columns={"text": "sentence1", "pair": "sentence2", "label": "score"},
        remark="read as numbers",
    ),
    RowShape(
        "a question, a passage, yes or no",
        {"a.jsonl": _pair("question", "passage", "answer")},
        refused=("the columns of one task", "--text-col question --pair-col passage --label-col answer"),
        followed=_read(
            "a.jsonl",
            _pair("question", "passage", "answer"),
            options={"text_col": "question", "pair_col": "passage", "label_col": "answer"},
            columns={"text": "question", "pair": "passage", "label": "answer"},
            **_PAIRED,
        ),
    ),
    # Prompts, instructions and chats -------------------------------------------------------------------------------
    RowShape("prompts and completions", _PROMPTS.files, **_ASKED),
    RowShape(
        "chats: messages",
        {"a.jsonl": lines({"messages": turns("1+1?", "2")}, {"messages": turns("2+2?", "4")})},
        input="user: 1+1?",
        answer="2",
        columns={"messages": "messages"},
    ),
    RowShape(
        "chats with several answers",
        {"a.jsonl": lines({"messages": turns("hi", "hello", "1+1?", "2")}, {"messages": turns("2+2?", "4")})},
        input="user: hi\nassistant: hello\nuser: 1+1?",
        answer="2",
        columns={"messages": "messages"},
        remark="1 of 2 chats have several answers",
    ),
    RowShape(
        "chats: prompt and completion as turns",
        {
            "a.jsonl": lines(
                *(
                    {"prompt": turns(asked)[:1], "completion": turns("", said)[1:]}
                    for asked, said in (("1+1?", "2"), ("2+2?", "4"))
                )
            )
        },
        input="user: 1+1?",
        answer="2",
        columns=_ASKED["columns"],
    ),
    RowShape(
        "chats: ShareGPT with a system column",
        {
            "a.json": json.dumps(
                [
                    {"conversations": turns("1+1?", "2", **_SHARE), "system": "Count."},
                    {"conversations": turns("2+2?", "4", **_SHARE), "system": ""},
                ]
            )
        },
        input="system: Count.\nuser: 1+1?",
        answer="2",
        columns={"messages": "conversations", "system": "system"},
    ),
    RowShape(
        "chats as JSON in a cell of CSV",
        {"a.csv": cells(("messages",), *((json.dumps(turns(a, b)),) for a, b in (("1+1?", "2"), ("2+2?", "4"))))},
        input="user: 1+1?",
        answer="2",
        columns={"messages": "messages"},
    ),
    RowShape(
        "a chat that ends with a question",
        {"a.jsonl": lines({"messages": turns("1+1?", "2", "why?")}, {"messages": turns("2+2?", "4")})},
        refused=("row 1", "the user's", "Drop the turns behind its last answer"),
        followed=_read(
            "a.jsonl",
            lines({"messages": turns("1+1?", "2")}, {"messages": turns("2+2?", "4")}),
            input="user: 1+1?",
            answer="2",
            columns={"messages": "messages"},
        ),
    ),
    RowShape(
        "instructions: Alpaca",
        {"a.jsonl": _two(instruction=["Add.", "Add 2+2."], input=["1+1", ""], output=["2", "4"])},
        input="Add.\n\n1+1\n\n",
        answer="2",
        columns={"prompt": "instruction", "input": "input", "completion": "output"},
    ),
    RowShape(
        "instructions with context and response",
        {"a.jsonl": _two(instruction=["Add.", "Go."], context=["1+1", ""], response=["2", "ok"], category=["x", "y"])},
        input="Add.\n\n1+1\n\n",
        answer="2",
        columns={"prompt": "instruction", "input": "context", "completion": "response"},
        unused=("category",),
    ),
    RowShape(
        "questions and answers",
        {"a.jsonl": _two(question=["1+1?", "2+2?"], answer=["2", "4"])},
        refused=("the columns of one task", "--prompt-col question --completion-col answer"),
        followed=_read(
            "a.jsonl",
            _two(question=["1+1?", "2+2?"], answer=["2", "4"]),
            options={"prompt_col": "question", "completion_col": "answer"},
            input="1+1?",
            answer="2",
            columns={"prompt": "question", "completion": "answer"},
        ),
    ),
    RowShape(
        "preferences: chosen and rejected",
        {"a.jsonl": _two(prompt=["1+1?", "2+2?"], chosen=["2", "4"], rejected=["3", "5"])},
        refused=("preferences", "--prompt-col prompt --completion-col chosen"),
        followed=_read(
            "a.jsonl",
            _two(prompt=["1+1?", "2+2?"], chosen=["2", "4"], rejected=["3", "5"]),
            options={"prompt_col": "prompt", "completion_col": "chosen"},
            input="1+1?",
            answer="2",
            columns={"prompt": "prompt", "completion": "chosen"},
            unused=("rejected",),
        ),
    ),
    RowShape(
        "preferences: answers called good or bad",
        {"a.jsonl": _two(prompt=["1+1?", "1+1?", "2+2?"], completion=["2", "3", "4"], label=[True, False, True])},
        refused=("which answers are good", "drop the column 'label'"),
        followed=_PROMPTS,
    ),
    RowShape(
        "answers with a rating",
        {"a.jsonl": _two(prompt=["1+1?", "1+1?", "2+2?"], completion=["2", "3", "4"], rating=[5, 1, 5])},
        refused=("which answers are good", "drop the column 'rating'"),
        followed=_PROMPTS,
    ),
    RowShape(
        "prompts of several topics",
        {"a.jsonl": _two(prompt=["1+1?", "2+2?"], completion=["2", "4"], category=["a", "b"])},
        unused=("category",),
        **_ASKED,
    ),
    RowShape(
        "answers in a context",
        {
            "a.jsonl": _two(
                question=["who?", "where?"],
                context=["Ann ran to Rome", "Bob sat in Oslo"],
                answers=[
                    {"text": ["Ann"], "answer_start": [0]},
                    {"text": ["Oslo", "in Oslo"], "answer_start": [11, 8]},
                ],
                id=["x", "y"],
            )
        },
        input="who?\nAnn ran to Rome",
        answer="Ann",
        columns=_SPANS,
        unused=("id",),
    ),
    RowShape(
        "answers in a context, or none",
        {
            "a.jsonl": _two(
                question=["why?", "where?"],
                context=["Ann ran to Rome", "Bob sat in Oslo"],
                answers=[{"text": [], "answer_start": []}, ["Oslo"]],
            )
        },
        input="why?\nAnn ran to Rome",
        answer="none",
        columns=_SPANS,
    ),
    RowShape(
        "answers in a context, in CSV of other names",
        {"a.csv": cells(("ask", "story", "said"), ("who?", "Ann ran", "Ann"), ("where?", "in Oslo", "Oslo"))},
        {"question_col": "ask", "context_col": "story", "answers_col": "said"},
        "who?\nAnn ran",
        "Ann",
        {"question": "ask", "context": "story", "answers": "said"},
    ),
    RowShape(
        "an answer that is not in its context",
        {"a.jsonl": _two(question=["who?", "where?"], context=["Ann ran", "in Oslo"], answers=["Bob", "Oslo"])},
        refused=("row 1", "the answer 'Bob', which is not in its context", "as the context has it"),
        followed=_read(
            "a.jsonl",
            _two(question=["who?", "where?"], context=["Ann ran", "in Oslo"], answers=["Ann", "Oslo"]),
            input="who?\nAnn ran",
            answer="Ann",
            columns=_SPANS,
        ),
    ),
    RowShape(
        "an answer at another place of its context",
        {
            "a.jsonl": _two(
                question=["who?", "where?"],
                context=["Ann ran", "in Oslo"],
                answers=[{"text": ["Ann"], "answer_start": [2]}, {"text": ["Oslo"], "answer_start": [3]}],
            )
        },
        refused=("row 1", "'n r' stands at 2", "as the context has it"),
        followed=_read(
            "a.jsonl",
            _two(question=["who?", "where?"], context=["Ann ran", "in Oslo"], answers=["Ann", "Oslo"]),
            input="who?\nAnn ran",
            answer="Ann",
            columns=_SPANS,
        ),
    ),
    RowShape(
        "words with tags",
        {"a.jsonl": _two(tokens=[["Ann", "ran"], ["so", "Bob"]], ner_tags=[["B-PER", "O"], ["O", "B-PER"]], id=[1, 2])},
        input="Ann ran",
        answer="B-PER O",
        columns={"words": "tokens", "tags": "ner_tags"},
        unused=("id",),
    ),
    RowShape(
        "words with tags in CSV, of other names",
        {"a.csv": cells(("sentence", "bio"), ("Ann ran", "B-PER O"), ("so Bob", "O B-PER"))},
        {"words_col": "sentence", "tags_col": "bio"},
        "Ann ran",
        "B-PER O",
        {"words": "sentence", "tags": "bio"},
    ),
    RowShape(
        "words with tags that are numbers",
        {"a.jsonl": _two(tokens=[["a", "b"], ["c", "d"]], tags=[[0, 1], [1, 0]])},
        input="a b",
        answer="0 1",
        columns={"words": "tokens", "tags": "tags"},
        remark="names such as B-PER",
    ),
    RowShape(
        "fewer tags than words",
        {"a.jsonl": _two(tokens=[["Ann", "ran"], ["so", "Bob"]], tags=[["B-PER"], ["O", "B-PER"]])},
        refused=("row 1", "2 words and 1 tags", "Mend the row"),
        followed=_read(
            "a.jsonl",
            _two(tokens=[["Ann", "ran"], ["so", "Bob"]], tags=[["B-PER", "O"], ["O", "B-PER"]]),
            input="Ann ran",
            answer="B-PER O",
            columns={"words": "tokens", "tags": "tags"},
        ),
    ),
    RowShape(
        "options to choose from",
        {"a.jsonl": _two(question=["q", "r"], choices=[["a", "b"], ["c", "d"]], answer=[0, 1])},
        input="q",
        answer=" a",
        columns={"prompt": "question", "options": "choices", "answer": "answer"},
    ),
    RowShape(
        "options with letters of their own",
        {"a.jsonl": _two(question=["q", "r"], choices=[_ARC, _ARC], answerKey=["B", "A"])},
        input="q",
        answer=" d",
        columns={"prompt": "question", "options": "choices", "answer": "answerKey"},
    ),
    RowShape(
        "places of options that may count from 0 or from 1",
        {"a.jsonl": _two(question=["q", "r"], choices=[["a", "b", "c"], ["c", "d", "e"]], answer=[1, 2])},
        refused=("from 0 or from 1", "the text of the right option"),
        followed=RowShape(
            "options with the text of the right one",
            {"a.jsonl": _two(question=["q", "r"], choices=[["a", "b", "c"], ["c", "d", "e"]], answer=["b", "e"])},
            input="q",
            answer=" b",
            columns={"prompt": "question", "options": "choices", "answer": "answer"},
        ),
    ),
    RowShape(
        "completions that are among a few",
        {"a.jsonl": _two(prompt=["q", "r"], completion=["yes", "no"])},
        options={"options": ("yes", "no")},
        input="q",
        answer="yes",
        columns={"prompt": "prompt", "completion": "completion"},
    ),
    RowShape(
        "translations",
        {"a.jsonl": _two(translation=[{"en": "a", "de": "b"}, {"en": "c", "de": "d"}])},
        refused=("'translation'", "as 'prompt'"),
        followed=_PROMPTS,
    ),
    # Own parts -----------------------------------------------------------------------------------------------------
    RowShape(
        "a column called split",
        {"a.jsonl": _two(text=["fine", "bad", "so"], label=["pos", "neg", "pos"], split=["train", "train", "test"])},
        input="fine",
        answer="pos",
        columns={**_FINE["columns"], "split": "split"},
        parts={"train": 2, "held_out": 1},
    ),
    RowShape(
        "a column called partition",
        {"a.jsonl": _two(text=["fine", "bad", "so"], label=["pos", "neg", "pos"], partition=["TRAIN", "Train", "val"])},
        input="fine",
        answer="pos",
        columns={**_FINE["columns"], "split": "partition"},
        parts={"train": 2, "validation": 1},
    ),
    RowShape(
        "a column called split that names no parts",
        {"a.jsonl": _two(text=_TEXTS, label=_LABELS, split=["north", "south"])},
        unused=("split",),
        **_FINE,
    ),
    RowShape(
        "a column called split, one of its values unknown",
        {"a.jsonl": _two(text=["fine", "bad", "so"], label=["pos", "neg", "pos"], split=["later", "train", "test"])},
        refused=("'later' (row 1)", "Rename the value, or drop the rows", "needs another name"),
        followed=RowShape(
            "",
            {"a.jsonl": _two(text=["fine", "bad", "so"], label=["pos", "neg", "pos"], split=["train", "train", "dev"])},
            columns={**_FINE["columns"], "split": "split"},
            input="fine",
            answer="pos",
            parts={"train": 2, "validation": 1},
        ),
    ),
    RowShape(
        "a column of parts, one of its values unknown",
        {"a.jsonl": _two(text=["fine", "bad", "so"], label=["pos", "neg", "pos"], part=["train", "train", "later"])},
        {"split_col": "part"},
        refused=("'later' (row 3)", "Rename the value"),
        followed=_read(
            "a.jsonl",
            _two(text=["fine", "bad", "so"], label=["pos", "neg", "pos"], part=["train", "train", "dev"]),
            options={"split_col": "part"},
            input="fine",
            answer="pos",
            columns={**_FINE["columns"], "split": "part"},
            parts={"train": 2, "validation": 1},
        ),
    ),
    RowShape(
        "a file for each part",
        {
            "a.jsonl": _two(text=_TEXTS, label=_LABELS),
            "v.csv": cells(("text", "label"), ("so", "pos")),
            "t.jsonl": _two(text=["x", "y"], label=_LABELS),
        },
        {"validation": "v.csv", "test": "t.jsonl"},
        parts={"train": 2, "validation": 1, "held_out": 2},
        **_FINE,
    ),
    RowShape(
        "a label of the test part that training never sees",
        {"a.jsonl": _two(text=_TEXTS, label=_LABELS), "t.jsonl": _two(text=["x", "y"], label=["pos", "new"])},
        {"test": "t.jsonl"},
        refused=("'new' (row 2)", "Add rows of it to the training part, or drop these"),
        followed=RowShape(
            "",
            {"a.jsonl": _two(text=_TEXTS, label=_LABELS), "t.jsonl": _two(text=["x"], label=["pos"])},
            {"test": "t.jsonl"},
            parts={"train": 2, "held_out": 1},
            **_FINE,
        ),
    ),
    # Files that are not what they seem -----------------------------------------------------------------------------
    RowShape(
        "rows inside one object",
        {"a.json": json.dumps({"data": [{"text": "fine", "label": "pos"}]}, indent=1)},
        refused=("goes over several lines", ".data[]"),
        followed=_PLAIN,
    ),
    RowShape(
        "semicolons in CSV",
        {"a.csv": cells(("text", "label"), ("fine", "pos"), ("bad", "neg"), mark=";")},
        refused=("separated by ';'", "write commas"),
        followed=_read("a.csv", cells(("text", "label"), ("fine", "pos"), ("bad", "neg")), **_FINE),
    ),
    RowShape(
        "text that is not UTF-8",
        {"a.csv": "text,label\nfine,pos\ncaf\xe9,neg\n".encode("latin-1")},
        refused=("is not UTF-8", "iconv -f latin1 -t utf-8"),
        followed=_read("a.csv", "text,label\nfine,pos\ncaf\xe9,neg\n", **_FINE),
    ),
    RowShape(
        "a spreadsheet",
        {"a.xlsx": b"PK"},
        refused=("'.xlsx'", "Convert"),
        followed=_read("a.csv", cells(("text", "label"), ("fine", "pos"), ("bad", "neg")), **_FINE),
    ),
)
"""The table: each is read as meant, or refused with a remedy that leads to what is."""
