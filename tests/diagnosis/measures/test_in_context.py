"""The bare model with words in front of the rows: which rows it answers, and what is refused."""

from dataclasses import replace

import pytest

from helpers.audit_cases import SETTINGS, rows
from helpers.models import tiny_model
from helpers.tasks import completions
from promptreach.audit.context import prepared
from promptreach.diagnosis.measures.in_context import asked, in_context_faults, start_faults, start_text
from promptreach.tables import read_task


def test_the_rows_judged_are_asked_and_the_examples_are_training_rows() -> None:
    context = prepared(tiny_model("llama"), completions(), replace(SETTINGS, instruction="it is", shots=3))
    ways = asked(context)
    assert list(ways) == [
        "bare model, instruction",
        "bare model, 3 examples",
        "bare model, instruction and 3 examples",
    ]
    judged = context.task.held_out
    for data in ways.values():
        assert data.completions == judged.answers
        assert all(asked_for.endswith(prompt) for asked_for, prompt in zip(data.prompts, judged.inputs, strict=True))
    shown = ways["bare model, 3 examples"].prompts[0].split("\n\n")[:-1]
    pairs = {
        f"{prompt} {answer}"
        for prompt, answer in zip(context.task.train.inputs, context.task.train.answers, strict=True)
    }
    assert set(shown) <= pairs
    assert start_text(context, "instruction") == "it is"
    assert start_text(context, "examples").split("\n\n") == shown
    assert start_text(context, "a text") == "a text"


def test_labels_are_asked_for_by_their_own_words() -> None:
    context = prepared(tiny_model("llama"), read_task(rows(60)), replace(SETTINGS, shots=4))
    (data,) = asked(context).values()
    assert data.options[0] == (" fresh", " rotten")
    assert [text.strip() for text in data.completions] == list(context.task.held_out.answers)
    shown = data.prompts[0].split("\n\n")[:-1]
    assert sum(text.endswith(" fresh") for text in shown) == 2


@pytest.mark.parametrize(
    ("text", "words"), [("", "an empty text"), ("examples", "none are given"), ("instruction", "none are given")]
)
def test_a_start_that_nothing_gives_is_named(text: str, words: str) -> None:
    (fault,) = start_faults(text, None, None)
    assert words in str(fault)
    assert start_faults("examples", None, 2) == []


def test_an_encoder_and_rows_of_one_label_cannot_be_asked() -> None:
    data = read_task(rows(40))
    (fault,) = in_context_faults(tiny_model("bert"), data, "x", None)
    assert "a model that writes" in str(fault)
    assert in_context_faults(tiny_model("bert"), data, None, None) == []
    assert in_context_faults(tiny_model("llama"), data, "x", 2) == []
