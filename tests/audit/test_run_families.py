"""Audits of architectures without a row: every missing cell has its reason, and the verdict is made from the others."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.audit_cases import COST_SETTINGS, rows
from helpers.families import small_module
from helpers.models import tiny_tokenizer
from helpers.quantised import packed_folder
from promptreach.audit import AuditResult, audit
from promptreach.audit.settings import BUDGETS
from promptreach.hf import open_model
from promptreach.report.findings import Table

QUICK = ("deberta", "gpt_oss")
SLOW = (
    *("t5", "gemma", "gemma2", "gemma3_text", "phi", "phi3", "modernbert", "deberta-v2", "distilbert", "qwen2_moe"),
    *("qwen3_moe", "falcon_h1", "nemotron_h", "qwen3_5_text", "squeezebert"),
)
NO_PREFIX = ("deberta", "deberta-v2", "falcon_h1", "nemotron_h", "qwen3_5_text")


def check(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUDGETS, "quick", replace(COST_SETTINGS, tokens=(2,), steps=3))
    model = open_model(small_module(family), tokenizer=tiny_tokenizer())  # T5 reads labels by its encoder
    looked_at(audit(model, rows(120), budget="quick"), family)


def looked_at(result: AuditResult, family: str) -> None:
    """Every cell that is missing says why, and nothing was swallowed."""
    found = {finding.check: finding for finding in result.findings}
    assert not [finding.check for finding in result.findings if finding.status == "failed"]
    assert all(finding.reason for finding in result.findings if finding.status == "skipped")
    text = json.dumps(result.model_dump(mode="json"))
    assert "Traceback" not in text
    assert "Error:" not in text
    assert result.verdict
    if family == "squeezebert":  # no LoRA, nothing to compare with
        assert "no LoRA on this architecture" in result.reasons[0].text
        return
    table = next(block for block in found["training"].blocks if isinstance(block, Table))
    named = {str(row[0]).partition(" ")[0]: row for row in table.rows}
    assert {"prompt", "LoRA", "prefix", "head"} <= named.keys()
    missing = str(named["prefix"][1]).startswith("not on this architecture, because")
    assert missing == (family in NO_PREFIX)
    assert missing == ("No prefix on this architecture" in found["training"].summary)


@pytest.mark.parametrize("family", QUICK)
def test_a_verdict_in_which_every_missing_cell_has_its_reason(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check(family, monkeypatch)


def test_a_quantised_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUDGETS, "quick", replace(COST_SETTINGS, tokens=(2,), steps=3))
    result = audit(packed_folder(tmp_path, "torchao"), rows(120), budget="quick")
    looked_at(result, "llama")
    limits = next(finding for finding in result.findings if finding.check == "limits")
    assert "quantised by torchao" in limits.reason
    assert result.model["dtype"].endswith("quantised by torchao")


@pytest.mark.slow
@pytest.mark.parametrize("family", SLOW)
def test_the_same_on_further_families(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check(family, monkeypatch)
