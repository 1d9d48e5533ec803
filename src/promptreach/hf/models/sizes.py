"""The sizes of a model, from its text config and, where a config may be silent or wrong, from its modules.

Configs name the same thing in many ways, and transformers' `attribute_map` hides most of that. What it does not hide is
read off the modules: which list of them are the layers, which parameters are embeddings.
"""

from typing import Any

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from promptreach.errors import Fault


def text_config(config: PretrainedConfig) -> PretrainedConfig:
    """The part of a config that describes how text is read: all of it, or one of a composite's parts."""
    text: PretrainedConfig = config.get_text_config()
    return text


def field(config: PretrainedConfig, *names: str) -> Any:
    """The first of these fields that is there and not None; some configs raise more than AttributeError."""
    for name in names:
        try:
            value = getattr(config, name)
        except (AttributeError, ValueError, NotImplementedError, KeyError):
            continue
        if value is not None:
            return value
    return None


def size_faults(config: PretrainedConfig) -> list[Fault]:
    """The faults of a config that does not say how large its model is."""
    text, faults = text_config(config), []
    for name, others in (("hidden_size", ("d_model", "dim")), ("num_hidden_layers", ("n_layers", "num_layers"))):
        value = field(text, name, *others)
        if not isinstance(value, int) or value < 1:
            seen = "missing" if value is None else repr(value)
            faults.append(Fault(f"config of {config.model_type}", f"{name} {seen}", f"{name}, a whole number"))
    return faults


def body_of(module: PreTrainedModel) -> PreTrainedModel:
    """The part of a model that ends in hidden states: all of it but its head."""
    body: PreTrainedModel = module.base_model
    if body is module and module.get_output_embeddings() is not None:  # Llama 4 names its body otherwise than it says
        return next((part for part in module.children() if isinstance(part, PreTrainedModel)), module)
    return body


def layer_count(config: PretrainedConfig) -> int:
    """The number of layers that the text config names."""
    return int(field(text_config(config), "num_hidden_layers", "n_layers", "num_layers"))


def cut_layers(config: PretrainedConfig, count: int) -> None:
    """Make the config that of a model of `count` layers; of `count` in each of its two stacks where there are two."""
    stacks = [
        part for part in (field(config, "encoder"), field(config, "decoder")) if isinstance(part, PretrainedConfig)
    ]
    for part in (text_config(config), *stacks):
        for name in ("layer_types", "mlp_layer_types"):
            if getattr(part, name, None):
                setattr(part, name, getattr(part, name)[:count])
        for name in ("num_hidden_layers", "num_decoder_layers", "encoder_layers", "decoder_layers"):
            if hasattr(part, name):
                setattr(part, name, count)


def head_count(config: PretrainedConfig) -> int:
    """The number of query heads of a layer; 0 for a model without attention."""
    found = field(text_config(config), "num_attention_heads", "n_heads", "n_head", "num_heads")
    if isinstance(found, list | tuple):  # one number a layer
        found = next((count for count in found if count), 0)
    return found if isinstance(found, int) else 0


def layers_of(body: nn.Module, count: int) -> list[nn.Module]:
    """The layers, first to last: the longest list of modules with `count` of them; none where no list has as many.

    ALBERT runs one layer many times, and has no such list.
    """
    lists = [list(part) for part in body.modules() if isinstance(part, nn.ModuleList) and len(part) == count]
    return max(lists, key=lambda layers: sum(p.numel() for layer in layers for p in layer.parameters()), default=[])


def inner_parameters(module: PreTrainedModel) -> list[Tensor]:
    """Every parameter that is no embedding and no output layer."""
    tables = [part for part in module.modules() if isinstance(part, nn.Embedding)]
    ends = [part for part in (*tables, module.get_output_embeddings()) if part is not None]
    outside = {id(weight) for part in ends for weight in part.parameters()}
    return [weight for weight in module.parameters() if id(weight) not in outside]
