"""``promptreach audit``: can a soft prompt do this task on this model, and if not, what can?"""

import os
import shlex
from collections.abc import Callable, Mapping
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from promptreach.cli import _answers as answers
from promptreach.cli import _audit_options as lists
from promptreach.cli._command import (
    MOST_SEED,
    BaseId,
    Budget,
    Dtype,
    Engine,
    ModelTask,
    Public,
    PushToHub,
    ReportTo,
    ServeWith,
    exit_status,
    unpublishable,
    within,
)
from promptreach.errors import Fault, InputError
from promptreach.preflight import look
from promptreach.terminal import printable, say, write_json
from promptreach.training.choices import Choices, choices_of, shown_choice
from promptreach.training.task.metric_names import metric_name_faults

_COLUMNS = "Columns and parts of DATA, where their names do not tell"
_CHOICES = "What to train (lists with commas), where it should not follow the budget"
_MODEL = "How to open MODEL"


def audit(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Hub id, folder, or GGUF file.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="JSONL, CSV, TSV or Parquet file, or a hub id.")],
    text_col: Annotated[str | None, typer.Option(rich_help_panel=_COLUMNS, help="The text to classify.")] = None,
    label_col: Annotated[str | None, typer.Option(rich_help_panel=_COLUMNS, help="Its label.")] = None,
    prompt_col: Annotated[str | None, typer.Option(rich_help_panel=_COLUMNS, help="The prompt.")] = None,
    completion_col: Annotated[str | None, typer.Option(rich_help_panel=_COLUMNS, help="Its completion.")] = None,
    pair_col: Annotated[str | None, typer.Option(rich_help_panel=_COLUMNS, help="A second text of a row.")] = None,
    words_col: Annotated[
        str | None, typer.Option(rich_help_panel=_COLUMNS, help="The words of a row, each with a tag.")
    ] = None,
    tags_col: Annotated[str | None, typer.Option(rich_help_panel=_COLUMNS, help="Their tags.")] = None,
    question_col: Annotated[
        str | None, typer.Option(rich_help_panel=_COLUMNS, help="A question to the context.")
    ] = None,
    context_col: Annotated[
        str | None, typer.Option(rich_help_panel=_COLUMNS, help="The text that holds its answer.")
    ] = None,
    answers_col: Annotated[
        str | None, typer.Option(rich_help_panel=_COLUMNS, help="The answer, a stretch of the context.")
    ] = None,
    label_kind: Annotated[
        str | None, typer.Option(rich_help_panel=_COLUMNS, help="What the labels are: one, several or number.")
    ] = None,
    split_col: Annotated[
        str | None, typer.Option(rich_help_panel=_COLUMNS, help="Which part a row belongs to.")
    ] = None,
    validation: Annotated[str | None, typer.Option(rich_help_panel=_COLUMNS, help="Rows to choose on.")] = None,
    test: Annotated[str | None, typer.Option(rich_help_panel=_COLUMNS, help="Rows to judge on.")] = None,
    chat_template: Annotated[
        str | None, typer.Option(rich_help_panel=_COLUMNS, help="Jinja, or its file; else the model's own.")
    ] = None,
    options_col: answers.OptionsCol = None,
    options: answers.Options = None,
    metric: answers.Metric = None,
    answer_pattern: answers.AnswerPattern = None,
    length_normalised: answers.LengthNormalised = False,
    instruction: answers.Instruction = None,
    shots: answers.Shots = None,
    init_text: Annotated[
        str | None,
        typer.Option(rich_help_panel=_CHOICES, help="Where prompts start: a text, or instruction or examples."),
    ] = None,
    adapter: Annotated[Path | None, typer.Option(help="A PEFT folder to audit as well.")] = None,
    serve_with: ServeWith = None,
    report_to: ReportTo = None,
    budget: Annotated[Budget, typer.Option(metavar="BUDGET", help=f"Training: {', '.join(Budget)}.")] = Budget.standard,
    out: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("promptreach-report"),
    engine: Annotated[Engine, typer.Option(help="Where training runs go.")] = Engine.local,
    workers: Annotated[int | None, typer.Option(help="Runs to train at the same time.")] = None,
    ray_address: Annotated[str | None, typer.Option(help="Of a Ray cluster, as in ray.init.")] = None,
    seed: Annotated[int, typer.Option(callback=within(0, MOST_SEED), help="The same seed gives the same report.")] = 0,
    config: Annotated[
        Path | None,
        typer.Option(is_eager=True, callback=lists.from_file, help="YAML of these options; the command line wins."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done, and how long.")] = False,
    class_weights: Annotated[
        str | None, typer.Option(rich_help_panel=_CHOICES, help="balanced, or such as neg=1,pos=5: in the loss.")
    ] = None,
    methods: Annotated[
        list[str] | None, typer.Option(rich_help_panel=_CHOICES, help="prompt, prefix, lora, lora_all, unipelt, full.")
    ] = None,
    method_config: Annotated[
        Path | None, typer.Option(rich_help_panel=_CHOICES, help="JSON of a PEFT config, trained as well.")
    ] = None,
    tokens: Annotated[list[str] | None, typer.Option(rich_help_panel=_CHOICES, help="Prompt lengths.")] = None,
    rank: Annotated[int | None, typer.Option(rich_help_panel=_CHOICES, help="Of LoRA.")] = None,
    lora_targets: Annotated[
        list[str] | None, typer.Option(rich_help_panel=_CHOICES, help="Projections, or all-linear.")
    ] = None,
    steps: Annotated[int | None, typer.Option(rich_help_panel=_CHOICES, help="Of a full run.")] = None,
    batch_size: Annotated[int | None, typer.Option(rich_help_panel=_CHOICES, help="Rows of a step.")] = None,
    max_length: Annotated[
        int | None, typer.Option(rich_help_panel=_CHOICES, help="Tokens of a row that are read.")
    ] = None,
    seeds: Annotated[
        int, typer.Option(rich_help_panel=_CHOICES, help="2 or more: how much of a score is a seed's luck.")
    ] = 1,
    learning_rates: Annotated[
        list[str] | None, typer.Option(rich_help_panel=_CHOICES, help="For all, or as lora=1e-3,prompt=0.3.")
    ] = None,
    accumulate: Annotated[
        int, typer.Option(rich_help_panel=_CHOICES, help="Slices of a step's rows: less memory, the same result.")
    ] = 1,
    push_to_hub: PushToHub = None,
    public: Public = False,
    base_id: BaseId = "",
    resume: Annotated[bool, typer.Option("--resume", help="Continue a stopped audit in OUT.")] = False,
    task: Annotated[
        ModelTask | None, typer.Option(rich_help_panel=_MODEL, help="Instead of what its config says.")
    ] = None,
    revision: Annotated[str | None, typer.Option(rich_help_panel=_MODEL, help="Of a hub id.")] = None,
    dtype: Annotated[Dtype, typer.Option(rich_help_panel=_MODEL, help="Of its weights.")] = Dtype.auto,
    device: Annotated[str, typer.Option(rich_help_panel=_MODEL, help="Where it goes.")] = "auto",
    device_map: Annotated[
        str | None, typer.Option(rich_help_panel=_MODEL, help="Spread it, as in transformers.")
    ] = None,
    num_layers: Annotated[
        int | None, typer.Option(rich_help_panel=_MODEL, help="Only the first N layers: a quick look.")
    ] = None,
    gradient_checkpointing: Annotated[
        bool,
        typer.Option(
            "--gradient-checkpointing", rich_help_panel=_MODEL, help="Less memory, a third more time, the same result."
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    exit_zero: Annotated[bool, typer.Option("--exit-zero", help="End with 0 whatever the verdict.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Can a soft prompt do this task on this model, and if not, what can?

    Exit status: 0 what was trained fits; 1 it does not; 3 undecided; 2 the call or its input is wrong.
    """
    columns: dict[str, Any] = {"text_col": text_col, "label_col": label_col}
    columns |= {"prompt_col": prompt_col, "completion_col": completion_col}
    further = {"pair_col": pair_col, "split_col": split_col, "validation": validation, "test": test}
    further |= {"chat_template": chat_template, "label_kind": label_kind, "words_col": words_col, "tags_col": tags_col}
    further |= {"question_col": question_col, "context_col": context_col, "answers_col": answers_col}
    columns |= {name: value for name, value in further.items() if value is not None}
    chosen_among = answers.options_of(options)
    columns |= {} if options_col is None else {"options_col": options_col}
    columns |= {} if chosen_among is None else {"options": chosen_among}
    with exit_status():
        choices = _chosen(
            tokens=lambda: lists.whole_numbers("--tokens", tokens),
            learning_rates=lambda: lists.rates("--learning-rates", learning_rates),
            methods=lists.listed(methods),
            rank=rank,
            lora_targets=lists.listed(lora_targets),
            steps=steps,
            batch_size=batch_size,
            max_length=max_length,
            seeds=seeds,
            accumulate=accumulate,
        )
        known = metric_name_faults(metric) + ([] if dry_run else unpublishable(push_to_hub, model, base_id))
        look(
            model,
            data=data,
            columns=columns,
            adapter=adapter,
            out=None if dry_run else out,
            resume=resume,
            task=task.value if task else None,
            device="cpu" if device_map else device,
            num_layers=num_layers,
            revision=revision,
            known=[*(choices if isinstance(choices, list) else ()), *known],
        )
    assert not isinstance(choices, list)

    import torch

    from promptreach.audit import audit as run_audit
    from promptreach.audit.folder import nothing_to_resume
    from promptreach.audit.plan import AuditPlan
    from promptreach.errors import raise_if_any
    from promptreach.report.json import render_json
    from promptreach.report.text import print_summary

    opening = {
        "task": task.value if task else None,
        "revision": revision,
        "dtype": None if dtype is Dtype.auto else dtype.value,
        "device": None if device == "auto" else device,
        "device_map": device_map,
        "num_layers": num_layers,
    }
    if gradient_checkpointing:
        opening["gradient_checkpointing"] = True
    elsewhere = None if engine is Engine.local else engine.value
    shown: dict[str, object] = {**columns, "adapter": adapter, "engine": elsewhere, "workers": workers}
    shown |= {"ray_address": ray_address, **opening, "budget": budget.value, "seed": seed}
    shown |= {name: shown_choice(value) for name, value in choices.given.items()}
    shown |= {"metric": metric, "answer_pattern": answer_pattern, "length_normalised": length_normalised or None}
    shown |= {
        "class_weights": class_weights,
        "instruction": instruction,
        "shots": shots,
        "init_text": init_text,
        "method_config": method_config,
        "serve_with": serve_with.value if serve_with else None,
    }
    shown |= {"out": f"{out}-again"}
    with exit_status(f"Finished runs are kept: add --resume to continue in {out}."):
        raise_if_any(nothing_to_resume(out) if resume else [])
        result = run_audit(
            model,
            data,
            **columns,
            adapter=adapter,
            budget=budget.value,
            out=out,
            engine=engine.value,
            workers=workers,
            ray_address=ray_address,
            seed=seed,
            metric=metric,
            class_weights=lists.class_weights("--class-weights", class_weights),
            answer_pattern=answer_pattern,
            length_normalised=length_normalised,
            instruction=instruction,
            shots=shots,
            init_text=init_text,
            method_config=method_config,
            serve_with=serve_with.value if serve_with else None,
            **vars(choices),
            resume=resume,
            report_to=report_to.value if report_to else None,
            quiet=quiet or json,
            again=_command(model, data, shown),
            dry_run=dry_run,
            push_to_hub=push_to_hub,
            private=not public,
            base_id=base_id,
            **{**opening, "dtype": "auto" if dtype is Dtype.auto else getattr(torch, dtype.value), "device": device},
        )
    if isinstance(result, AuditPlan):
        write_json(dumps(result.to_dict(), indent=2) + "\n") if json else say(str(result))
        raise SystemExit(0)
    if json:
        write_json(render_json(result))
    else:
        print_summary(result)
        say(f"\nFull report: {out / 'report.html'}")
    raise SystemExit(0 if exit_zero else result.exit_status)


def _chosen(tokens: Callable[[], object], learning_rates: Callable[[], object], **others: Any) -> Choices | list[Fault]:
    """The choices, or all that is wrong with them."""
    faults: list[Fault] = []
    for name, read in (("tokens", tokens), ("learning_rates", learning_rates)):
        try:
            others[name] = read()
        except InputError as error:
            faults += error.faults
    try:
        choices = choices_of(**others)
    except InputError as error:
        return faults + list(error.faults)
    return faults or choices


def _command(model: str, data: str, options: Mapping[str, object]) -> str:
    """The command line that does this audit again; what is None is left to its default."""
    call = ["promptreach", "audit", model, data]
    for name, value in options.items():
        several = [f"{key}={one}" for key, one in value.items()] if isinstance(value, Mapping) else value
        for one in several if isinstance(several, list) else [several]:
            flag = f"--{name.replace('_', '-')}"
            call += [] if one is None else [flag] if one is True else [flag, str(one)]
    return " ".join(map(_quoted, call))


def _quoted(part: str) -> str:
    """One argument as a shell reads it, in letters that a terminal shows; odd bytes as bash writes them."""
    if part == printable(part):
        return shlex.quote(part)
    plain = (
        chr(byte) if 32 <= byte < 127 and chr(byte) not in "'\\" else f"\\{byte:03o}" for byte in os.fsencode(part)
    )
    return f"$'{''.join(plain)}'"
