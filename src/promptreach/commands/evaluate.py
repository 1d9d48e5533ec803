"""Adapters scored side by side on the same rows, beside the bare model, as a finding."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import torch

from promptreach.certificate import Evidence
from promptreach.commands.intervals import Interval, about_label, decided_by, gained, metrics_of
from promptreach.commands.reading import (
    BATCH,
    AdapterReader,
    base_note,
    cut_note,
    headless_remedy,
    read_folder,
    unused_note,
)
from promptreach.data import Completions, ContextSpans, LabelledTexts, NumberedTexts, SeveralLabels, TaskData
from promptreach.diagnosis.measures.comparison import paired
from promptreach.errors import Fault, InputError, raise_if_any
from promptreach.hf import OpenModel
from promptreach.hf.adapters.by_config import ConfiguredAdapter, attach_any
from promptreach.progress import Progress
from promptreach.prompt import Adapter
from promptreach.report.findings import Block, Cell, Finding, Table, Text
from promptreach.report.formatting import counted, format_number
from promptreach.training.arguments import MIN_CONTENT
from promptreach.training.task.deciding import (
    KINDS_IN_WORDS,
    chosen_metric,
    metric_faults,
    positive_label,
    usual_metric,
)
from promptreach.training.task.encoding import Encoded, encode
from promptreach.training.task.judging import PLAIN, Judging, judging_faults
from promptreach.training.task.kinds.kind import TaskKind
from promptreach.training.task.kinds.registry import kind_of
from promptreach.training.task.limits import drawn_rows
from promptreach.training.task.metric_names import Metric, ScoreMetric, in_words
from promptreach.training.task.metrics import is_known
from promptreach.training.task.objective import Outcomes
from promptreach.training.task.readout import blank_head
from promptreach.training.task.task import MIN_INPUTS, Task, cross_answered

BARE = "bare model"
"""The row of the model without any adapter."""


@dataclass(frozen=True)
class Difference:
    """What one adapter has over another, or over the bare model, on the same rows.

    Attributes:
        first, second: their names.
        accuracy: the first's less the second's; None where no answer is right or wrong.
        loss_saved: the second's less the first's, in nats an answer.
        score: the first's less the second's, in the metric that decides; None where that is accuracy.
    """

    first: str
    second: str
    accuracy: Interval | None
    loss_saved: Interval
    score: Interval | None = None


def evaluate_adapters(
    model: OpenModel,
    folders: Sequence[Path],
    data: TaskData,
    *,
    max_length: int = 128,
    metric: str | None = None,
    judging: Judging = PLAIN,
    limit: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Finding:
    """Metrics of every adapter on the rows of `data`, each with a 90 % interval, and their paired differences.

    The bare model stands beside them: for completions as it is; otherwise with a linear head on its states, fitted by
    cross-validation to these very rows, so that it has seen no row that it answers.

    Args:
        model: the base of all of them.
        folders: of adapters, or of heads alone.
        data: any rows; those that an adapter was trained on flatter it.
        max_length: tokens of a row that are read; what is cut is counted.
        metric: shown first, and what adapters are ranked by; None takes the usual one of the kind of task.
        judging: how completions are judged beside their loss, and options chosen.
        limit: rows that are drawn; None takes all.
        seed: for that draw, the folds and the bootstrap.
        progress: of the adapters.

    Raises:
        AdapterError: for a folder that cannot be read or was made for another model.
        InputError: all at once, where a folder and the rows do not go together: labels without a head, a head of
            another kind of task, labels that a head does not know, completions for a head or on an encoder; and for
            `max_length` or `limit`.
        DataError: when a row cannot be encoded.
    """
    model = model if isinstance(data, Completions) else model.reading
    readers = [read_folder(folder, model) for folder in folders]
    names = _names(folders)
    faults = _faults(readers, data, model, max_length, limit)
    raise_if_any([*faults, *metric_faults(metric, data), *judging_faults(judging, data)])
    rows = data if limit is None else data.take(drawn_rows(len(data), limit, seed))
    longest = max((reader.adapter.positions for reader in readers if reader.adapter is not None), default=0)
    length = min(max_length, model.max_positions - longest)
    found: dict[str, Outcomes] = {}
    steps = (progress or Progress(quiet=True)).task("adapters", total=len(readers) + 1)
    with steps as step:
        bare, encoded, why_not = _bare(model, rows, length, seed, judging)
        step()
        if bare is not None:
            found[BARE] = bare
        for name, reader in zip(names, readers, strict=True):
            found[name] = _outcomes(reader, rows, length, judging)
            step()
    asked = chosen_metric(metric, judging) or usual_metric(data)
    decides = decided_by(data, asked)
    raise_if_any([_unscored(name) for name, own in found.items() if decides and not is_known(decides, own)])
    notes: list[Block] = [Text(text=f"The bare model was left out. {why_not}")] if why_not else []
    notes += [note for reader in readers for note in base_note(reader.folder, reader.other_base, reader.model)]
    notes += [*cut_note([encoded], length), *unused_note(rows)]
    cut = f"{encoded.truncated:,} of them cut at {length:,} tokens"
    return _finding(found, rows, model, cut, notes, seed, asked)


def _names(folders: Sequence[Path]) -> list[str]:
    """The last part of each folder, or the whole path where two share it."""
    lasts = [folder.name for folder in folders]
    names = [
        last if last and lasts.count(last) == 1 else str(folder) for last, folder in zip(lasts, folders, strict=True)
    ]
    # The same folder twice is a call that asks for nothing new, but no row may hide another.
    return [f"{name} ({names[:at].count(name) + 1})" if name in names[:at] else name for at, name in enumerate(names)]


def _faults(
    readers: Sequence[AdapterReader],
    data: TaskData,
    model: OpenModel,
    max_length: int,
    limit: int | None,
) -> list[Fault]:
    faults = []
    if max_length < MIN_CONTENT:
        faults.append(Fault("max_length", str(max_length), f"at least {MIN_CONTENT}"))
    if limit is not None and limit < 2:
        faults.append(Fault("limit", str(limit), "at least 2 rows"))
    if isinstance(data, Completions):
        if model.task == "encoder":
            faults.append(Fault("data", "prompts with completions", "labelled texts for an encoder"))
        remedy = "give its rows a text and a label column"
        return faults + [
            Fault(str(reader.folder), "a classifier for completions", "an adapter that answers with text", remedy)
            for reader in readers
            if reader.classifies
        ]
    known = set(getattr(data, "label_names", ()))
    for reader in readers:
        where = str(reader.folder)
        if not reader.classifies:
            seen = "an adapter without a head, for labelled rows"
            faults.append(Fault(where, seen, "a head beside it or in it", headless_remedy(reader)))
        elif reader.kind != data.kind:
            seen = f"a head for {KINDS_IN_WORDS[reader.kind]}, for rows with {KINDS_IN_WORDS[data.kind]}"
            faults.append(Fault(where, seen, "rows of the kind that it was trained on", "say it with --label-kind"))
        elif reader.head is not None and reader.pairs != bool(getattr(data, "seconds", ())):
            seen = "a head for two texts a row" if reader.pairs else "a head for one text a row"
            faults.append(Fault(where, seen, "rows of that kind", "name the second text with --pair-col"))
        elif reader.labels and (unknown := sorted(known - set(reader.labels))):
            seen = f"labels that its head does not know: {', '.join(unknown[:5])}"
            faults.append(Fault(where, seen, f"those of its head: {', '.join(reader.labels[:8])}"))
    return faults


def _outcomes(reader: AdapterReader, rows: TaskData, length: int, judging: Judging) -> Outcomes:
    """How an adapter answers each row."""
    if isinstance(rows, Completions):
        return _completed(reader.model, reader.adapter, rows, length, judging)
    named = _numbered_as(reader.labels, rows)
    try:
        found = reader.answered(encode(reader.model, named, length))
    except IndexError:
        known = len(getattr(named, "label_names", ()))
        seen, expected = "a head with too few outputs", f"one for each of the {known} labels"
        raise InputError(Fault(str(reader.folder), seen, expected)) from None
    return found if named is rows or not isinstance(rows, LabelledTexts) else _as_in_rows(found, reader.labels, rows)


def _numbered_as(names: Sequence[str], rows: TaskData) -> TaskData:
    """The same rows with their labels numbered as a head's outputs are; as they are where nothing names these."""
    if not names or isinstance(rows, NumberedTexts | ContextSpans | Completions):
        return rows
    place = [list(names).index(name) for name in rows.label_names]
    if isinstance(rows, LabelledTexts):
        return replace(rows, labels=tuple(place[label] for label in rows.labels), label_names=tuple(names))
    if isinstance(rows, SeveralLabels):
        sets = tuple(tuple(sorted(place[label] for label in labels)) for labels in rows.label_sets)
        return replace(rows, label_sets=sets, label_names=tuple(names))
    tags = tuple(tuple(place[tag] for tag in tags) for tags in rows.tags)
    return replace(rows, tags=tags, label_names=tuple(names))


def _as_in_rows(found: Outcomes, names: Sequence[str], rows: LabelledTexts) -> Outcomes:
    """Outcomes of a head whose outputs have those names, with labels numbered as the rows have them and others behind,
    so that adapters agree on which label a metric is about."""
    assert found.given is not None
    assert found.true is not None
    order = [*rows.label_names, *(name for name in names if name not in rows.label_names)]
    place = torch.tensor([order.index(name) for name in names]).to(found.given)
    swapped = found.score is not None and list(names) == list(reversed(order))
    return replace(
        found,
        given=place[found.given.long()],
        true=place[found.true.long()],
        score=-found.score if swapped and found.score is not None else found.score,
    )


def _unscored(name: str) -> Fault:
    expected = "a head of two labels, whose scores say how sure it is"
    return Fault(name, "no score of the second label", expected, "Take macro_f1 or mcc.")


def _completed(
    model: OpenModel, adapter: Adapter | ConfiguredAdapter | None, rows: TaskData, length: int, judging: Judging
) -> Outcomes:
    task = _task(model, rows, length, judging)
    with nullcontext() if adapter is None else attach_any(model, adapter) as joined:
        return task.answered("rows", task.evaluate("rows", task.objective(), joined), joined)


def _task(model: OpenModel, rows: TaskData, length: int, judging: Judging = PLAIN) -> Task:
    """The rows as one part of a task, whole: nothing is trained on them."""
    encoded = {"rows": encode(model, rows, length)}
    return Task(model, rows, rows, rows, encoded, probes={}, pooling=None, batch_size=BATCH, judging=judging)


def _bare(
    model: OpenModel, rows: TaskData, length: int, seed: int, judging: Judging
) -> tuple[Outcomes | None, Encoded, str]:
    """The bare model's answers, the rows as tokens, and why it has no answers, where it has none."""
    task = _task(model, rows, length)
    encoded, kind = task.encoded["rows"], kind_of(rows)
    if kind is None:
        return _completed(model, None, rows, length, judging), encoded, ""
    alike = encoded.labels is not None and len(set(encoded.labels.tolist())) < 2
    if len(rows) < MIN_INPUTS or alike:
        return None, encoded, f"For a head on the bare model it takes {MIN_INPUTS} rows and two labels."
    task = replace(task, encoded={"train": encoded}, kind=kind, penalties=kind.penalties)
    outputs = cross_answered(task, kind.poolings(model.task), kind.outputs(rows), seed)
    with torch.no_grad():
        found = kind.objective(blank_head(), kind.scale(encoded)).answered(outputs, encoded, range(len(rows)))
    return found, encoded, ""


def _finding(
    found: dict[str, Outcomes],
    rows: TaskData,
    model: OpenModel,
    cut: str,
    notes: Sequence[Block],
    seed: int,
    asked: Metric,
) -> Finding:
    kind, positive, decides = kind_of(rows), positive_label(rows), decided_by(rows, asked)
    metrics = {name: metrics_of(outcomes, decides, kind, seed, positive) for name, outcomes in found.items()}
    differences = _differences(found, decides, kind, positive)
    blocks: list[Block] = [_metric_table(metrics, rows, kind, about_label(rows, decides))]
    if differences:
        blocks.append(_difference_table(differences, decides))
    blocks += notes
    first = next(iter(next(iter(metrics.values()))))
    best = max((name for name in metrics if name != BARE), key=lambda name: metrics[name][first].value)
    top = metrics[best][first]
    against = next((row for row in differences if (row.first, row.second) == (best, BARE)), None)
    summary = f"{best} has {top.value:.1%} of the answers right ({top.low:.1%} to {top.high:.1%}, 90 %)."
    if decides is not None:
        summary = f"{best} has {first} {top}, 90 %."
    if against is not None:
        known = against.score or against.accuracy
        said = gained(first, known) if known else gained("loss", against.loss_saved)
        summary += f" Over the bare model that is {said}."
    return Finding(
        check="evaluate",
        title="Adapters side by side",
        evidence=Evidence.MEASURED,
        sample=f"{counted(len(rows), 'row')} of {rows.source}, {cut}, on {model.name}",
        summary=summary,
        values={
            "rows": len(rows),
            "metric": asked,
            "metrics": {name: {key: asdict(part) for key, part in own.items()} for name, own in metrics.items()},
            "differences": [asdict(row) for row in differences],
        },
        blocks=blocks,
    )


def _metric_table(metrics: dict[str, dict[str, Interval]], rows: TaskData, kind: TaskKind | None, about: str) -> Table:
    columns = list(next(iter(metrics.values())))
    records: list[dict[str, Cell]] = [
        {"": name, **{column: str(own[column]) for column in columns}} for name, own in metrics.items()
    ]
    note = "With 90 % intervals over rows. "
    if isinstance(rows, LabelledTexts):
        often = max(rows.labels.count(label) for label in set(rows.labels)) / len(rows)
        note += f"Always the most frequent label: {format_number(often)}. "
    if isinstance(rows, Completions) and rows.options:
        note += "Of several options the likeliest is the answer; loss in nats of the right one, a row."
    elif kind is None:
        note += "Each token is predicted from the true ones before it; accuracy and loss (nats) are per token."
    else:
        note += (
            f"{BARE.capitalize()}: {kind.probe} on its states, cross-validated on these rows. Loss in nats an answer."
        )
    return Table.of("Metrics", records, note=note + about)


def _differences(
    found: dict[str, Outcomes], decides: ScoreMetric | None, kind: TaskKind | None, positive: int
) -> list[Difference]:
    """Each adapter against the bare model and against those before it, on the same rows."""
    rows = []
    names = list(found)
    for at, first in enumerate(names):
        for second in names[:at]:
            # Tokenizers that cut completions differently have no answers in common.
            if torch.equal(found[first].answers, found[second].answers):
                wanted = [
                    *(["accuracy"] if kind is None or kind.accuracy else []),
                    "loss",
                    *([decides] if decides else []),
                ]
                gains = {
                    one: paired(found[first], found[second], one, positive=positive)
                    for one in cast("list[Metric]", wanted)
                }
                ends = {one: Interval(gain.gain, gain.low, gain.high) for one, gain in gains.items()}
                rows.append(
                    Difference(first, second, ends.get("accuracy"), ends["loss"], ends[decides] if decides else None)
                )
    return rows


def _difference_table(differences: Sequence[Difference], decides: ScoreMetric | None) -> Table:
    records: list[dict[str, Cell]] = [
        {
            "adapter": row.first,
            "against": row.second,
            **({in_words(decides): row.score.signed()} if decides and row.score else {}),
            **({"accuracy": row.accuracy.signed()} if row.accuracy else {}),
            "loss saved": row.loss_saved.signed(),
        }
        for row in differences
    ]
    note = "Of the same rows, row by row: narrower than the intervals above. One training run each."
    return Table.of("Differences", records, note=note)
