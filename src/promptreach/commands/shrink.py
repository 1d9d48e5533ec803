"""A shorter prefix for an adapter in a folder, and as a finding: what it costs in loss, how far each head is off."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from promptreach.certificate import Certificate, Evidence
from promptreach.evidence import Side
from promptreach.files import atomic_folder
from promptreach.hf import Shortened, open_model, precompute, save_adapter, shorten
from promptreach.hf.adapters.inspection import base_of_folder
from promptreach.hf.adapters.places import CONFIG
from promptreach.hf.running.calibration import pieces_of, read_texts, written_by
from promptreach.progress import Progress
from promptreach.report.certificates import finished, settled
from promptreach.report.findings import Cell, Finding, Table, Text


def shorten_adapter(
    adapter: Path,
    tokens: int,
    *,
    model: str | None,
    texts: Sequence[Path],
    out: Path | None,
    budgets: str,
    steps: int,
    seed: int,
    revision: str | None,
    progress: Progress,
) -> tuple[Finding, Path]:
    """What it costs to bring a prompt or prefix down to `tokens` slots, and the PEFT folder that holds the result.

    Args:
        adapter: a PEFT folder with a prompt or a prefix.
        model: None for the one that the adapter names, if that is on this machine.
        texts: files to fit on, the last quarter kept aside to measure on; none lets the model write its own.
        out: where the result goes; None is beside `adapter`.
        budgets, steps: as in `promptreach.hf.shorten`.
        seed, revision, progress: as everywhere.

    Raises:
        InputError, AdapterError, UnsupportedModelError, OutputError: for what cannot be read, fitted or written.
    """
    read = read_texts(texts)
    base, revision = base_of_folder(adapter, model, revision)
    named = adapter if adapter.name.strip(".") else adapter.resolve()  # "." has no name to go by
    target = out or named.parent / f"{named.name}-{tokens}"
    # Around the work, so that a folder that cannot be written or replaced is refused before it.
    with atomic_folder(target, replace=(target / CONFIG).is_file()) as folder:
        opened = open_model(base, revision=revision)
        cache = precompute(opened, adapter)
        room = opened.max_positions - cache.length
        pieces = pieces_of(opened, read, room) if read else written_by(cache, room, seed)
        kept = max(1, len(pieces) // 4)
        with progress.task("fitting", total=opened.num_layers) as step:
            short = shorten(
                opened,
                cache.prefix,
                tokens,
                pieces[:-kept],
                pieces[-kept:],
                budgets=budgets,
                steps=steps,
                generator=torch.Generator().manual_seed(seed),
                progress=lambda done, total: step(),
            )
        save_adapter(folder, opened, short.prefix)
    return shrink_finding(short, cache.length), target


def shrink_finding(short: Shortened, length: int) -> Finding:
    """What `promptreach.hf.running.shorten` found, for a prefix that had `length` slots."""
    full, now, bare = (part.value for part in (short.loss, short.shortened_loss, short.bare_loss))
    relative, worth = now / full - 1, bare - full
    summary = (
        f"{length} slots became {short.prefix.length}. On held-out text the loss goes from {full:.4f} to {now:.4f} "
        f"nats a token ({100 * relative:+.2f} %); without any prefix it is {bare:.4f}."
    )
    values: dict[str, Any] = {
        "slots": short.prefix.length,
        "full_slots": length,
        "loss": full,
        "shortened_loss": now,
        "bare_loss": bare,
        "relative_loss": relative,
        "kept_of_the_gain": 1 - (now - full) / worth if worth > 0 else None,
        "largest_error": short.shrunk.certificate.value,
        "budgets": short.shrunk.budgets.tolist(),
        "errors": short.shrunk.errors.tolist(),
        "least_slots": _least(short),
    }
    finding = Finding(
        check="shrink",
        title="A shorter prefix",
        evidence=Evidence.MEASURED,
        sample=f"{short.loss.sample}; errors on {short.shrunk.certificate.sample}",
        summary=summary,
        values=values,
        blocks=[_table(short), Text(text=_meaning(worth))],
        certificates=[short.loss, short.shortened_loss, short.bare_loss, short.shrunk.certificate, *_counted(short)],
    )
    return finished(finding)


def _table(short: Shortened) -> Table:
    rows: list[list[Cell]] = []
    for layer, least in enumerate(_least(short)):
        errors, budgets = short.shrunk.errors[layer], short.shrunk.budgets[layer]
        used = float(budgets.float().mean())
        rows.append([layer, used, sum(least) / len(least), float(errors.median()), float(errors.max())])
    return Table(
        title="Error of each layer's attention outputs",
        columns=["layer", "slots a head", "at least needed", "median error", "largest error"],
        rows=rows,
        note="Relative to how much the output varies over queries (Frobenius norms), on queries that no fit saw. "
        "MEASURED; it says nothing of other text. At least needed: the slots a head without which no prefix comes as "
        "near on 16 of these queries, PROVED; between that and what was used the truth is open.",
        sides={"at least needed": Side.LOWER},
    )


def _least(short: Shortened) -> list[list[float]]:
    """The slots at least needed, layer by layer and head by head."""
    heads = short.shrunk.budgets.shape[1]
    values = [item.value for item in short.shrunk.least]
    return [values[start : start + heads] for start in range(0, len(values), heads)]


def _counted(short: Shortened) -> list[Certificate]:
    """The certificates of these counts, re-checked; witnesses of all heads would outweigh the rest of the finding."""
    heads = short.shrunk.budgets.shape[1]
    return [
        settled(
            item.about(f"Layer {index // heads}, key/value head {index % heads}, for the error reached there"),
            "a head's outputs at held-out queries, of which there are many; `shrink` gives them",
        )
        for index, item in enumerate(short.shrunk.least)
    ]


def _meaning(worth: float) -> str:
    if worth <= 0 or math.isnan(worth):
        return "The full prefix does not lower the loss of this text, so the loss says little of what was lost."
    return (
        f"The full prefix is worth {worth:.4f} nats a token on this text. A prefix that text is copied out of verbatim "
        "loses more when it is shortened than one that sets topic and manner: measure on text like your own."
    )
