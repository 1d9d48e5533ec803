"""An adapter folder looked at from all sides: every fault of it, and not the first alone.

`load_adapter` refuses at the first kind of fault, because what follows could not be computed with. Here each look is
taken by itself: at the files, at the config's settings, at the tensors' numbers, at config against tensors, and, where
a base model is at hand, at both against that.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors.torch import load_file
from torch import Tensor

from promptreach.errors import AdapterError, Fault, InputError, raise_if_any
from promptreach.hf.adapters._config_faults import config_faults
from promptreach.hf.adapters._lora_folders import lora_update
from promptreach.hf.adapters._prompt_folders import NAME, PREFIXES, PROMPTS, number_faults, size_faults, tensor_faults
from promptreach.hf.adapters.by_config import load_configured, types_of_peft
from promptreach.hf.adapters.folders import READOUT, SUPPORTED_TYPES, base_model_of, from_peft, misfits
from promptreach.hf.adapters.places import CONFIG, WEIGHTS, file_faults, place_faults
from promptreach.hf.adapters.tokenizer import tokenizer_faults
from promptreach.hf.models.model import OpenModel
from promptreach.model_files import json_faults, safetensors_faults
from promptreach.prompt import Adapter

KINDS = {**dict.fromkeys(PROMPTS, "prompt"), **dict.fromkeys(PREFIXES, "prefix"), "LORA": "lora"}
"""Kinds of adapter by PEFT's name for them."""


@dataclass(frozen=True, eq=False)
class Inspection:
    """The contents of an adapter folder.

    Attributes:
        folder: the place.
        config: its adapter_config.json; empty where that cannot be read.
        tensors: its weights by name; empty where they cannot be read.
        faults: everything wrong with it; none says that config and tensors agree, and with the base, where one was
            looked at.
        adapter: the record, where it fits the base.
    """

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    faults: tuple[Fault, ...]
    adapter: Adapter | None = None

    @property
    def kind(self) -> str:
        """``"prompt"``, ``"prefix"`` or ``"lora"``; empty for a kind that is not known here."""
        return KINDS.get(str(self.config.get("peft_type")), "")

    @property
    def base(self) -> str:
        """The base model that it names; empty where it names none."""
        return str(self.config.get("base_model_name_or_path") or "")

    @property
    def changes_nothing(self) -> bool | None:
        """Whether its update is zero in every module; None where that is no question of zeros (prompts, DoRA)."""
        pairs = low_rank_pairs(self.tensors)
        if self.kind != "lora" or not pairs or self.config.get("use_dora"):
            return None
        return all(not bool(first.any()) or not bool(second.any()) for first, second in pairs.values())


def inspect_folder(folder: str | Path, model: OpenModel | None = None) -> Inspection:
    """What an adapter folder holds, with every fault of it.

    Args:
        folder: of a PEFT adapter.
        model: its base; None leaves open whether the two agree.

    Raises:
        AdapterError: for a place that is no adapter's folder.
    """
    folder = Path(folder)
    raise_if_any(place_faults(folder), AdapterError)
    model = None if model is None else reading_with(folder, model)
    faults = file_faults(folder)
    config, tensors = _config_of(folder), _tensors_of(folder)
    if config:
        faults += _setting_faults(config, str(folder / CONFIG))
    if tensors:
        faults += _number_faults(config, tensors, str(folder / WEIGHTS))
    adapter = None
    if config and tensors and config.get("peft_type") in SUPPORTED_TYPES:
        faults += _own_size_faults(config, tensors, folder)
        if model is not None:
            found, adapter = _base_faults(folder, config, tensors, model)
            faults += found
    elif config and tensors and model is not None and not faults:
        faults += _collected(lambda: _loads(folder, model))
    unique = {(fault.where, fault.seen): fault for fault in reversed(faults)}
    kept = tuple(reversed(unique.values()))
    return Inspection(folder, config, tensors, kept, None if kept else adapter)


def reading_with(folder: Path, model: OpenModel) -> OpenModel:
    """The part of a model that a folder's adapter is for: of an encoder-decoder the encoder alone beside a read-out."""
    return model.reading if (folder / READOUT).is_file() else model


def _loads(folder: Path, model: OpenModel) -> list[Fault]:
    """None; what keeps a folder of another method from being read is raised."""
    load_configured(folder, model)
    return []


def at_hand(base: str, revision: str | None = None) -> bool:
    """Whether a base model is on this machine: a place on its disk, or a hub id that was downloaded before."""
    if not base or Path(base).expanduser().exists():
        return bool(base)
    try:
        snapshot_download(base, revision=revision, local_files_only=True, allow_patterns=["config.json"])
    except (OSError, ValueError):  # no such id, or not here
        return False
    return True


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


def low_rank_pairs(tensors: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """The two factors of every update in a LoRA folder, by module."""
    pairs = {}
    for key, first in tensors.items():
        for a, b in ((".lora_A.weight", ".lora_B.weight"), (".lora_embedding_A", ".lora_embedding_B")):
            if key.endswith(a) and (other := key.removesuffix(a) + b) in tensors:
                pairs[key.removesuffix(a).removeprefix("base_model.model.")] = (first, tensors[other])
    return pairs


def _config_of(folder: Path) -> dict[str, Any]:
    if json_faults(folder / CONFIG):
        return {}
    found = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}


def _tensors_of(folder: Path) -> dict[str, Tensor]:
    return {} if safetensors_faults(folder / WEIGHTS) else load_file(folder / WEIGHTS)


def _setting_faults(config: Mapping[str, Any], where: str) -> list[Fault]:
    """The settings that are of a wrong kind, a type that is not known, and a base that is not named."""
    faults = config_faults(config, where)
    if (kind := config.get("peft_type")) not in (*SUPPORTED_TYPES, *types_of_peft()):
        faults.append(Fault(where, f"peft_type {kind!r}", f"one of {', '.join(SUPPORTED_TYPES)}, or another of PEFT's"))
    if not config.get("base_model_name_or_path"):
        remedy = "write it into base_model_name_or_path: AutoPeftModel finds the base by it"
        faults.append(Fault(where, "no base model", "its name", remedy))
    return faults


def _number_faults(config: Mapping[str, Any], tensors: Mapping[str, Tensor], where: str) -> list[Fault]:
    """Numbers that nobody can compute with, and for prompts and prefixes a tensor that is not there."""
    if config.get("peft_type") in (*PROMPTS, *PREFIXES):
        return tensor_faults(tensors, where)
    # Whole numbers are what other methods may keep beside their weights: FROD its places.
    judged = {
        name: tensor
        for name, tensor in tensors.items()
        if config.get("peft_type") in SUPPORTED_TYPES or tensor.is_floating_point()
    }
    return [fault for name, tensor in sorted(judged.items()) for fault in number_faults(name, tensor, where)]


def _own_size_faults(config: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path) -> list[Fault]:
    """The sizes that config and tensors say differently, whatever the base is."""
    if config["peft_type"] != "LORA":
        embeddings = tensors.get(NAME)
        if embeddings is None or embeddings.ndim != 2 or int(config.get("num_transformer_submodules") or 1) != 1:
            return []
        layers = 0 if config["peft_type"] in PROMPTS else config.get("num_layers")
        return size_faults(config, embeddings, str(folder / CONFIG), layers) if isinstance(layers, int) else []
    rank, patterned = config.get("r"), bool(config.get("rank_pattern"))
    faults = []
    for path, (first, second) in sorted(low_rank_pairs(tensors).items()):
        rows = first.shape[0]
        if rows != second.shape[-1]:
            seen = f"{path}: factors of rank {rows} and {second.shape[-1]}"
            faults.append(Fault(str(folder / WEIGHTS), seen, "one rank", "take both from the same run"))
        elif not patterned and isinstance(rank, int) and rows != rank:
            seen = f"r {rank}, where {path} has rank {rows}"
            faults.append(Fault(str(folder / CONFIG), seen, f"{rows}", "take config and weights from the same run"))
    return faults


def _base_faults(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], model: OpenModel
) -> tuple[list[Fault], Adapter | None]:
    """What does not agree with the base: the tokenizer, what reading it finds, and sizes of what can be read at all."""
    faults = _collected(lambda: tokenizer_faults(folder, model))
    adapter: Adapter | None = None
    try:
        adapter = from_peft(config, tensors, model, folder)
    except InputError as error:
        faults += error.faults
    except (TypeError, ValueError, KeyError, RuntimeError):
        return faults, None  # settings of a wrong kind, which stand among the faults already
    readable = adapter if adapter is not None else _stripped(config, tensors, model, folder)
    if readable is not None:
        faults += _collected(lambda: misfits(readable, model, str(folder)))
    return faults, adapter


def _stripped(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], model: OpenModel, folder: Path
) -> Adapter | None:
    """The adapter without what else is wrong with it, so that its sizes can be held against the base; None without."""
    plain = {"peft_type": config["peft_type"], "r": config.get("r"), "lora_alpha": 1}
    if config["peft_type"] in PREFIXES:
        plain |= {name: config.get(name) for name in ("num_layers", "num_attention_heads")}
    finite = {name: torch.nan_to_num(tensor.float()) for name, tensor in tensors.items()}
    try:
        if config["peft_type"] == "LORA":
            return lora_update(plain, {key: t for key, t in finite.items() if ".lora_" in key}, model, str(folder))
        return from_peft(plain, finite, model, folder)
    except (InputError, TypeError, ValueError, RuntimeError):
        return None


def _collected(look: Callable[[], list[Fault]]) -> list[Fault]:
    try:
        return look()
    except InputError as error:
        return list(error.faults)
