"""The base of an adapter's folder, in one way for every command: as the caller says, or as the folder does."""

import json
from pathlib import Path

from promptreach.errors import AdapterError, Fault
from promptreach.hf.adapters.folders import base_model_of
from promptreach.hf.adapters.inspection import at_hand
from promptreach.hf.adapters.places import CONFIG


def base_of_folder(folder: Path, model: str | None, revision: str | None) -> tuple[str, str | None]:
    """The name and the revision of an adapter's base, as `promptreach.hf.open_model` takes them.

    A base that only the folder names has to be on this machine: nothing is downloaded unasked.

    Args:
        folder: of a PEFT adapter.
        model: its base as the caller says it, with a hub id's `revision`; None takes what the folder names.

    Raises:
        AdapterError: where the folder has no readable config, names no base, or one that is not here.
    """
    if model is not None:
        return model, revision
    named = base_model_of(folder)
    revision = revision or json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("revision") or None
    if not at_hand(named, revision):
        seen, remedy = f"the base {named}, which is not on this machine", "name it with --model"
        raise AdapterError(Fault(str(folder), seen, "a base that is here", remedy))
    return named, revision
