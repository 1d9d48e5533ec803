"""Adapter folders in PEFT's format, in and out: what is saved here loads with `PeftModel.from_pretrained`.

Three kinds of adapter are known: a prompt, a prefix, and a LoRA update. A trained read-out can lie beside them, in
files that PEFT does not look at.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from peft import PeftConfig, PrefixTuningConfig, PromptTuningConfig
from safetensors.torch import load_file, save
from torch import Tensor

from promptreach.backbone import Backbone, Prepended
from promptreach.errors import AdapterError, Fault, InputError, raise_if_any
from promptreach.files import atomic_folder
from promptreach.formats import read_record
from promptreach.hf.adapters._config_faults import config_faults
from promptreach.hf.adapters._lora_folders import lora_config, lora_misfits, lora_update
from promptreach.hf.adapters._prompt_folders import PREFIXES, PROMPTS, flatten, for_decoder, prompt_or_prefix
from promptreach.hf.adapters.own_heads import OwnHead
from promptreach.hf.adapters.places import CONFIG, WEIGHTS, file_faults, place_faults
from promptreach.hf.adapters.tokenizer import tokenizer_faults
from promptreach.hf.models.load import is_part, loader_of
from promptreach.hf.models.model import OpenModel
from promptreach.model_files import json_faults, safetensors_faults
from promptreach.prompt import Adapter, LowRankUpdate, Prefix, SoftPrompt

READOUT, READOUT_INFO = "readout.safetensors", "readout.json"
CARD, LOADER = "README.md", "load.py"
_LOADER_SOURCE = Path(__file__).with_name("load.py.txt")
"""The program that is copied as it stands: no part of this library, which it does without."""
READOUT_VERSION = 1
"""The version of readout.json, raised when a field is renamed, removed or changes its meaning."""

SUPPORTED_TYPES = (*PROMPTS, *PREFIXES, "LORA")
"""PEFT's names of the adapters that can be read. P-tuning and CPT save the prompt that they compute, a cartridge is a
prefix: these need no reader of their own."""

_INITS = {"vocabulary": "SAMPLE_VOCAB", "random": "RANDOM"}

Readout = tuple[Mapping[str, Tensor], Mapping[str, Any]]
"""A read-out head as the caller keeps it: tensors by name, and what JSON can say of them."""


def save_adapter(
    folder: str | Path,
    model: OpenModel,
    adapter: Adapter,
    *,
    readout: Readout | None = None,
    init: str = "",
    init_text: str = "",
    card: str = "",
    own: OwnHead | None = None,
    base: str = "",
    loader: bool = False,
) -> Path:
    """Write `adapter` as a PEFT folder and return its path.

    The folder appears whole or not at all; an adapter folder that stands there is replaced. Its config names the base
    by its hub id with the commit that was opened, or by an absolute path.

    Args:
        folder: where it goes.
        model: its base.
        adapter: the record.
        readout: the head that reads it.
        init: the start of a prompt, one of `promptreach.training.methods.initial.PROMPT_INITS`.
        init_text: the text that it started from, where it started from one.
        card: the text of README.md.
        own: the classifier that `promptreach.hf.adapters.own_heads` found the two to be; the folder is then that.
        base: the base's hub id, where that cannot be told from how the model was opened.
        loader: whether load.py goes beside them, for a read-out that says how it is loaded.

    Raises:
        AdapterError: when the adapter does not fit the model.
        OutputError: when `folder` is a file, or a folder with something else in it, or cannot be written.
    """
    folder = Path(folder)
    raise_if_any(misfits(adapter, model, "adapter"), AdapterError)
    config, tensors = to_peft(adapter, model, init, init_text)
    if own is not None:
        config, tensors = _started_as(own.config, config), own.tensors
    with atomic_folder(folder, replace=(folder / CONFIG).is_file()) as partial:
        write_adapter(partial, named(config, model, base), tensors)
        write_beside(partial, readout, card, loader)
    return folder


def named(config: PeftConfig, model: OpenModel, base: str = "") -> PeftConfig:
    """The config with the name of its base, which is `base_of` the model where none is given."""
    config.base_model_name_or_path, config.revision = (base, None) if base else base_of(model)
    if getattr(config, "tokenizer_name_or_path", None):  # where the start was a text, whose tokens are the base's
        config.tokenizer_name_or_path = config.base_model_name_or_path
    return config


def _started_as(config: PeftConfig, other: PeftConfig) -> PeftConfig:
    """The config with what another one says of the start of a prompt."""
    for name in ("prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_name_or_path"):
        if hasattr(other, name):
            setattr(config, name, getattr(other, name))
    return config


def save_readout(folder: str | Path, readout: Readout, *, card: str = "", loader: bool = False) -> Path:
    """Write a read-out without an adapter, for `load_readout`, and return the folder's path.

    Args:
        folder: where it goes.
        readout: the head.
        card, loader: as for `save_adapter`.

    The folder appears whole or not at all; one that holds a read-out is replaced.

    Raises:
        OutputError: when `folder` is a file, or a folder with something else in it, or cannot be written.
    """
    folder = Path(folder)
    with atomic_folder(folder, replace=(folder / READOUT).is_file()) as partial:
        write_beside(partial, readout, card, loader)
    return folder


def write_beside(folder: Path, readout: Readout | None, card: str, loader: bool) -> None:
    """Everything that lies beside PEFT's two files, into a folder that is there."""
    if readout is not None:
        write_readout(folder, readout)
    if card:
        (folder / CARD).write_text(card, "utf-8")
    if loader:
        (folder / LOADER).write_text(_LOADER_SOURCE.read_text("utf-8"), "utf-8")


def write_readout(folder: Path, readout: Readout) -> None:
    """The two files of a read-out, into a folder that is there."""
    (folder / READOUT).write_bytes(_packed(readout[0]))
    info = {"version": READOUT_VERSION, **readout[1]}
    (folder / READOUT_INFO).write_text(json.dumps(info, indent=2, sort_keys=True), "utf-8")


def loader_facts(model: OpenModel, length: int, base: str = "") -> dict[str, Any]:
    """All that load.py has to know beside the read-out: which base, in which class and type, and how rows are cut.

    Args:
        model: the base.
        length: tokens of a row that are read.
        base: its hub id, where that cannot be told from how it was opened.
    """
    name, revision = (base, None) if base else base_of(model)
    kind = loader_of(model.model.config, model.task).__name__
    causal = model.task == "causal"
    return {
        "base": name,
        "revision": revision,
        "class": kind,
        "encoder_alone": kind == "AutoModelForSeq2SeqLM",
        "dtype": str(model.model.dtype).removeprefix("torch."),
        "layers": model.num_layers if model.origin and model.origin.options.get("num_layers") else None,
        "packed": bool(model.packing),
        "text_alone": is_part(model),
        "length": length,
        "closes": not causal,
        "asks": {"output_hidden_states": True} if causal else {},
    }


def write_adapter(folder: Path, config: PeftConfig, tensors: Mapping[str, Tensor]) -> None:
    """PEFT's two files of an adapter, into a folder that is there."""
    config.save_pretrained(str(folder))
    (folder / WEIGHTS).write_bytes(_packed(tensors))


def load_adapter(folder: str | Path, model: OpenModel) -> Adapter:
    """The adapter in a PEFT folder, checked against the model.

    A classifier head that PEFT saved along with it is left aside.

    Raises:
        AdapterError: listing what is missing, damaged or pickled, what shows that it was made for another model, or by
            what a LoRA folder is more than a low-rank update (see `promptreach.hf.adapters._lora_folders`).
    """
    folder = Path(folder)
    raise_if_any(file_faults(folder) or tokenizer_faults(folder, model), AdapterError)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    tensors = load_file(folder / WEIGHTS)
    if config.get("peft_type") != "LORA":  # whose reader tells these with all that it finds
        raise_if_any(config_faults(config, str(folder / CONFIG)), AdapterError)
    adapter = from_peft(config, tensors, model, folder)
    raise_if_any(misfits(adapter, model, str(folder)), AdapterError)
    return adapter


def as_adapter(adapter: Any, backbone: OpenModel) -> Adapter:
    """`adapter` itself if it is a record that fits; otherwise the PEFT folder of that name, read for `backbone`.

    Raises:
        InputError: for something that is neither.
        AdapterError: when the folder is damaged, holds an adapter of an unknown type, or was made for another model.
    """
    if isinstance(adapter, SoftPrompt | Prefix | LowRankUpdate):
        raise_if_any(misfits(adapter, backbone, "adapter"), AdapterError)
        return adapter
    if not isinstance(adapter, str | Path):
        expected = "a SoftPrompt, a Prefix, a LowRankUpdate, or the folder of a PEFT adapter"
        raise InputError(Fault("adapter", type(adapter).__name__, expected))
    return load_adapter(adapter, backbone)


def load_prompt(folder: str | Path, model: OpenModel) -> SoftPrompt | Prefix:
    """`load_adapter` for a prompt or a prefix.

    Raises:
        AdapterError: as `load_adapter` does, and for a LoRA update.
    """
    adapter = load_adapter(folder, model)
    if isinstance(adapter, LowRankUpdate):
        raise AdapterError(Fault(str(folder), "a LoRA update", "a prompt or a prefix"))
    return adapter


def base_of(model: OpenModel) -> tuple[str, str | None]:
    """The name and the revision by which others find a model again: an absolute path and none, or a hub id and commit.

    The commit is the one in this machine's copy; where that cannot be told, the revision is what was asked for.
    """
    if model.origin is None:
        path = Path(model.name).expanduser()
        return (str(path.resolve()) if path.exists() else model.name), None
    source, revision = model.origin.source, model.origin.options.get("revision")
    if Path(source).exists():
        return source, None
    try:
        copy = snapshot_download(source, revision=revision, local_files_only=True, allow_patterns=["config.json"])
    except (OSError, ValueError):
        return source, revision
    return source, Path(copy).name


def base_model_of(folder: str | Path) -> str:
    """The model that the adapter in a PEFT folder names as its own.

    Raises:
        AdapterError: when it has no readable config, or names none.
    """
    config = Path(folder) / CONFIG
    raise_if_any(place_faults(Path(folder)) or json_faults(config), AdapterError)
    name = json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not name:
        raise AdapterError(Fault(str(config), "no base model", "its name", "say which with --model"))
    return str(name)


def load_readout(folder: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The read-out that `save_adapter` or `save_readout` put into a folder, or None where there is none.

    Raises:
        AdapterError: when one of its two files is missing or damaged.
        FormatError: for a version of readout.json that this library does not know.
    """
    weights, info = Path(folder) / READOUT, Path(folder) / READOUT_INFO
    if not weights.exists() and not info.exists():
        return None
    raise_if_any(safetensors_faults(weights, "the read-out's tensors") + json_faults(info), AdapterError)
    said = read_record(info, READOUT_VERSION, "version")
    del said["version"]
    return load_file(weights), said


@contextmanager
def attach(model: Backbone, adapter: Adapter) -> Iterator[Prepended]:
    """The model with `adapter` on it for a `with` block; pass what it gives to `Backbone.hidden`.

    Raises:
        InputError: for a low-rank update, which may sit anywhere in the weights, on anything but an `OpenModel`.
    """
    if isinstance(adapter, LowRankUpdate):
        if not isinstance(model, OpenModel):
            raise InputError(Fault("model", type(model).__name__, "what promptreach.hf.open_model returns"))
        with model.lora(lora_config(adapter, model), seed=0) as update:
            update.load(adapter.state)
            yield Prepended()
    else:
        yield Prepended.of(adapter)


def to_peft(
    adapter: Adapter, model: OpenModel, init: str = "", init_text: str = ""
) -> tuple[PeftConfig, Mapping[str, Tensor]]:
    """PEFT's config and tensors for an adapter; the last two as for `save_adapter`."""
    if isinstance(adapter, LowRankUpdate):
        config: PeftConfig = lora_config(adapter, model)
        tensors = adapter.state
    else:
        shape: dict[str, Any] = {
            "task_type": model.peft_task,
            "num_virtual_tokens": adapter.length,
            "num_layers": model.num_layers,
            "num_transformer_submodules": 2 if model.task == "seq2seq" and isinstance(adapter, Prefix) else 1,
        }
        if isinstance(adapter, SoftPrompt):
            shape |= {"token_dim": model.embedding_size, "num_attention_heads": model.num_heads}
            shape |= {"prompt_tuning_init": _INITS[init]} if init in _INITS else {}
            if init_text:
                shape |= {"prompt_tuning_init": "TEXT", "prompt_tuning_init_text": init_text}
                shape |= {"tokenizer_name_or_path": base_of(model)[0]}
            config, embeddings = PromptTuningConfig(**shape), adapter.embeddings
        else:
            if model.task == "seq2seq":
                adapter = for_decoder(adapter)
                shape["num_layers"] = adapter.num_layers
            width = model.num_kv_heads * (model.head_dim + model.value_dim) // 2
            shape |= {"token_dim": width, "num_attention_heads": model.num_kv_heads, "encoder_hidden_size": width}
            config, embeddings = PrefixTuningConfig(**shape), flatten(adapter)
        tensors = {"prompt_embeddings": embeddings}
    named(config, model).inference_mode = True
    return config, tensors


def from_peft(config: Mapping[str, Any], tensors: Mapping[str, Tensor], model: OpenModel, folder: Path) -> Adapter:
    """The adapter in a folder's config and tensors, led to this model; what does not fit it is told by `misfits`.

    Raises:
        AdapterError: for a type that is not known, and where config and tensors contradict each other.
    """
    kind = config.get("peft_type")
    if kind not in SUPPORTED_TYPES:
        raise AdapterError(Fault(str(folder / CONFIG), f"peft_type {kind!r}", f"one of {', '.join(SUPPORTED_TYPES)}"))
    if kind == "LORA":
        return lora_update(config, tensors, model, str(folder))
    return prompt_or_prefix(config, tensors, model, str(folder / WEIGHTS), str(folder / CONFIG))


def misfits(adapter: Adapter, model: OpenModel, where: str) -> list[Fault]:
    """The faults that show an adapter to be made for another model."""
    if isinstance(adapter, LowRankUpdate):
        return lora_misfits(adapter, model, where)
    faults = []
    if reason := model.lacks(adapter.kind):
        faults.append(Fault(where, f"a {adapter.kind} for {model.family}", "another method", reason))
    if isinstance(adapter, SoftPrompt) and adapter.hidden_size != model.embedding_size:
        faults.append(Fault(where, f"virtual tokens of size {adapter.hidden_size}", f"{model.embedding_size}"))
    if isinstance(adapter, Prefix):
        layers, heads, _, size = adapter.keys.shape
        seen, expected = (layers, heads, size), (model.num_layers, model.num_kv_heads, model.head_dim)
        if seen != expected or adapter.values.shape[3] != model.value_dim:
            faults.append(Fault(where, f"(layers, kv heads, head size) {seen}", f"{expected}", f"as in {model.name}"))
    if adapter.length >= model.max_positions:
        faults.append(
            Fault(where, f"{adapter.length} virtual tokens", f"fewer than the {model.max_positions} positions")
        )
    return faults


def _packed(tensors: Mapping[str, Tensor]) -> bytes:
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
