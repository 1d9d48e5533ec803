"""An adapter folder that is ready to answer: the model as it reads, and the head that turns states into labels.

A folder that this library wrote has its head beside the adapter; one that PEFT trained as a sequence classifier has the
architecture's own head in it; one with neither answers with text, through the model's language head.
"""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.backbone import Classifier
from promptreach.data import KindName, LabelledTexts, TaskData
from promptreach.hf import OpenModel, load_adapter, load_readout
from promptreach.hf.adapters.brought import bring, other_base_of
from promptreach.hf.adapters.by_config import ConfiguredAdapter, attach_any, is_configured, load_configured
from promptreach.hf.adapters.classifier import load_classifier
from promptreach.hf.adapters.folders import Readout
from promptreach.hf.adapters.places import CONFIG
from promptreach.hf.adapters.tokenizer import reading_as
from promptreach.prompt import Adapter
from promptreach.report.findings import Block, Text
from promptreach.report.formatting import counted
from promptreach.training.runs import Run
from promptreach.training.task.encoding import Encoded, evaluation_batches
from promptreach.training.task.judging import stops_of
from promptreach.training.task.kinds.kind import UNSCALED, Scale
from promptreach.training.task.kinds.registry import KINDS
from promptreach.training.task.objective import Outcomes
from promptreach.training.task.readout import LinearHead, blank_head
from promptreach.training.task.task import Task
from promptreach.training.task.writing import greedy

BATCH = 32
"""Rows that are answered in one forward pass."""
_SHOWN_LABELS = 5


@dataclass(frozen=True, eq=False)
class AdapterReader:
    """One adapter folder on one model.

    Attributes:
        folder: the place.
        model: as the adapter reads it, with the tokenizer beside it where that has tokens of its own.
        adapter: the record; None where the folder holds a head alone.
        head: the read-out beside it, or None.
        classifier: the architecture's own head with the adapter under it, or None.
        labels: those of `head`, in the order of its outputs; empty where nothing names them.
        pairs: whether its head was trained on two texts a row.
        kind: what the head tells.
        scale: the mean and the standard deviation of the numbers that it was trained on; 0 and 1 for every other kind.
        other_base: the model that the folder names as its own, where that is another than `model`; otherwise empty.
    """

    folder: Path
    model: OpenModel
    adapter: Adapter | ConfiguredAdapter | None
    head: LinearHead | None = None
    classifier: Classifier | None = None
    labels: tuple[str, ...] = ()
    pairs: bool = False
    kind: KindName = "labels"
    scale: Scale = UNSCALED
    other_base: str = ""

    @property
    def classifies(self) -> bool:
        """Whether it answers through a head."""
        return self.head is not None or self.classifier is not None

    def outputs(self, sequences: Sequence[Sequence[int]]) -> Float[Tensor, "examples ... outputs"]:
        """The head's outputs on token sequences, in their order, class logits for example; of what `classifies` alone.
        Where each token is read they are (examples, tokens, outputs), zero behind the end."""
        if self.head is None:
            assert self.classifier is not None
            return self.classifier(sequences)
        each = (max(map(len, sequences)),) if self.head.pooling == "each" else ()
        found = torch.zeros(len(sequences), *each, len(self.head.bias))
        with torch.no_grad(), nullcontext() if self.adapter is None else attach_any(self.model, self.adapter) as joined:
            for rows in evaluation_batches([len(ids) for ids in sequences], BATCH):
                batch = self.model.batch([sequences[row] for row in rows])
                own = self.head(self.model.hidden(batch, joined), batch.mask).float().cpu()
                if each:
                    found[rows, : own.shape[1]] = own
                else:
                    found[rows] = own
        return found

    def written(self, prompts: Sequence[Sequence[int]], most: int) -> list[list[int]]:
        """The likeliest token after each prompt, and after that, until a token that ends what the model writes, `most`,
        or the end of the context; see `promptreach.training.task.writing`."""
        with nullcontext() if self.adapter is None else attach_any(self.model, self.adapter) as joined:
            return greedy(self.model, prompts, most, stops_of(self.model), joined)

    @torch.no_grad()
    def answered(self, data: Encoded) -> Outcomes:
        """What the answers to `data` are worth, whose labels are numbered as the head's outputs are."""
        head = self.head or blank_head()
        return (
            KINDS[self.kind].objective(head, self.scale).answered(self.outputs(data.sequences), data, range(len(data)))
        )


def base_note(folder: Path, other: str, model: OpenModel) -> list[Block]:
    """The base that an adapter's folder names, said where it is another than the model that it is put on."""
    if not other:
        return []
    said = f"{folder} names another base model, {other}, and was put on {model.name}: was it trained on this one?"
    return [Text(text=said)]


def unused_note(data: TaskData) -> list[Block]:
    """The columns of the user's table that play no part, said where there are any; and what may be meant otherwise."""
    said = list(data.remarks)
    if data.unused_columns:
        said.append(f"Columns that play no part: {', '.join(data.unused_columns)}.")
    return [Text(text=sentence) for sentence in said]


def cut_note(parts: Iterable[Encoded], length: int) -> list[Block]:
    """What cutting the rows has cost, said where it has cost an answer or a part of one."""
    rows = list(parts)
    lost, count = sum(part.cut_answers for part in rows), sum(map(len, rows))
    if not lost:
        return []
    cut = sum(part.truncated for part in rows)
    said = (
        f"{cut:,} of {counted(count, 'row')} are cut at {length:,} tokens, and {lost:,} of them lose their answer or a "
    )
    return [Text(text=f"{said}part of it: a stretch of a context that is not read is missed. --max-length reads more.")]


def labels_note(train: TaskData, held_out: TaskData) -> list[Block]:
    """The labels that a part lacks, said where there are any: one that is never trained, or never judged."""
    if not isinstance(train, LabelledTexts) or not isinstance(held_out, LabelledTexts):
        return []
    said = []
    for part, name, what in ((train, "training", "taught"), (held_out, "held-out", "judged")):
        if missing := sorted({*part.label_names} - {*part.answers}):
            more = f" and {len(missing) - _SHOWN_LABELS:,} more" if len(missing) > _SHOWN_LABELS else ""
            named = ", ".join(map(repr, missing[:_SHOWN_LABELS]))
            said.append(f"No {name} row has the label {named}{more}, so that it is not {what}: add rows of it.")
    return [Text(text=sentence) for sentence in said]


def readout_of(task: Task, run: Run) -> Readout | None:
    """The trained head as it is kept beside an adapter; None where the model's own language head answers.

    One matrix and bias on the last hidden states at the head's place, and what it takes to read their outputs.
    """
    if task.pooling is None or not run.head:
        return None
    centre, spread, weight, bias = (run.head[name] for name in ("centre", "spread", "weight", "bias"))
    head = LinearHead(task.pooling, centre, spread, weight, bias)
    weight, bias = head.folded()
    info: dict[str, Any] = {"pooling": task.pooling, "labels": list(getattr(task.train, "label_names", ()))}
    info |= {"pairs": bool(getattr(task.train, "seconds", ())), "kind": task.kind.name}
    if (scale := task.kind.scale(task.encoded["train"])) != UNSCALED:
        info["scale"] = scale
    return {"weight": weight, "bias": bias}, info


def headed(
    folder: Path, model: OpenModel, adapter: Adapter | ConfiguredAdapter | None, readout: Readout
) -> AdapterReader:
    """An adapter with the read-out that lies beside it, on its model."""
    tensors, info = readout
    weight, bias = tensors["weight"].cpu(), tensors["bias"].cpu()
    plain = torch.zeros(weight.shape[1]), torch.ones(weight.shape[1])  # the standardisation is folded in
    said: dict[str, Any] = {"labels": tuple(map(str, info["labels"])), "pairs": bool(info.get("pairs"))}
    said |= {"kind": info.get("kind", "labels")}
    said |= {"scale": tuple(info["scale"])} if "scale" in info else {}
    return AdapterReader(folder, model, adapter, LinearHead(info["pooling"], *plain, weight, bias), **said)


def read_folder(folder: str | Path, model: OpenModel) -> AdapterReader:
    """The adapter, or the head alone, in a folder on its model.

    Raises:
        AdapterError: as `promptreach.hf.load_adapter` does.
        FormatError: for a read-out of an unknown version.
    """
    folder = Path(folder)
    readout = load_readout(folder) if folder.is_dir() else None
    if readout is not None:
        model = model.reading  # of an encoder-decoder the encoder alone, as in training
    if readout is not None and not (folder / CONFIG).is_file():
        return headed(folder, model, None, readout)
    reader = _with_adapter(folder, model, readout)
    return replace(reader, other_base=other_base_of(folder, model))


def _with_adapter(folder: Path, model: OpenModel, readout: Readout | None) -> AdapterReader:
    if is_configured(folder):
        adapter = load_configured(folder, model)
        if readout is not None:
            return headed(folder, model, adapter, readout)
        return AdapterReader(folder, model, adapter, None, load_classifier(folder, model))
    if readout is not None:  # a classifier's own head in the folder is the same once more
        reading = reading_as(folder, model) if folder.is_dir() else model
        return headed(folder, reading, load_adapter(folder, reading), readout)
    brought = bring(folder, model)
    return AdapterReader(folder, brought.model, brought.adapter, None, brought.classifier)


def headless_remedy(reader: AdapterReader) -> str:
    """The command that gives an adapter without a head one; `audit` brings prompts, prefixes and LoRA alone."""
    if isinstance(reader.adapter, ConfiguredAdapter):
        config = reader.folder / CONFIG
        return f"promptreach fit MODEL DATA --method-config {config} --out DIR trains its method with a head"
    return "promptreach audit MODEL DATA --adapter DIR fits one to your rows and judges it"
