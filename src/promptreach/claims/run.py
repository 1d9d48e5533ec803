"""The claims in the papers' order, and a run of one: its record, its page, its picture."""

import importlib.metadata
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from promptreach.claims import (
    every_tolerance,
    hardness,
    injective_stacks,
    linear_time,
    parameter_counts,
    phase_transition,
    prompt_lengths,
    prompts_as_updates,
    rivals,
    sampled_reach,
    saturation,
    separation,
    single_layer,
    token_floors,
    universality,
    unmemorisable,
)
from promptreach.claims.claim import SCHEMA_VERSION, Claim, ClaimResult, Setting
from promptreach.errors import Fault, InputError, raise_if_any
from promptreach.files import check_output, remove_partials, write_atomically
from promptreach.formats import read_record
from promptreach.progress import Progress
from promptreach.report.findings import Block, Cell, Curve, Finding, Heatmap, Table, Text
from promptreach.report.html import render_page
from promptreach.report.json import validated
from promptreach.report.picture import picture_svg
from promptreach.report.result import environment

CLAIMS = (
    universality.CLAIM,
    unmemorisable.CLAIM,
    parameter_counts.CLAIM,
    injective_stacks.CLAIM,
    saturation.CLAIM,
    single_layer.CLAIM,
    prompt_lengths.CLAIM,
    phase_transition.CLAIM,
    hardness.CLAIM,
    linear_time.CLAIM,
    rivals.CLAIM,
    token_floors.CLAIM,
    separation.CLAIM,
    every_tolerance.CLAIM,
    prompts_as_updates.CLAIM,
    sampled_reach.CLAIM,
)
"""Every claim, in the papers' order, then those of this project; `promptreach claims` lists them."""


def run_claim(
    key: str, *, full: bool = False, seed: int = 0, folder: str | Path | None = None, quiet: bool = False
) -> ClaimResult:
    """Run one claim's experiment.

    Args:
        key: of the claim, for example ``"A2"``.
        full: the sizes whose results are committed; otherwise sizes that take seconds.
        seed: the same seed gives the same numbers on the same machine, times aside.
        folder: keeps the finished training runs of claims that train: one that was killed goes on from there, and
            `seconds` are then those of the last call. None keeps nothing.
        quiet: no progress bars.

    Raises:
        InputError: for a key that does not exist, or a claim that needs a package which is not installed.
        OutputError: when nothing can be written to `folder`.
    """
    claim = _named(key)
    raise_if_any(_missing_packages([claim]))
    began = time.monotonic()
    with Progress(quiet) as progress:
        outcome = claim.run(Setting(full, seed, None if folder is None else Path(folder), progress)).judged()
    known = vars(claim) | vars(outcome) | {"full": full, "seed": seed, "seconds": time.monotonic() - began}
    known |= {"environment": environment()}
    return ClaimResult.model_validate({name: known[name] for name in ClaimResult.model_fields if name in known})


def run_claims(
    keys: Sequence[str], *, full: bool = False, seed: int = 0, out: Path | None = None, quiet: bool = False
) -> Iterator[ClaimResult]:
    """The results of these claims one after the other, each written into `out` as soon as it is there.

    Everything that can be refused is refused before the first one runs; finished training runs are kept in OUT/runs.

    Args:
        keys, full, seed, quiet: as in `run_claim`.
        out: None writes and keeps nothing.

    Raises:
        InputError: for a key that does not exist, or packages that are not installed.
        OutputError: when nothing can be written to `out`.
    """
    chosen = [_named(key) for key in keys]
    raise_if_any(_missing_packages(chosen))
    if out is not None:
        check_output(out, resume=True)
        remove_partials(out)
    for claim in chosen:
        result = run_claim(claim.key, full=full, seed=seed, folder=None if out is None else out / "runs", quiet=quiet)
        if out is not None:
            write_claim(result, out)
        yield result


def as_finding(result: ClaimResult) -> Finding:
    """The result as every writer of this project shows it."""
    blocks: list[Block] = [Text(text=result.statement), _hypotheses(result), result.figure, *result.blocks]
    return Finding(
        check=result.key,
        title=f"{result.key}: {result.title}",
        evidence=result.evidence,
        sample=f"{'full' if result.full else 'quick'} sizes, seed {result.seed}",
        summary=f"{result.verdict.value}. {result.because}",
        values=result.numbers,
        blocks=blocks,
        seconds=result.seconds,
    )


def as_picture(result: ClaimResult) -> str:
    """The result's figure as SVG."""
    assert isinstance(result.figure, Curve | Heatmap)
    return str(picture_svg(result.figure))


def write_claim(result: ClaimResult, folder: Path) -> Path:
    """Write ID.html, ID.svg and ID.json into `folder`, and return the page's path.

    Raises:
        OutputError: when the folder cannot be written.
    """
    check_output(folder, resume=True)
    write_atomically(folder / f"{result.key}.svg", as_picture(result))
    write_atomically(folder / f"{result.key}.html", _page(result))
    write_atomically(folder / f"{result.key}.json", result.model_dump_json(indent=1) + "\n")
    return folder / f"{result.key}.html"


def read_claim(path: str | Path) -> ClaimResult:
    """The result that `write_claim` left in an ID.json.

    Raises:
        FormatError: for a schema version that this library does not know.
        InputError: when the file cannot be read, is not JSON, or does not follow the schema.
    """
    return validated(ClaimResult, read_record(path, SCHEMA_VERSION), path)


def _hypotheses(result: ClaimResult) -> Table:
    rows: list[list[Cell]] = [[item.status, item.text, item.detail] for item in result.hypotheses]
    return Table(title="What it takes for granted", columns=["", "hypothesis", "how it is known"], rows=rows)


def _page(result: ClaimResult) -> str:
    """A page that works offline."""
    lead = f"{result.verdict.value}: {result.because}"
    return render_page(f"{result.key}: {result.title}", lead, [as_finding(result)], result.environment)


def _named(key: str) -> Claim:
    """The claim called `key`, in either case."""
    by_key: Mapping[str, Claim] = {claim.key: claim for claim in CLAIMS}
    if key.upper() not in by_key:
        raise InputError(Fault("claim", repr(key), f"one of {', '.join(by_key)}"))
    return by_key[key.upper()]


def _missing_packages(claims: Sequence[Claim]) -> list[Fault]:
    """One fault for each claim that needs a package which is not installed."""
    faults = []
    for claim in claims:
        if missing := [name for name in claim.needs if not any(importlib.metadata.distributions(name=name))]:
            remedy = f"pip install --no-deps {' '.join(missing)}"
            faults.append(Fault(f"claim {claim.key}", f"{', '.join(missing)} not installed", "installed", remedy))
    return faults
