"""The rows that a report shows as they were answered: of labels, and of completions that are judged by their loss."""

from dataclasses import replace
from pathlib import Path

from helpers.audit_cases import SETTINGS, finding_of, trained
from helpers.models import tiny_model
from helpers.tasks import completions
from promptreach.audit.checks import answers
from promptreach.audit.context import prepared
from promptreach.diagnosis.measures.baselines import train_control
from promptreach.diagnosis.measures.comparison import held_out
from promptreach.training.task.limits import drawn_rows


def test_labels_are_shown_by_name_as_they_were_scored(tmp_path: Path) -> None:
    context, name = trained(tmp_path / "model", "gpt2", "prompt")
    train_control(context)
    found = finding_of("answers", context)
    rows = drawn_rows(len(context.task.held_out), answers.SHOWN, context.seed)
    assert found.reason == ""
    given = held_out(context.runs[name]).given
    assert given is not None
    for shown, row in zip(found.values["rows"], rows, strict=True):
        assert shown["input"] == context.task.held_out.inputs[row]
        assert shown["expected"] == context.task.held_out.answers[row]
        assert shown["answers"][name] == context.data.label_names[int(given[row])]  # type: ignore[union-attr]
    assert list(found.values["rows"][0]["answers"]) == ["head alone", name]


def test_completions_are_written_for_the_table_and_long_texts_lose_their_middle() -> None:
    data = completions()
    long = replace(data, prompts=tuple(f"{prompt} {'a ' * 200}the" for prompt in data.prompts))
    context = prepared(tiny_model("llama"), long, SETTINGS)
    train_control(context)
    found = finding_of("answers", context)
    assert found.reason == ""
    table = found.blocks[0]
    assert all(len(row[0]) < 260 and " … " in row[0] and row[0].endswith("the") for row in table.rows)  # type: ignore[union-attr]
    assert all(isinstance(row["answers"]["bare model"], str) for row in found.values["rows"])
