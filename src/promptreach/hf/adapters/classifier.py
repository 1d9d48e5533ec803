"""A sequence classifier that PEFT trained and saved, run as PEFT runs it: its own head, where that head reads.

transformers' heads read the first position of an encoder, through a pooler that the bare model does not have. What such
a classifier answers can therefore not be had from hidden states at the content's positions; it is run whole.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from peft import PeftModel
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification

from promptreach.backbone import Classifier
from promptreach.errors import AdapterError, raise_if_any
from promptreach.hf.adapters.places import CONFIG, WEIGHTS, file_faults
from promptreach.hf.models.load import quietly
from promptreach.hf.models.model import OpenModel

_HEADS = ("classifier.out_proj.weight", "classifier.weight", "score.weight")
"""The names of the last matrix of transformers' heads; its rows are the classes."""
_BATCH = 32
_NO_TOKEN = -1
"""A padding id that no content has. A causal model's head reads the last position that is no padding, which it cannot
see behind a prompt, and which a padding id that also stands in the content would misplace: its rows come unpadded."""


def load_classifier(folder: str | Path, model: OpenModel) -> Classifier | None:
    """The classifier that an adapter folder holds, on the weights that `model` was opened from.

    Returns:
        Its logits as a function: for every sequence those of that sequence alone, whatever stands beside it. None when
        the folder holds no classifier head, when `model` was not opened from a folder or a hub id, or when those
        weights lack a part that the head reads through, so that nobody can tell what it was trained on.

    Raises:
        AdapterError: when the folder's files are missing, damaged or pickled.
    """
    folder = Path(folder)
    is_classifier = _is_classifier(folder)
    classes = _classes_of(folder / WEIGHTS)
    if not is_classifier or classes is None or model.origin is None:
        return None
    if model.origin.source.endswith(".gguf") or model.origin.options.get("num_layers"):
        return None
    source, revision = model.origin.source, model.origin.options.get("revision")
    config = AutoConfig.from_pretrained(source, revision=revision, num_labels=classes)
    with torch.random.fork_rng(), quietly():
        base, loading = AutoModelForSequenceClassification.from_pretrained(
            source,
            revision=revision,
            config=config,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # a head for other classes, which the adapter's takes the place of
            output_loading_info=True,
        )
        classifier = PeftModel.from_pretrained(base, str(folder)).eval()
    absent = [*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"])]
    brought = _brought(folder / WEIGHTS)
    if any(key not in brought and not key.startswith(("classifier", "score")) for key in absent):
        return None
    if not model.both_ways:
        base.config.pad_token_id = _NO_TOKEN

    def logits(sequences: Sequence[Sequence[int]]) -> Tensor:
        found = torch.empty(len(sequences), classes)
        for rows in _batches(sequences, padded=model.both_ways):
            batch = model.batch([sequences[row] for row in rows])
            with torch.no_grad(), quietly():  # it remarks that it cannot see padding behind a prompt
                answer = classifier(input_ids=batch.input_ids.cpu(), attention_mask=batch.mask.long().cpu())
            found[rows] = answer.logits.float()
        return found

    return logits


def _batches(sequences: Sequence[Sequence[int]], padded: bool) -> list[list[int]]:
    """The rows of each batch; where none may be padded, only rows of one length stand together."""
    groups: dict[int, list[int]] = {}
    for row, sequence in enumerate(sequences):
        groups.setdefault(0 if padded else len(sequence), []).append(row)
    return [rows[at : at + _BATCH] for rows in groups.values() for at in range(0, len(rows), _BATCH)]


def reading_of(folder: str | Path, model: OpenModel) -> Literal["first", "last"] | None:
    """The place that an adapter folder's classifier reads at, or None when the folder does not say that it has one.

    PEFT's sequence classification puts transformers' own head on the model: it reads the first position of an encoder
    and the last token of a causal model. Behind a prompt the first position is a virtual token; the moved first content
    token, which stands right behind the prompt, is read here in its place.

    Raises:
        AdapterError: when the folder's files are missing, damaged or pickled.
    """
    if not _is_classifier(Path(folder)):
        return None
    return "first" if model.task == "encoder" else "last"


def _is_classifier(folder: Path) -> bool:
    """Whether PEFT trained what the folder holds as a sequence classifier."""
    raise_if_any(file_faults(folder), AdapterError)
    settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    return bool(settings.get("task_type") == "SEQ_CLS")


def _brought(weights: Path) -> set[str]:
    """The tensors of the classifier that come with the adapter, by their paths there."""
    with safe_open(weights, "pt") as file:
        return {key.removeprefix("base_model.").removeprefix("model.") for key in file.keys()}  # noqa: SIM118


def _classes_of(weights: Path) -> int | None:
    """The number of classes that the head in an adapter's weights tells apart; None where there is no head."""
    with safe_open(weights, "pt") as file:
        shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118 (it is no mapping)
    heads = [shape for ending in _HEADS for key, shape in shapes.items() if key.endswith(ending)]
    return int(heads[0][0]) if heads else None
