"""A sequence classifier that PEFT trained and saved, run as PEFT runs it: its own head, where that head reads.

transformers' heads read the first position of an encoder, through a pooler that the bare model does not have. What such
a classifier answers can therefore not be had from hidden states at the content's positions; it is run whole.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from peft import PeftModel
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification

from promptreach.errors import AdapterError, raise_if_any
from promptreach.hf.adapters import CONFIG, WEIGHTS, file_faults
from promptreach.hf.model import OpenModel

Classifier = Callable[[Sequence[Sequence[int]]], Float[Tensor, "examples classes"]]
"""Class logits of token sequences, in their order."""

_HEADS = ("classifier.out_proj.weight", "classifier.weight", "score.weight")
"""What the last matrix of transformers' heads is called; its rows are the classes."""
_BATCH = 32


def load_classifier(folder: str | Path, model: OpenModel) -> Classifier | None:
    """The classifier that an adapter folder holds, on the weights that `model` was opened from.

    Returns:
        Its logits as a function; None when the folder holds no classifier head, when `model` was not opened from a
        folder or a hub id, or when those weights lack a part that the head reads through, so that nobody can tell what
        it was trained on.

    Raises:
        AdapterError: when the folder's files are missing, damaged or pickled.
    """
    folder = Path(folder)
    raise_if_any(file_faults(folder), AdapterError)
    settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    classes = _classes_of(folder / WEIGHTS)
    if settings.get("task_type") != "SEQ_CLS" or classes is None or model.origin is None:
        return None
    if model.origin.source.endswith(".gguf") or model.origin.options.get("num_layers"):
        return None
    source, revision = model.origin.source, model.origin.options.get("revision")
    config = AutoConfig.from_pretrained(source, revision=revision, num_labels=classes)
    with torch.random.fork_rng():
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
    if any(not key.startswith(("classifier", "score")) for key in absent):
        return None
    # A causal model's head finds the last token by the padding behind it.
    base.config.pad_token_id = getattr(model.tokenizer, "pad_token_id", None) or 0

    def logits(sequences: Sequence[Sequence[int]]) -> Tensor:
        found = []
        for at in range(0, len(sequences), _BATCH):
            batch = model.batch(sequences[at : at + _BATCH])
            with torch.no_grad():
                answer = classifier(input_ids=batch.input_ids.cpu(), attention_mask=batch.mask.long().cpu())
            found.append(answer.logits.float())
        return torch.cat(found)

    return logits


def _classes_of(weights: Path) -> int | None:
    """How many classes the head in an adapter's weights tells apart; None where there is no head."""
    with safe_open(weights, "pt") as file:
        shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118 (it is no mapping)
    heads = [shape for ending in _HEADS for key, shape in shapes.items() if key.endswith(ending)]
    return int(heads[0][0]) if heads else None
