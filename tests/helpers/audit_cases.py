"""Reviews in a small language for audits on tiny models, and what the tests of the audit share."""

import random
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from helpers.models import tiny_model
from promptreach.audit.checks import CHECKS
from promptreach.audit.context import AuditContext, prepared
from promptreach.audit.settings import BUDGETS, Settings
from promptreach.hf import open_model
from promptreach.prompt import LowRankUpdate, Prefix, SoftPrompt
from promptreach.report.findings import Finding
from promptreach.tables import read_task
from promptreach.training.search.sweep import Sweep, sweep
from promptreach.tuning import METHODS, Limits, fit

GOOD, BAD = ("good", "great", "very good", "not bad"), ("bad", "awful", "very bad", "not good")
SUBJECTS = ("the cat", "a dog", "the book", "a film", "the tree", "it", "this")


def rows(count: int = 160) -> list[dict[str, str]]:
    draw = random.Random(0)
    found: dict[str, str] = {}
    while len(found) < count:
        label = draw.choice(("fresh", "rotten"))
        words = [draw.choice(GOOD if label == "fresh" else BAD), draw.choice(("and", "but", "or"))]
        text = f"{draw.choice(SUBJECTS)} is {' '.join(words)} {draw.choice(SUBJECTS)} sat on {draw.choice(SUBJECTS)}"
        found.setdefault(text, label)
    return [{"text": text, "label": label} for text, label in found.items()]


ON_TIMES = ("first_look", "estimate")
"""Checks whose findings tell of time and memory."""


def strip(record: Any) -> Any:
    """A report without its times, and what is expected of them, which no seed decides."""
    if isinstance(record, dict):
        kept = {key: strip(value) for key, value in record.items() if "seconds" not in key}
        if kept.get("kind") == "table":
            timeless = [index for index, name in enumerate(kept["columns"]) if "seconds" not in name]
            kept["rows"] = [[row[index] for index in timeless] for row in kept["rows"]]
        return kept
    if not isinstance(record, list):
        return record
    return [strip(item) for item in record if not (isinstance(item, dict) and item.get("check") in ON_TIMES)]


SETTINGS = Settings("quick", 0, Limits(48, 24, 24, 16), (3,), 2, 6, 8, 4)


def save_model(folder: str | Path, family: str) -> None:
    """A tiny model and its tokenizer in a folder that transformers opens."""
    made = tiny_model(family)
    made.release().save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)


def trained(folder: Path, family: str, method: str, **options: Any) -> tuple[AuditContext, str]:
    """A context with one trained method, on a model that lies in `folder` and opens from there."""
    save_model(folder, family)
    context = prepared(open_model(folder, **options), read_task(rows()), SETTINGS)
    tokens = 3 if METHODS[method].uses_tokens else 0
    config = context.config(method, tokens=tokens, rank=2 * (method == "lora"), init=METHODS[method].inits[0])
    context.sweeps[config.label] = sweep(context.executor_of(context.task), config, rates=[0.05])
    return context, config.label


def finding_of(name: str, context: AuditContext) -> Finding:
    """The finding of the check of that name."""
    return next(check for check in CHECKS if check.name == name).run(context)


FAMILIES = ["bert", "gpt2", "llama", "mistral"]
COST_SETTINGS = replace(
    BUDGETS["quick"], limits=Limits(48, 24, 24, 16), tokens=(2, 4), steps=4, batch_size=8, probe_rows=6
)


@lru_cache
def all_trained(family: str) -> AuditContext:
    """A context with everything trained that an audit trains."""
    context = prepared(tiny_model(family), read_task(rows()), COST_SETTINGS)
    for method, tokens in (("prompt", 4), ("prompt", 2), ("prefix", 4), ("lora", 0)):
        run = fit(
            context.model,
            context.data,
            method,
            tokens=max(1, tokens),
            rank=2,
            learning_rate=0.01,
            steps=4,
            batch_size=8,
            limits=COST_SETTINGS.limits,
            quiet=True,
        )
        context.sweeps[run.config.label] = Sweep((), run)
    return context


@lru_cache
def cost_of(family: str) -> Finding:
    return finding_of("inference_cost", all_trained(family))


def random_adapter(family: str, kind: str, length: int = 3) -> SoftPrompt | Prefix | LowRankUpdate:
    model, generator = all_trained(family).model, torch.Generator().manual_seed(5)
    if kind == "prompt":
        return SoftPrompt(torch.randn(length, model.hidden_size, generator=generator))
    if kind == "LoRA":
        run = all_trained(family).best("lora")
        assert run is not None
        assert isinstance(run.adapter, LowRankUpdate)
        return run.adapter
    shape = (model.num_layers, model.num_kv_heads, length, model.head_dim)
    return Prefix(*(torch.randn(shape, generator=generator) for _ in range(2)))
