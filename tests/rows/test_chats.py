"""Chats as they are written elsewhere, and what is said of those that cannot be one."""

import json

import pytest

from promptreach.rows.chats import ROLES, NotAChatError, Turn, chat_of, is_turns, transcript, turns_of

ASKED = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]
CHAT = (Turn("user", "1+1?"), Turn("assistant", "2"))


@pytest.mark.parametrize(
    "value",
    [
        ASKED,
        json.dumps(ASKED),
        [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}],
        [{"role": " User ", "content": [{"type": "text", "text": "1+"}, "1?"]}, ASKED[1]],
    ],
)
def test_every_way_of_writing_a_chat_gives_the_same_turns(value: object) -> None:
    assert is_turns(value)
    assert chat_of(value) == CHAT
    assert transcript(CHAT) == "user: 1+1?\nassistant: 2"


def test_a_system_text_goes_in_front_unless_one_is_there() -> None:
    first = Turn("system", "Count.")
    assert chat_of(ASKED, "Count.") == (first, *CHAT)
    assert chat_of([first._asdict(), *ASKED], "Other.") == (first, *CHAT)
    assert set(ROLES.values()) == {"system", "user", "assistant", "tool"}


@pytest.mark.parametrize(
    ("value", "seen", "remedy"),
    [
        ([], "without turns", "Drop the row"),
        ("1+1?", "'1+1?' (str)", "such a list"),
        (None, "(NoneType)", "such a list"),
        (ASKED[0], "(dict)", "such a list"),
        ([*ASKED, ASKED[0]], "whose last turn is the user's", "Drop the turns behind"),
        ([ASKED[1]], "nobody asks", "Drop the row"),
        ([3, *ASKED], "turn 1 is 3 (int)", "as an object"),
        ([{"role": "narrator", "content": "x"}, *ASKED], "turn 1 has the role 'narrator'", "Rename the role"),
        ([{"content": "x"}, *ASKED], "turn 1 has the role None", "Rename the role"),
        (
            [ASKED[0], {"role": "assistant", "content": " "}],
            "turn 2 (the assistant's) has the content ' '",
            "Fill it in",
        ),
        ([{"role": "user", "content": [{"type": "image"}]}, ASKED[1]], "turn 1", "Fill it in"),
    ],
)
def test_what_is_no_chat_is_told_by_its_turn(value: object, seen: str, remedy: str) -> None:
    with pytest.raises(NotAChatError) as caught:
        chat_of(value)
    assert seen in caught.value.parts[0]
    assert remedy in caught.value.parts[2]


def test_texts_and_lists_of_texts_are_no_turns() -> None:
    for value in ("a text", "[{broken", ["a"], [], None, 3):
        assert not is_turns(value)
    with pytest.raises(NotAChatError):
        turns_of("[{broken")
