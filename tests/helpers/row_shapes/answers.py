"""Answers in a context, words with tags, options to choose from."""

from helpers.row_shapes.shape import PROMPTS, RowShape, cells, columns, led_to

_SPANS = {"question": "question", "context": "context", "answers": "answers"}
_ARC = {"text": ["c", "d"], "label": ["A", "B"]}

SHAPES = (
    RowShape(
        "answers in a context",
        {
            "a.jsonl": columns(
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
            "a.jsonl": columns(
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
        {"a.jsonl": columns(question=["who?", "where?"], context=["Ann ran", "in Oslo"], answers=["Bob", "Oslo"])},
        refused=("row 1", "the answer 'Bob', which is not in its context", "as the context has it"),
        followed=led_to(
            "a.jsonl",
            columns(question=["who?", "where?"], context=["Ann ran", "in Oslo"], answers=["Ann", "Oslo"]),
            input="who?\nAnn ran",
            answer="Ann",
            columns=_SPANS,
        ),
    ),
    RowShape(
        "an answer at another place of its context",
        {
            "a.jsonl": columns(
                question=["who?", "where?"],
                context=["Ann ran", "in Oslo"],
                answers=[{"text": ["Ann"], "answer_start": [2]}, {"text": ["Oslo"], "answer_start": [3]}],
            )
        },
        refused=("row 1", "'n r' stands at 2", "as the context has it"),
        followed=led_to(
            "a.jsonl",
            columns(question=["who?", "where?"], context=["Ann ran", "in Oslo"], answers=["Ann", "Oslo"]),
            input="who?\nAnn ran",
            answer="Ann",
            columns=_SPANS,
        ),
    ),
    RowShape(
        "words with tags",
        {
            "a.jsonl": columns(
                tokens=[["Ann", "ran"], ["so", "Bob"]], ner_tags=[["B-PER", "O"], ["O", "B-PER"]], id=[1, 2]
            )
        },
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
        {"a.jsonl": columns(tokens=[["a", "b"], ["c", "d"]], tags=[[0, 1], [1, 0]])},
        input="a b",
        answer="0 1",
        columns={"words": "tokens", "tags": "tags"},
        remark="names such as B-PER",
    ),
    RowShape(
        "fewer tags than words",
        {"a.jsonl": columns(tokens=[["Ann", "ran"], ["so", "Bob"]], tags=[["B-PER"], ["O", "B-PER"]])},
        refused=("row 1", "2 words and 1 tags", "Mend the row"),
        followed=led_to(
            "a.jsonl",
            columns(tokens=[["Ann", "ran"], ["so", "Bob"]], tags=[["B-PER", "O"], ["O", "B-PER"]]),
            input="Ann ran",
            answer="B-PER O",
            columns={"words": "tokens", "tags": "tags"},
        ),
    ),
    RowShape(
        "options to choose from",
        {"a.jsonl": columns(question=["q", "r"], choices=[["a", "b"], ["c", "d"]], answer=[0, 1])},
        input="q",
        answer=" a",
        columns={"prompt": "question", "options": "choices", "answer": "answer"},
    ),
    RowShape(
        "options with letters of their own",
        {"a.jsonl": columns(question=["q", "r"], choices=[_ARC, _ARC], answerKey=["B", "A"])},
        input="q",
        answer=" d",
        columns={"prompt": "question", "options": "choices", "answer": "answerKey"},
    ),
    RowShape(
        "places of options that may count from 0 or from 1",
        {"a.jsonl": columns(question=["q", "r"], choices=[["a", "b", "c"], ["c", "d", "e"]], answer=[1, 2])},
        refused=("from 0 or from 1", "the text of the right option"),
        followed=RowShape(
            "options with the text of the right one",
            {"a.jsonl": columns(question=["q", "r"], choices=[["a", "b", "c"], ["c", "d", "e"]], answer=["b", "e"])},
            input="q",
            answer=" b",
            columns={"prompt": "question", "options": "choices", "answer": "answer"},
        ),
    ),
    RowShape(
        "completions that are among a few",
        {"a.jsonl": columns(prompt=["q", "r"], completion=["yes", "no"])},
        options={"options": ("yes", "no")},
        input="q",
        answer="yes",
        columns={"prompt": "prompt", "completion": "completion"},
    ),
    RowShape(
        "translations",
        {"a.jsonl": columns(translation=[{"en": "a", "de": "b"}, {"en": "c", "de": "d"}])},
        refused=("'translation'", "as 'prompt'"),
        followed=PROMPTS,
    ),
)
