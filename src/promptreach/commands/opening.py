"""The Python that opens a base as it was opened here: the same place, revision, class, layers and type."""

from pathlib import Path

from promptreach.hf import OpenModel
from promptreach.hf.models.load import loader_of


def place_of(name: str, revision: str | None = None) -> str:
    """The first arguments of every ``from_pretrained`` for a base, as Python."""
    path = Path(name)
    if path.suffix == ".gguf":
        return f"{str(path.parent)!r}, gguf_file={path.name!r}"
    return repr(name) + (f", revision={revision!r}" if revision else "")


def opened_at(model: OpenModel) -> str:
    """The same for where a model was opened from."""
    return place_of(model.name, model.origin.options.get("revision") if model.origin else None)


def config_lines(model: OpenModel, place: str) -> list[str]:
    """The lines that leave away the layers that were left away; none where all were kept."""
    if model.origin is None or model.origin.options.get("num_layers") is None:
        return []
    kept = ["config.layer_types = config.layer_types[: config.num_hidden_layers]"]
    return [
        f"config = AutoConfig.from_pretrained({place})",
        f"config.num_hidden_layers = {model.num_layers}",
        *(kept if getattr(model.release().config, "layer_types", None) else []),
    ]


def auto_class(model: OpenModel) -> str:
    """The class of transformers that opens the model."""
    return str(loader_of(model.release().config, model.task).__name__)


def opening_call(model: OpenModel, place: str, *, reads: bool = False) -> str:
    """The call that opens the model; a `config` from `config_lines` is passed where there is one.

    Args:
        model: the opened one.
        place: the arguments by which it is found.
        reads: whether hidden states are read, which an encoder-decoder gives by its encoder alone.
    """
    config = ", config=config" if config_lines(model, place) else ""
    call = f"{auto_class(model)}.from_pretrained({place}{config}, dtype={model.release().dtype})"
    return f"{call}.get_encoder()" if reads and auto_class(model) == "AutoModelForSeq2SeqLM" else call
