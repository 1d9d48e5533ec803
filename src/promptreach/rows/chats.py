"""The turns of a chat, from the ways in which they are written: messages with roles, and ShareGPT's "from" and "value".

Rendering them into the text that a model reads is the matter of `promptreach.training.task.chats`.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from promptreach.errors import DataError, InputError
from promptreach.formats import read_text
from promptreach.rows._cells import from_text
from promptreach.rows._table import shorten

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "ipython": "tool",
}
"""The role that each name of one stands for."""

Problem = tuple[str, str, str]
"""What was seen, what was expected, and what to do about it."""
_EXPECTED = "a list of turns, each with 'role' and 'content' ('from' and 'value')"


class Turn(NamedTuple):
    """One turn of a chat: who (system, user, assistant or tool) says what."""

    role: str
    content: str


Chat = tuple[Turn, ...]
"""A chat, its last turn the answer that a model should learn."""


class NotAChatError(Exception):
    """A value that is no chat, as the parts of a fault."""

    def __init__(self, *parts: str) -> None:
        super().__init__(parts[0])
        self.parts: Problem = (parts[0], parts[1], parts[2])


def is_turns(value: object) -> bool:
    """Whether a value is a list of turns rather than a text, as a list or as JSON that holds one."""
    found = _decoded(value)
    return isinstance(found, Sequence) and len(found) > 0 and isinstance(found[0], Mapping)


def chat_of(value: object, system: str = "") -> Chat:
    """The chat in a cell, with a system turn in front where there is a text for one.

    Raises:
        NotAChatError: when the value is no list of turns, or its last turn is not the assistant's.
    """
    turns = turns_of(value)
    if system and turns[0].role != "system":
        turns = (Turn("system", system), *turns)
    if turns[-1].role != "assistant":
        raise NotAChatError(
            f"a chat whose last turn is the {turns[-1].role}'s",
            "an answer of the assistant at the end",
            "Drop the turns behind its last answer, or the row.",
        )
    if all(turn.role in ("system", "assistant") for turn in turns):
        raise NotAChatError("a chat in which nobody asks", "a turn of the user before the answer", "Drop the row.")
    return turns


def turns_of(value: object) -> Chat:
    """The turns in a cell, whoever speaks last.

    Raises:
        NotAChatError: when the value is no list of turns, or one of them has no known role or no text.
    """
    found = _decoded(value)
    if not isinstance(found, Iterable) or isinstance(found, (str, bytes, Mapping)):
        raise NotAChatError(f"{shorten(value)} ({type(value).__name__})", _EXPECTED, "Write it as such a list.")
    turns = tuple(_turn(number, one) for number, one in enumerate(found, start=1))
    if not turns:
        raise NotAChatError("a chat without turns", _EXPECTED, "Drop the row.")
    return turns


def _decoded(value: object) -> object:
    """A cell of a CSV file holds a list as text, where a JSON file holds a list."""
    return from_text(value) if isinstance(value, str) and value.lstrip().startswith("[{") else value


def _turn(number: int, turn: object) -> Turn:
    said = f"turn {number}"
    if not isinstance(turn, Mapping):
        raise NotAChatError(f"{said} is {shorten(turn)} ({type(turn).__name__})", _EXPECTED, "Write it as an object.")
    who, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    role = ROLES.get(who.strip().lower()) if isinstance(who, str) else None
    if role is None:
        raise NotAChatError(f"{said} has the role {shorten(who)}", f"one of {', '.join(ROLES)}", "Rename the role.")
    text = content if isinstance(content, str) else _joined(content)
    if not (text or "").strip() and (turn.get("tool_calls") or turn.get("function_call")):
        remedy = "Drop the calls and the answers of tools from the chat, or drop the row."
        raise NotAChatError(f"{said} (the {role}'s) calls a tool", "a text, as no calls are read", remedy)
    if text is None or not text.strip():
        seen = f"{said} (the {role}'s) has the content {shorten(content)}"
        raise NotAChatError(seen, "a text that is not blank", "Fill it in or drop the row.")
    return Turn(role, text)


def _joined(content: object) -> str | None:
    """The text of a content that is a list of text parts; None where there is something else among them."""
    if not isinstance(content, Sequence):
        return None
    parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
    texts = [text for text in parts if isinstance(text, str)]
    return "".join(texts) if len(texts) == len(parts) else None


def transcript(turns: Iterable[Turn]) -> str:
    """The turns as a reader would write them, for messages and reports; no model reads this."""
    return "\n".join(f"{turn.role}: {turn.content}" for turn in turns)


def template_of(given: str | os.PathLike[str] | None) -> str:
    """The text of a chat template that stands in the argument or in the file that it names; empty for None.

    Raises:
        DataError: for a file that cannot be read.
    """
    if given is None or (isinstance(given, str) and "{" in given):
        return given or ""
    try:
        return read_text(Path(given), kind="a template")
    except InputError as error:
        raise DataError([replace(fault, where=f"chat_template, {shorten(given)}") for fault in error.faults]) from None
