"""Questions with contexts as tokens: where answers begin and end, and what is cut."""

import pytest

from helpers.tasks import model_of
from promptreach.data import ContextSpans
from promptreach.errors import DataError
from promptreach.training.task.contexts import NOWHERE, contexts_as_tokens

DATA = ContextSpans(
    ("is it good", "is it bad"),
    ("the cat sat on the mat", "a dog ran under the tree"),
    (((4, "cat sat"), (8, "sat")), ()),
)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_an_answer_is_found_again_between_its_tokens(family: str) -> None:
    found = contexts_as_tokens(model_of(family), DATA, 32)
    first, last = found.targets[0].tolist()
    assert found.truths[0].text(first, last) == "cat sat"
    assert found.targets[1].tolist() == [NOWHERE, NOWHERE]
    assert found.truths[1].text(NOWHERE, NOWHERE) == ""
    assert (found.truncated, found.cut_answers) == (0, 0)
    # Of tokens of the question none is one of the context.
    assert min(found.truths[0].readable) >= 3


def test_the_context_loses_its_end_and_an_answer_there_is_none() -> None:
    data = ContextSpans(("is it good",) * 2, DATA.contexts, (((4, "cat"),), ((16, "the tree"),)))
    whole = contexts_as_tokens(model_of("bert"), data, 32)
    room = len(whole.sequences[0]) - 3
    found = contexts_as_tokens(model_of("bert"), data, room)
    assert all(len(row) == room for row in found.sequences)
    assert found.targets[0].tolist() == whole.targets[0].tolist()
    assert found.targets[1].tolist() == [NOWHERE, NOWHERE]
    assert (found.truncated, found.cut_answers) == (2, 1)
    assert found.truths[1].answers == ("the tree",), "it is judged by what is right all the same"


def test_a_question_that_leaves_no_room_is_named() -> None:
    data = ContextSpans(("is it good " * 5, "it"), DATA.contexts, (((4, "cat"),), ()), rows=(7, 8))
    with pytest.raises(DataError, match="row 7, question"):
        contexts_as_tokens(model_of("bert"), data, 12)
