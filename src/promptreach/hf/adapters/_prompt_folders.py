"""Prompts and prefixes as PEFT's folders hold them: read where config, tensors and model agree, refused where not.

PEFT's config repeats sizes that its tensors have already. Where the two differ, one of them belongs to another run, and
whoever goes by either would judge something that nobody trained.

For an encoder-decoder (SEQ_2_SEQ_LM) PEFT defaults to num_transformer_submodules 2. Of a prompt it then saves twice the
rows, puts the first half in front of the encoder and never looks at the second; here such a prompt is its first half,
and what is saved has one part. A prefix has to have two, or PEFT would give the decoder's cache to the attention across
as well; it goes to the decoder alone, whose layer j PEFT gives what the folder holds for layer 2j modulo num_layers. So
folders written here name an odd number of layers, for which that is one place a layer.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from promptreach.errors import AdapterError, Fault, raise_if_any
from promptreach.hf.models.model import OpenModel
from promptreach.prompt import Prefix, SoftPrompt

NAME = "prompt_embeddings"
"""The one tensor of a folder that PEFT saved, whatever was trained."""
PROMPTS = ("PROMPT_TUNING", "P_TUNING", "CPT")
PREFIXES = ("PREFIX_TUNING", "CARTRIDGE")

_SHOWN = 4
_TRAINING_FORM = ("prompt_encoder.", ".embedding.weight")


def prompt_or_prefix(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], model: OpenModel, weights: str, settings: str
) -> SoftPrompt | Prefix:
    """The prompt or prefix in a folder.

    Args:
        config, tensors: what the folder's two files hold; the config's `peft_type` is one of `PROMPTS` or `PREFIXES`.
        weights, settings: these files, for messages.

    Raises:
        AdapterError: for tensors that are missing, empty, not finite or no floating-point numbers, and for a config
            that contradicts them or the model, naming both numbers.
    """
    raise_if_any(tensor_faults(tensors, weights), AdapterError)
    embeddings = floating(tensors[NAME])
    is_prompt = config["peft_type"] in PROMPTS
    if not is_prompt and model.head_dim != model.value_dim:
        return _latent(embeddings, model, weights)
    layers, heads = config.get("num_layers") or model.num_layers, config.get("num_attention_heads") or 1
    faults = _parts_faults(config, embeddings, model, settings)
    if is_prompt and not faults and parts_of(config) == 2:
        embeddings = embeddings[: len(embeddings) // 2]
    if not faults:
        faults += size_faults(config, embeddings, settings, 0 if is_prompt else layers)
        faults += _model_faults(config, model, settings) if is_prompt else []
    if not is_prompt and not faults and embeddings.shape[1] % (2 * layers * heads):
        seen = f"{NAME} of shape {tuple(embeddings.shape)}"
        faults.append(Fault(weights, seen, f"columns for 2 x {layers} layers x {heads} heads, as its config says"))
    if not is_prompt and not faults and model.task == "seq2seq" and layers < model.num_layers:
        faults.append(Fault(settings, f"num_layers {layers}", f"at least the decoder's {model.num_layers}"))
    raise_if_any(faults, AdapterError)
    if is_prompt:
        return SoftPrompt(embeddings)
    prefix = _unflatten(embeddings, layers, heads)
    if model.task != "seq2seq":
        return prefix
    places = [place_of(layer, layers) for layer in range(model.num_layers)]
    return Prefix(prefix.keys[places], prefix.values[places])


def parts_of(config: Mapping[str, Any]) -> int:
    """The parts that PEFT's prompt learning has: 2 for an encoder-decoder where the config does not say."""
    given = config.get("num_transformer_submodules")
    return given or (2 if config.get("task_type") == "SEQ_2_SEQ_LM" else 1)


def place_of(layer: int, layers: int) -> int:
    """Where PEFT finds the keys and values of an encoder-decoder's decoder layer, in a folder of so many layers."""
    return 2 * layer % layers


def for_decoder(prefix: Prefix) -> Prefix:
    """The prefix of an encoder-decoder as PEFT's folder holds it: every layer at its place, a layer of zeros beside
    them where their number is even."""
    count = prefix.num_layers
    layers = count + 1 - count % 2
    keys, values = (part.new_zeros(layers, *part.shape[1:]) for part in (prefix.keys, prefix.values))
    for layer in range(count):
        keys[place_of(layer, layers)], values[place_of(layer, layers)] = prefix.keys[layer], prefix.values[layer]
    return Prefix(keys, values)


def flatten(prefix: Prefix) -> Tensor:
    """(prompt, layer * kv_head * (head_dim + value_dim)): a row is each layer's keys, then its values, head by head."""
    return torch.cat([part.permute(2, 0, 1, 3).flatten(2) for part in (prefix.keys, prefix.values)], dim=2).flatten(1)


def _unflatten(embeddings: Tensor, num_layers: int, num_heads: int) -> Prefix:
    parts = embeddings.unflatten(1, (num_layers, 2, num_heads, -1)).permute(2, 1, 3, 0, 4)
    return Prefix(parts[0], parts[1])


def _latent(embeddings: Tensor, model: OpenModel, where: str) -> Prefix:
    """The prefix of a model whose keys and values differ in size: PEFT has none, and no field of its config for it."""
    layers, heads, sizes = model.num_layers, model.num_kv_heads, (model.head_dim, model.value_dim)
    if embeddings.shape[1] != layers * heads * sum(sizes):
        expected = f"{layers} layers x {heads} heads x ({sizes[0]} + {sizes[1]}) columns, as {model.name} has them"
        raise AdapterError(Fault(where, f"{NAME} of shape {tuple(embeddings.shape)}", expected))
    parts = embeddings.unflatten(1, (layers, -1)).split([heads * size for size in sizes], dim=2)
    keys, values = (part.unflatten(2, (heads, -1)).permute(1, 2, 0, 3) for part in parts)
    return Prefix(keys, values)


def floating(tensor: Tensor) -> Tensor:
    """`tensor`, an eight-bit float as float32: torch stores such numbers and computes nothing with them."""
    return tensor.float() if tensor.is_floating_point() and tensor.element_size() < 2 else tensor


def number_faults(name: str, tensor: Tensor, where: str) -> list[Fault]:
    """The faults of a tensor's numbers: whole ones, whose scale nobody saved, and those that are not finite."""
    if not tensor.is_floating_point():
        seen = f"{name} of {str(tensor.dtype).removeprefix('torch.')}, whose scale is not in the folder"
        return [Fault(where, seen, "floating-point numbers", "save the adapter before it is quantised")]
    wrong = int((~floating(tensor).isfinite()).sum())
    if wrong:
        seen = f"{name} with {wrong:,} of {tensor.numel():,} entries that are NaN or infinite"
        return [Fault(where, seen, "finite numbers")]
    return []


def tensor_faults(tensors: Mapping[str, Tensor], where: str) -> list[Fault]:
    """The faults of a folder's tensors as a prompt or prefix: one that is missing, empty, no matrix or not finite."""
    embeddings = tensors.get(NAME)
    if embeddings is None:
        listed = [f"{key} {tuple(tensor.shape)}" for key, tensor in sorted(tensors.items())]
        more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
        seen = f"no {NAME}; what is there: {', '.join(listed[:_SHOWN]) or 'no tensor at all'}{more}"
        return [Fault(where, seen, f"a matrix {NAME}", _misnamed(tensors))]
    if 0 in embeddings.shape:
        seen = f"{NAME} of shape {tuple(embeddings.shape)}, which is empty"
        remedy = "a sharded run saved it before it was gathered: gather the parameters, then call save_pretrained"
        return [Fault(where, seen, "a matrix of (virtual tokens, size)", remedy)]
    if embeddings.ndim != 2:
        return [Fault(where, f"{NAME} of shape {tuple(embeddings.shape)}", "a matrix of (virtual tokens, size)")]
    return number_faults(NAME, embeddings, where)


def _misnamed(tensors: Mapping[str, Tensor]) -> str:
    """The way to the right name, where one of the tensors is the same thing under another."""
    for key in sorted(tensors):
        if key.endswith(f".{NAME}"):
            return f"{key} is the same thing with something in front: rename it to {NAME}, or use save_pretrained"
        if key.startswith(_TRAINING_FORM[0]) and key.endswith(_TRAINING_FORM[1]):
            return f"{key} is the training form of the same thing: load that state and call save_pretrained"
    return "save the adapter with PEFT's save_pretrained"


def _parts_faults(config: Mapping[str, Any], embeddings: Tensor, model: OpenModel, where: str) -> list[Fault]:
    """The refusal of parts that this model does not have, or that PEFT could not run on it."""
    parts, tokens = parts_of(config), config.get("num_virtual_tokens")
    is_prompt, pair = config["peft_type"] in PROMPTS, model.task == "seq2seq"
    each = f" ({parts} x {tokens} virtual tokens in {len(embeddings)} rows)" if tokens else ""
    seen = f"num_transformer_submodules {parts}{each}"
    if not pair and parts != 1:
        expected, remedy = "1: a model of one stack", "an encoder-decoder's prompt serves no other model"
        return [Fault(where, f"{seen}, as for an encoder and its decoder", expected, remedy)]
    if pair and not is_prompt and parts != 2:
        return [Fault(where, seen, "2: PEFT runs no other prefix on an encoder and its decoder")]
    if pair and is_prompt and (parts not in (1, 2) or len(embeddings) % parts):
        return [Fault(where, seen, "1 or 2, and as many rows a part", "take config and weights from the same run")]
    return []


def size_faults(config: Mapping[str, Any], embeddings: Tensor, where: str, layers: int) -> list[Fault]:
    """The sizes of the config that the tensor does not have; a row of a prefix holds two vectors for each layer."""
    rows, width = embeddings.shape
    tokens, size = config.get("num_virtual_tokens"), config.get("token_dim")
    faults = []
    if isinstance(tokens, int) and tokens != rows:
        seen = f"num_virtual_tokens {tokens}, where {NAME} has {rows} rows"
        faults.append(Fault(where, seen, f"{rows}", "take config and weights from the same run"))
    if isinstance(size, int) and size * max(1, 2 * layers) != width:
        wanted = f"2 x {layers} layers x " if layers else ""
        seen = f"{wanted}token_dim {size}, where {NAME} has {width} columns"
        faults.append(Fault(where, seen, f"{width}", "take config and weights from the same run"))
    return faults


def _model_faults(config: Mapping[str, Any], model: OpenModel, where: str) -> list[Fault]:
    """The layers of another model; of one that was opened short on purpose they say nothing."""
    layers = config.get("num_layers")
    if model.task == "seq2seq":  # PEFT writes the encoder's, which says nothing of the decoder
        return []
    cut = model.origin is not None and model.origin.options.get("num_layers")
    if cut or not isinstance(layers, int) or layers == model.num_layers:
        return []
    return [Fault(where, f"num_layers {layers}", f"{model.num_layers}, those of {model.name}", "give its own model")]
