"""The limits check and ``promptreach limits``: what the oracle says of real captures, and what is missing where."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from helpers.audit_cases import finding_of, rows
from helpers.models import tiny_model, tiny_module, tiny_tokenizer
from promptreach import cli
from promptreach.audit.checks import limits
from promptreach.audit.context import AuditContext, prepared
from promptreach.audit.settings import BUDGETS
from promptreach.certificate import Evidence, Recheck
from promptreach.hf import attach, capture, open_model
from promptreach.limits import memorisable_statistics
from promptreach.report.findings import Curve, Table
from promptreach.tables import read_task
from promptreach.training.search.sweep import sweep
from promptreach.tuning import Limits


def context_for(family: str, tokenizer: Any = None, **options: Any) -> AuditContext:
    """A context with a trained LoRA update."""
    model = open_model(tiny_module(family), tokenizer=tokenizer or tiny_tokenizer(family), **options)
    small = replace(BUDGETS["quick"], limits=Limits(48, 24, 24, 16), tokens=(2, 4), steps=6, batch_size=8, probe_rows=6)
    context = prepared(model, read_task(rows()), small)
    config = context.config("lora", rank=2, init="zero")
    context.sweeps[config.label] = sweep(context.executor_of(context.task), config, rates=[0.05])
    return context


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_floors_at_cls_are_between_nothing_and_no_prompt_at_all(family: str) -> None:
    """Having no prompt is the limit of prompts with ever less mass, so no floor lies above LoRA's whole change."""
    found = limits.head_floors(context_for(family))
    assert len(found) == 4
    for memorisation, change, share in found:
        assert 0 <= memorisation.floor.value <= change
        assert memorisation.floor.value <= memorisation.upper.value
        # A head that the best update leaves alone sets no target.
        assert 0 <= share <= 1 if change > 0 else math.isnan(share)


def test_an_untrained_update_leaves_nothing_to_imitate() -> None:
    context = context_for("bert")
    config = context.sweeps["lora rank 2"].best.config
    context.sweeps["lora rank 2"] = sweep(context.executor_of(context.task), replace(config, steps=0), rates=[0.05])
    finding = finding_of("limits", context)
    assert "left the first layer's heads as they were" in finding.summary


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_causal_models_are_told_which_hypothesis_fails(family: str) -> None:
    finding = finding_of("limits", context_for(family))
    assert "no two examples share a query" in finding.values["oracle_missing"]
    assert finding.values["lipschitz_layers"] == 2


def test_the_command_prints_a_table_or_json(tmp_path: Path) -> None:
    made = tiny_model("bert")
    made.model.save_pretrained(tmp_path)
    made.tokenizer.save_pretrained(tmp_path)
    plain = CliRunner().invoke(cli.app, ["limits", str(tmp_path), "--tokens", "8"])
    assert plain.exit_code == 3
    assert "Lipschitz constants" in plain.stdout
    record = json.loads(CliRunner().invoke(cli.app, ["limits", str(tmp_path), "--tokens", "8", "--json"]).stdout)
    assert record["values"]["layers"] == 2
    assert CliRunner().invoke(cli.app, ["limits", str(tmp_path / "none")]).exit_code == 2


def test_a_decoder_without_its_head_is_a_decoder() -> None:
    """Opened as an encoder of texts, it still has no query that its examples share."""
    context = context_for("gpt2", task="encoder")
    assert context.model.task == "encoder"
    first = capture(context.model, context.probe_batch, layers=[0])[0].query[:, :, 0]
    assert not torch.allclose(first, first[:1].expand_as(first))
    assert "no two examples share a query" in finding_of("limits", context).values["oracle_missing"]


def test_an_encoder_whose_rows_start_with_different_tokens_has_no_shared_query() -> None:
    """A tokenizer that puts no [CLS] in front."""
    context = context_for("bert", tokenizer=tiny_tokenizer("llama"))
    finding = finding_of("limits", context)
    assert "different tokens" in finding.values["oracle_missing"]
    assert "oracle_impossible" not in finding.values


def test_every_floor_and_every_bound_reaches_the_finding() -> None:
    finding = finding_of("limits", context_for("bert"))
    assert finding.status == "done"
    floors = [item for item in finding.certificates if item.theorem == "one-query-dual-bound"]
    assert [item.claim.partition(":")[0] for item in floors] == [
        f"First layer, head {head}, against what LoRA does there" for head in range(4)
    ]
    proved = [item for item in finding.certificates if item.evidence is Evidence.PROVED]
    assert {item.recheck_state for item in proved} == {Recheck.HELD}
    table = next(block for block in finding.blocks if isinstance(block, Table) and block.columns[0] == "head")
    assert [row[2] for row in table.rows] == [item.value for item in floors]
    assert finding.values["lipschitz_attention_upper"] == [
        item.value for item in finding.certificates if "attention branch differ" in item.claim
    ]


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_floors_by_number_of_slots_hold_where_queries_differ(family: str) -> None:
    """In a decoder too; no prefix that is put in front of the captured keys comes closer to what LoRA does."""
    context = context_for(family)
    curves = limits.floor_curves(context)
    assert (curves.missing, len(curves.heads), curves.examples) == ("", 4, 6)
    batch, lora = context.probe_batch, context.best("lora")
    place = batch.mask.sum(1) - 1 if family == "llama" else torch.ones(6, dtype=torch.long)
    bare = capture(context.model, batch, layers=[0])[0]
    with attach(context.model, lora.adapter) as joined:
        target = capture(context.model, batch, joined, layers=[0])[0].output[range(6), :, place]
    assert (bare.query[range(6), :, place] - bare.query[0, :, place[0]]).abs().max() > 0.01
    draw, groups = torch.Generator().manual_seed(0), bare.query.shape[1] // bare.key.shape[1]
    for curve in curves.heads:
        values = [floor.value for _, floor in curve.floors]
        assert [slots for slots, _ in curve.floors] == [1, 2, 4, 5]
        assert 0 < values[0] <= curve.change
        assert values == sorted(values, reverse=True)
        query = bare.query[range(6), curve.head, place].double()
        key, value = (part[:, curve.head // groups].double() for part in (bare.key, bare.value))
        seen = bare.mask[range(6), 0, place]
        for slots, floor in curve.floors:
            assert floor.recheck()
            for size in (0.1, 1.0, 10.0):
                added = size * torch.randn(slots, key.shape[2], generator=draw, dtype=torch.float64)
                scores = (query[:, None] @ torch.cat([key, added.expand(6, -1, -1)], 1).mT * bare.scale)[:, 0]
                shares = scores.masked_fill(~torch.cat([seen, seen.new_ones(6, slots)], 1), -torch.inf).softmax(1)
                rest = target[:, curve.head] - (shares[:, None, :-slots] @ value)[:, 0]
                best = torch.linalg.lstsq(shares[:, -slots:], rest).solution
                assert float((shares[:, -slots:] @ best - rest).square().mean().sqrt()) >= floor.value


def test_the_curve_of_floors_is_in_the_finding() -> None:
    finding = finding_of("limits", context_for("bert"))
    floors = [item for item in finding.certificates if item.theorem == "token-floor"]
    assert len(floors) == 16
    assert {item.recheck_state for item in floors} == {Recheck.HELD}
    curve = next(block for block in finding.blocks if isinstance(block, Curve))
    table = next(block for block in finding.blocks if isinstance(block, Table) and "number of slots" in block.title)
    assert [value for row in table.rows for value in row[2:]] == [item.value for item in floors]
    assert finding.values["floor_curve_slots"] == curve.series[0].x == [1, 2, 4, 5]
    assert "one slot leaves at least" in finding.summary


def test_no_curve_is_drawn_where_nothing_sets_targets_or_attention_is_more_than_a_softmax(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def capped(*args: Any, **options: Any) -> list[Any]:
        return [replace(layer, softcap=30.0) for layer in capture(*args, **options)]

    context = context_for("llama")
    monkeypatch.setattr("promptreach.audit.checks._floor_curve.capture", capped)
    assert "a soft-cap on the scores" in limits.floor_curves(context).missing
    del context.sweeps["lora rank 2"]
    finding = finding_of("limits", context)
    assert finding.values["floor_curve_shares"] == {}
    assert "no LoRA update was trained" in finding.values["floor_curve_missing"]


def test_a_floor_that_does_not_hold_fails_the_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_high(*args: Any, **options: Any) -> Any:
        found = memorisable_statistics(*args, **options)
        return replace(found, floor=replace(found.floor, value=1.1 * found.floor.value + 1.0))

    monkeypatch.setattr(limits, "memorisable_statistics", too_high)
    finding = finding_of("limits", context_for("bert"))
    assert finding.status == "failed"
    assert "First layer, head 0" in finding.reason
    assert finding.blocks == []
