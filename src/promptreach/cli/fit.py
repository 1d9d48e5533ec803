"""``promptreach fit``: one adapter, trained well, as a folder."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from promptreach.cli import _answers as answers
from promptreach.cli._audit_options import class_weights as class_weights_of
from promptreach.cli._command import (
    MOST_SEED,
    BaseId,
    Json,
    Model,
    Public,
    PushToHub,
    Quiet,
    ReportTo,
    Revision,
    ServeWith,
    exit_status,
    unpublishable,
    within,
)
from promptreach.preflight import look
from promptreach.terminal import say
from promptreach.training.arguments import MIN_CONTENT, least_faults, rate_faults
from promptreach.training.task.metric_names import metric_name_faults

_TRAINING = "Training"
_COLUMNS = "Columns of DATA, where their names do not tell"


class _Pooling(StrEnum):
    mean = "mean"
    first = "first"
    last = "last"


class _Method(StrEnum):
    prompt = "prompt"
    prefix = "prefix"
    lora = "lora"
    head = "head"


def fit(
    model: Model,
    data: Annotated[str, typer.Argument(metavar="DATA", help="JSONL, CSV, TSV or Parquet file, or a hub id.")],
    out: Annotated[Path, typer.Option(help="The folder of the adapter.")],
    method: Annotated[
        _Method, typer.Option(metavar="METHOD", help="prompt, prefix, lora or head; more from Python.")
    ] = _Method.prompt,
    method_config: Annotated[
        Path | None, typer.Option(help="JSON of a PEFT config: any method of PEFT's, in the place of METHOD.")
    ] = None,
    tokens: Annotated[int, typer.Option(help="Of a prompt or a prefix.")] = 16,
    rank: Annotated[int, typer.Option(help="Of LoRA.")] = 8,
    learning_rate: Annotated[
        float | None,
        typer.Option(rich_help_panel=_TRAINING, show_default="searched for", help="Given, not searched."),
    ] = None,
    search: Annotated[bool, typer.Option(rich_help_panel=_TRAINING, help="Look for the learning rate.")] = True,
    init: Annotated[
        str | None, typer.Option(rich_help_panel=_TRAINING, show_default="the method's best", help="How it starts.")
    ] = None,
    init_text: Annotated[
        str | None, typer.Option(rich_help_panel=_TRAINING, help="A text that a prompt or prefix starts from.")
    ] = None,
    steps: Annotated[int, typer.Option(rich_help_panel=_TRAINING, help="Of the training.")] = 200,
    batch_size: Annotated[int, typer.Option(rich_help_panel=_TRAINING, help="Rows a step.")] = 32,
    accumulate: Annotated[
        int, typer.Option(rich_help_panel=_TRAINING, help="Slices of a step's rows: less memory, the same result.")
    ] = 1,
    gradient_checkpointing: Annotated[
        bool,
        typer.Option("--gradient-checkpointing", rich_help_panel=_TRAINING, help="Less memory, a third more time."),
    ] = False,
    max_length: Annotated[int, typer.Option(rich_help_panel=_TRAINING, help="Tokens of a row that are read.")] = 128,
    class_weights: Annotated[
        str | None, typer.Option(rich_help_panel=_TRAINING, help="balanced, or such as neg=1,pos=5: in the loss.")
    ] = None,
    text_col: Annotated[str | None, typer.Option(rich_help_panel=_COLUMNS, help="The text to classify.")] = None,
    label_col: Annotated[str | None, typer.Option(rich_help_panel=_COLUMNS, help="Its label.")] = None,
    prompt_col: Annotated[str | None, typer.Option(rich_help_panel=_COLUMNS, help="The prompt.")] = None,
    completion_col: Annotated[str | None, typer.Option(rich_help_panel=_COLUMNS, help="Its completion.")] = None,
    pair_col: Annotated[str | None, typer.Option(rich_help_panel=_COLUMNS, help="A second text to the first.")] = None,
    chat_template: Annotated[
        str | None, typer.Option(rich_help_panel=_COLUMNS, help="Jinja, or its file; else the model's.")
    ] = None,
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
    options_col: answers.OptionsCol = None,
    options: answers.Options = None,
    metric: answers.Metric = None,
    answer_pattern: answers.AnswerPattern = None,
    length_normalised: answers.LengthNormalised = False,
    split_col: Annotated[str | None, typer.Option(rich_help_panel=_COLUMNS, help="The part of each row.")] = None,
    validation: Annotated[str | None, typer.Option(help="Rows that choose the rate and the step.")] = None,
    test: Annotated[str | None, typer.Option(help="Rows that judge.")] = None,
    serve_with: ServeWith = None,
    report_to: ReportTo = None,
    pooling: Annotated[
        _Pooling | None,
        typer.Option(rich_help_panel=_TRAINING, show_default="chosen", help="Where a head reads: mean, first or last."),
    ] = None,
    head_bias: Annotated[
        bool, typer.Option(rich_help_panel=_TRAINING, help="Decoders' own classifiers have none.")
    ] = True,
    push_to_hub: PushToHub = None,
    public: Public = False,
    base_id: BaseId = "",
    seed: Annotated[int, typer.Option(callback=within(0, MOST_SEED), help="The same seed gives the same adapter.")] = 0,
    device: Annotated[str, typer.Option(help="Where the model goes.")] = "cpu",
    revision: Revision = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """One adapter, trained well, in a folder that PEFT loads, with a model card.

    27 % of the rows are kept aside and judge it, unless TEST does; the rate is searched for unless it is given. Whether
    another method or length would do better is what promptreach audit asks.

    Exit status: 0 done, 2 the call or its input is wrong.
    """
    given: dict[str, Any] = {"text_col": text_col, "label_col": label_col}
    given |= {"prompt_col": prompt_col, "completion_col": completion_col}
    given |= {"pair_col": pair_col, "chat_template": chat_template}
    given |= {"label_kind": label_kind, "words_col": words_col, "tags_col": tags_col}
    given |= {"question_col": question_col, "context_col": context_col, "answers_col": answers_col}
    given |= {"split_col": split_col, "validation": validation, "test": test}
    given |= {"options_col": options_col, "options": answers.options_of(options)}
    with exit_status():
        counts = {"tokens": tokens, "rank": rank, "steps": steps, "batch_size": batch_size, "accumulate": accumulate}
        known = least_faults(counts) + least_faults({"max_length": max_length}, MIN_CONTENT)
        known += metric_name_faults(metric) + rate_faults("learning_rate", learning_rate)
        known += unpublishable(push_to_hub, model, base_id)
        look(model, data=data, columns=given, device=device, revision=revision, known=known)

    from promptreach.commands.fit import fit_adapter
    from promptreach.data import Completions
    from promptreach.hf import open_model
    from promptreach.hf.adapters.by_config import config_of
    from promptreach.report.text import print_finding
    from promptreach.tables import read_task

    with exit_status():
        rows = read_task(data, **given)
        opened = open_model(
            model,
            task="causal" if isinstance(rows, Completions) else None,
            revision=revision,
            device=device,
            gradient_checkpointing=gradient_checkpointing,
        )
        finding = fit_adapter(
            opened,
            rows,
            out,
            method=method.value if method_config is None else config_of(method_config),
            tokens=tokens,
            rank=rank,
            learning_rate=learning_rate,
            search=search,
            init=init,
            init_text=init_text,
            steps=steps,
            batch_size=batch_size,
            max_length=max_length,
            class_weights=class_weights_of("--class-weights", class_weights),
            metric=metric,
            answer_pattern=answer_pattern,
            length_normalised=length_normalised,
            serve_with=serve_with.value if serve_with else None,
            seed=seed,
            accumulate=accumulate,
            report_to=report_to.value if report_to else None,
            pooling=None if pooling is None else pooling.value,
            head_bias=head_bias,
            push_to_hub=push_to_hub,
            private=not public,
            base_id=base_id,
            quiet=quiet or json,
        )
    print_finding(finding, as_json=json)
    if not json:
        say(f"\nAdapter and model card: {out}")
        if address := finding.values["published"]:
            say(f"Published at {address}")
