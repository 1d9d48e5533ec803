"""LoRA as PEFT's folders hold it: read where it is a low-rank update and nothing more, checked against the model.

What else such a folder can do to a model (train its biases, replace whole modules, start from a changed base) would go
missing without a sound, so every setting and every tensor that is not known is refused.
"""

from collections.abc import Mapping
from typing import Any

import torch
from peft import LoraConfig
from peft.utils.other import get_pattern_key
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from promptreach.errors import AdapterError, Fault, raise_if_any
from promptreach.hf.adapters._config_faults import config_faults
from promptreach.hf.adapters._prompt_folders import floating, number_faults
from promptreach.hf.models.model import OpenModel
from promptreach.prompt import LowRankUpdate
from promptreach.stored import projection_sizes

_ROOT = "base_model.model."
_SWITCHES = ("use_rslora", "use_dora")
_PATTERNS = ("rank_pattern", "alpha_pattern")
_NEUTRAL = frozenset(
    {
        # What it is, where it came from and how it was trained.
        *("peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
        *("inference_mode", "lora_dropout", "velora_config", "runtime_config"),
        # The configs of the starts: "init_lora_weights" says whether one was used.
        *("loftq_config", "eva_config", "corda_config", "lora_ga_config", "init_lora_weights"),
        # Where it sits: the keys of its tensors say so.
        *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save"),
        # Read by name, or of the model rather than of the update.
        *("r", "lora_alpha", "fan_in_fan_out", "qalora_group_size", *_SWITCHES, *_PATTERNS),
    }
)
"""Fields of PEFT's config that change nothing of what the update computes, or that are read here."""
_STARTS = (True, False, "gaussian", "eva", "orthogonal", "mica")
"""The starts that leave the base as it is; from the others (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA) it comes changed."""
HEADS = frozenset({"classifier", "pre_classifier", "score", "pooler", "qa_outputs"})
"""Modules behind the hidden states."""

_MERGE = "merge it into its base model, and open that"


def is_head(key: str) -> bool:
    """Whether a tensor in a folder belongs to a module behind the hidden states."""
    parts = key.split(".")
    return bool(HEADS & set(parts)) or key.startswith(f"{_ROOT}dense.")  # EuroBERT's has no name of its own


def lora_config(update: LowRankUpdate, model: OpenModel) -> LoraConfig:
    """PEFT's config of an update."""
    paths = sorted({_split(key)[0] for key in update.state})
    modules = dict(model.model.named_modules())
    return LoraConfig(
        r=update.rank,
        lora_alpha=update.alpha,
        target_modules=paths,
        fan_in_fan_out=all(isinstance(modules.get(path), Conv1D) for path in paths),
        task_type=model.peft_task,
        **update.options,
    )


def lora_update(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], model: OpenModel, where: str
) -> LowRankUpdate:
    """The update in a folder, its keys led to this model: a classifier's body lies one level deeper than the bare one.

    Heads behind the hidden states (`classifier`, `score`, `pooler`, `qa_outputs`) are left aside.

    Args:
        config, tensors: what the folder's two files hold.
        where: the folder, for messages.

    Raises:
        AdapterError: listing every setting and tensor by which it is more than a low-rank update.
    """
    body = {key: floating(tensor) for key, tensor in tensors.items() if not is_head(key)}
    state = {key: tensor for key, tensor in body.items() if ".lora_" in key}
    raise_if_any(plain_faults(config, where) + _tensor_faults(state, body, model, where), AdapterError)
    paths = {path: _here(path, model) for path in (_split(key)[0] for key in state)}
    options: dict[str, Any] = {name: config[name] for name in _SWITCHES if config.get(name)}
    for name in _PATTERNS:
        pattern = config.get(name) or {}
        # Matched as PEFT did where it was trained, and kept by the module's path here.
        found = {here: get_pattern_key(pattern, there) for there, here in paths.items()}
        if chosen := {here: pattern[key] for here, key in found.items() if key in pattern}:
            options[name] = chosen
    alpha = float(config.get("lora_alpha", config["r"]))
    parts = [(*_split(key), tensor) for key, tensor in state.items()]
    return LowRankUpdate(
        config["r"], alpha, {f"{_ROOT}{paths[path]}.{part}": tensor for path, part, tensor in parts}, options
    )


def lora_misfits(update: LowRankUpdate, model: OpenModel, where: str) -> list[Fault]:
    """The faults that show an update to be made for another model, or its tensors not to be those of its rank."""
    modules = dict(model.model.named_modules())
    adapted: dict[str, dict[str, Tensor]] = {}
    for key, tensor in update.state.items():
        path, part = _split(key)
        adapted.setdefault(path, {})[part] = tensor
    faults = []
    for path, parts in adapted.items():
        module = modules.get(path)
        weight = getattr(module, "weight", None)
        if module is None or not (projection_sizes(module) or (isinstance(weight, Tensor) and weight.ndim == 2)):
            faults.append(Fault(where, f"an update of {path}", f"a module of {model.name} with a weight matrix"))
            continue
        pattern = update.options.get("rank_pattern", {})
        rank = pattern.get(get_pattern_key(pattern, path), update.rank)
        expected = _shapes(modules[path], rank, bool(update.options.get("use_dora")))
        for part in sorted(expected.keys() | parts.keys()):
            seen = tuple(parts[part].shape) if part in parts else "missing"
            if seen != expected.get(part):
                wanted = f"{expected.get(part, 'no such tensor')}, at rank {rank}"
                faults.append(Fault(where, f"{path}.{part}: {seen}", wanted, _hint(part, parts.get(part))))
        faults += [fault for part, tensor in parts.items() for fault in number_faults(f"{path}.{part}", tensor, where)]
    return faults


def _hint(part: str, tensor: Tensor | None) -> str:
    """The likely reason for a tensor of a shape or name that no update has."""
    if tensor is not None and 0 in tensor.shape:
        return "a sharded run saved it before it was gathered: gather the parameters, then call save_pretrained"
    if part.count(".") > 1:
        return "this is the training form of the same thing: load that state and call save_pretrained"
    return ""


def plain_faults(config: Mapping[str, Any], where: str) -> list[Fault]:
    """The settings by which a config is more than a low-rank update, or none that can be computed with."""
    rank, alpha, start = config.get("r"), config.get("lora_alpha", 1), config.get("init_lora_weights", True)
    faults = config_faults(config, where)
    if rank is None:
        faults.append(Fault(where, "no rank: r is None", "a whole number of at least 1"))
    if alpha is None:
        faults.append(Fault(where, "lora_alpha None", "a number"))
    if start not in _STARTS:
        remedy = "save it with PEFT's path_initial_model_for_weight_conversion, which makes plain LoRA of it"
        faults.append(Fault(where, f"init_lora_weights {start!r}", "a start that leaves the base as it is", remedy))
    defaults = LoraConfig().to_dict()
    faults += [
        Fault(where, f"{name} {value!r}", f"plain LoRA: {name} {defaults.get(name)!r}", _MERGE)
        for name, value in config.items()
        if value and name not in _NEUTRAL and value != defaults.get(name)
    ]
    return faults


def _tensor_faults(
    state: Mapping[str, Tensor], body: Mapping[str, Tensor], model: OpenModel, where: str
) -> list[Fault]:
    faults = [] if state else [Fault(where, "no LoRA matrices", "a LoRA adapter")]
    others = [key for key in sorted(body.keys() - state.keys()) if not _repeats(key, body[key], model)]
    if others:
        named = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        faults.append(Fault(where, f"tensors beside LoRA's own: {named}", "LoRA matrices and heads only", _MERGE))
    return faults


def _repeats(key: str, tensor: Tensor, model: OpenModel) -> bool:
    """True for a copy of the model's own weight: PEFT saves the embeddings along where it adapts them."""
    path, _, name = key.removeprefix(_ROOT).replace(".base_layer", "").rpartition(".")
    own = dict(model.model.named_parameters(remove_duplicate=False)).get(f"{_here(path, model)}.{name}")
    return own is not None and torch.equal(own.cpu(), tensor.to(own.dtype))


def _here(path: str, model: OpenModel) -> str:
    """The same module's path in this model, or `path` itself where there is none."""
    known = {name for name, _ in model.model.named_modules()}
    prefix = f"{model.model.base_model_prefix}."
    candidates = (path, path.removeprefix(prefix), prefix + path)
    return next((candidate for candidate in candidates if candidate in known), path)


def _split(key: str) -> tuple[str, str]:
    """The module's path in the model, and the tensor's name there."""
    path, _, part = key.removeprefix(_ROOT).partition(".lora_")
    return path, f"lora_{part}"


def _shapes(module: nn.Module, rank: int, dora: bool) -> dict[str, tuple[int, ...]]:
    """The tensors of an update of `module`, with their shapes."""
    if sizes := projection_sizes(module):  # a packed weight has another shape
        inputs, outputs = sizes
    else:
        assert isinstance(module.weight, Tensor)
        outputs, inputs = module.weight.shape
    first, second = "lora_A.weight", "lora_B.weight"
    if isinstance(module, Conv1D | nn.Embedding):  # their weights are stored (in, out)
        outputs, inputs = inputs, outputs
    if isinstance(module, nn.Embedding):
        first, second = "lora_embedding_A", "lora_embedding_B"
    shapes: dict[str, tuple[int, ...]] = {first: (rank, inputs), second: (outputs, rank)}
    return {**shapes, "lora_magnitude_vector": (outputs,)} if dora else shapes
