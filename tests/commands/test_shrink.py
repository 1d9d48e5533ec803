"""A shorter prefix as a finding: the losses of its certificates, the errors of its heads, and the words that fit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers.command_line import saved_model, saved_prompt, saved_text
from helpers.models import tiny_model
from promptreach.certificate import Recheck
from promptreach.commands.shrink import shorten_adapter, shrink_finding
from promptreach.hf import Shortened, load_adapter, open_model, shorten
from promptreach.progress import Progress
from promptreach.prompt import Prefix
from promptreach.report.findings import Table, Text


@pytest.fixture(scope="module")
def short() -> Shortened:
    model, generator = tiny_model("llama"), torch.Generator().manual_seed(0)
    shape = (model.num_layers, model.num_kv_heads, 6, model.head_dim)
    prefix = Prefix(*(torch.randn(shape, generator=generator) for _ in range(2)))
    return shorten(model, prefix, 2, [list(range(4, 16)), list(range(8, 20))], [[5, 4, 7]], steps=2)


def words(short: Shortened) -> str:
    return " ".join(block.text for block in shrink_finding(short, 6).blocks if isinstance(block, Text))


def test_the_finding_holds_the_certificates_numbers(short: Shortened) -> None:
    finding = shrink_finding(short, 6)
    assert finding.status == "done"
    values = finding.values
    assert (values["full_slots"], values["slots"]) == (6, 2)
    assert values["loss"] == short.loss.value
    assert values["relative_loss"] == pytest.approx(short.shortened_loss.value / short.loss.value - 1)
    assert values["largest_error"] == short.shrunk.certificate.value == max(map(max, values["errors"]))
    table = next(block for block in finding.blocks if isinstance(block, Table))
    assert [row[4] for row in table.rows] == [max(row) for row in values["errors"]]
    least = finding.certificates[4:]
    assert {item.recheck_state for item in least} == {Recheck.HELD}
    assert [item.value for item in least] == [count for heads in values["least_slots"] for count in heads]
    assert [row[2] for row in table.rows] == [sum(heads) / len(heads) for heads in values["least_slots"]]


def test_what_a_prefix_is_worth_decides_what_is_said_of_a_loss(short: Shortened) -> None:
    worthless = replace(short, bare_loss=replace(short.bare_loss, value=short.loss.value))
    worthy = replace(short, bare_loss=replace(short.bare_loss, value=short.loss.value + 0.5))
    assert "does not lower the loss" in words(worthless)
    assert "worth 0.5000 nats" in words(worthy)
    assert shrink_finding(worthless, 6).values["kept_of_the_gain"] is None
    lost = short.shortened_loss.value - short.loss.value
    assert shrink_finding(worthy, 6).values["kept_of_the_gain"] == pytest.approx(1 - lost / 0.5)


def test_the_folder_that_comes_back_holds_the_shorter_prefix(tmp_path: Path) -> None:
    saved_prompt(tmp_path / "adapter", saved_model(tmp_path / "model"))
    options = {"model": None, "out": None, "budgets": "equal", "steps": 1, "seed": 0, "revision": None}
    texts = [saved_text(tmp_path / "text.txt", 12)]
    with Progress(quiet=True) as progress:
        finding, folder = shorten_adapter(tmp_path / "adapter", 3, texts=texts, progress=progress, **options)
    assert folder == tmp_path / "adapter-3"
    assert finding.values["full_slots"] == 9
    assert load_adapter(folder, open_model(tmp_path / "model")).length == 3
