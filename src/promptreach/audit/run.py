"""One audit from its arguments to its result: read, open, measure, judge, recommend, write."""

import hashlib
import json
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, get_args

import torch

from promptreach.audit.checks import CHECKS, Check
from promptreach.audit.context import AuditContext
from promptreach.audit.judging import judge_findings
from promptreach.audit.recommendation import recommend
from promptreach.audit.result import AuditResult
from promptreach.audit.settings import BudgetName, settings_for
from promptreach.certificate import Evidence
from promptreach.data import TaskData
from promptreach.errors import Fault, InputError, OutputError, PromptreachError, WorkerError, raise_if_any
from promptreach.files import check_output, remove_partials
from promptreach.hf import OpenModel, load_adapter, open_model
from promptreach.hf.adapters.classifier import load_classifier, reading_of
from promptreach.hf.adapters.folders import CONFIG, WEIGHTS
from promptreach.progress import Progress
from promptreach.report.certificates import finished
from promptreach.report.findings import Finding
from promptreach.report.json import read_report
from promptreach.report.result import environment
from promptreach.tables import read_task
from promptreach.training.engines.engines import engine_faults, open_engine
from promptreach.training.runs import RunStore

RUNS_FOLDER = "runs"
Value = TypeVar("Value")


def audit(
    model: Any,
    data: Any,
    *,
    text_col: str | None = None,
    label_col: str | None = None,
    prompt_col: str | None = None,
    completion_col: str | None = None,
    adapter: str | Path | None = None,
    budget: BudgetName = "standard",
    out: str | Path | None = None,
    engine: str = "local",
    workers: int | None = None,
    ray_address: str | None = None,
    seed: int = 0,
    resume: bool = False,
    quiet: bool = True,
    **model_options: Any,
) -> AuditResult:
    """Find out what a soft prompt can do for this model and data, and what to use instead if it cannot.

    Args:
        model: a hub id, a folder, a GGUF file, a transformers model, or what `promptreach.hf.open_model` returned.
        data: a JSONL, CSV, TSV or Parquet file, a list of rows, or a task record.
        text_col, label_col, prompt_col, completion_col: the columns, where their names do not tell.
        adapter: a PEFT folder to audit along with what is trained here.
        budget: ``"quick"``, ``"standard"`` or ``"thorough"``.
        out: where the report goes, with finished training runs beside it so that a killed audit can resume. Without
            it nothing is written, and `AuditResult.write` writes the report later, without an adapter.
        engine: ``"local"``, or ``"ray"`` for a Ray cluster; it decides no number.
        workers: how many runs are trained at the same time; None trains one after another here, and on Ray as many as
            there is room for. See `promptreach.training.engines.engines.open_engine`.
        ray_address: of the cluster; None joins the one at hand, or starts one on this machine.
        seed: the same seed gives the same report on the same machine, times aside.
        resume: continue in a folder that holds finished runs, or hand back its finished report.
        quiet: no progress on standard error.
        model_options: passed to `promptreach.hf.open_model`: ``task``, ``revision``, ``dtype``, ``device``,
            ``device_map``, ``num_layers``, ``tokenizer``.

    Returns:
        The result; `result.exit_status` is 0 where a soft prompt fits, 1 where it does not, 3 where that is open.

    Raises:
        InputError: before any work, listing every fault of the arguments, the data, the model and the output folder.
        MissingExtraError: for engine ``"ray"`` without the package ray.
        UnsupportedModelError: for an architecture that this library cannot take apart.
        OutputError: when nothing more can be written to `out`.
        WorkerError: when workers die, or are not what this process is; what is finished stays for `resume`.
    """
    began = time.monotonic()
    columns: dict[str, str | None] = {
        "text_col": text_col,
        "label_col": label_col,
        "prompt_col": prompt_col,
        "completion_col": completion_col,
    }
    faults = _budget_faults(budget) + engine_faults(engine, workers, ray_address, model)
    folder = _collect(faults, lambda: None if out is None else _output(Path(out), resume))
    task_data = _collect(faults, lambda: _read(data, columns))
    opened = _collect(faults, lambda: _opened(model, model_options))
    raise_if_any(faults)
    assert task_data is not None
    assert opened is not None
    own = load_adapter(adapter, opened) if adapter is not None else None
    settings = settings_for(budget, seed, _parameters_without_embeddings(opened), opened.max_positions)
    # As JSON gives them back, so that a report read from its file equals the one that was written.
    recorded = json.loads(json.dumps(asdict(settings) | {"adapter": str(adapter) if adapter else None}))
    key = _key(opened, task_data, asdict(settings), adapter)
    if folder is not None and (folder / "report.json").exists():
        return _finished(folder, key)
    if folder is not None:
        remove_partials(folder)

    store = RunStore(folder / RUNS_FOLDER if folder else None)
    with (
        Progress(quiet) as progress,
        open_engine(store, progress, engine, workers=workers, ray_address=ray_address) as executor_of,
    ):
        context = AuditContext(
            model=opened,
            data=task_data,
            settings=settings,
            store=store,
            progress=progress,
            executor_of=executor_of,
            adapter=own,
            reading=reading_of(adapter, opened) if adapter is not None else None,
            classifier=load_classifier(adapter, opened) if adapter is not None else None,
        )
        context.prepare()
        findings = [_measured(check, context) for check in CHECKS]
    judgement = judge_findings(findings, context.study)
    elsewhere = None if engine == "local" else engine
    options: dict[str, object] = columns | {
        "adapter": adapter,
        "engine": elsewhere,
        "workers": workers,
        "ray_address": ray_address,
    }
    options |= _opening(opened) | {"budget": budget, "seed": seed, "out": f"{Path(out)}-again" if out else None}
    call = _command(opened.name, task_data.source, options)
    recommendation = recommend(context, judgement, folder, call)
    result = AuditResult(
        verdict=judgement.verdict,
        evidence=judgement.evidence,
        headline=judgement.headline,
        reasons=list(judgement.reasons),
        recommendation=recommendation,
        findings=findings,
        model=_about_model(opened),
        data={"source": task_data.source, "rows": len(task_data), "kind": type(task_data).__name__},
        settings=recorded | {"engine": engine, "key": key},
        environment=environment(),
        seconds=time.monotonic() - began,
    )
    if folder is not None:
        result.write(folder)
    return result


def _budget_faults(budget: str) -> list[Fault]:
    known = get_args(BudgetName)
    return [] if budget in known else [Fault("budget", repr(budget), f"one of {', '.join(known)}")]


def _collect(faults: list[Fault], step: Callable[[], Value]) -> Value | None:
    """What `step` returns, or None with its faults added, so that one call reports everything that is wrong."""
    try:
        return step()
    except InputError as error:
        faults += error.faults
        return None


def _output(folder: Path, resume: bool) -> Path:
    checked = check_output(folder, resume=resume)
    if not resume and (folder / RUNS_FOLDER).exists():
        raise InputError(
            Fault(
                str(folder),
                "training runs of an audit that did not finish",
                "an empty or new folder",
                "Continue that audit with --resume, or choose another folder.",
            )
        )
    return checked


def _read(data: Any, columns: Mapping[str, str | None]) -> TaskData:
    return read_task(data, **columns)


def _opened(model: Any, options: dict[str, Any]) -> OpenModel:
    return model if isinstance(model, OpenModel) else open_model(model, **options)


def _finished(folder: Path, key: str) -> AuditResult:
    """The report that stands in `folder`, if it answers the same call."""
    report = read_report(folder / "report.json", AuditResult)
    if report.settings.get("key") != key:
        raise InputError(
            Fault(
                str(folder),
                "the finished report of another call",
                "the same model, data and settings",
                "Choose another folder.",
            )
        )
    return report


def _measured(check: Check, context: AuditContext) -> Finding:
    """What a check found; a check that breaks becomes a finding that says so, and the report stays whole."""
    began = time.monotonic()
    try:
        finding = finished(check.run(context))
    except (OutputError, WorkerError):
        # Nothing more can be kept or trained: going on would end in a report that lacks what a resumed audit finds.
        raise
    except Exception as error:
        detail = str(error) if isinstance(error, PromptreachError) else traceback.format_exc(limit=-3)
        finding = Finding(
            check=check.name,
            title=check.title,
            status="failed",
            evidence=Evidence.UNKNOWN,
            summary="This check broke; the others are not affected.",
            reason=detail,
        )
    return finding.model_copy(update={"seconds": time.monotonic() - began})


def _key(model: OpenModel, data: TaskData, settings: dict[str, Any], adapter: str | Path | None) -> str:
    """A hash of everything that decides the report: contents, whatever the folders are called."""
    tokens = model.tokenize(data.inputs), model.tokenize(data.answers, special_tokens=False), model.end_token
    said = [model.fingerprint, data.inputs, data.answers, tokens, settings]
    files = [] if adapter is None else [Path(adapter) / CONFIG, Path(adapter) / WEIGHTS]
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:20]


def _parameters_without_embeddings(model: OpenModel) -> int:
    return sum(parameter.numel() for layer in model.layers for parameter in layer.parameters())


def _about_model(model: OpenModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "family": model.family,
        "task": model.task,
        "layers": model.num_layers,
        "heads": model.num_heads,
        "key/value heads": model.num_kv_heads,
        "hidden size": model.hidden_size,
        "context": model.max_positions,
        "parameters": sum(parameter.numel() for parameter in model.release().parameters()),
        "fingerprint": model.fingerprint,
    }


def _opening(model: OpenModel) -> dict[str, object]:
    """The options that the model was opened with, as the command line has them; none for one that was open already."""
    given = dict(model.origin.options) if model.origin else {}
    dtype, spread = str(given.get("dtype", torch.float32)).removeprefix("torch."), given.get("device_map")
    device = str(given.get("device", "cpu"))
    return {
        "task": given.get("task"),
        "revision": given.get("revision"),
        "dtype": None if dtype == "float32" else dtype,
        "device": None if device == "cpu" else device,
        "device_map": spread if isinstance(spread, str) else None,  # a mapping has no place there
        "num_layers": given.get("num_layers"),
    }


def _command(model: str, source: str, options: Mapping[str, object]) -> list[str]:
    """The command line that does this audit again; what is None is left to its default."""
    call = ["promptreach", "audit", model, source]
    for name, value in options.items():
        call += [f"--{name.replace('_', '-')}", str(value)] if value is not None else []
    return call
