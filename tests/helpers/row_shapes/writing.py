"""Prompts, instructions, chats and preferences."""

import json
from typing import Any

from helpers.row_shapes.shape import ASKED, PROMPTS, RowShape, cells, columns, led_to, lines, turns

_SHARE: dict[str, Any] = {"who": ("human", "gpt"), "keys": ("from", "value")}

SHAPES = (
    RowShape("prompts and completions", PROMPTS.files, **ASKED),
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
        columns=ASKED["columns"],
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
        followed=led_to(
            "a.jsonl",
            lines({"messages": turns("1+1?", "2")}, {"messages": turns("2+2?", "4")}),
            input="user: 1+1?",
            answer="2",
            columns={"messages": "messages"},
        ),
    ),
    RowShape(
        "instructions: Alpaca",
        {"a.jsonl": columns(instruction=["Add.", "Add 2+2."], input=["1+1", ""], output=["2", "4"])},
        input="Add.\n\n1+1\n\n",
        answer="2",
        columns={"prompt": "instruction", "input": "input", "completion": "output"},
    ),
    RowShape(
        "instructions with context and response",
        {
            "a.jsonl": columns(
                instruction=["Add.", "Go."], context=["1+1", ""], response=["2", "ok"], category=["x", "y"]
            )
        },
        input="Add.\n\n1+1\n\n",
        answer="2",
        columns={"prompt": "instruction", "input": "context", "completion": "response"},
        unused=("category",),
    ),
    RowShape(
        "questions and answers",
        {"a.jsonl": columns(question=["1+1?", "2+2?"], answer=["2", "4"])},
        refused=("the columns of one task", "--prompt-col question --completion-col answer"),
        followed=led_to(
            "a.jsonl",
            columns(question=["1+1?", "2+2?"], answer=["2", "4"]),
            options={"prompt_col": "question", "completion_col": "answer"},
            input="1+1?",
            answer="2",
            columns={"prompt": "question", "completion": "answer"},
        ),
    ),
    RowShape(
        "preferences: chosen and rejected",
        {"a.jsonl": columns(prompt=["1+1?", "2+2?"], chosen=["2", "4"], rejected=["3", "5"])},
        refused=("preferences", "--prompt-col prompt --completion-col chosen"),
        followed=led_to(
            "a.jsonl",
            columns(prompt=["1+1?", "2+2?"], chosen=["2", "4"], rejected=["3", "5"]),
            options={"prompt_col": "prompt", "completion_col": "chosen"},
            input="1+1?",
            answer="2",
            columns={"prompt": "prompt", "completion": "chosen"},
            unused=("rejected",),
        ),
    ),
    RowShape(
        "preferences: answers called good or bad",
        {"a.jsonl": columns(prompt=["1+1?", "1+1?", "2+2?"], completion=["2", "3", "4"], label=[True, False, True])},
        refused=("which answers are good", "drop the column 'label'"),
        followed=PROMPTS,
    ),
    RowShape(
        "answers with a rating",
        {"a.jsonl": columns(prompt=["1+1?", "1+1?", "2+2?"], completion=["2", "3", "4"], rating=[5, 1, 5])},
        refused=("which answers are good", "drop the column 'rating'"),
        followed=PROMPTS,
    ),
    RowShape(
        "prompts of several topics",
        {"a.jsonl": columns(prompt=["1+1?", "2+2?"], completion=["2", "4"], category=["a", "b"])},
        unused=("category",),
        **ASKED,
    ),
)
