"""The Python that opens a model as an audit opened it: the same place, revision, layers and type."""

from pathlib import Path

from promptreach.audit.context import AuditContext
from promptreach.hf.models.load import loader_of


def place_of(context: AuditContext) -> str:
    """The first arguments of every `from_pretrained`: where the model lies."""
    source = Path(context.model.name)
    if source.suffix == ".gguf":
        return f"{str(source.parent)!r}, gguf_file={source.name!r}"
    revision = context.model.origin.options.get("revision") if context.model.origin else None
    return repr(context.model.name) + (f", revision={revision!r}" if revision else "")


def config_lines(context: AuditContext) -> list[str]:
    """The lines that leave away the layers that the audit left away; none where it kept all."""
    model = context.model
    if model.origin is None or model.origin.options.get("num_layers") is None:
        return []
    kept = ["config.layer_types = config.layer_types[: config.num_hidden_layers]"]
    return [
        f"config = AutoConfig.from_pretrained({place_of(context)})",
        f"config.num_hidden_layers = {model.num_layers}",
        *(kept if getattr(model.release().config, "layer_types", None) else []),
    ]


def auto_class(context: AuditContext) -> str:
    """The class of transformers that opens the model."""
    return str(loader_of(context.model.release().config, context.model.task).__name__)


def opening_call(context: AuditContext) -> str:
    """The call that opens the model; a `config` from `config_lines` is passed where there is one."""
    config = ", config=config" if config_lines(context) else ""
    call = f"{auto_class(context)}.from_pretrained({place_of(context)}{config}, dtype={context.model.release().dtype})"
    return f"{call}.get_encoder()" if auto_class(context) == "AutoModelForSeq2SeqLM" and context.task.pooling else call
