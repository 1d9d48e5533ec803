"""The context of an audit: its rows to look at, and what it takes from the settings."""

from dataclasses import replace

import torch

from helpers.audit_cases import SETTINGS, rows
from helpers.models import tiny_model
from promptreach.audit.context import prepared
from promptreach.prompt import SoftPrompt
from promptreach.tables import read_task


def test_the_rows_to_look_at_are_held_out_and_drawn_with_the_seed() -> None:
    model, data = tiny_model("bert"), read_task(rows())
    first, again, other = (prepared(model, data, replace(SETTINGS, seed=seed)) for seed in (0, 0, 1))
    batch = first.probe_batch
    assert len(batch.mask) == SETTINGS.probe_rows
    read = [tuple(ids[mask.bool()].tolist()) for ids, mask in zip(batch.input_ids, batch.mask, strict=True)]
    assert set(read) <= set(first.task.encoded["held_out"].sequences)
    assert torch.equal(batch.input_ids, again.probe_batch.input_ids)
    assert not torch.equal(batch.input_ids, other.probe_batch.input_ids)
    assert first.probe_batch is batch


def test_the_users_longer_prompt_takes_its_room_from_the_content() -> None:
    model, data = tiny_model("bert", max_position_embeddings=24), read_task(rows())
    bare = prepared(model, data, SETTINGS)
    own = prepared(model, data, SETTINGS, user_adapter=SoftPrompt(torch.ones(12, model.hidden_size)))
    assert (bare.content_length, own.content_length) == (16, 12)
    assert max(map(len, own.task.encoded["train"].sequences)) == 12


def test_an_audit_may_leave_out_lengths_that_cannot_help_and_keeps_no_runs_by_itself() -> None:
    context = prepared(tiny_model("bert"), read_task(rows()), SETTINGS)
    assert not context.every_run
    assert (context.tokens, context.rank, context.steps) == (SETTINGS.tokens, SETTINGS.rank, SETTINGS.steps)
    assert context.sweeps == {}
