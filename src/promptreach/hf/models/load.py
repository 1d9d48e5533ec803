"""Opening a model from the hub, a folder, a GGUF file, or one that is open already.

Everything that can be found wrong cheaply is found before anything large is read. No code that comes with a model is
run, and pickled weights are never opened.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForTextEncoding,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    MODEL_FOR_TEXT_ENCODING_MAPPING,
)
from transformers.utils import logging

from promptreach.backbone import ModelTask, Origin
from promptreach.data import Completions, TaskData
from promptreach.errors import (
    Fault,
    InputError,
    ModelError,
    raise_if_any,
)
from promptreach.hf.models._untrusted import allocation_faults, count_faults, damage_named, forward_faults
from promptreach.hf.models.encoder_decoder import EncoderDecoder, encoder_alone
from promptreach.hf.models.families import task_of
from promptreach.hf.models.model import OpenModel
from promptreach.hf.models.placement import AUTO, computing_faults, device_for, dtype_faults, dtype_for
from promptreach.hf.models.sizes import cut_layers, layer_count, size_faults, text_config
from promptreach.hf.models.soundness import weight_number_faults
from promptreach.model_files import folder_faults, gguf_faults, shards_of
from promptreach.quantisation import INSTEAD, quantisation_faults
from promptreach.stored import keep_differentiable

_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


@dataclass(frozen=True)
class _Place:
    """The place of a model's files: a folder, and the file in it when it is a GGUF file."""

    folder: Path
    name: str
    gguf_file: str | None = None

    @property
    def parts(self) -> tuple[Path | None, list[Path]]:
        """The config's file, None in a GGUF file, and the files of the weights; all found to be whole."""
        if self.gguf_file:
            return None, [self.folder / self.gguf_file]
        index = self.folder / "model.safetensors.index.json"
        single = self.folder / "model.safetensors"
        names = [single.name] if single.is_file() else shards_of(index)[0]
        return self.folder / "config.json", [self.folder / name for name in names]

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of every transformers loader."""
        options: dict[str, Any] = {"pretrained_model_name_or_path": str(self.folder), "trust_remote_code": False}
        return {**options, "gguf_file": self.gguf_file} if self.gguf_file else options


def open_model(
    source: str | Path | nn.Module,
    *,
    tokenizer: Any = None,
    task: ModelTask | None = None,
    revision: str | None = None,
    dtype: torch.dtype | str = torch.float32,
    device: str | torch.device = "cpu",
    device_map: str | dict[str, Any] | None = None,
    num_layers: int | None = None,
    gradient_checkpointing: bool = False,
) -> OpenModel:
    """Open a model, frozen and in evaluation mode.

    A quantised checkpoint stays as it is: `dtype` is that of the parts that are not packed, and of what runs between.

    Args:
        source: a hub id, a folder, a ``.gguf`` file, or a transformers model, which is used as it is: its dtype,
            device and layers stay, and it is frozen in place.
        tokenizer: instead of the one that lies with the model.
        task: ``encoder`` (hidden states), ``causal`` (next tokens too) or ``seq2seq`` (next tokens of a decoder behind
            an encoder, which is also what ``causal`` means for a model of the two); None reads it from the config.
            ``encoder`` of an encoder-decoder opens its encoder alone.
        revision: of a hub id.
        dtype: of the weights; ``"auto"`` is the checkpoint's own, or float32 where this CPU is slow at that.
        device: where the model goes, unless `device_map` spreads it; ``"auto"`` is the accelerator if there is one.
        device_map: as in transformers, over devices that hold all of it: weights offloaded to disk, or from a GPU to
            main memory, cannot be fingerprinted or tuned. What is joined goes to the device of the layer it is for.
        num_layers: keep only the first so many layers, for a quick look at a large model.
        gradient_checkpointing: train in less memory and more time: layers keep their inputs alone and compute the rest
            again on the way back, with the same result. Encoders that take a prefix where attention is called only
            (`traits.prefix_by` is ``door``) keep everything while that prefix is trained.

    Raises:
        ModelError: nothing at `source`, no config, no tokenizer or no weights there, weights that are damaged, pickled,
            incomplete, offloaded or, in `dtype`, not finite (naming each), a hub id that cannot be had, or a
            `num_layers` that the model does not have.
        MissingExtraError: for a GGUF file without the package gguf, or quantised weights without that of their kernels.
        InputError: for a `source` that is no model, such as a `PeftModel`, a `device` that is not there or does not
            compute in `dtype`, a `task` that the model cannot do, or a `num_layers` for a model that is open.
        UnsupportedModelError: for a model that reads more than token ids, or quantised weights that no gradient passes.
    """
    if isinstance(source, PreTrainedModel):
        raise_if_any([Fault("num_layers", str(num_layers), "None for a model that is open")] if num_layers else [])
        raise_if_any(weight_number_faults(source), ModelError)
        opened = _opened(source, tokenizer, task=task)
        opened.checkpointing = gradient_checkpointing
        return opened
    device = device_for(device) if device_map is None else "cpu" if device == AUTO else device
    faults = dtype_faults(dtype) + (_device_faults(device) if device_map is None else _map_faults(device_map))
    if not isinstance(source, str | Path):
        expected = "a hub id, a folder, a .gguf file or a transformers model"
        remedy = "of a PeftModel pass the base model, and the adapter as adapter="
        faults.append(Fault("model", f"a {type(source).__name__}", expected, remedy))
        raise InputError(faults)
    raise_if_any(faults)
    place = _locate(source, revision)  # a download may show its progress
    with quietly(), damage_named(place.name):
        raise_if_any(_file_faults(place, tokenizer is None) or count_faults(*place.parts), ModelError)
        config = _config_of(place, num_layers, str(device))
        dtype, why = dtype_for(dtype, config, device)
        raise_if_any(computing_faults(dtype, device) if device_map is None else [])
        asked, task = task, task_of(config, task)
        alone = () if config.is_encoder_decoder else (loader_of(config, "encoder"),)
        raise_if_any(allocation_faults(config, place.parts[1], place.name, dtype, *alone), ModelError)
        placed = {"": device} if device_map is None and getattr(config, "quantization_config", None) else device_map
        model = _load(place, config, task, dtype, placed)
        raise_if_any(weight_number_faults(model, place.name), ModelError)
        if placed is None:  # packed weights cannot be moved
            model = model.to(device)
        keep_differentiable(model)
        raise_if_any(forward_faults(model, place.name), ModelError)
        if tokenizer is None:
            tokenizer = _try(place, "tokenizer", lambda: AutoTokenizer.from_pretrained(**place.options))
        path = Path(source).expanduser()
        options = {"tokenizer": tokenizer, "task": asked, "revision": revision, "dtype": dtype}
        options |= {"device": device, "device_map": device_map, "num_layers": num_layers}
        options |= {"gradient_checkpointing": gradient_checkpointing} if gradient_checkpointing else {}
        # Another process may stand in another folder.
        origin = Origin(str(path.resolve() if path.exists() else source), options, why)
        return _opened(model, tokenizer, place.name, task, origin)


def _opened(
    module: PreTrainedModel, tokenizer: Any, name: str = "", task: ModelTask | None = None, origin: Origin | None = None
) -> OpenModel:
    """The module behind the class that is made for it."""
    if not module.config.is_encoder_decoder:
        return OpenModel(module, tokenizer, name, task, origin)
    if task_of(module.config, task) == "seq2seq":
        return EncoderDecoder(module, tokenizer, name, "seq2seq", origin)
    return OpenModel(encoder_alone(module), tokenizer, name, "encoder", origin)


def as_backbone(model: Any, **options: Any) -> OpenModel:
    """`model` itself if it is an opened one; otherwise what `open_model` makes of it with `options`."""
    return model if isinstance(model, OpenModel) else open_model(model, **options)


def opened_for(data: TaskData, model: Any, **options: Any) -> OpenModel:
    """`model`, opened with `options` if it is not open, as what `data` asks for: next tokens for completions, hidden
    states for labels, which an encoder-decoder gives by its encoder alone."""
    writes = isinstance(data, Completions)
    opened = as_backbone(model, **{"task": "causal" if writes else None, **options})
    return opened if writes else opened.reading


def _device_faults(device: str | torch.device) -> list[Fault]:
    """The faults of `device`, found with nothing on it."""
    try:
        torch.empty(0, device=device).cpu()  # "meta" is a device, but nothing comes back from it
    except (RuntimeError, AssertionError) as error:  # the second from a torch that was built without CUDA
        reason = str(error).partition("\n")[0]
        return [Fault("device", f"{str(device)!r} ({reason})", "a device of this machine, such as 'cpu'")]
    return []


def _map_faults(device_map: str | dict[str, Any]) -> list[Fault]:
    """The faults of a way to spread weights that is none, and of a single device that is not there."""
    if not isinstance(device_map, str) or device_map in _MAPS or not _device_faults(device_map):
        return []
    expected = f"{', '.join(map(repr, _MAPS))}, or a device of this machine, such as 'cpu'"
    return [Fault("device_map", repr(device_map), expected)]


def _locate(source: str | Path, revision: str | None) -> _Place:
    """The files behind `source`, downloaded if it is a hub id."""
    path = Path(source).expanduser()
    if path.is_file():
        return _Place(path.parent, str(source), path.name)
    if path.is_dir():
        return _Place(path, str(source))
    if isinstance(source, Path) or source.startswith((".", "/", "~")) or path.suffix == ".gguf":
        raise ModelError(Fault(str(source), "nothing there", "a model folder, a .gguf file or a hub id"))
    try:
        folder = snapshot_download(source, revision=revision, allow_patterns=_HUB_FILES, ignore_patterns=["*/*"])
    except HFValidationError:
        raise ModelError(Fault(source, "nothing there", "a model folder, a .gguf file or a hub id")) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        seen = f"not on this machine, and the hub did not give it ({type(error).__name__})"
        remedy = "check the name and the connection, or download it where there is one and give its folder"
        raise ModelError(Fault(source, seen, "a hub id that can be had, or a folder", remedy)) from error
    return _Place(Path(folder), source)


def _file_faults(place: _Place, needs_tokenizer: bool) -> list[Fault]:
    """The faults of the files, as far as their first bytes tell."""
    if place.gguf_file:
        return gguf_faults(place.folder / place.gguf_file)
    return folder_faults(place.folder, needs_tokenizer=needs_tokenizer)


def _config_of(place: _Place, num_layers: int | None, device: str) -> PretrainedConfig:
    """The config, cut to `num_layers` if given, of weights that can be read on `device`."""
    config = _try(place, "config", lambda: AutoConfig.from_pretrained(**place.options))
    packing = getattr(config, "quantization_config", None)
    found = {"model_type": config.model_type, "quantization_config": packing}
    raise_if_any(quantisation_faults(found, device) + size_faults(config), ModelError)
    text = text_config(config)
    if text is not config:  # two things that are said of the whole
        text.tie_word_embeddings = config.tie_word_embeddings
        if packing is not None:
            text.quantization_config = packing
    if num_layers is not None:
        whole = layer_count(config)
        if not 1 <= num_layers <= whole:
            raise ModelError(Fault("num_layers", str(num_layers), f"1 to {whole}"))
        cut_layers(config, num_layers)
    return config


def _load(
    place: _Place,
    config: PretrainedConfig,
    task: ModelTask,
    dtype: torch.dtype,
    device_map: str | dict[str, Any] | None,
) -> PreTrainedModel:
    """The module, with every weight it needs found in the files."""
    loader, text = loader_of(config, task), config if config.is_encoder_decoder else text_config(config)
    if loader is AutoModelForTextEncoding:
        text.is_encoder_decoder = False  # of T5Gemma, whose encoder says so; T5's does it by itself
    key_mapping = None if text is config else {r"^(model\.)?language_model\.(model\.)?": "model."}
    packed = getattr(text, "quantization_config", None) is not None
    model, info = _try(
        place,
        "weights",
        lambda: loader.from_pretrained(
            **place.options,
            **_without_pooler(loader, text),
            config=text,
            dtype=dtype,
            device_map=device_map,
            key_mapping=key_mapping,
            use_safetensors=None if place.gguf_file else True,
            ignore_mismatched_sizes=True,  # reported below, all at once
            output_loading_info=True,
        ),
        _KERNELS if packed else _AGAIN,
    )
    faults = [Fault(place.name, f"no weight {key!r}", "every weight") for key in sorted(info["missing_keys"])]
    for key, seen, expected in sorted(info["mismatched_keys"]):
        faults.append(
            Fault(place.name, f"weight {key!r} of shape {tuple(seen)}", f"{tuple(expected)}, as in its config")
        )
    offloaded = [name for name, weight in model.named_parameters() if weight.is_meta]
    if offloaded:
        seen = f"{len(offloaded)} weights that no device has room for, such as {offloaded[0]!r}"
        remedy = "spread it over more devices, take a smaller dtype, or only the first layers (num_layers)"
        faults.append(Fault(f"{place.name}, device_map {device_map!r}", seen, "every weight on a device", remedy))
    raise_if_any(faults, ModelError)
    if place.gguf_file:  # its weights are plain now, and its mark would keep them from being saved
        model.hf_quantizer.remove_quantization_config(model)
    return model


def loader_of(config: PretrainedConfig, task: ModelTask) -> Any:
    """The class of transformers that reads the weights for `task`."""
    pair = type(config) in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING
    if pair and task == "encoder" and type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING:
        return AutoModelForTextEncoding
    if config.is_encoder_decoder:
        return AutoModelForSeq2SeqLM
    return AutoModelForCausalLM if task == "causal" else AutoModel


def is_part(model: OpenModel) -> bool:
    """Whether what was opened is the part of a larger model in its folder that reads text.

    A folder that is gone since tells nothing, and counts as a whole model.
    """
    if model.origin is None or model.origin.source.endswith(".gguf"):
        return False
    try:
        config = AutoConfig.from_pretrained(model.origin.source, revision=model.origin.options.get("revision"))
    except (OSError, ValueError):
        return False
    return not config.is_encoder_decoder and text_config(config) is not config


def _without_pooler(loader: Any, config: PretrainedConfig) -> dict[str, Any]:
    """The option that leaves the pooler out: no hidden state passes it, and many checkpoints lack its weights."""
    kind = loader._model_mapping.get(type(config), None)
    kinds = kind if isinstance(kind, tuple) else (kind,)
    taken = any(one is not None and "add_pooling_layer" in signature(one.__init__).parameters for one in kinds)
    return {"add_pooling_layer": False} if taken else {}


_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
"""The ways to spread a model that transformers knows by name."""
_AGAIN = "copy or download it again"
_KERNELS = f"where the reason names a package or a device, that is what is missing. {INSTEAD}"


def _try(place: _Place, what: str, load: Any, remedy: str = _AGAIN) -> Any:
    """The result of `load`, with whatever a damaged file makes transformers raise turned into a `ModelError`."""
    try:
        return load()
    except Exception as error:  # the readers of damaged files raise whatever they stumble over
        where = str(place.folder / place.gguf_file) if place.gguf_file else str(place.folder)
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        seen = f"its {what} cannot be read ({reason})"
        raise ModelError(Fault(where, seen, "a whole model", remedy)) from error


@contextmanager
def quietly() -> Iterator[None]:
    """transformers' log lines and progress bars off, and back to what they were.

    Its bar over a GGUF file's tensors obeys no setting, so standard error is held back as well; errors are raised.
    """
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
