"""The data as the report shows them: contradictions are listed with their rows."""

from dataclasses import replace
from pathlib import Path

from helpers.audit_cases import finding_of, trained
from promptreach.data import Completions, LabelledTexts
from promptreach.report.findings import Table


def test_contradicting_rows_are_listed_by_their_numbers(tmp_path: Path) -> None:
    context, _ = trained(tmp_path / "model", "bert", "head")
    data = LabelledTexts(("the cat", "a dog", "the cat"), (0, 1, 1), ("x", "y"), rows=(1, 4, 9))
    found = finding_of("data", replace(context, data=data))
    table = next(b for b in found.blocks if isinstance(b, Table) and b.title.startswith("Equal inputs"))
    assert table.rows == [["the cat", "x, y", "1, 9"]]
    assert "no method gets more than 66.7% of the rows right" in found.summary


def test_contradicting_completions_are_told_their_floor(tmp_path: Path) -> None:
    context, _ = trained(tmp_path / "model", "llama", "head")
    found = finding_of("data", replace(context, data=Completions(("the cat", "the cat"), (" sat", " ran"))))
    assert f"or below {found.values['loss_floor']:.3f} nats per token" in found.summary
