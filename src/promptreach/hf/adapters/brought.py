"""An adapter that somebody brings, ready to be judged: itself, the model as it reads, and what its folder tells."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from promptreach.backbone import Classifier
from promptreach.hf.adapters.classifier import load_classifier, reading_of
from promptreach.hf.adapters.folders import load_adapter
from promptreach.hf.adapters.places import CONFIG
from promptreach.hf.adapters.tokenizer import added_tokens, reading_as
from promptreach.hf.models.model import OpenModel
from promptreach.prompt import Adapter


@dataclass(frozen=True, eq=False)
class Brought:
    """One adapter folder on one model.

    Attributes:
        model: as given, with the tokenizer beside the adapter where that has tokens of its own.
        adapter: the record.
        pooling: where its own classifier reads, or None where the folder does not say that it has one.
        classifier: that classifier, where it can be run.
        other_base: the model that the folder names as its own, where that is another than `model`; otherwise empty.
        added_tokens: those of its tokenizer that the model's own lacks.
    """

    model: OpenModel
    adapter: Adapter
    pooling: Literal["first", "last"] | None = None
    classifier: Classifier | None = field(default=None, repr=False)
    other_base: str = ""
    added_tokens: tuple[str, ...] = ()


def bring(folder: str | Path, model: OpenModel) -> Brought:
    """The adapter in a PEFT folder, on a model.

    Raises:
        AdapterError: as `load_adapter` does; and for tokens of its own that the model has no row for, by name.
    """
    folder = Path(folder)
    added = added_tokens(folder, model) if folder.is_dir() else ()
    reading = reading_as(folder, model) if added else model
    return Brought(
        reading,
        load_adapter(folder, reading),
        reading_of(folder, reading),
        load_classifier(folder, reading),
        other_base_of(folder, model),
        added,
    )


def other_base_of(folder: Path, model: OpenModel) -> str:
    """The base that the folder names, unless it may be `model`: the same name, place, or last part of either."""
    named = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        return ""
    source = model.origin.source if model.origin else model.name
    own = {Path(name).expanduser().name.lower() for name in (model.name, source)}
    return "" if Path(named).name.lower() in own or Path(named).resolve() == Path(source).resolve() else named
