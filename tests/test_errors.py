"""Errors: every fault is named at once, as a sentence, and survives the way between processes."""

import pickle

import pytest

from promptreach import errors
from promptreach.errors import (
    MANY,
    DataError,
    Fault,
    InputError,
    NotContractingError,
    PromptreachError,
    UnsupportedModelError,
    WorkerLostError,
    WorkerMismatchError,
    raise_if_any,
)


def test_a_fault_reads_as_a_sentence_with_the_remedy_last():
    fault = Fault("a.csv, row 17", "no label", "one of 'good', 'bad'", "Remove the row")
    assert str(fault) == "a.csv, row 17: no label; expected one of 'good', 'bad'. Remove the row"
    assert str(Fault("x", "1", "2")) == "x: 1; expected 2"


def test_all_faults_come_at_once():
    faults = [Fault("a", "1", "2"), Fault("b", "3", "4")]
    with pytest.raises(DataError, match="a: 1; expected 2\nb: 3; expected 4") as caught:
        raise_if_any(faults, DataError)
    assert caught.value.faults == tuple(faults)
    assert isinstance(caught.value, ValueError)
    raise_if_any([])
    with pytest.raises(ValueError, match="at least one fault"):
        InputError([])


@pytest.mark.parametrize(
    "error",
    [
        DataError([Fault("a", "1", "2"), Fault("b", "3", "4", "Mend it.")]),
        UnsupportedModelError("mamba", ["bert", "llama"], "It has no attention"),
        WorkerLostError(["prompt 8"], "signal 9"),
        WorkerMismatchError("node 3", ["torch 1 instead of 2"]),
        NotContractingError("no inverse", ["layer 0 has norms"]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_crosses_processes_with_all_it_says(error: PromptreachError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))


def test_every_error_is_caught_as_one_of_the_library_and_wrong_input_as_a_value_error() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert all(issubclass(kind, PromptreachError) for kind in kinds)
    assert all(issubclass(kind, ValueError) for kind in kinds if issubclass(kind, InputError))


def test_unsupported_models_say_what_would_have_worked():
    error = UnsupportedModelError("mamba", ["bert", "llama"], "It has no attention")
    assert str(error) == "unsupported model: found mamba; supported are bert, llama. It has no attention"


def test_many_equal_faults_are_one_line_with_their_count() -> None:
    def faults(count: int) -> list[Fault]:
        return [Fault(f"a.csv, row {row}", "no label", "one", "Remove it") for row in range(1, count + 1)]

    assert len(str(InputError(faults(MANY - 1))).splitlines()) == MANY - 1
    error = InputError([*faults(1200), Fault("a.csv, row 7", "no text", "one")])
    first, second = str(error).splitlines()
    assert first == "a.csv, row 1, and 1,199 more places up to a.csv, row 1200: no label; expected one. Remove it"
    assert second == "a.csv, row 7: no text; expected one"
    assert len(error.faults) == 1201


@pytest.mark.parametrize(
    ("remedy", "said"),
    [
        ("leave it out", "expected y. Leave it out"),
        ("Leave it out.", "expected y. Leave it out."),
        ("base_model.x is what PEFT wrote", "expected y. base_model.x is what PEFT wrote"),
        ('pip install "gguf"', 'expected y. pip install "gguf"'),
        ("unset", "expected y. Unset"),
        ("", "expected y"),
    ],
)
def test_a_remedy_begins_as_a_sentence_unless_it_is_to_be_typed(remedy: str, said: str) -> None:
    assert str(Fault("a", "x", "y", remedy)).endswith(said)
