"""One audit from its arguments to its result: read, open, estimate, measure, judge, recommend, write."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, overload

from promptreach.audit.call import about_model, call_again, key_of
from promptreach.audit.checks import CHECKS
from promptreach.audit.context import prepared
from promptreach.audit.estimate import estimated
from promptreach.audit.folder import REPORT_DIGEST, RUNS_FOLDER, claimed, finished_runs, output_folder
from promptreach.audit.live import LivePage
from promptreach.audit.plan import AuditPlan
from promptreach.audit.planning import planned
from promptreach.audit.publication import names_base, published, publishing_faults_of
from promptreach.audit.recommendation import recommend
from promptreach.audit.serving import for_server
from promptreach.audit.settings import BudgetName, settings_for
from promptreach.certificate import Evidence
from promptreach.commands.serving import serving_faults
from promptreach.data import Completions
from promptreach.diagnosis.experiment import Experiment
from promptreach.diagnosis.measures.in_context import in_context_faults, start_faults
from promptreach.diagnosis.rules.rules import judge
from promptreach.diagnosis.verdict import Judgement
from promptreach.errors import Fault, InputError, raise_if_any
from promptreach.hf.adapters.brought import bring
from promptreach.hf.adapters.by_config import attaching_faults, config_of, name_of
from promptreach.hf.adapters.inspection import KINDS
from promptreach.hf.models.load import as_backbone
from promptreach.progress import Progress
from promptreach.report.findings import Finding
from promptreach.report.html import write_report
from promptreach.report.json import render_json
from promptreach.report.result import Report, environment
from promptreach.report.verdict import Reason
from promptreach.tables import read_task
from promptreach.training.arguments import choice_faults, seed_faults
from promptreach.training.choices import choices_of
from promptreach.training.engines.engines import engine_faults, open_engine
from promptreach.training.engines.trackers import sending, tracker_faults
from promptreach.training.methods.methods import as_text
from promptreach.training.runs import RunStore
from promptreach.training.task.class_weights import ClassWeights, class_weight_faults
from promptreach.training.task.deciding import chosen_metric, metric_faults
from promptreach.training.task.in_context import instruction_faults
from promptreach.training.task.judging import judging_faults, judging_of

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
    label_kind: str | None = None,
    words_col: str | None = None,
    tags_col: str | None = None,
    question_col: str | None = None,
    context_col: str | None = None,
    answers_col: str | None = None,
    split_col: str | None = None,
    validation: Any = None,
    test: Any = None,
    chat_template: str | Path | None = None,
    options_col: str | None = None,
    options: Any = None,
    adapter: str | Path | None = None,
    budget: BudgetName = "standard",
    out: str | Path | None = None,
    engine: str = "local",
    workers: int | None = None,
    ray_address: str | None = None,
    seed: int = 0,
    metric: str | None = None,
    class_weights: ClassWeights = None,
    answer_pattern: str | None = None,
    length_normalised: bool = False,
    instruction: str | None = None,
    shots: int | None = None,
    init_text: str | None = None,
    method_config: Any = None,
    serve_with: str | None = None,
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
    report_to: str | None = None,
    dry_run: bool = False,
    device: Any = "auto",
    dtype: Any = "auto",
    quiet: bool = True,
    again: str | None = None,
    push_to_hub: str | None = None,
    private: bool = True,
    base_id: str = "",
    **model_options: Any,
) -> AuditResult | AuditPlan:
    """Find out what a soft prompt can do for this model and data, and what to use instead if it cannot.

    Args:
        model: a hub id, a folder, a GGUF file, a transformers model, or what `promptreach.hf.open_model` returned.
        data: a JSONL, CSV, TSV or Parquet file, a list of rows, or a task record.
        text_col, label_col, prompt_col, completion_col, pair_col, label_kind, words_col, tags_col, question_col,
            context_col, answers_col, split_col, validation, test, chat_template, options_col, options: as in
            `promptreach.tables.read_task`.
        adapter: a PEFT folder to audit along with what is trained here.
        budget: ``"quick"``, ``"standard"`` or ``"thorough"``.
        out: where the report goes, with finished training runs beside it so that a killed audit can resume. Without
            it nothing is written, and `AuditResult.write` writes the report later, without an adapter. While the audit
            is under way, report.html there shows what is known so far, and progress.jsonl how far it is.
        engine: ``"local"``, or ``"ray"`` for a Ray cluster; it decides no number.
        workers: how many runs are trained at the same time; None trains one after another here, and on Ray as many as
            there is room for. See `promptreach.training.engines.engines.open_engine`.
        ray_address: of the cluster; None joins the one at hand, or starts one on this machine.
        seed: the same seed gives the same report on the same machine, times aside.
        metric: what decides, one of `promptreach.training.task.deciding.metrics_for` such rows: of one label a row
            ``"accuracy"`` and five others of scikit-learn's, of several ``"micro_f1"``, of a number ``"pearson"``, of
            tags ``"entity_f1"`` and so on; for completions that the model writes ``"exact_match"``, ``"token_f1"``,
            ``"rouge_l"`` or ``"chrf"``. It chooses the learning rate and the best run; margin and verdict are in its
            unit. None takes the first of them, and of completions their loss.
        class_weights: ``"balanced"``, or a number by the name of a class: how much each counts in the loss.
        answer_pattern: a regular expression: the last match in a completion, or the first group of it, is what is
            compared. Without a metric these are to match exactly.
        length_normalised: whether one of several options is chosen by its likelihood per character.
        instruction: words to put in front of every row for the bare model, as a rival of all that is trained; around
            the row's prompt where they hold ``{prompt}``. Labels are asked for by their own words.
        shots: so many examples of the training rows to put there, drawn by the seed and balanced over the answers.
        init_text: a text of your own that prompts start from as its embeddings, and prefixes as the keys and values
            that it leaves in the model. ``"instruction"`` and ``"examples"`` take the words of these two.
        method_config: a config of PEFT (a `peft.PeftConfig`, a mapping, or its JSON file), whose method is trained in
            the same way and compared with the others.
        serve_with: the server that the adapter is for, a key of `promptreach.commands.serving.SERVERS`; what it does
            not take of `methods` is compared like everything else and not recommended, a `method_config` that it does
            not take is refused. For rows of prompt and completion.
        methods: what to train beside the control: any of ``"prompt"``, ``"prefix"``, ``"lora"``, ``"lora_all"``
            (LoRA on all linear layers: of two the stronger on the validation rows is the rival of prompts),
            ``"unipelt"`` and ``"full"``. None trains the first three; a verdict on the form needs LoRA and one of the
            other two. This and all that follows down to `learning_rates` are left to the budget where they are None.
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
        report_to: ``"tensorboard"`` (event files in `out`/tensorboard, or ./tensorboard) or ``"trackio"``: where the
            curve of every run is sent when it has ended; it decides no number.
        quiet: no progress on standard error.
        again: a shell command that does this audit again, to be shown in the report; None shows the call in Python.
        push_to_hub: the repository on the Hugging Face hub that the recommended adapter is uploaded to, when the report
            is written; it takes `out`. None uploads nothing.
        private: whether a repository that is made for it is private; one that is there stays as it is.
        base_id: the base's id on the hub, where `model` is a folder: the adapter names it as its base.
        dry_run: train nothing, touch no folder, and return the `AuditPlan`.
        device: where the model goes; ``"auto"`` takes the accelerator if there is one.
        dtype: of its weights; ``"auto"`` takes the checkpoint's own, or float32 where this CPU is slow at it.
        model_options: passed to `promptreach.hf.open_model`: ``task``, ``revision``, ``device_map``, ``num_layers``,
            ``tokenizer``, ``gradient_checkpointing``.

    Returns:
        The result; `result.exit_status` is 0 where a soft prompt fits, 1 where it does not, 3 where that is open.

    Raises:
        InputError: before any work, listing every fault of the arguments, the data, the model and the output folder.
        MissingExtraError: for engine ``"ray"`` without the package ray, or `report_to` without its own.
        UnsupportedModelError: for an architecture that this library cannot take apart.
        OutputError: when nothing more can be written to `out`, or another call is under way there; the same call is
            waited for, and its report handed back.
        WorkerError: when workers die, or are not what this process is; what is finished stays for `resume`.
    """
    began = time.monotonic()
    columns: dict[str, Any] = {"text_col": text_col, "label_col": label_col, "prompt_col": prompt_col}
    columns |= {"completion_col": completion_col, "pair_col": pair_col, "split_col": split_col}
    columns |= {"validation": validation, "test": test, "chat_template": chat_template, "label_kind": label_kind}
    columns |= {"words_col": words_col, "tags_col": tags_col, "options_col": options_col, "options": options}
    columns |= {"question_col": question_col, "context_col": context_col, "answers_col": answers_col}
    columns = {name: value for name, value in columns.items() if value is not None}
    chosen = {"methods": methods, "tokens": tokens, "rank": rank, "lora_targets": lora_targets, "steps": steps}
    chosen |= {"batch_size": batch_size, "max_length": max_length, "seeds": seeds, "learning_rates": learning_rates}
    chosen["accumulate"] = accumulate
    faults = choice_faults("budget", budget, get_args(BudgetName)) + engine_faults(engine, workers, ray_address, model)
    faults += seed_faults(seed) + tracker_faults(report_to)
    choices = _collect(faults, lambda: choices_of(**chosen))
    model_options |= {"device": device, "dtype": dtype}
    folder = _collect(faults, lambda: None if out is None or dry_run else output_folder(Path(out), resume))
    task_data = _collect(faults, lambda: read_task(data, **columns))
    opened = _collect(faults, lambda: as_backbone(model, **model_options))
    opened = opened.reading if opened is not None and not isinstance(task_data, Completions) else opened
    brought = _collect(faults, lambda: bring(adapter, opened) if adapter is not None and opened is not None else None)
    if opened is not None and choices is not None and choices.lora_targets:
        # Refused when it is made; nothing is attached before its block is entered.
        _collect(faults, partial(opened.low_rank, 1, 2.0, 0, choices.lora_targets))
    judging = judging_of(metric, answer_pattern, length_normalised, task_data)
    faults += metric_faults(metric, task_data) + judging_faults(judging, task_data)
    faults += class_weight_faults(class_weights, task_data)
    peft_config = _collect(faults, lambda: None if method_config is None else config_of(method_config))
    faults += instruction_faults(instruction, shots) + start_faults(init_text, instruction, shots)
    faults += in_context_faults(opened, task_data, instruction, shots) if opened is not None else []
    asked_for = choices.methods if choices is not None else None
    is_causal = opened is None or opened.task == "causal"
    faults += serving_faults(serve_with, task_data, is_causal, asked_for)
    if peft_config is not None:
        faults += attaching_faults(opened, peft_config) if opened is not None else []
        kind = KINDS.get(name_of(peft_config), name_of(peft_config))
        faults += [one for one in serving_faults(serve_with, task_data, is_causal, [kind]) if one not in faults]
    faults += publishing_faults_of(push_to_hub, opened, base_id, out, dry_run)
    raise_if_any(faults)
    assert task_data is not None
    assert opened is not None
    assert choices is not None
    opened = brought.model if brought else opened
    settings = settings_for(budget, seed, opened.inner_entries(), opened.max_positions, choices)
    decides = chosen_metric(metric, judging)
    settings = replace(settings, metric=decides, judging=judging, instruction=instruction or "", shots=shots or 0)
    settings = replace(settings, init_text=init_text or "", class_weights=class_weights, serve_with=serve_with or "")
    settings = replace(settings, method_config="" if peft_config is None else as_text(peft_config))
    if dry_run:
        return planned(opened, task_data, settings)
    user_folder, elsewhere = None if adapter is None else str(adapter), None if engine == "local" else engine
    said: dict[str, object] = {**columns, "adapter": user_folder, "engine": elsewhere, "workers": workers}
    said |= {"ray_address": ray_address, **_asked(model_options), "budget": budget, "seed": seed}
    said |= {"metric": metric, "answer_pattern": answer_pattern, "length_normalised": length_normalised or None}
    said |= {"class_weights": class_weights, "instruction": instruction, "shots": shots, "init_text": init_text}
    said |= {"method_config": None if method_config is None else str(method_config), "serve_with": serve_with}
    said |= {**choices.given, "out": None if out is None else f"{out}-again"}
    key = key_of(opened, task_data, asdict(settings), adapter)
    with claimed(folder, key, resume, AuditResult) as finished:
        if finished is not None and names_base(finished, folder, base_id):
            return _published(finished, folder, push_to_hub, private)
        store = RunStore(folder / RUNS_FOLDER if folder else None)
        with (
            Progress(quiet, folder=folder) as progress,
            open_engine(store, progress, engine, workers=workers, ray_address=ray_address) as local,
            sending(local, report_to, (folder or Path()) / "tensorboard") as executor_of,
        ):
            opening = estimated(opened, task_data, settings, finished_runs(folder))
            subject = f"{opened.name} on {task_data.source}"
            with LivePage(folder, subject, progress, CHECKS, opening) as page:
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
                    opening=opening,
                )
                findings = page.measured(context, NEEDED)
                judgement = for_server(context, judge_findings(findings, context), settings.serve_with)
                again_call = call_again(again, opened.name, task_data.source, said)
                recommendation = recommend(context, judgement, folder, again_call, base_id)
                # As JSON gives them back, so that a report read from its file equals the one that was written.
                recorded = json.loads(json.dumps(asdict(settings) | {"adapter": user_folder}))
                result = AuditResult(
                    verdict=judgement.verdict,
                    evidence=judgement.evidence,
                    headline=judgement.headline,
                    reasons=list(judgement.reasons),
                    recommendation=recommendation,
                    findings=findings,
                    model=about_model(opened),
                    data={"source": task_data.source, "rows": len(task_data), "kind": type(task_data).__name__},
                    settings=recorded | {"engine": engine, "key": key},
                    environment=environment(),
                    seconds=time.monotonic() - began,
                )
                if folder is not None:
                    _keep(result, folder)
        return _published(result, folder, push_to_hub, private)


def _published(result: AuditResult, folder: Path | None, repo: str | None, private: bool) -> AuditResult:
    """The result after its upload, whose address stands in the report as well."""
    told = published(result, folder, repo, private)
    if told is not result and folder is not None:
        _keep(told, folder)
    return told


def _keep(result: AuditResult, folder: Path) -> None:
    """Write the report, and before it its digest, by which a damaged one is known."""
    digest = hashlib.sha256(render_json(result).encode()).hexdigest()
    RunStore(folder / RUNS_FOLDER).write(REPORT_DIGEST, digest)
    result.write(folder)


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
