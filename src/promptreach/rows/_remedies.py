"""The ways from rows of another task, or in another form, to rows that are read.

Names of columns tell them, and the first row where one column holds all.
"""

import re
from collections.abc import Mapping, Sequence

from promptreach.rows._table import Table, shorten
from promptreach.rows.parts import PARTS, part_of

_GOODNESS = ("label", "labels", "score", "rating", "reward", "desirable", "preferred", "is_good", "liked")
_OPTIONS = ("choices", "options", "endings", "mc1_targets")
_ONE_OPTION = re.compile(r"(option|opt|choice|sol|solution|ending|distractor|ans|answer)[ _]?[0-9a-h]")
_TAKE_TURNS = (
    """jq -c '{messages: [.data | to_entries[] | {role: (if .key % 2 == 0 then "user" else "assistant" end), """
    """content: .value}]}' OLD > NEW"""
)
_PLACES = ("entities", "spans", "annotations", "ner")
TO_TAGS = (
    "Write each text as a list of its words in 'tokens', with a list of their tags, such as B-PER and O, in 'ner_tags'."
)
"""The way from entities that are told by the places of their characters."""


def other_task(table: Table, by_name: Mapping[str, str], found: Mapping[str, Sequence[str]]) -> str:
    """The way from rows of another task to rows that are read; empty where they are of none that is known.

    Args:
        table: the rows.
        by_name: the columns by their names in lower case.
        found: the columns that were found for each role of a task of labels or of completions.
    """
    is_whole = any(found[one] and found[two] for one, two in (("text", "label"), ("prompt", "completion")))
    ways = [_preferences(table, by_name), _answers_called_good(by_name, found), _translations(by_name)]
    ways += (
        []
        if is_whole
        else [
            _options(by_name),
            _entity_places(by_name, found),
            _inside(table, by_name, found),
            _parts(table),
            _asked(by_name, found),
        ]
    )
    return next((way for way in ways if way), "")


def _preferences(table: Table, by_name: Mapping[str, str]) -> str:
    if "chosen" not in by_name or "rejected" not in by_name:
        return ""
    chosen, alone = by_name["chosen"], "These are preferences. To train the preferred answers alone,"
    first = table.first.get(chosen)
    if isinstance(first, list) and len(first) > 1:  # turns, those of the prompt among them
        return f"{alone} write these as chats, for example: jq -c '{{messages: .{chosen}}}' OLD > NEW"
    if "prompt" in by_name:
        columns = f"--prompt-col {by_name['prompt']} --completion-col {chosen} (prompt_col, completion_col)"
        return f"{alone} call it with {columns}."
    return f"{alone} rename {chosen!r} to 'messages' where it holds chats, or split it into a prompt and a completion."


def _answers_called_good(by_name: Mapping[str, str], found: Mapping[str, Sequence[str]]) -> str:
    label = next((by_name[name] for name in _GOODNESS if name in by_name), None)
    if label is None or found["text"] or not (found["prompt"] and found["completion"]):
        return ""
    return (
        f"{label!r} beside a prompt and a completion says which answers are good, and the bad ones must not be "
        f"trained. Keep the rows in which it says so and drop the column {label!r}; or call it with --prompt-col "
        "and --completion-col to train every row."
    )


def _translations(by_name: Mapping[str, str]) -> str:
    if "translation" not in by_name:
        return ""
    return (
        f"Write the text of {by_name['translation']!r} in the one language as 'prompt' and that in the other as "
        "'completion'."
    )


def _options(by_name: Mapping[str, str]) -> str:
    """Texts to choose from in columns of their own, or in a list whose question or answer is not found."""
    apart = [by_name[name] for name in sorted(by_name) if _ONE_OPTION.fullmatch(name)]
    letters = [by_name[name] for name in "abcdefgh" if name in by_name]
    listed = [by_name[name] for name in _OPTIONS if name in by_name]
    columns = apart if len(apart) > 1 else letters if 1 < len(letters) < len(by_name) else listed
    if not columns:
        return ""
    named = " and ".join(map(shorten, columns[:2]))
    return (
        f"{named} hold{'s' * (len(columns) == 1)} options to choose from. Write all options of a row as a list in one "
        "column 'choices', the question as 'question', and the right one (its text, letter or place) as 'answer'."
    )


def _entity_places(by_name: Mapping[str, str], found: Mapping[str, Sequence[str]]) -> str:
    column = next((by_name[name] for name in _PLACES if name in by_name), None)
    if column is None or not found["text"]:
        return ""
    return f"Where {column!r} holds the places of entities, tag words instead. {TO_TAGS}"


def _inside(table: Table, by_name: Mapping[str, str], found: Mapping[str, Sequence[str]]) -> str:
    """Rows that lie inside a column, whose first value says how."""
    if any(found.values()) or not {"data", "paragraphs"} & set(by_name):
        return ""
    inside = table.first.get(by_name.get("data", ""))
    if isinstance(inside, Mapping):
        return "Write the rows alone, for example: jq -c '.data' OLD > NEW"
    if isinstance(inside, list) and all(isinstance(one, str) for one in inside):
        return f"Where the texts in 'data' take turns, write them as a chat, for example: {_TAKE_TURNS}"
    return (
        "Write the rows alone, for example: jq -c '.data[]' OLD > NEW; of a file of SQuAD's: "
        "jq -c '.data[].paragraphs[] | .context as $c | .qas[] | {question, context: $c, answers}' OLD > NEW"
    )


def _parts(table: Table) -> str:
    """The rows of each part in a column of its own, as a file of one object has them."""
    parts = {column: part for column in table.columns if (part := part_of(column))}
    if len(parts) < len(table.columns) or not all(isinstance(table.first.get(column), list) for column in parts):
        return ""
    flags = dict(zip(PARTS, ("", "--validation ", "--test "), strict=True))
    ways = ", ".join(f"jq -c '.{column}[]' OLD > {column}.jsonl" for column in parts)
    call = " ".join(f"{flags[part]}{column}.jsonl" for column, part in parts.items())
    return f"Write each part into a file of its own, for example: {ways}; and call it with {call}"


def _asked(by_name: Mapping[str, str], found: Mapping[str, Sequence[str]]) -> str:
    """Questions and contexts whose answers have another name."""
    given = [column for name, column in by_name.items() if name.startswith("answer") and "start" not in name]
    given = [column for column in given if "end" not in column.lower()]
    if (
        not {"question", "context"} <= set(by_name)
        or found["label"]
        or {"answer", "answers"} & set(by_name)
        or not given
    ):
        return ""
    names = (by_name["question"], by_name["context"], given[0])
    call = "--question-col {} --context-col {} --answers-col {}".format(*names)
    return f"Where {given[0]!r} holds stretches of {names[1]!r}, call it with {call} (question_col and so on)."
