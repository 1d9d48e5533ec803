"""``promptreach audit``: can a soft prompt do this task on this model, and if not, what can?"""

import os
import shlex
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from promptreach.cli._command import MOST_SEED, exit_status, within
from promptreach.preflight import look
from promptreach.terminal import printable, say, write_json

_COLUMNS = "Columns of DATA, where their names do not tell"
_MODEL = "How to open MODEL"


class _Budget(StrEnum):
    quick = "quick"
    standard = "standard"
    thorough = "thorough"


class _Engine(StrEnum):
    local = "local"
    ray = "ray"


class _Task(StrEnum):
    encoder = "encoder"
    causal = "causal"
    seq2seq = "seq2seq"


class _Dtype(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    float64 = "float64"


def audit(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Hub id, folder, or GGUF file.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="JSONL, CSV, TSV or Parquet file, or a hub id.")],
    text_col: Annotated[str | None, typer.Option(rich_help_panel=_COLUMNS, help="The text to classify.")] = None,
    label_col: Annotated[str | None, typer.Option(rich_help_panel=_COLUMNS, help="Its label.")] = None,
    prompt_col: Annotated[str | None, typer.Option(rich_help_panel=_COLUMNS, help="The prompt.")] = None,
    completion_col: Annotated[str | None, typer.Option(rich_help_panel=_COLUMNS, help="Its completion.")] = None,
    adapter: Annotated[Path | None, typer.Option(help="A PEFT folder to audit as well.")] = None,
    budget: Annotated[
        _Budget, typer.Option(metavar="BUDGET", help=f"Training: {', '.join(_Budget)}.")
    ] = _Budget.standard,
    out: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("promptreach-report"),
    engine: Annotated[_Engine, typer.Option(help="Where training runs go.")] = _Engine.local,
    workers: Annotated[int | None, typer.Option(help="Runs to train at the same time.")] = None,
    ray_address: Annotated[str | None, typer.Option(help="Of a Ray cluster, as in ray.init.")] = None,
    seed: Annotated[int, typer.Option(callback=within(0, MOST_SEED), help="The same seed gives the same report.")] = 0,
    seeds: Annotated[int, typer.Option(help="2 or more: how much of a score is a seed's luck.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a stopped audit in OUT.")] = False,
    task: Annotated[_Task | None, typer.Option(rich_help_panel=_MODEL, help="Instead of what its config says.")] = None,
    revision: Annotated[str | None, typer.Option(rich_help_panel=_MODEL, help="Of a hub id.")] = None,
    dtype: Annotated[_Dtype, typer.Option(rich_help_panel=_MODEL, help="Of its weights.")] = _Dtype.float32,
    device: Annotated[str, typer.Option(rich_help_panel=_MODEL, help="Where it goes.")] = "cpu",
    device_map: Annotated[
        str | None, typer.Option(rich_help_panel=_MODEL, help="Spread it, as in transformers.")
    ] = None,
    num_layers: Annotated[
        int | None, typer.Option(rich_help_panel=_MODEL, help="Only the first N layers: a quick look.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    exit_zero: Annotated[bool, typer.Option("--exit-zero", help="End with 0 whatever the verdict.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Can a soft prompt do this task on this model, and if not, what can?

    Exit status: 0 what was trained fits; 1 it does not; 3 undecided; 2 the call or its input is wrong.
    """
    given = {"text_col": text_col, "label_col": label_col, "prompt_col": prompt_col, "completion_col": completion_col}
    with exit_status():
        look(
            model,
            data=data,
            columns=given,
            adapter=adapter,
            out=out,
            resume=resume,
            task=task.value if task else None,
            device="cpu" if device_map else device,
            num_layers=num_layers,
            revision=revision,
        )

    import torch

    from promptreach.audit import audit as run_audit
    from promptreach.audit.run import nothing_to_resume
    from promptreach.errors import raise_if_any
    from promptreach.report.json import render_json
    from promptreach.report.text import print_summary

    opening = {
        "task": task.value if task else None,
        "revision": revision,
        "dtype": None if dtype is _Dtype.float32 else dtype.value,
        "device": None if device == "cpu" else device,
        "device_map": device_map,
        "num_layers": num_layers,
    }
    elsewhere = None if engine is _Engine.local else engine.value
    shown: dict[str, object] = {**given, "adapter": adapter, "engine": elsewhere, "workers": workers}
    shown |= {"ray_address": ray_address, **opening, "budget": budget.value, "seed": seed}
    shown |= {"seeds": None if seeds == 1 else seeds, "out": f"{out}-again"}
    with exit_status(f"Finished runs are kept: add --resume to continue in {out}."):
        raise_if_any(nothing_to_resume(out) if resume else [])
        result = run_audit(
            model,
            data,
            **given,
            adapter=adapter,
            budget=budget.value,
            out=out,
            engine=engine.value,
            workers=workers,
            ray_address=ray_address,
            seed=seed,
            seeds=seeds,
            resume=resume,
            quiet=quiet or json,
            again=_command(model, data, shown),
            **{**opening, "dtype": getattr(torch, dtype.value), "device": device},
        )
    if json:
        write_json(render_json(result))
    else:
        print_summary(result)
        say(f"\nFull report: {out / 'report.html'}")
    raise SystemExit(0 if exit_zero else result.exit_status)


def _command(model: str, data: str, options: Mapping[str, object]) -> str:
    """The command line that does this audit again; what is None is left to its default."""
    call = ["promptreach", "audit", model, data]
    for name, value in options.items():
        call += [f"--{name.replace('_', '-')}", str(value)] if value is not None else []
    return " ".join(map(_quoted, call))


def _quoted(part: str) -> str:
    """One argument as a shell reads it, in letters that a terminal shows; odd bytes as bash writes them."""
    if part == printable(part):
        return shlex.quote(part)
    plain = (
        chr(byte) if 32 <= byte < 127 and chr(byte) not in "'\\" else f"\\{byte:03o}" for byte in os.fsencode(part)
    )
    return f"$'{''.join(plain)}'"
