"""One audit from its arguments to its result: read, open, measure, judge, recommend, write."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, overload

from promptreach.audit.checks import CHECKS
from promptreach.audit.context import prepared
from promptreach.audit.plan import AuditPlan, planned
from promptreach.audit.recommendation import recommend
from promptreach.audit.settings import BudgetName, settings_for
from promptreach.backbone import UNBOUNDED
from promptreach.certificate import Evidence
from promptreach.data import Completions, TaskData
from promptreach.diagnosis.experiment import Experiment
from promptreach.diagnosis.measures.metrics import LABEL_METRICS, metric_faults
from promptreach.diagnosis.rules.rules import judge
from promptreach.diagnosis.verdict import Judgement
from promptreach.errors import Fault, FormatError, InputError, raise_if_any
from promptreach.files import check_output, remove_partials
from promptreach.hf import OpenModel
from promptreach.hf.adapters.brought import bring
from promptreach.hf.adapters.places import CONFIG, WEIGHTS
from promptreach.hf.models.load import as_backbone
from promptreach.locks import LOCK, folder_lock, is_locked
from promptreach.progress import Progress
from promptreach.report.findings import Code, Finding
from promptreach.report.html import write_report
from promptreach.report.json import read_report, render_json
from promptreach.report.result import Report, environment
from promptreach.report.verdict import Reason
from promptreach.stored import entries_of
from promptreach.tables import read_task
from promptreach.terminal import one_line
from promptreach.training.arguments import choice_faults, seed_faults
from promptreach.training.choices import choices_of
from promptreach.training.engines.engines import engine_faults, open_engine
from promptreach.training.runs import RunStore
from promptreach.training.task.chats import rendered

RUNS_FOLDER = "runs"
REPORT = "report.json"
REPORT_DIGEST = "report.sha256"
"""The digest of the report, in the folder of the runs: it is there before the report is."""
NEEDED = ("data", "training")
"""The checks without which there is nothing to judge."""
_ENDED = {"failed": "broke", "skipped": "could not be made"}
Value = TypeVar("Value")
_LOG = logging.getLogger(__name__)


class AuditResult(Report):
    """An audit's outcome. `write` puts report.html and report.json into a folder, without the recommended adapter."""

    def write(self, folder: str | Path) -> Path:
        """Write report.html and report.json into `folder` and return the page's path.

        Each file is written to a temporary name and renamed, so a full disk or Ctrl-C leaves no half report.

        Raises:
            OutputError: when the folder cannot be written.
        """
        return write_report(self, Path(folder))


@overload
def audit(model: Any, data: Any, *, dry_run: Literal[True], **options: Any) -> AuditPlan: ...
@overload
def audit(model: Any, data: Any, *, dry_run: Literal[False] = False, **options: Any) -> AuditResult: ...
@overload
def audit(model: Any, data: Any, *, dry_run: bool, **options: Any) -> AuditResult | AuditPlan: ...
def audit(
    model: Any,
    data: Any,
    *,
    text_col: str | None = None,
    label_col: str | None = None,
    prompt_col: str | None = None,
    completion_col: str | None = None,
    pair_col: str | None = None,
    split_col: str | None = None,
    validation: Any = None,
    test: Any = None,
    chat_template: str | Path | None = None,
    adapter: str | Path | None = None,
    budget: BudgetName = "standard",
    out: str | Path | None = None,
    engine: str = "local",
    workers: int | None = None,
    ray_address: str | None = None,
    seed: int = 0,
    metric: str | None = None,
    methods: Any = None,
    tokens: Any = None,
    rank: int | None = None,
    lora_targets: Any = None,
    steps: int | None = None,
    batch_size: int | None = None,
    max_length: int | None = None,
    seeds: int = 1,
    learning_rates: Any = None,
    accumulate: int = 1,
    resume: bool = False,
    dry_run: bool = False,
    device: Any = "auto",
    dtype: Any = "auto",
    quiet: bool = True,
    again: str | None = None,
    **model_options: Any,
) -> AuditResult | AuditPlan:
    """Find out what a soft prompt can do for this model and data, and what to use instead if it cannot.

    Args:
        model: a hub id, a folder, a GGUF file, a transformers model, or what `promptreach.hf.open_model` returned.
        data: a JSONL, CSV, TSV or Parquet file, a list of rows, or a task record.
        text_col, label_col, prompt_col, completion_col, pair_col, split_col, validation, test, chat_template: as in
            `promptreach.tables.read_task`.
        adapter: a PEFT folder to audit along with what is trained here.
        budget: ``"quick"``, ``"standard"`` or ``"thorough"``.
        out: where the report goes, with finished training runs beside it so that a killed audit can resume. Without
            it nothing is written, and `AuditResult.write` writes the report later, without an adapter.
        engine: ``"local"``, or ``"ray"`` for a Ray cluster; it decides no number.
        workers: how many runs are trained at the same time; None trains one after another here, and on Ray as many as
            there is room for. See `promptreach.training.engines.engines.open_engine`.
        ray_address: of the cluster; None joins the one at hand, or starts one on this machine.
        seed: the same seed gives the same report on the same machine, times aside.
        metric: what decides for labels, as scikit-learn has it: ``"accuracy"``, ``"balanced_accuracy"``,
            ``"macro_f1"``, ``"f1"``, ``"mcc"`` or ``"average_precision"``. It chooses the learning rate and the best
            run; margin and verdict are in its unit. None is accuracy; completions are judged by their loss.
        methods: what to train beside the control: any of ``"prompt"``, ``"prefix"``, ``"lora"``, ``"unipelt"`` and
            ``"full"``. None trains the first three; a verdict on the form needs LoRA and one of the other two. This and
            all that follows down to `learning_rates` are left to the budget where they are None.
        tokens: lengths of the prompts; the prefix gets the middle one.
        rank, lora_targets: of the LoRA update; the targets are ends of the paths of projections, or ``"all-linear"``.
        steps, batch_size: of a full training run.
        max_length: tokens of an example that are read. A longer text loses its end, a longer prompt its beginning, and
            a completion that is longer by itself its end; the report counts them.
        seeds: 2 or more train the winners again with as many seeds as that; the report shows each, and the margin is at
            least what a seed was worth.
        learning_rates: absolute, for every method, or a mapping from a method to its own; a single one is taken as it
            is, of several the best on the validation rows.
        accumulate: slices of a step's rows, whose gradients are added up: less memory, the same result to float
            rounding. Where memory runs out in spite of it, steps are cut further and go on.
        resume: continue in a folder that holds finished runs, or hand back its finished report; begin where it holds
            neither.
        quiet: no progress on standard error.
        again: a shell command that does this audit again, to be shown in the report; None shows the call in Python.
        dry_run: train nothing, touch no folder, and return the `AuditPlan`.
        device: where the model goes; ``"auto"`` takes the accelerator if there is one.
        dtype: of its weights; ``"auto"`` takes the checkpoint's own, or float32 where this CPU is slow at it.
        model_options: passed to `promptreach.hf.open_model`: ``task``, ``revision``, ``device_map``, ``num_layers``,
            ``tokenizer``, ``gradient_checkpointing``.

    Returns:
        The result; `result.exit_status` is 0 where a soft prompt fits, 1 where it does not, 3 where that is open.

    Raises:
        InputError: before any work, listing every fault of the arguments, the data, the model and the output folder.
        MissingExtraError: for engine ``"ray"`` without the package ray.
        UnsupportedModelError: for an architecture that this library cannot take apart.
        OutputError: when nothing more can be written to `out`, or another call is under way there; the same call is
            waited for, and its report handed back.
        WorkerError: when workers die, or are not what this process is; what is finished stays for `resume`.
    """
    began = time.monotonic()
    columns: dict[str, Any] = {"text_col": text_col, "label_col": label_col, "prompt_col": prompt_col}
    columns |= {"completion_col": completion_col, "pair_col": pair_col, "split_col": split_col}
    columns |= {"validation": validation, "test": test, "chat_template": chat_template}
    columns = {name: value for name, value in columns.items() if value is not None}
    chosen = {"methods": methods, "tokens": tokens, "rank": rank, "lora_targets": lora_targets, "steps": steps}
    chosen |= {"batch_size": batch_size, "max_length": max_length, "seeds": seeds, "learning_rates": learning_rates}
    chosen["accumulate"] = accumulate
    faults = choice_faults("budget", budget, get_args(BudgetName)) + engine_faults(engine, workers, ray_address, model)
    faults += seed_faults(seed)
    choices = _collect(faults, lambda: choices_of(**chosen))
    model_options |= {"device": device, "dtype": dtype}
    folder = _collect(faults, lambda: None if out is None or dry_run else _output(Path(out), resume))
    task_data = _collect(faults, lambda: read_task(data, **columns))
    opened = _collect(faults, lambda: as_backbone(model, **model_options))
    opened = opened.reading if opened is not None and not isinstance(task_data, Completions) else opened
    brought = _collect(faults, lambda: bring(adapter, opened) if adapter is not None and opened is not None else None)
    if opened is not None and choices is not None and choices.lora_targets:
        # Refused when it is made; nothing is attached before its block is entered.
        _collect(faults, partial(opened.low_rank, 1, 2.0, 0, choices.lora_targets))
    faults += metric_faults(metric, task_data)
    raise_if_any(faults)
    assert task_data is not None
    assert opened is not None
    assert choices is not None
    opened = brought.model if brought else opened
    settings = settings_for(budget, seed, opened.inner_entries(), opened.max_positions, choices)
    settings = replace(settings, metric=next((name for name in LABEL_METRICS if name == metric), None))
    if dry_run:
        return planned(opened, task_data, settings)
    key = _key(opened, task_data, asdict(settings), adapter)
    with _claimed(folder, key, resume) as finished:
        if finished is not None:
            return finished
        store = RunStore(folder / RUNS_FOLDER if folder else None)
        with (
            Progress(quiet) as progress,
            open_engine(store, progress, engine, workers=workers, ray_address=ray_address) as executor_of,
        ):
            context = prepared(
                opened,
                task_data,
                settings,
                progress=progress,
                executor_of=executor_of,
                user_adapter=brought.adapter if brought else None,
                user_pooling=brought.pooling if brought else None,
                classifier=brought.classifier if brought else None,
                user_base=brought.other_base if brought else "",
                user_tokens=brought.added_tokens if brought else (),
            )
            findings = [check.run(context, check.name in NEEDED) for check in CHECKS]
        judgement = judge_findings(findings, context)
        user_folder, elsewhere = None if adapter is None else str(adapter), None if engine == "local" else engine
        options: dict[str, object] = {**columns, "adapter": user_folder, "engine": elsewhere, "workers": workers}
        options |= {"ray_address": ray_address, **_asked(model_options), "budget": budget, "seed": seed}
        options |= {"metric": metric, **choices.given, "out": None if out is None else f"{out}-again"}
        recommendation = recommend(context, judgement, folder, _again(again, opened.name, task_data.source, options))
        # As JSON gives them back, so that a report read from its file equals the one that was written.
        recorded = json.loads(json.dumps(asdict(settings) | {"adapter": user_folder}))
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
            store.write(REPORT_DIGEST, hashlib.sha256(render_json(result).encode()).hexdigest())
            result.write(folder)
        return result


def _asked(options: Mapping[str, object]) -> dict[str, object]:
    """How the model was asked to be opened, what was left to this library left out."""
    return {name: value for name, value in options.items() if value != "auto"}


def judge_findings(findings: Sequence[Finding], context: Experiment) -> Judgement:
    """The verdict on what `context` holds; UNDECIDED, and why, when a check that it needs broke."""
    broken = [
        Reason(f"The check “{finding.title}” {ended}: {finding.reason}", Evidence.UNKNOWN, finding.check)
        for finding in findings
        for ended in (_ENDED.get(finding.status),)
        if ended and finding.check in NEEDED
    ]
    return judge(context.numbers, broken)


def _collect(faults: list[Fault], step: Callable[[], Value]) -> Value | None:
    """The result of `step`, or None with its faults added, so that one call reports everything that is wrong."""
    try:
        return step()
    except InputError as error:
        faults += error.faults
        return None


def nothing_to_resume(folder: str | Path) -> list[Fault]:
    """The refusal of a folder in which no audit has begun, by somebody who wants to go on with one."""
    folder = Path(folder)
    if any((folder / name).exists() for name in (REPORT, RUNS_FOLDER, LOCK)):
        return []
    seen, expected = "no audit that was stopped or finished", "the folder of one"
    return [
        Fault(str(folder), seen, expected, "Leave --resume away to begin one there, or name its folder with --out.")
    ]


@contextmanager
def _claimed(folder: Path | None, key: str, resume: bool) -> Iterator[AuditResult | None]:
    """The folder for this call alone, for a `with` block; yields the report that stands there if it answers the call.

    Another audit of the same call is waited for, and what it has done is this one's as well.
    """
    if folder is None:
        yield None
        return
    with folder_lock(folder, "an audit", key) as waited:
        _output(folder, resume or waited)  # what another call may have left there since
        remove_partials(folder)
        yield _finished(folder, key) if (folder / REPORT).exists() else None


def _output(folder: Path, resume: bool) -> Path:
    """The folder, once it is known that results can go there; whose they may be is open while another audit is on."""
    checked = check_output(folder, resume=resume or is_locked(folder))
    if is_locked(folder):
        return checked
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


def _finished(folder: Path, key: str) -> AuditResult | None:
    """The report that stands in `folder`, if it answers the same call; None, and a word, if it is damaged."""
    known = folder / RUNS_FOLDER / REPORT_DIGEST
    try:
        report = read_report(folder / REPORT, AuditResult)
        found = hashlib.sha256((folder / REPORT).read_bytes()).hexdigest()
        if known.is_file() and known.read_text(errors="replace") != found:
            raise InputError(Fault(str(folder / REPORT), "another SHA-256", "that of the report that was written"))
    except FormatError:
        raise
    except InputError as error:
        reason = one_line(str(error.faults[0]))
        _LOG.warning("%s is not as it was written and is made again from the finished runs (%s)", REPORT, reason)
        return None
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


def _key(model: OpenModel, data: TaskData, settings: dict[str, Any], adapter: str | Path | None) -> str:
    """A hash of everything that decides the report: contents, whatever the folders are called."""
    data = rendered(model, data)
    tokens = model.tokenize(data.inputs), model.tokenize(data.answers, special_tokens=False), model.end_token
    # The texts as they are given to the model, and whose rows are whose where the user said so.
    said = [model.fingerprint, data.inputs, data.answers, tokens, settings]
    said += [list(data.parts)] if data.parts else []
    files = [] if adapter is None else [Path(adapter) / CONFIG, Path(adapter) / WEIGHTS]
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:20]


def _about_model(model: OpenModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "family": model.family,
        "task": model.task,
        "layers": model.num_layers,
        "heads": model.num_heads,
        "key/value heads": model.num_kv_heads,
        "hidden size": model.hidden_size,
        "context": None if model.max_positions == UNBOUNDED else model.max_positions,
        "device": str(next(model.release().parameters()).device),
        "dtype": str(model.release().dtype).removeprefix("torch.")
        + (f" ({model.origin.chosen})" if model.origin and model.origin.chosen else "")
        + (f", quantised by {model.packing}" if model.packing else ""),
        "parameters": entries_of(model.release()),
        "fingerprint": model.fingerprint,
    }


def _again(command: str | None, model: str, source: str, options: Mapping[str, object]) -> Code:
    """The call that does this audit again; options that are None are left to their defaults."""
    given = "".join(f", {name}={value!r}" for name, value in options.items() if value is not None)
    call = f"promptreach.audit({model!r}, {source!r}{given})"
    return Code(title="This audit again", language="shell" if command else "python", text=command or call)
