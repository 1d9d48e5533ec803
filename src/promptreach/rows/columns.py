"""The shapes that rows have: the column of each role of a task, or what to do with rows of no known shape."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from promptreach.errors import Fault
from promptreach.rows._remedies import other_task
from promptreach.rows._table import Table, shorten

Kind = Literal["labels", "several_labels", "tags", "spans", "completions", "options", "chats", "instructions"]
"""What one row is; the labels of a column that may hold none or several are `several_labels`."""

COLUMN_NAMES = {
    "text": ("text", "sentence", "content", "review"),
    "label": ("label", "labels", "category", "class"),
    "prompt": ("prompt",),
    "completion": ("completion",),
}
"""The column names that are looked for when the caller names none."""
_OTHER_TEXTS = ("tweet", "comment_text", "comment", "headline", "utterance")
"""The names of a text's column that count where none of the usual ones is there."""
PAIRS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("sentence_a", "sentence_b"),
    ("question", "sentence"),
    ("question", "context"),
    ("question", "passage"),
    ("query", "passage"),
    ("query", "document"),
    ("text", "hypothesis"),
    ("text", "text_pair"),
    ("text", "text2"),
    ("text_a", "text_b"),
    ("sentence", "sentence_pair"),
)
"""The names of two columns that hold two texts to be judged together."""
_PAIR_LABELS = ("gold_label", "is_duplicate", "score", "similarity", "similarity_score", "relatedness_score")
"""The names of a label's column that are taken beside two texts alone."""
CHATS = ("messages", "conversations", "conversation", "dialog", "dialogue", "chat", "turns")
"""The names of a column that holds chats."""
WEIGHTS = (
    *("weight", "weights", "sample_weight", "sample_weights", "example_weight", "row_weight", "loss_weight"),
    *("instance_weight", "importance_weight"),
)
"""The names of a column that holds weights of rows."""
SPLITS = ("split", "part", "partition", "subset", "set", "data_split", "dataset_split")
"""The names of a column that says which part a row belongs to, where all of its values are names of parts."""
_ANSWERS = ("output", "response", "answer", "completion")
_ASKED = (
    ("question", ("answer", "answers", "response")),
    ("query", ("response", "answer")),
    ("input", ("output", "target", "response")),
    ("inputs", ("targets", "target", "outputs", "output")),
    ("source", ("target",)),
    ("document", ("summary",)),
    ("article", ("highlights", "summary")),
    *((name, ("summary",)) for name in ("dialogue", "dialog", "conversation")),
    ("problem", ("solution", "answer")),
)
_WRITTEN = ("summary", "code", "target_text", "translation", "title", "completion", "output", "response")
"""The names of what may be meant to be written where a text stands beside it and no label does."""
_COMPLETION_LIKE = ("response", "output", "answer", "target", "reply")
_LABEL_LIKE = (
    *("gold_label", "is_duplicate", "score", "similarity", "rating", "stars", "sentiment", "target", "answer"),
    *("intent", "emotion", "topic", "polarity", "relevance"),
)
_WORDS = ("tokens", "words")
_TAGS = ("ner_tags", "pos_tags", "chunk_tags", "tags", "labels")
_FEW = 2
"""Columns of which none but the text's can be a label by itself."""
_ASKING = ("question", "context", "answers")
_NAMED = ("text", "label", "pair", "prompt", "completion")
"""The roles whose columns a caller names for another task than that of tags."""
_CHOICE: Mapping[str, tuple[str, ...]] = {
    "options": ("choices", "options", "endings"),
    "prompt": ("prompt", "question", "ctx", "context", "query", "input", "text", "sentence"),
    "answer": (
        "answer",
        "answerkey",
        "answer_key",
        "correct",
        "correct_answer",
        "gold",
        "target",
        "completion",
        "label",
    ),
}
"""The columns of a question, of the texts to choose from and of the right one, by role."""
_ROLES: dict[Kind, tuple[str, ...]] = {"labels": ("text", "label"), "completions": ("prompt", "completion")}


@dataclass(frozen=True)
class TaskShape:
    """A task's kind, and the column of each of its roles.

    Roles are text, pair and label; words and tags; question, context and answers; prompt and completion; prompt,
    options and answer; messages and system; prompt, input, completion and system of an instruction; and, with any of
    them, split and weight.
    """

    kind: Kind
    columns: Mapping[str, str]


def shape_of(table: Table, wishes: Mapping[str, str | None]) -> TaskShape | list[Fault]:
    """The shape of the table's rows, or the faults that stand in its way.

    Args:
        wishes: the column that the caller named for each role, or None.
    """
    by_name = {column.lower(): column for column in reversed(table.columns)}
    shape = _task(table, wishes, by_name)
    if isinstance(shape, list):
        return shape
    columns = dict(shape.columns)
    faults = []
    if wish := wishes.get("split"):
        columns["split"] = wish
    else:
        columns |= _first_of("split", {k: v for k, v in by_name.items() if v not in columns.values()}, SPLITS)
    weight = next((by_name[name] for name in WEIGHTS if name in by_name), None)
    if weight is not None and weight not in columns.values():
        columns["weight"] = weight
    for role in ("pair", "split"):
        if (wish := wishes.get(role)) and table.columns.count(wish) != 1:
            found = [column for column in table.columns if column == wish]
            faults.append(_column_fault(table, role, wish, found, [wish]))
    if not faults and len(columns) > len(set(columns.values())):
        same = [role for role in columns if list(columns.values()).count(columns[role]) > 1]
        seen = f"the column {shorten(columns[same[0]])} for both"
        faults.append(Fault(f"{table.name}, {' and '.join(same)}", seen, "two different columns"))
    kind: Kind = "several_labels" if (shape.kind, wishes.get("label_kind")) == ("labels", "several") else shape.kind
    return faults or TaskShape(kind, columns)


def _task(table: Table, wishes: Mapping[str, str | None], by_name: Mapping[str, str]) -> TaskShape | list[Fault]:
    """The shape without the columns that any kind of rows may have."""
    names = {role: [wish] if (wish := wishes.get(role)) else list(usual) for role, usual in COLUMN_NAMES.items()}
    pair = _pair(wishes, by_name, table.columns)
    if pair is not None and not wishes.get("text"):
        names["text"] = [pair[0]]
    if pair is not None and not wishes.get("label") and not _named(table.columns, names["label"]):
        names["label"] += [by_name[name] for name in _PAIR_LABELS if name in by_name]
    found = {
        role: [column for column in table.columns if column == wish]
        if (wish := wishes.get(role))
        else _named(table.columns, names[role])
        for role in names
    }
    if not found["text"] and not wishes.get("text"):
        found["text"] = _named(table.columns, _OTHER_TEXTS)
    if wishes.get("words") or wishes.get("tags") or not any(wishes.get(role) for role in _NAMED):
        tagged = _tagged(table, wishes, by_name)
        if tagged is not None:
            return tagged
    asked = any(wishes.get(role) for role in _ASKING)
    if asked or (not any(wishes.get(role) for role in _NAMED) and all(role in by_name for role in _ASKING)):
        return _asking(table, wishes, by_name)
    if shape := _choice(table, wishes, by_name):
        return shape
    labels_wished = any(wishes.get(role) for role in ("text", "label", "pair"))
    wished: list[Kind] = ["labels"] if labels_wished else []
    wished += ["completions"] if any(wishes.get(role) for role in ("prompt", "completion")) else []
    complete = [kind for kind, roles in _ROLES.items() if all(found[role] for role in roles)]
    begun = [kind for kind, roles in _ROLES.items() if any(found[role] for role in roles)]
    if not wished:
        if remedy := other_task(table, by_name, found):
            seen = f"the columns {listing(table.columns)}"
            return [Fault(table.name, seen, "the columns of one task", remedy)]
        if not complete and (shape := _conversation(table, by_name)):
            return shape
    # The caller's word counts first, then a task with all of its columns, then one that misses a column.
    kinds = wished or complete or begun
    if len(kinds) != 1:
        return [_no_task(table, wishes, wished or complete, by_name)]
    kind = kinds[0]
    faults = [
        _column_fault(table, role, wishes.get(role), found[role], names[role])
        for role in _ROLES[kind]
        if len(found[role]) != 1
    ]
    chosen = {role: found[role][0] for role in _ROLES[kind] if len(found[role]) == 1}
    if pair is not None and kind == "labels" and (not wishes.get("text") or wishes.get("pair")):
        chosen["pair"] = pair[1]
    return faults or TaskShape(kind, chosen)


def _named(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """The columns of these names; where none is, those that are written otherwise in upper and lower case."""
    exact = [column for column in columns if column in names]
    return exact or [column for column in columns if column.lower() in names]


def _tagged(
    table: Table, wishes: Mapping[str, str | None], by_name: Mapping[str, str]
) -> TaskShape | list[Fault] | None:
    """The columns of words and of their tags; None for rows without such."""
    usual: dict[str, Sequence[str]] = {"words": _WORDS, "tags": _TAGS}
    # Beside a text the labels are the text's.
    taken = COLUMN_NAMES["label"] if any(name in by_name for name in COLUMN_NAMES["text"]) else ()
    found = {
        role: [column for column in table.columns if column == wish]
        if (wish := wishes.get(role))
        else [by_name[name] for name in names if name in by_name and name not in taken][:1]
        for role, names in usual.items()
    }
    if not all(found.values()) and not (wishes.get("words") or wishes.get("tags")):
        return None
    faults = [
        _column_fault(table, role, wishes.get(role), columns, list(usual[role]))
        for role, columns in found.items()
        if len(columns) != 1
    ]
    return faults or TaskShape("tags", {role: columns[0] for role, columns in found.items()})


def _choice(
    table: Table, wishes: Mapping[str, str | None], by_name: Mapping[str, str]
) -> TaskShape | list[Fault] | None:
    """The shape of questions with several options, where a column of options is named or has a usual name."""
    asked = wishes.get("options")
    if not asked and any(wishes.values()):
        return None
    named = {"options": asked, "prompt": wishes.get("prompt") or wishes.get("text")}
    named["answer"] = wishes.get("completion") or wishes.get("label")
    found: dict[str, str] = {}
    for role, usual in _CHOICE.items():
        wish = named[role]
        column = wish if wish in table.columns else next((by_name[name] for name in usual if name in by_name), None)
        if (wish and wish not in table.columns) or column is None or column in found.values():
            faults = [_column_fault(table, role, wish, [], usual)]
            return faults if asked else None
        found[role] = column
    extra = _first_of("context", by_name, ("context", "passage", "article", "paragraph"))
    extra = {} if named["prompt"] or set(extra.values()) & set(found.values()) else extra
    return TaskShape("options", {**extra, **{role: found[role] for role in ("prompt", "options", "answer")}})


def _asking(table: Table, wishes: Mapping[str, str | None], by_name: Mapping[str, str]) -> TaskShape | list[Fault]:
    """The columns of questions, of their contexts, and of the answers that stand in these."""
    names = {role: wishes.get(role) or by_name.get(role, role) for role in _ASKING}
    found = {role: [column for column in table.columns if column == name] for role, name in names.items()}
    faults = [
        _column_fault(table, role, wishes.get(role), columns, [role])
        for role, columns in found.items()
        if len(columns) != 1
    ]
    return faults or TaskShape("spans", {role: columns[0] for role, columns in found.items()})


def _pair(
    wishes: Mapping[str, str | None], by_name: Mapping[str, str], columns: Sequence[str]
) -> tuple[str, str] | None:
    """The columns of two texts that are judged together; the first is a guess where only the second is named."""
    known = [(by_name[one], by_name[two]) for one, two in PAIRS if one in by_name and two in by_name]
    labelled = wishes.get("label") or _named(columns, COLUMN_NAMES["label"])
    if not labelled and any(name in by_name for name in ("answer", "answers", "response")):
        known = []  # a question with its context, to be answered
    if (second := wishes.get("pair")) is None:
        return known[0] if known else None
    usual = [column for column in _named(columns, COLUMN_NAMES["text"]) if column != second]
    firsts = [wishes.get("text"), *(one for one, two in known if two == second), *usual]
    return (next((first for first in firsts if first), "text"), second)


def _conversation(table: Table, by_name: Mapping[str, str]) -> TaskShape | None:
    """The shape of chats and of instructions, which are read by their names; beside a summary the first chat is looked
    at, since it may be the text that is summed up."""
    system = _first_of("system", by_name, ("system", "system_prompt"))
    chat = next((by_name[name] for name in CHATS if name in by_name), None)
    first = "" if chat is None else table.first.get(chat)
    is_prose = isinstance(first, str) and not first.lstrip().startswith(("[", "{")) and "summary" in by_name
    if chat is not None and not is_prose:
        return TaskShape("chats", {"messages": chat, **system})
    answer = next((by_name[name] for name in _ANSWERS if name in by_name), None)
    if "instruction" not in by_name or answer is None:
        return None
    extra = _first_of("input", by_name, ("input", "context"))
    return TaskShape("instructions", {"prompt": by_name["instruction"], **extra, "completion": answer, **system})


def _first_of(role: str, by_name: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """The role's column, the first of `names` that is there, or nothing."""
    return next(({role: by_name[name]} for name in names if name in by_name), {})


def _no_task(
    table: Table, wishes: Mapping[str, str | None], settled: Sequence[Kind], by_name: Mapping[str, str]
) -> Fault:
    """The fault of columns that belong to no task or to two."""
    wished = any(wishes.values())
    seen = "names for both kinds of task" if wished and settled else f"the columns {listing(table.columns)}"
    expected = "the columns of one task: a text and a label, or a prompt and a completion"
    remedy = "Give text_col and label_col, or prompt_col and completion_col (--text-col, --label-col and so on)."
    for first, seconds in _ASKED if not settled else ():
        second = next((by_name[name] for name in seconds if name in by_name), None)
        if first in by_name and second is not None:
            extra = by_name.get("context", by_name.get("passage"))
            joined = f" Where {extra!r} belongs to it, write both into one column first." if extra else ""
            if extra:
                roles = f"--question-col {by_name[first]} --context-col {extra} --answers-col {second}"
                joined += f" Where the answers are stretches of {extra!r}, call it with {roles}."
            if pair := next((by_name[two] for one, two in PAIRS if one == first and two in by_name), None):
                roles = f"--text-col {by_name[first]} --pair-col {pair} --label-col {second}"
                joined += f" Where the answers are classes, such as yes and no, call it with {roles}."
            call = f"Call it with --prompt-col {by_name[first]} --completion-col {second} (prompt_col, completion_col)."
            return Fault(table.name, seen, expected, call + joined)
    if not wished and not settled and {"prompt", "label"} <= set(by_name):
        one, two = by_name["prompt"], by_name["label"]
        remedy = (
            f"Where {two!r} holds classes, call it with --text-col {one} --label-col {two}; where it holds answers to "
        )
        return Fault(table.name, seen, expected, f"{remedy}be written, with --prompt-col {one} --completion-col {two}.")
    usual_names = [] if settled else [name for usual in COLUMN_NAMES.values() for name in usual]
    hint = _hint(usual_names, table.columns)
    if not hint and not wished and any(mark in table.name.lower() for mark in (".csv", ".tsv")):
        hint = " The first line of the file is to name the columns."
    return Fault(table.name, seen, expected, remedy + hint)


def _column_fault(table: Table, role: str, wish: str | None, found: Sequence[str], names: Sequence[str]) -> Fault:
    """Why there is no single column for `role`."""
    expected, remedy = f"one column for the {role}", f"Name it with {role}_col (--{role}-col)."
    if found:
        seen = f"{len(found)} columns that may be the {role}: {listing(found)}"
        return Fault(table.name, seen, expected, "Rename one of them." if wish else remedy)
    missing = f"no column {shorten(wish)}" if wish else f"no column for the {role}"
    seen = f"{missing} among {listing(table.columns)}"
    alike = {"label": _LABEL_LIKE, "completion": _COMPLETION_LIKE}.get(role, ())
    likely = [column for column in table.columns if column.lower() in alike]
    hint = _hint(likely or names, table.columns)
    if role == "label" and not wish and not hint:
        written = [column for column in table.columns if column.lower() in _WRITTEN]
        text = [column for column in table.columns if column.lower() in COLUMN_NAMES["text"]]
        if written and text:
            hint = f" Where {written[0]!r} is to be written, call it with --prompt-col {text[0]} --completion-col "
            hint += f"{written[0]}."
        elif len(table.columns) > _FEW:
            hint = " Where columns say of a label each whether it is there, list those that are in one column 'label'."
        hint += " Texts without labels can be split: their beginnings as 'prompt', the rest as 'completion'."
    return Fault(table.name, seen, expected, remedy + hint)


def _hint(names: Sequence[str], columns: Sequence[str]) -> str:
    """A guess at what the caller meant by `names`, as a sentence with a space in front; empty without an idea."""
    if columns and columns[0].lower().startswith("sep="):
        return " Its first line is a note for spreadsheets: delete it, and write commas in .csv, tabs in .tsv."
    if len(columns) == 1 and (marks := [mark for mark in (";", "\t", "|", ",") if mark in columns[0]]):
        return f" The columns seem to be separated by {marks[0]!r}: write commas in .csv, tabs in .tsv."
    lower = {column.lower(): column for column in columns}
    close = [lower[match] for name in names for match in get_close_matches(name.lower(), lower, n=1)]
    return f" Did you mean {listing(dict.fromkeys(close), ' or ')}?" if close else ""


def listing(columns: Iterable[str], separator: str = ", ") -> str:
    """The names of columns for a message, at most twelve of them."""
    listed = [shorten(column) for column in columns]
    more = [f"{len(listed) - 12} more"] if len(listed) > 12 else []
    return separator.join(listed[:12] + more)
