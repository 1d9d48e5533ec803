"""Words in front of rows: where they stand, how examples are drawn, and which instructions are refused."""

from collections import Counter

import pytest

from promptreach.data import Completions
from promptreach.rows.chats import Turn
from promptreach.training.task.in_context import drawn_shots, in_context, instruction_faults

DATA = Completions(("1 + 1 =", "2 + 2 ="), (" 2", " 4"))
SHOTS = Completions(("3 + 3 =",), (" 6",))


def test_words_stand_in_front_with_an_empty_line_between() -> None:
    assert in_context(DATA, "Add.", None).prompts == ("Add.\n\n1 + 1 =", "Add.\n\n2 + 2 =")
    assert in_context(DATA, "", SHOTS).prompts[0] == "3 + 3 = 6\n\n1 + 1 ="
    assert in_context(DATA, "Add.", SHOTS).prompts[0] == "Add.\n\n3 + 3 = 6\n\n1 + 1 ="
    around = in_context(DATA, "What is {prompt} ({{in short}})", SHOTS)
    assert around.prompts[0] == "What is 3 + 3 = ({in short}) 6\n\nWhat is 1 + 1 = ({in short})"
    assert around.completions == DATA.completions


def test_a_chat_gets_them_as_turns() -> None:
    chat = (Turn("system", "Be short."), Turn("user", "1 + 1 ?"), Turn("assistant", "2"))
    other = (Turn("user", "3 + 3 ?"), Turn("assistant", "6"))
    data, shots = (Completions((c[0].content,), (c[-1].content,), chats=(c,)) for c in (chat, other))
    (found,) = in_context(data, "Add.", shots).chats
    assert found == (Turn("system", "Add.\n\nBe short."), *other, *chat[1:])
    (around,) = in_context(data, "So: {prompt}", None).chats
    assert around == (chat[0], Turn("user", "So: 1 + 1 ?"), chat[2])


def test_examples_are_balanced_over_the_answers_and_drawn_by_the_seed() -> None:
    options = ((" yes", " no"),) * 40
    rare = tuple(" no" if row % 8 == 0 else " yes" for row in range(40))
    train = Completions(tuple(f"question {row}" for row in range(40)), rare, options=options)
    drawn = drawn_shots(train, 6, seed=0)
    assert Counter(drawn.completions) == {" no": 3, " yes": 3}
    assert drawn_shots(train, 6, seed=0) == drawn
    assert drawn_shots(train, 6, seed=1) != drawn
    twice = Completions(("same",) * 5, (" a",) * 5)
    assert len(drawn_shots(twice, 3, seed=0)) == 1


@pytest.mark.parametrize(
    ("instruction", "shots", "words"),
    [
        ("{text}", None, "the field {text}"),
        ("{", None, "braces that do not close"),
        ("  ", None, "an empty text"),
        (None, 0, "from 1 to 64"),
        (None, True, "from 1 to 64"),
    ],
)
def test_an_instruction_that_cannot_be_written_is_named(instruction: str | None, shots: int | None, words: str) -> None:
    (fault,) = instruction_faults(instruction, shots)
    assert words in str(fault)
    for odd in ("{prompt!r}", "{prompt:>9999999}", "{prompt!r:x}"):
        assert [fault.seen for fault in instruction_faults(odd, 4)] == [f"the field {odd}"]
    assert instruction_faults("{prompt} {{x}}", 4) == []
