"""Rows with words in front of them: an instruction, and examples drawn from the training rows.

This is what people do before they tune anything, on the bare model. A chat gets the instruction as its system turn and
the examples as turns; other rows get them as text, with an empty line between one and the next.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from string import Formatter

import torch

from promptreach.data import Completions, common_options
from promptreach.errors import Fault
from promptreach.rows.chats import Chat, Turn

PLACE = "prompt"
"""The field of an instruction that stands for the row's own prompt, in braces."""
_BETWEEN = "\n\n"


def instruction_faults(instruction: str | None, shots: int | None) -> list[Fault]:
    """The faults of an instruction, and of a number of examples."""
    faults: list[Fault] = []
    if shots is not None and (isinstance(shots, bool) or not isinstance(shots, int) or not 1 <= shots <= 64):
        faults.append(Fault("shots", repr(shots), "a whole number from 1 to 64"))
    if instruction is None:
        return faults
    if not instruction.strip():
        return [*faults, Fault("instruction", "an empty text", "an instruction")]
    expected, remedy = "{prompt} where the prompt goes", "Write other braces twice: {{ and }}."
    try:
        parts = [part for part in Formatter().parse(instruction) if part[1] is not None]
        # What else a field may ask for, such as a width, would change the prompt.
        fields = {f"{name}{f'!{turn}' if turn else ''}{f':{form}' if form else ''}" for _, name, form, turn in parts}
    except ValueError as error:
        fields, seen = set[str](), f"braces that do not close ({error})"
        faults.append(Fault("instruction", seen, expected, remedy))
    if unknown := sorted(fields - {PLACE}):
        seen = f"the field {{{unknown[0][:60]}}}"
        faults.append(Fault("instruction", seen, expected, remedy))
    return faults


def drawn_shots(train: Completions, shots: int, seed: int) -> Completions:
    """So many different examples of the training rows, drawn by the seed; where rows share their options, as many of
    each answer as of any other, up to one."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(train), generator=generator).tolist()
    first = {train.prompts[row]: row for row in reversed(order)}
    order = [row for row in order if first[train.prompts[row]] == row]
    if common_options(train):
        by_answer: dict[str, list[int]] = defaultdict(list)
        for row in order:
            by_answer[train.completions[row]].append(row)
        rounds = zip(*(own + [-1] * (len(order) - len(own)) for own in by_answer.values()), strict=True)
        order = [row for one in rounds for row in one if row >= 0]
    return train.take(order[:shots])


def in_context(data: Completions, instruction: str, shots: Completions | None) -> Completions:
    """`data` with an instruction, or examples, or both in front of every prompt.

    Args:
        instruction: a text in front of all; one that holds ``{prompt}`` is written around every prompt instead, those
            of the examples too. Empty for none.
        shots: examples; None for none.
    """
    around = instruction if _has_place(instruction) else ""
    front = [] if around or not instruction else [instruction.format()]
    if shots is not None:
        pairs = zip(shots.prompts, shots.completions, strict=True)
        asked = ((_asked(around, prompt), answer) for prompt, answer in pairs)
        front += [prompt + _joined(prompt, answer) for prompt, answer in asked]
    lead = "".join(part + _BETWEEN for part in front)
    chats = tuple(_chat(chat, instruction, shots) for chat in data.chats)
    # The prompts are read where a model has no template for the chats.
    return replace(data, prompts=tuple(lead + _asked(around, prompt) for prompt in data.prompts), chats=chats)


def _has_place(instruction: str) -> bool:
    return any(name == PLACE for _, name, _, _ in Formatter().parse(instruction))


def _asked(around: str, prompt: str) -> str:
    return around.format(prompt=prompt) if around else prompt


def _joined(prompt: str, answer: str) -> str:
    """An answer behind its prompt in running text: with a blank where neither has white space."""
    return answer if answer[:1].isspace() or prompt[-1:].isspace() else f" {answer}"


def _chat(chat: Chat, instruction: str, shots: Completions | None) -> Chat:
    turns: Sequence[Turn] = chat
    system = [turn.content for turn in turns[:1] if turn.role == "system"]
    rest = list(turns[len(system) :])
    around = instruction if _has_place(instruction) else ""
    told = system if around or not instruction else [instruction.format(), *system]
    shown = [turn for example in (shots.chats if shots is not None else ()) for turn in _without_system(example)]
    if around:
        last = max(at for at, turn in enumerate(rest) if turn.role == "user")
        rest[last] = Turn("user", _asked(around, rest[last].content))
        shown = [Turn(turn.role, _asked(around, turn.content)) if turn.role == "user" else turn for turn in shown]
    return (*([Turn("system", _BETWEEN.join(told))] if told else []), *shown, *rest)


def _without_system(chat: Chat) -> Sequence[Turn]:
    return chat[1:] if chat[0].role == "system" else chat
