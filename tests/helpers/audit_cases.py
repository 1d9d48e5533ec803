"""Reviews in a small language for audits on tiny models, and what the tests of the audit share."""

import random
from pathlib import Path
from typing import Any

from helpers.models import tiny_model
from promptreach.audit.checks import CHECKS
from promptreach.audit.context import AuditContext, prepared
from promptreach.audit.settings import Settings
from promptreach.hf import open_model
from promptreach.report.findings import Finding
from promptreach.tables import read_task
from promptreach.training.search.sweep import sweep
from promptreach.tuning import METHODS, Limits

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


def strip(record: Any) -> Any:
    """A report without its times, which no seed decides."""
    if isinstance(record, dict):
        kept = {key: strip(value) for key, value in record.items() if "seconds" not in key}
        if kept.get("kind") == "table":
            timeless = [index for index, name in enumerate(kept["columns"]) if "seconds" not in name]
            kept["rows"] = [[row[index] for index in timeless] for row in kept["rows"]]
        return kept
    return [strip(item) for item in record] if isinstance(record, list) else record


SETTINGS = Settings("quick", 0, Limits(48, 24, 24, 16), (3,), 2, 6, 8, 4)


def trained(folder: Path, family: str, method: str, **options: Any) -> tuple[AuditContext, str]:
    """A context with one trained method, on a model that lies in `folder` and opens from there."""
    made = tiny_model(family)
    made.model.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    context = prepared(open_model(folder, **options), read_task(rows()), SETTINGS)
    tokens = 3 if METHODS[method].uses_tokens else 0
    config = context.config(method, tokens=tokens, rank=2 * (method == "lora"), init=METHODS[method].inits[0])
    context.sweeps[config.label] = sweep(context.executor_of(context.task), config, rates=[0.05])
    return context, config.label


def finding_of(name: str, context: AuditContext) -> Finding:
    """The finding of the check of that name."""
    return next(check for check in CHECKS if check.name == name).run(context)
