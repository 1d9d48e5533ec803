"""Heads and lengths at which a polynomial pays, and the command that looks closer."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from helpers.audit_cases import all_trained, save_model
from helpers.models import tiny_model
from promptreach import cli
from promptreach.audit.cost.heads import cost_at_length, head_blocks, norm_reports
from promptreach.audit.cost.work import BARE, ForwardWork
from promptreach.hf import open_model
from promptreach.report.findings import Code


def test_polynomials_are_found_where_scores_are_small_and_pay_where_texts_are_long() -> None:
    context = all_trained("bert")
    quiet = tiny_model("bert")
    with torch.no_grad():
        for layer in quiet.layers:
            for part in (layer.attention.self.query, layer.attention.self.key):
                part.weight.mul_(0.2)
                part.bias.mul_(0.2)
    work = ForwardWork.of(quiet)
    reports = norm_reports(replace(context, model=quiet))
    heads = sum(len(report.joined.rank) for report in reports)
    long = cost_at_length(work, reports, [BARE], 65536)
    loud = norm_reports(context)
    short = cost_at_length(work, loud, [BARE], 8)
    assert (short.polynomial_heads, long.polynomial_heads) == (0, heads)
    assert long.at_best < short.at_best == 1.0
    assert short.attention_share < long.attention_share < 1
    needed = [rank for report in loud for rank in report.joined.rank]
    assert min(rank for rank in needed if rank is not None) > 8


def test_the_command_to_look_closer_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_model("model", "llama")
    context = replace(all_trained("llama"), model=open_model("model", task="causal"))
    reports, work = norm_reports(context), ForwardWork.of(context.model)
    at = {8: cost_at_length(work, reports, [BARE], 8)}
    look = next(block for block in head_blocks(context.model, reports, [BARE], at, 8) if isinstance(block, Code))
    outcome = CliRunner().invoke(cli.app, look.text.split()[1:])
    assert outcome.exit_code == 0, outcome.output
