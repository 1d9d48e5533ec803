"""``promptreach evaluate``: adapters side by side on any rows."""

from pathlib import Path
from typing import Annotated, Any

import typer

from promptreach.cli import _answers as answers
from promptreach.cli._command import MOST_SEED, Json, Model, Quiet, Revision, exit_status, within
from promptreach.preflight import look
from promptreach.training.task.metric_names import metric_name_faults

_COLUMNS = "Columns of DATA, where their names do not tell"


def evaluate(
    model: Model,
    adapters: Annotated[list[Path], typer.Argument(metavar="ADAPTER...", help="Folders of adapters, or heads alone.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="JSONL, CSV, TSV or Parquet file, or a hub id.")],
    text_col: Annotated[str | None, typer.Option(rich_help_panel=_COLUMNS, help="The text to classify.")] = None,
    label_col: Annotated[str | None, typer.Option(rich_help_panel=_COLUMNS, help="Its label.")] = None,
    prompt_col: Annotated[str | None, typer.Option(rich_help_panel=_COLUMNS, help="The prompt.")] = None,
    completion_col: Annotated[str | None, typer.Option(rich_help_panel=_COLUMNS, help="Its completion.")] = None,
    pair_col: Annotated[str | None, typer.Option(rich_help_panel=_COLUMNS, help="A second text to the first.")] = None,
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
    chat_template: Annotated[
        str | None, typer.Option(rich_help_panel=_COLUMNS, help="Jinja, or its file; else the model's.")
    ] = None,
    options_col: answers.OptionsCol = None,
    options: answers.Options = None,
    metric: answers.Metric = None,
    answer_pattern: answers.AnswerPattern = None,
    length_normalised: answers.LengthNormalised = False,
    max_length: Annotated[int, typer.Option(help="Tokens of a row that are read.")] = 128,
    limit: Annotated[int | None, typer.Option(show_default="all", help="Rows to draw.")] = None,
    seed: Annotated[int, typer.Option(callback=within(0, MOST_SEED), help="Of that draw and the intervals.")] = 0,
    device: Annotated[str, typer.Option(help="Where the model goes.")] = "cpu",
    revision: Revision = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Metrics of one adapter or several on the same rows, beside the bare model.

    Every metric has a 90 % interval, and every two adapters their difference row by row. No row is left out or
    split off: rows that an adapter was trained on flatter it.

    Exit status: 0 done, 2 the call or its input is wrong.
    """
    given: dict[str, Any] = {"text_col": text_col, "label_col": label_col}
    given |= {"prompt_col": prompt_col, "completion_col": completion_col}
    given |= {"pair_col": pair_col, "chat_template": chat_template}
    given |= {"options_col": options_col, "options": answers.options_of(options)}
    given |= {"question_col": question_col, "context_col": context_col, "answers_col": answers_col}
    given |= {"label_kind": label_kind, "words_col": words_col, "tags_col": tags_col}
    with exit_status():
        known = metric_name_faults(metric)
        look(model, data=data, columns=given, adapter=adapters, device=device, revision=revision, known=known)

    from promptreach.commands.evaluate import evaluate_adapters
    from promptreach.data import Completions
    from promptreach.hf import open_model
    from promptreach.progress import Progress
    from promptreach.report.text import print_finding
    from promptreach.tables import read_task
    from promptreach.training.task.judging import judging_of

    with exit_status(), Progress(quiet=quiet or json) as progress:
        rows = read_task(data, **given)
        opened = open_model(
            model, task="causal" if isinstance(rows, Completions) else None, revision=revision, device=device
        )
        finding = evaluate_adapters(
            opened,
            adapters,
            rows,
            max_length=max_length,
            metric=metric,
            judging=judging_of(metric, answer_pattern, length_normalised, rows),
            limit=limit,
            seed=seed,
            progress=progress,
        )
    print_finding(finding, as_json=json)
