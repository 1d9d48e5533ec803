"""Chats as prompts and completions: written by the model's own template, or by the one that the user gave."""

from collections.abc import Sequence
from dataclasses import replace

from promptreach.backbone import Backbone
from promptreach.data import Completions, TaskData
from promptreach.errors import DataError, Fault, InputError, raise_if_any
from promptreach.hf.models.texts import chat_template_of, own_opening, tokenizer_of, written
from promptreach.limited import limited
from promptreach.rows.chats import Chat

_SHOWN_FAULTS = 20
_SECONDS, _SECONDS_A_CHAT = 10.0, 0.01
"""Processor time for a template, which comes with the model and may never end: it takes less than a thousandth."""
_MEMORY = 2**30
"""Bytes that it may take."""
_LETTERS = 2_000_000
"""Characters of the longest chat that is written."""


def rendered(backbone: Backbone, data: TaskData) -> TaskData:
    """`data` with every chat as the prompt and the completion that the template writes; other data as it is.

    The completion is the last answer with what the template puts behind an answer, blanks at the very end aside; where
    it puts nothing there, the tokenizer's end token follows as behind any completion. The prompt is all before it, and
    its opening token is the tokenizer's own, once. Instructions are read without a template where the model has none.

    Raises:
        InputError: when the model has no template and the user gave none.
        DataError: naming the rows on which the template fails, or from whose text their last answer cannot be told.
    """
    if not isinstance(data, Completions) or not data.chats:
        return data
    template = data.chat_template or ("" if tokenizer_of(backbone) is None else chat_template_of(backbone))
    if not template and not data.needs_template:
        return replace(data, chats=())
    if not template:
        remedy = (
            "Give a template in Jinja as chat_template (--chat-template FILE), for example: "
            "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ '\\n' }}{% endfor %}"
            "{% if add_generation_prompt %}assistant: {% endif %}"
        )
        raise InputError(Fault("chat_template", "chats, and a model without a chat template", "a template", remedy))
    opening = own_opening(backbone)
    rows = data.rows or tuple(range(1, len(data) + 1))
    prompts, completions, faults, closed = [], [], [], 0
    for row, chat, texts in zip(rows, data.chats, _written(backbone, data.chats, template), strict=True):
        if isinstance(texts, str):
            seen = f"the chat template fails: {texts[:200]}"
            remedy = "Mend the turns as it wants them, or give another template as chat_template (--chat-template)."
            faults.append(Fault(f"{data.source}, row {row}", seen, "a chat that the template writes", remedy))
            continue
        prompt, completion = texts
        prompts.append(prompt.removeprefix(opening))
        completions.append(completion)
        closed += not completion.endswith(chat[-1].content.rstrip())
    raise_if_any(faults[:_SHOWN_FAULTS], DataError)
    if data.options:  # chosen among as they stand
        return replace(data, prompts=tuple(prompts), chats=())
    is_closed = closed == len(prompts)
    return replace(data, prompts=tuple(prompts), completions=tuple(completions), chats=(), closed=is_closed)


def _written(backbone: Backbone, chats: Sequence[Chat], template: str) -> list[list[str] | str]:
    """For each chat the text before the last answer and the answer, or what the template says against it.

    Raises:
        InputError: when the template takes longer, or more memory, than any that writes chats.
    """

    def one(chat: Chat) -> list[str] | str:
        try:
            return list(_texts(backbone, chat, template))
        except Exception as error:  # a template may raise whatever it likes
            return str(error) or type(error).__name__

    patience = _SECONDS + _SECONDS_A_CHAT * len(chats)
    try:
        found: list[list[str] | str] = limited(lambda: [one(chat) for chat in chats], patience, _MEMORY)
    except (TimeoutError, MemoryError) as error:
        what = f"no end after {patience:.0f} s" if isinstance(error, TimeoutError) else f"more than {_MEMORY:,} bytes"
        remedy = "Give the template that belongs to the model, or another one (--chat-template)."
        raise InputError(Fault("chat_template", what, "a template that writes a chat at once", remedy)) from None
    return found


def _texts(backbone: Backbone, chat: Chat, template: str) -> tuple[str, str]:
    """The text before the last answer, and the answer with what ends it.

    Raises:
        ValueError: when the text with the answer does not begin with the text before it, or is longer than any row.
    """
    turns: Sequence[dict[str, str]] = [turn._asdict() for turn in chat]
    before = written(backbone, turns[:-1], template, asks=True)
    whole = written(backbone, turns, template, asks=False)
    if len(before) + len(whole) > _LETTERS:
        raise ValueError(f"it writes {len(before) + len(whole):,} characters")
    answer = turns[-1]["content"].strip()
    if whole.startswith(before) and answer in whole[len(before) :]:
        return before, whole[len(before) :].rstrip()
    # Some templates open an answer otherwise than they write one that stands there (an empty thought, for example):
    # the answer then begins where its text does, behind what opens one, and ends as the template ends one.
    start = whole.rfind(answer)
    if start < 0:
        raise ValueError("its text does not hold the last answer")
    return before, whole[start:].rstrip()
