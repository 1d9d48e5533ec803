"""Files as people bring them from elsewhere, in the shapes of well-known data sets and tools; a part of the table."""

import json
from collections.abc import Sequence
from typing import Any

from helpers.row_shapes.shape import PLAIN, TEXT_AND_LABEL, RowShape, cells, columns, turns

_PAIR: dict[str, Any] = {"input": "a cat\nan animal", "answer": "1"}
_TEXTS: dict[str, Sequence[object]] = {"text": ["fine", "bad"]}
_CSV = RowShape("", {"a.csv": "text,label\nfine,pos\nbad,neg\n"}, input="fine", answer="pos", columns=TEXT_AND_LABEL)
_PROMPTS = {"prompt": "prompt", "completion": "completion"}
_CHOICES = {"prompt": "question", "options": "choices", "answer": "answer"}
_ASKED = {"question": "question", "context": "context", "answers": "answers"}
_WORDS = {"words": "tokens", "tags": "ner_tags"}
_TAGGED = RowShape(
    "",
    {"a.jsonl": columns(tokens=[["Ann", "ran"], ["so"]], ner_tags=[["B-PER", "O"], ["O"]])},
    input="Ann ran",
    answer="B-PER O",
    columns=_WORDS,
)


def _paired(one: str, two: str, label: str, values: Sequence[object], **more: Any) -> dict[str, str]:
    return {"a.jsonl": columns(**{one: ["a cat", "a dog"], two: ["an animal", "a plant"], label: values}, **more)}


def _asked(choices: Sequence[object], answer: Sequence[object]) -> RowShape:
    """The shape that the remedy for options in columns of their own leads to."""
    files = {"a.jsonl": columns(question=["q", "r"], choices=choices, answer=answer)}
    return RowShape("", files, input="q", answer=" cat", columns=_CHOICES)


_APART = ("hold options to choose from", "as a list in one column 'choices'")
_CAT = _asked([["cat", "mat"], ["dog", "book"]], ["cat", "book"])

SHAPES = (
    # Two texts ------------------------------------------------------------------------------------------------------
    RowShape(
        "Quora's pairs",
        _paired("question1", "question2", "is_duplicate", [1, 0], qid1=[1, 3]),
        **_PAIR,
        columns={"text": "question1", "pair": "question2", "label": "is_duplicate"},
        unused=("qid1",),
    ),
    RowShape(
        "SNLI's pairs, one of which nobody agrees on",
        {
            "a.jsonl": columns(
                sentence1=["a cat", "c", "e"],
                sentence2=["an animal", "d", "f"],
                gold_label=["entailment", "-", "neutral"],
            )
        },
        input="a cat\nan animal",
        answer="entailment",
        columns={"text": "sentence1", "pair": "sentence2", "label": "gold_label"},
        remark="drop these rows",
    ),
    RowShape(
        "text and text2",
        _paired("text", "text2", "label", ["1", "2"]),
        **_PAIR,
        columns={"text": "text", "pair": "text2", "label": "label"},
    ),
    # Lists that CSV holds as text -----------------------------------------------------------------------------------
    RowShape(
        "several labels in CSV as Python prints a list",
        {"a.csv": cells(("text", "label"), ("fine", "['news', 'sport']"), ("bad", "['art']"))},
        input="fine",
        answer="news, sport",
        columns=TEXT_AND_LABEL,
    ),
    RowShape(
        "several labels in CSV as an array is printed",
        {"a.csv": cells(("text", "label"), ("fine", "['news' 'sport']"), ("bad", "['art']"))},
        {"label_kind": "several"},
        refused=("a list written as text", 'Write it as JSON does, ["a", "b"]'),
        followed=RowShape(
            "",
            {"a.csv": cells(("text", "label"), ("fine", '["news", "sport"]'), ("bad", '["art"]'))},
            input="fine",
            answer="news, sport",
            columns=TEXT_AND_LABEL,
        ),
    ),
    RowShape(
        "words with tags in CSV as Python prints lists",
        {"a.csv": cells(("tokens", "ner_tags"), ("['Ann', 'ran']", "['B-PER', 'O']"), ("['so']", "['O']"))},
        input="Ann ran",
        answer="B-PER O",
        columns=_WORDS,
    ),
    RowShape(
        "words with tags in CSV as arrays are printed",
        {"a.csv": cells(("tokens", "ner_tags"), ("['Ann' 'ran']", "['B-PER' 'O']"), ("['so']", "['O']"))},
        refused=("a list that cannot be read", 'Write it as JSON does, ["Ann", "ran"]'),
        followed=RowShape(
            "",
            {"a.csv": cells(("tokens", "ner_tags"), ('["Ann", "ran"]', '["B-PER", "O"]'), ('["so"]', '["O"]'))},
            input="Ann ran",
            answer="B-PER O",
            columns=_WORDS,
        ),
    ),
    RowShape(
        "chats in CSV as Python prints them",
        {"a.csv": cells(("messages",), (str(turns("1+1?", "2")),), (str(turns("2+2?", "4")),))},
        input="user: 1+1?",
        answer="2",
        columns={"messages": "messages"},
    ),
    RowShape(
        "an answer that stands in brackets in its context",
        {"a.jsonl": columns(question=["which?", "what?"], context=["see [1] here", "Bob sat"], answers=["[1]", "sat"])},
        input="which?\nsee [1] here",
        answer="[1]",
        columns=_ASKED,
    ),
    RowShape(
        "answers in a context in CSV",
        {
            "a.csv": cells(
                ("question", "context", "answers"),
                ("who?", "Ann ran", "{'text': ['Ann'], 'answer_start': [0]}"),
                ("what?", "Bob sat", "{'text': ['sat'], 'answer_start': [4]}"),
            )
        },
        input="who?\nAnn ran",
        answer="Ann",
        columns=_ASKED,
    ),
    # Options --------------------------------------------------------------------------------------------------------
    RowShape(
        "options as an object of letters",
        {"a.jsonl": columns(question=["q", "r"], options=[{"A": "cat", "B": "mat"}] * 2, answer=["A", "B"])},
        input="q",
        answer=" cat",
        columns={**_CHOICES, "options": "options"},
    ),
    RowShape(
        "MMLU's columns A to D",
        {"a.csv": "question,A,B,C,D,answer\nq,cat,mat,dog,book,A\nr,a,b,c,d,D\n"},
        refused=("'A' and 'B'", *_APART),
        followed=_asked([["cat", "mat", "dog", "book"], ["a", "b", "c", "d"]], ["A", "D"]),
    ),
    RowShape(
        "WinoGrande's option1 and option2",
        {"a.jsonl": columns(sentence=["q", "r"], option1=["cat", "dog"], option2=["mat", "book"], answer=["1", "2"])},
        refused=("'option1' and 'option2'", *_APART),
        followed=_CAT,
    ),
    RowShape(
        "PIQA's sol1 and sol2",
        {"a.jsonl": columns(goal=["q", "r"], sol1=["cat", "dog"], sol2=["mat", "book"], label=[0, 1])},
        refused=("'sol1' and 'sol2'", *_APART),
        followed=_CAT,
    ),
    # Answers and entities in a text ---------------------------------------------------------------------------------
    RowShape(
        "answers in a context, their column called answer_text",
        {
            "a.jsonl": columns(
                question=["who?", "what?"],
                context=["Ann ran", "Bob sat"],
                answer_start=[0, 4],
                answer_text=["Ann", "sat"],
            )
        },
        refused=("--answers-col answer_text",),
        followed=RowShape(
            "",
            {
                "a.jsonl": columns(
                    question=["who?", "what?"],
                    context=["Ann ran", "Bob sat"],
                    answer_start=[0, 4],
                    answer_text=["Ann", "sat"],
                )
            },
            {"question_col": "question", "context_col": "context", "answers_col": "answer_text"},
            "who?\nAnn ran",
            "Ann",
            {**_ASKED, "answers": "answer_text"},
            ("answer_start",),
        ),
    ),
    RowShape(
        "SQuAD's own file",
        {
            "a.json": json.dumps(
                {
                    "version": "1.1",
                    "data": [{"paragraphs": [{"context": "Ann ran", "qas": [{"question": "who?", "answers": []}]}]}],
                }
            )
        },
        refused=(".qas[] | {question, context: $c, answers}",),
        followed=RowShape(
            "",
            {
                "a.jsonl": columns(
                    question=["who?", "what?"],
                    context=["Ann ran", "Bob sat"],
                    answers=[[{"text": "Ann", "answer_start": 0}], [{"text": "sat", "answer_start": 4}]],
                )
            },
            input="who?\nAnn ran",
            answer="Ann",
            columns=_ASKED,
        ),
    ),
    RowShape(
        "entities by the places of their characters",
        {"a.jsonl": columns(text=["Ann ran", "so"], entities=[[[0, 3, "PER"]], []])},
        refused=("places of entities", "'ner_tags'"),
        followed=_TAGGED,
    ),
    RowShape(
        "the same in a column called label",
        {"a.jsonl": columns(text=["Ann ran", "so"], label=[[[0, 3, "PER"]], []])},
        refused=("lists in a list", "'ner_tags'"),
        followed=_TAGGED,
    ),
    RowShape(
        "CoNLL's own file",
        {"a.conll": "Ann B-PER\nran O\n\nso O\n"},
        refused=("'.conll'", "a sentence a line into a .jsonl file"),
        followed=_TAGGED,
    ),
    # Labels ---------------------------------------------------------------------------------------------------------
    RowShape(
        "a column for each of several labels",
        {"a.csv": "comment,toxic,insult\nfine,0,0\nbad,1,1\n"},
        {"text_col": "comment"},
        refused=("list those that are in one column 'label'",),
        followed=RowShape(
            "",
            {"a.jsonl": columns(comment=["fine", "bad"], label=[[], ["toxic", "insult"]])},
            {"text_col": "comment"},
            "fine",
            "none",
            {"text": "comment", "label": "label"},
        ),
    ),
    RowShape(
        "degrees in words that are to be numbers",
        {"a.csv": "text,label\nfine,high\nbad,low\n"},
        {"label_kind": "number"},
        refused=("no number in any row", "such as 0, 1 and 2"),
        followed=RowShape(
            "", {"a.csv": "text,label\nfine,1\nbad,0\n"}, {"label_kind": "number"}, "fine", "1", TEXT_AND_LABEL
        ),
    ),
    RowShape(
        "prompts with a label",
        {"a.jsonl": columns(prompt=["fine", "bad"], label=["pos", "neg"])},
        refused=("--text-col prompt --label-col label", "--completion-col label"),
        followed=RowShape(
            "",
            {"a.jsonl": columns(prompt=["fine", "bad"], label=["pos", "neg"])},
            {"text_col": "prompt", "label_col": "label"},
            "fine",
            "pos",
            {"text": "prompt", "label": "label"},
        ),
    ),
    # Prompts --------------------------------------------------------------------------------------------------------
    RowShape(
        "prompts with a response",
        {"a.jsonl": columns(prompt=["1+1?", "2+2?"], response=["2", "4"])},
        refused=("Did you mean 'response'?",),
        followed=RowShape(
            "",
            {"a.jsonl": columns(prompt=["1+1?", "2+2?"], response=["2", "4"])},
            {"completion_col": "response"},
            "1+1?",
            "2",
            {**_PROMPTS, "completion": "response"},
        ),
    ),
    RowShape(
        "inputs and targets",
        {"a.jsonl": columns(inputs=["1+1?", "2+2?"], targets=["2", "4"])},
        refused=("--prompt-col inputs --completion-col targets",),
        followed=RowShape(
            "",
            {"a.jsonl": columns(inputs=["1+1?", "2+2?"], targets=["2", "4"])},
            {"prompt_col": "inputs", "completion_col": "targets"},
            "1+1?",
            "2",
            {"prompt": "inputs", "completion": "targets"},
        ),
    ),
    # Files that are not what they seem ------------------------------------------------------------------------------
    RowShape(
        "a spreadsheet's note in the first line",
        {"a.csv": "sep=;\ntext;label\nfine;pos\nbad;neg\n"},
        refused=("a note for spreadsheets", "write commas in .csv"),
        followed=_CSV,
    ),
    RowShape(
        "semicolons, and commas in numbers",
        {"a.csv": "text;label\nfine;4,5\nbad;1,0\n"},
        refused=("separated by ';'", "write commas"),
        followed=RowShape(
            "",
            {"a.csv": "text,label\nfine,4.5\nbad,1.0\n"},
            input="fine",
            answer="4.5",
            columns=TEXT_AND_LABEL,
            remark="read as numbers",
        ),
    ),
    RowShape(
        "CSV without a line of names",
        {"a.csv": "fine,pos\nbad,neg\n"},
        refused=("The first line of the file is to name the columns",),
        followed=_CSV,
    ),
    RowShape(
        "one object of whole columns",
        {"a.json": json.dumps({"text": ["fine", "bad"], "label": ["pos", "neg"]})},
        refused=("write an object a row instead",),
        followed=PLAIN,
    ),
    RowShape(
        "objects with commas behind them",
        {"a.jsonl": '{"text": "fine", "label": "pos"},\n{"text": "bad", "label": "neg"}\n'},
        refused=("Leave away the comma behind each object",),
        followed=PLAIN,
    ),
    RowShape(
        "objects as Python prints them",
        {"a.jsonl": "{'text': 'fine', 'label': 'pos'}\n{'text': 'bad', 'label': 'neg'}\n"},
        refused=("with json.dumps",),
        followed=PLAIN,
    ),
)
"""The files: each is read as meant, or refused with a remedy that leads to what is."""
