"""An adapter folder that is ready to answer: the model as it reads, and the head that turns states into labels.

A folder that this library wrote has its head beside the adapter; one that PEFT trained as a sequence classifier has the
architecture's own head in it; one with neither answers with text, through the model's language head.
"""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.backbone import Classifier, Prepended
from promptreach.data import TaskData
from promptreach.hf import OpenModel, attach, load_readout
from promptreach.hf.adapters.brought import bring
from promptreach.hf.adapters.by_config import PEFT_KINDS, attached_folder, config_of
from promptreach.hf.adapters.folders import SUPPORTED_TYPES
from promptreach.hf.adapters.places import CONFIG
from promptreach.prompt import Adapter
from promptreach.report.findings import Block, Text
from promptreach.training.methods.methods import positions_of
from promptreach.training.task.encoding import evaluation_batches
from promptreach.training.task.readout import LinearHead

BATCH = 32
"""Rows that are answered in one forward pass."""


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
        positions: how many it puts in front of a text.
        by_config: whether it is of a kind that PEFT alone reads; there is no record of it then.
        pairs: whether its head was trained on two texts a row.
    """

    folder: Path
    model: OpenModel
    adapter: Adapter | None
    head: LinearHead | None = None
    classifier: Classifier | None = None
    labels: tuple[str, ...] = ()
    pairs: bool = False
    positions: int = 0
    by_config: bool = False

    def attached(self) -> AbstractContextManager[Prepended]:
        """The adapter on its model for a `with` block."""
        if self.by_config:
            return attached_folder(self.model, self.folder)
        return nullcontext(Prepended()) if self.adapter is None else attach(self.model, self.adapter)

    @property
    def classifies(self) -> bool:
        """Whether it answers with labels."""
        return self.head is not None or self.classifier is not None

    def logits(self, sequences: Sequence[Sequence[int]]) -> Float[Tensor, "examples classes"]:
        """The class logits of token sequences, in their order; of what `classifies` alone."""
        if self.head is None:
            assert self.classifier is not None
            return self.classifier(sequences)
        found = torch.empty(len(sequences), len(self.head.bias))
        with torch.no_grad(), self.attached() as joined:
            for rows in evaluation_batches([len(ids) for ids in sequences], BATCH):
                batch = self.model.batch([sequences[row] for row in rows])
                found[rows] = self.head(self.model.hidden(batch, joined), batch.mask).float().cpu()
        return found


def unused_note(data: TaskData) -> list[Block]:
    """The columns of the user's table that play no part, said where there are any; and what may be meant otherwise."""
    said = list(data.remarks)
    if data.unused_columns:
        said.append(f"Columns that play no part: {', '.join(data.unused_columns)}.")
    return [Text(text=sentence) for sentence in said]


def read_folder(folder: str | Path, model: OpenModel) -> AdapterReader:
    """The adapter, or the head alone, in a folder on its model.

    Raises:
        AdapterError: as `promptreach.hf.load_adapter` does.
        FormatError: for a read-out of an unknown version.
    """
    folder = Path(folder)
    readout = load_readout(folder) if folder.is_dir() else None
    head: LinearHead | None = None
    labels: tuple[str, ...] = ()
    pairs = False
    if readout is not None:
        tensors, info = readout
        weight, bias = tensors["weight"], tensors["bias"]
        plain = torch.zeros(weight.shape[1]), torch.ones(weight.shape[1])  # the standardisation is folded in
        head, labels = LinearHead(info["pooling"], *plain, weight, bias), tuple(map(str, info["labels"]))
        pairs = bool(info.get("pairs"))
        if not (folder / CONFIG).is_file():
            return AdapterReader(folder, model, None, head, None, labels, pairs)
    kind = _kind(folder)
    if kind in PEFT_KINDS and kind not in SUPPORTED_TYPES:
        positions = positions_of(config_of(folder / CONFIG))
        return AdapterReader(folder, model, None, head, None, labels, pairs, positions, by_config=True)
    brought = bring(folder, model)
    classifier = None if head is not None else brought.classifier
    positions = brought.adapter.positions
    return AdapterReader(folder, brought.model, brought.adapter, head, classifier, labels, pairs, positions)


def _kind(folder: Path) -> str:
    """PEFT's name of the adapter in a folder; empty where nothing tells it."""
    try:
        return str(json.loads((folder / CONFIG).read_text(encoding="utf-8"))["peft_type"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
