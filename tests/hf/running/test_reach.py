"""What the doctor tells of one model."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers.families import small_module
from helpers.models import tiny_model, tiny_tokenizer
from promptreach.cli import app
from promptreach.hf import OpenModel
from promptreach.hf.running.reach import reach_of_model


def told(model: OpenModel) -> dict[str, tuple[bool, str]]:
    return {way.name: (way.works, way.detail) for way in reach_of_model(model).ways}


def test_a_decoder_that_is_understood_can_all() -> None:
    assert all(works for works, _ in told(tiny_model("llama")).values())


@pytest.mark.parametrize(
    ("family", "missing"),
    [
        ("distilbert", {"UniPELT": "not known", "precompute": "depend on the input", "limits": "not known"}),
        ("deberta", {"prefix": "takes no keys", "captures": "nobody can look on"}),
        ("mamba", {"prefix": "keeps no keys and values", "captures": "nobody can look on"}),
        ("gpt_oss", {"limits": "not known"}),
    ],
)
def test_what_is_missing_has_its_reason(family: str, missing: dict[str, str]) -> None:
    found = told(OpenModel(small_module(family), name=family))
    for name, reason in missing.items():
        works, detail = found[name]
        assert not works
        assert reason in detail
    assert found["prompt"][0]
    assert found["LoRA"][0]
    if family == "gpt_oss":
        assert "sinks" in found["captures"][1]


def test_the_command_tells_it_of_a_folder(tmp_path: Path) -> None:
    small_module("smollm3", pad_token_id=0).save_pretrained(tmp_path)
    tiny_tokenizer("llama").save_pretrained(tmp_path)
    done = CliRunner().invoke(app, ["doctor", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    assert '"family": "smollm3"' in done.output
