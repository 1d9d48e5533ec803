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
        "talks and their summaries",
        {"a.jsonl": columns(dialogue=["A: 1+1? B: 2.", "A: 2+2? B: 4."], summary=["2", "4"])},
        refused=("the columns of one task", "--prompt-col dialogue --completion-col summary"),
        followed=led_to(
            "a.jsonl",
            columns(dialogue=["A: 1+1? B: 2.", "A: 2+2? B: 4."], summary=["2", "4"]),
            options={"prompt_col": "dialogue", "completion_col": "summary"},
            input="A: 1+1? B: 2.",
            answer="2",
            columns={"prompt": "dialogue", "completion": "summary"},
        ),
    ),
    RowShape(
        "texts and their summaries",
        {"a.jsonl": columns(text=["one and one", "two and two"], summary=["2", "4"])},
        refused=("no column for the label", "--prompt-col text --completion-col summary"),
        followed=led_to(
            "a.jsonl",
            columns(text=["one and one", "two and two"], summary=["2", "4"]),
            options={"prompt_col": "text", "completion_col": "summary"},
            input="one and one",
            answer="2",
            columns={"prompt": "text", "completion": "summary"},
        ),
    ),
    RowShape(
        "several right answers",
        {"a.jsonl": columns(prompt=["1+1?", "2+2?"], completion=[["2", "two"], ["4", "four"]])},
        refused=("row 1, column 'completion'", "keep one of its texts, such as the first"),
        followed=PROMPTS,
    ),
    RowShape(
        "preferences: chosen and rejected chats",
        {
            "a.jsonl": columns(
                prompt=["1+1?", "2+2?"],
                chosen=[turns("1+1?", "2"), turns("2+2?", "4")],
                rejected=[turns("1+1?", "3"), turns("2+2?", "5")],
            )
        },
        refused=("preferences", "jq -c '{messages: .chosen}' OLD > NEW"),
        followed=led_to(
            "a.jsonl",
            lines({"messages": turns("1+1?", "2")}, {"messages": turns("2+2?", "4")}),
            input="user: 1+1?",
            answer="2",
            columns={"messages": "messages"},
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
