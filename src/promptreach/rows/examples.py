"""Examples out of rows: every value of a row checked for its role, and the row turned into an input and an answer."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import NamedTuple

from promptreach.errors import Fault
from promptreach.rows._cells import from_text, is_gap, is_listed, plain
from promptreach.rows._lines import MAX_ROW_BYTES
from promptreach.rows._remedies import TO_TAGS
from promptreach.rows._table import Missing, shorten
from promptreach.rows.chats import Chat, NotAChatError, Turn, chat_of, is_turns, transcript, turns_of
from promptreach.rows.columns import Kind
from promptreach.rows.options import options_of

_UNWRITABLE = re.compile("[\0\ud800-\udfff]")  # NUL, and halves of surrogate pairs, which UTF-8 cannot encode
_LISTED = ("label", "words", "tags", "options")
"""The roles whose values may be lists, which CSV writes as text."""
_OPTIONAL = ("input", "system", "context")
_HUGE = 10**300
Problem = tuple[str, str, str]


class Example(NamedTuple):
    """One row, checked.

    Attributes:
        input: the text or prompt; of a chat a transcript.
        second: the second text, or empty.
        answer: the label (what numbers with decimals and lists mean is left to the check of all labels) or the
            completion.
        chat: the turns, where the row is a chat.
        words: of the input, where each has a tag; `answer` holds the tags.
        spans: the answers to the input in `second`, with the place of each.
        options: the texts to choose from, and what an answer may call them, where there are any.
    """

    input: str
    second: str
    answer: str | int | float | tuple[str, ...]
    chat: Chat | None
    words: tuple[str, ...] = ()
    spans: tuple[tuple[int, str], ...] = ()
    options: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())


def example_of(kind: Kind, values: Mapping[str, object], where: Callable[[str], str]) -> Example | list[Fault]:
    """The example in a row's values by role, or the faults of the row.

    Args:
        where: the place of a role's value, for messages.
    """
    values = {role: from_text(plain(value)) if role in _LISTED else plain(value) for role, value in values.items()}
    if kind == "tags":
        return _words(values, where)
    if kind == "spans":
        return _question(values, where)
    may_be_empty = ("label",) if kind == "several_labels" else ()
    if kind == "chats" or (kind == "completions" and any(is_turns(values[role]) for role in ("prompt", "completion"))):
        return _conversation(kind, values, where)
    faults = [
        Fault(where(role), *problem)
        for role, value in values.items()
        if role not in ("split", "weight", "options") and (problem := _problem(value, role, may_be_empty))
    ]
    if kind == "options":
        found = options_of(values["options"])
        if len(found) == 3:
            faults.append(Fault(where("options"), *found))
        elif not faults:
            asked = [text for role in ("context", "prompt") if (text := str(values.get(role) or "")).strip()]
            return Example("\n\n".join(asked), "", _label(values["answer"]), None, options=found)
    if faults:
        return faults
    if kind == "instructions":
        return _instruction({role: str(value or "") for role, value in values.items()})
    if kind == "completions":
        return Example(str(values["prompt"]), "", str(values["completion"]), None)
    return Example(str(values["text"]), str(values.get("pair", "")), _label(values["label"]), None)


def _conversation(kind: Kind, values: Mapping[str, object], where: Callable[[str], str]) -> Example | list[Fault]:
    """A chat from one column of turns, or from the two columns of a conversational prompt and completion."""
    role = "messages"
    try:
        if kind == "chats":
            system = values.get("system")
            chat = chat_of(values[role], system if isinstance(system, str) and system.strip() else "")
        else:
            turns: dict[str, Chat] = {}
            for role, speaker in (("prompt", "user"), ("completion", "assistant")):
                value = values[role]
                if not is_turns(value) and (problem := _problem(value, role)):
                    return [Fault(where(role), *problem)]
                turns[role] = turns_of(value) if is_turns(value) else (Turn(speaker, str(value)),)
            if len(turns["completion"]) != 1:
                seen = f"a completion of {len(turns['completion'])} turns"
                raise NotAChatError(seen, "one turn of the assistant", "Move all but the last turn to the prompt.")
            chat = chat_of([turn._asdict() for turn in (*turns["prompt"], *turns["completion"])])
    except NotAChatError as error:
        return [Fault(where(role), *error.parts)]
    for turn in chat:
        if problem := _problem(turn.content, role):
            return [Fault(where(role), *problem)]
    return Example(transcript(chat[:-1]), "", chat[-1].content, chat)


def _words(values: Mapping[str, object], where: Callable[[str], str]) -> Example | list[Fault]:
    """Words and their tags: two lists of one length, or two texts that are split at blanks."""
    found: dict[str, tuple[str, ...]] = {}
    faults = []
    for role in ("words", "tags"):
        value = values[role]
        if is_listed(value) and str(value).lstrip("[ ")[:1] in ("'", '"'):
            seen, remedy = f"{shorten(value)}, a list that cannot be read", 'Write it as JSON does, ["Ann", "ran"].'
            faults.append(Fault(where(role), seen, f"a list of {role}", remedy))
            continue
        parts = value.split() if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or not parts:
            seen = (
                "no value" if is_gap(value) or parts in ("", [], ()) else f"{shorten(value)} ({type(value).__name__})"
            )
            expected = f"a list of {role}, or a text of them with blanks between"
            faults.append(Fault(where(role), seen, expected, "Mend it, or drop the row."))
            continue
        bad = [part for part in parts if isinstance(part, bool) or not isinstance(part, str | Integral)]
        bad += [part for part in parts if isinstance(part, Integral) and _is_huge(part)]
        bad += [
            part for part in parts if isinstance(part, str) and (part.split() != [part] or _UNWRITABLE.search(part))
        ]
        if bad:
            seen = f"{shorten(bad[0])} among the {role}"
            remedy = f"Each of the {role} is a text without blanks. Mend it, or drop it with its tag."
            faults.append(Fault(where(role), seen, f"{role} that are not empty and hold no blank", remedy))
            continue
        found[role] = tuple(map(str, parts))
    if len(found) == 2 and len(found["words"]) != len(found["tags"]):
        seen = f"{len(found['words'])} words and {len(found['tags'])} tags"
        faults.append(Fault(where("tags"), seen, "a tag for each word", "Mend the row, or drop it."))
    return faults or Example(" ".join(found["words"]), "", found["tags"], None, found["words"])


def _question(values: Mapping[str, object], where: Callable[[str], str]) -> Example | list[Fault]:
    """A question, its context, and the stretches of that which answer it."""
    roles = ("question", "context")
    faults = [Fault(where(role), *problem) for role in roles if (problem := _problem(values[role], role))]
    if faults:
        return faults
    context, found = str(values["context"]), []
    told = values["answers"]
    # Brackets that stand in the context are its own.
    given = _answers(told if isinstance(told, str) and told in context else from_text(told))
    if given is None:
        seen = f"{shorten(values['answers'])} ({type(values['answers']).__name__})"
        expected = "a text, a list of texts, or {'text': [...], 'answer_start': [...]}; an empty list for no answer"
        return [Fault(where("answers"), seen, expected, "Mend it, or drop the row.")]
    for text, start in given:
        place = context.find(text) if start is None else start
        if place < 0 or context[place : place + len(text)] != text:
            there = f"{shorten(context[max(0, place) : place + len(text)])} stands at {place}"
            seen = f"the answer {shorten(text)}, which is not in its context" if text not in context else f"{there}"
            expected = f"the answer {shorten(text)} there" if text in context else "a stretch of the context"
            faults.append(Fault(where("answers"), seen, expected, "Write it as the context has it, or drop the row."))
        found.append((place, text))
    return faults or Example(str(values["question"]), context, (), None, spans=tuple(found))


def _answers(value: object) -> list[tuple[str, int | None]] | None:
    """The answers with their places, None where a place is not told; None for what is no answer to a question."""
    if is_gap(value) or value == "":
        return []
    if isinstance(value, Mapping):
        texts, starts = value.get("text"), value.get("answer_start", value.get("start"))
        texts, starts = plain(texts), plain(starts)
        if isinstance(texts, str):
            texts, starts = [texts], [starts]
        if not isinstance(texts, list | tuple) or (isinstance(starts, list | tuple) and len(starts) != len(texts)):
            return None
        pairs = list(zip(texts, starts if isinstance(starts, list | tuple) else [None] * len(texts), strict=True))
    elif isinstance(value, str):
        pairs = [(value, None)]
    elif isinstance(value, list | tuple):
        nested = [_answers(one) for one in value]
        if any(one is None or len(one) != 1 for one in nested):
            return None
        pairs = [one[0] for one in nested if one]
    else:
        return None
    good = all(
        isinstance(text, str) and text.strip() and (start is None or isinstance(start, Integral))
        for text, start in pairs
    )
    return [(text, None if start is None else int(start)) for text, start in pairs] if good else None


def _instruction(values: Mapping[str, str]) -> Example:
    """An instruction with its input below it, as one turn of the user; the prompt is the same without a template."""
    asked = "\n\n".join(text for role in ("prompt", "input") if (text := values.get(role, "").strip()))
    system = values.get("system", "").strip()
    chat = (*([Turn("system", system)] if system else []), Turn("user", asked), Turn("assistant", values["completion"]))
    prompt = "\n\n".join([*([system] if system else []), asked]) + "\n\n"
    return Example(prompt, "", values["completion"], chat)


def _is_huge(value: Integral) -> bool:
    """Whether an integer has more digits than floats hold; of thousands Python does not even write the digits."""
    return abs(int(value)) >= _HUGE


def _label(value: object) -> str | int | float | tuple[str, ...]:
    if isinstance(value, list | tuple):
        return tuple(str(one) for one in value)
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    return int(value) if isinstance(value, Integral) else str(value)


def _problem(value: object, role: str, may_be_empty: Sequence[str] = ()) -> Problem | None:
    """The fault of one value: what was seen, what was expected, what to do. None for a good one."""
    expected = "a string or an integer" if role == "label" else "a string"
    if role in (*_OPTIONAL, *may_be_empty) and (is_gap(value) or (isinstance(value, str) and not value.strip())):
        return None
    if value is Missing.MISSING:
        return "the row does not have this column", expected, "Add it or drop the row."
    if is_gap(value):
        return f"no value ({value})", expected, "Fill it in or drop the row."
    if role in ("label", "answer") and isinstance(value, Integral) and _is_huge(value):
        seen = f"{shorten(value)}, an integer of more than 300 digits"
        remedy = (
            "Write all of them as strings where they are names; divide them by the same one where they are numbers."
        )
        return seen, "a shorter integer", remedy if role == "label" else "Write the text of the right option."
    if role in ("label", "answer") and (
        isinstance(value, Integral) or (isinstance(value, float) and math.isfinite(value))
    ):
        return None
    if role == "label" and isinstance(value, list | tuple) and all(isinstance(one, str | Integral) for one in value):
        return next((found for one in value if (found := _problem(one, role))), None)
    if (
        role == "label"
        and isinstance(value, list)
        and value
        and all(isinstance(one, list) and len(one) > 2 for one in value)
    ):
        return f"{shorten(value)} (lists in a list)", "a label, a number, or a list of labels", f"Of places: {TO_TAGS}"
    if isinstance(value, list | dict) and role != "label":
        inside = [key for key, one in value.items() if isinstance(one, str)] if isinstance(value, dict) else []
        keep = f"keep one of its texts, such as that of {shorten(inside[0])}" if inside else "write it as a string"
        if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
            keep = "keep one of its texts, such as the first, as a string"
        remedy = f"Where one object holds whole columns, write an object a row instead; otherwise {keep}."
        return f"{shorten(value)} ({type(value).__name__})", expected, remedy
    if not isinstance(value, str):
        remedy = "Give a label, a number, or a list of labels." if role == "label" else "Write it as a string."
        return f"{shorten(value)} ({type(value).__name__})", expected, remedy
    if not value.strip():
        seen = "only white space" if value else "an empty string"
        return seen, "at least one visible character", "Fill it in or drop the row."
    if len(value) > MAX_ROW_BYTES:
        return f"{len(value):,} characters: {shorten(value)}", f"no more than {MAX_ROW_BYTES:,}", "Shorten it."
    if match := _UNWRITABLE.search(value):
        seen = f"{match[0]!r} at character {match.start() + 1} of {shorten(value)}"
        return seen, "text that a tokenizer can read", "Remove that character."
    return None
