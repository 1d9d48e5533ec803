"""Any method of PEFT by its own config: attached to the model for as long as a block lasts, and saved as PEFT saves it.

PEFT makes what a config describes: layers that wrap the model's own (LoRA and its relatives, IA3, VeRA, adaption
prompts), or a small module that makes a prompt or a prefix (P-tuning, CPT, prefix tuning), which is joined as any other
is. Dropout stays off, as everywhere here.
"""

import copy
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache

from promptreach.backbone import Prepended
from promptreach.errors import AdapterError, Fault, InputError, raise_if_any
from promptreach.files import atomic_folder
from promptreach.formats import read_text
from promptreach.hf.adapters._config_faults import config_faults
from promptreach.hf.adapters._lora import Unchanged, check_state
from promptreach.hf.adapters._lora_folders import HEADS, is_head, plain_faults
from promptreach.hf.adapters.folders import (
    SUPPORTED_TYPES,
    Readout,
    attach,
    base_of,
    from_peft,
    misfits,
    named,
    write_adapter,
    write_beside,
)
from promptreach.hf.adapters.own_heads import OwnHead
from promptreach.hf.adapters.places import CONFIG, WEIGHTS, file_faults
from promptreach.hf.adapters.tokenizer import tokenizer_faults
from promptreach.hf.models.model import OpenModel
from promptreach.hf.running.slots import prefix_of
from promptreach.model_files import json_faults
from promptreach.prompt import Adapter

_BY_TASK = ("MULTITASK_PROMPT_TUNING", "POLY", "XLORA", "HRA_MULTI")
"""Methods whose forward pass needs a task's number or weights beside the tokens."""
_SHOWN = 5
_OWN_WEIGHTS = ("pissa", "olora", "loftq", "corda", "eva", "lora_ga")
"""Starts of LoRA that change the frozen weights themselves, so that the model would not be what it was."""


def config_of(given: PeftConfig | Mapping[str, Any] | str | Path) -> PeftConfig:
    """The config in a record, a mapping, or a JSON file such as adapter_config.json.

    Raises:
        InputError: naming what is wrong with it: no file or no JSON, no known type, fields that the type does not have,
            a method that cannot be trained here.
    """
    if isinstance(given, PeftConfig):
        found = given
    else:
        said = _read(given) if isinstance(given, str | Path) else dict(given)
        where = str(given) if isinstance(given, str | Path) else "method"
        name = str(said.pop("peft_type", "")).rpartition(".")[2]
        kind = types_of_peft().get(name)
        if kind is None:
            raise InputError(Fault(where, f"peft_type {name!r}", "PEFT's name of a method, such as P_TUNING or IA3"))
        known = kind.__dataclass_fields__
        unknown = [
            Fault(where, f"the field {key!r}", f"one of {name}'s: {', '.join(known)}")
            for key in said
            if key not in known
        ]
        raise_if_any(unknown, InputError)
        try:
            found = kind(**said)
        except (TypeError, ValueError) as error:
            raise InputError(Fault(where, str(error)[:300], f"a config of {name}")) from None
    raise_if_any(_faults(found), InputError)
    return found


def types_of_peft() -> dict[str, type[PeftConfig]]:
    """The config of every method by PEFT's name of it."""
    return {str(key).rpartition(".")[2]: kind for key, kind in PEFT_TYPE_TO_CONFIG_MAPPING.items()}


def _read(file: str | Path) -> dict[str, Any]:
    text = read_text(Path(file).expanduser(), kind="the JSON of a PEFT config")
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(Fault(str(file), f"no JSON ({error})"[:200], "the JSON of a PEFT config")) from None
    wrong = [] if isinstance(said, dict) else [Fault(str(file), f"a {type(said).__name__}", "a PEFT config's JSON")]
    raise_if_any(wrong, InputError)
    return dict(said)


def _faults(config: PeftConfig) -> list[Fault]:
    name = name_of(config)
    if name in _BY_TASK:
        return [Fault("method", f"{name}, which has to be told a task with every row", "a method of tokens alone")]
    start = getattr(config, "init_lora_weights", True)
    if isinstance(start, str) and start.lower().startswith(_OWN_WEIGHTS):
        seen = f"init_lora_weights {start!r}, which changes the frozen weights"
        return [Fault("method", seen, "a start that leaves them alone", "Leave it at True, or take 'gaussian'.")]
    # What a folder may not hold when it is read is not trained to begin with.
    if name != "LORA":
        return config_faults(config.to_dict(), "method")
    faults = plain_faults(config.to_dict(), "method")
    saved = getattr(config, "modules_to_save", None) or ()
    whole = sorted({saved} - HEADS) if isinstance(saved, str) else [one for one in saved if one not in HEADS]
    if whole:
        faults.append(Fault("method", f"modules_to_save {whole}", "LoRA matrices and heads only"))
    return [replace(fault, remedy="leave it out") for fault in faults]


def name_of(config: PeftConfig) -> str:
    """PEFT's name of a config's method, such as ``IA3``."""
    return str(getattr(config.peft_type, "value", config.peft_type))


class AttachedMethod:
    """A method of PEFT that is attached; fulfils `promptreach.backbone.Attachment`."""

    def __init__(self, wrapper: PeftModel) -> None:
        self._wrapper = wrapper
        self._own = {name: part for name, part in wrapper.named_parameters() if part.requires_grad}

    @property
    def joined(self) -> Prepended:
        """The prompt or prefix that it makes now; nothing for a method inside the layers."""
        if not self._wrapper.active_peft_config.is_prompt_learning:
            return Prepended()
        made = self._wrapper.get_prompt(1)
        if isinstance(made, Tensor):
            return Prepended(prompt=made[0])
        cache = made.self_attention_cache if isinstance(made, EncoderDecoderCache) else made
        assert isinstance(cache, DynamicCache)
        prefix = prefix_of(cache)
        return Prepended(prefix_keys=prefix.keys, prefix_values=prefix.values)

    def parameters(self) -> list[nn.Parameter]:
        """The trainable tensors."""
        return list(self._own.values())

    def state(self) -> dict[str, Tensor]:
        """A detached copy of them, by their path in PEFT's model."""
        return {name: part.detach().clone() for name, part in self._own.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put a copy made by `state` back.

        Raises:
            AdapterError: naming every tensor that is missing, of another shape, or not part of this method.
        """
        check_state(state, self.state())
        with torch.no_grad():
            for name, part in self._own.items():
                part.copy_(state[name])

    def save(self, folder: Path, base: str = "") -> None:
        """Write PEFT's own files into a folder that is there; `base` is the base's hub id, where it has another."""
        config = self._wrapper.active_peft_config
        if base:
            config.base_model_name_or_path, config.revision = base, None
        self._wrapper.save_pretrained(str(folder), save_embedding_layers=False)

    def load_saved(self, tensors: Mapping[str, Tensor], where: str) -> None:
        """Put tensors in as PEFT saved them; heads behind the hidden states are left aside.

        Raises:
            AdapterError: naming those that are missing, of another shape, or not this method's.
        """
        expected = get_peft_model_state_dict(self._wrapper, save_embedding_layers=False)
        root, prefix = "base_model.model.", f"{self._wrapper.get_base_model().base_model_prefix}."
        deeper = root + prefix  # a classifier's body lies one level deeper than the bare one
        body = {
            root + name.removeprefix(deeper) if name.startswith(deeper) and name not in expected else name: part
            for name, part in tensors.items()
            if not is_head(name)
        }
        seen = {name: tuple(part.shape) for name, part in body.items()}
        wanted = {name: tuple(part.shape) for name, part in expected.items()}
        faults = [
            Fault(where, f"{name}: {seen.get(name, 'missing')}", f"{wanted.get(name, 'no such tensor')}")
            for name in sorted(seen.keys() | wanted.keys())
            if seen.get(name) != wanted.get(name)
        ]
        raise_if_any(faults[:_SHOWN], AdapterError)
        set_peft_model_state_dict(self._wrapper, dict(body))

    def as_saved(self) -> tuple[PeftConfig, dict[str, Tensor]]:
        """The config and the tensors that PEFT saves."""
        tensors = get_peft_model_state_dict(self._wrapper, save_embedding_layers=False)
        return self._wrapper.active_peft_config, {name: part.detach().clone() for name, part in tensors.items()}


@contextmanager
def attached_by_config(model: OpenModel, config: PeftConfig, seed: int) -> Iterator[AttachedMethod]:
    """Attach what a config describes, drawing what it draws from `seed`; on leaving, the model is what it was.

    Raises:
        InputError: for a config that PEFT cannot put on this model, with its reason; and for one whose folder could
            not be read again.
    """
    _ = model.fingerprint  # taken before the weights get company
    module = model.release()
    own = copy.deepcopy(config)
    own.task_type, own.inference_mode = model.peft_task, False
    own.base_model_name_or_path, own.revision = base_of(model)
    for name in ("lora_dropout", "dropout", "encoder_dropout"):
        if getattr(own, name, None):
            setattr(own, name, 0.0)
    if getattr(own, "target_modules", None) and getattr(own, "feedforward_modules", own) is None:
        own.feedforward_modules = set()  # else PEFT names its usual ones, and refuses to read what it then saved
    sizes = {"token_dim": model.embedding_size, "num_layers": model.num_layers, "num_attention_heads": model.num_heads}
    for name, size in sizes.items() if own.is_prompt_learning else ():
        setattr(own, name, getattr(own, name, None) or size)
    with Unchanged(module):
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.default_generator.manual_seed(seed)
            try:
                method = AttachedMethod(get_peft_model(module, own).eval())
                _try_out(method, model)
            except InputError:
                raise
            except Exception as error:  # another library's many ways to fail, some of them only when it runs
                seen = f"{name_of(config)} on {model.family}: {str(error)[:300] or type(error).__name__}"
                raise InputError(Fault("method", seen, "a config that PEFT can put on this model")) from error
        yield method


@torch.no_grad()
def _try_out(method: AttachedMethod, model: OpenModel) -> None:
    """None; two tokens are read with the method on, and what it would leave is held against what a folder may hold."""
    model.hidden(model.batch([[0, 0]], [1] if model.task == "seq2seq" else None), method.joined)
    config, tensors = method.as_saved()
    if config.is_prompt_learning and name_of(config) in SUPPORTED_TYPES:
        try:
            faults = misfits(from_peft(config.to_dict(), tensors, model, Path("method")), model, "method")
        except AdapterError as error:
            faults = [replace(fault, where="method", remedy="leave it out") for fault in error.faults]
        raise_if_any(faults, InputError)


def attaching_faults(model: OpenModel, config: PeftConfig) -> list[Fault]:
    """The faults of a config on a model, which is left as it was."""
    try:
        with attached_by_config(model, config, seed=0):
            return []
    except InputError as error:
        return list(error.faults)


def save_by_config(
    folder: Path,
    model: OpenModel,
    config: PeftConfig,
    state: Mapping[str, Tensor],
    *,
    readout: Readout | None = None,
    card: str = "",
    own: OwnHead | None = None,
    base: str = "",
    loader: bool = False,
) -> Path:
    """Write a trained state as PEFT's own folder, which `PeftModel.from_pretrained` loads, and return its path.

    Args:
        readout: the head that reads it, which lies beside PEFT's files.
        card: the text of README.md, in the place of PEFT's.
        own, base, loader: as for `promptreach.hf.save_adapter`.

    Raises:
        OutputError: when it cannot be written, or something else is there.
    """
    with atomic_folder(folder, replace=(folder / CONFIG).is_file()) as partial:
        if own is not None:
            write_adapter(partial, named(own.config, model, base), own.tensors)
        else:
            with attached_by_config(model, config, seed=0) as method:
                method.load(state)
                method.save(partial, base)
        write_beside(partial, readout, card, loader)
    return folder


@dataclass(frozen=True, eq=False)
class ConfiguredAdapter:
    """A trained adapter of any method of PEFT's, which a record of its own has none for.

    Attributes:
        config: as PEFT has it.
        state: its tensors, as `AttachedMethod.state` names them.
    """

    config: PeftConfig
    state: Mapping[str, Tensor]

    @property
    def positions(self) -> int:
        """The number of positions in front of the content, as for every `Adapter`."""
        return int(getattr(self.config, "num_virtual_tokens", None) or 0) if self.config.is_prompt_learning else 0


@contextmanager
def attach_any(model: OpenModel, adapter: Adapter | ConfiguredAdapter) -> Iterator[Prepended]:
    """The model with `adapter` on it for a `with` block; see `promptreach.hf.attach`."""
    if not isinstance(adapter, ConfiguredAdapter):
        with attach(model, adapter) as joined:
            yield joined
        return
    with attached_by_config(model, adapter.config, seed=0) as method:
        method.load(adapter.state)
        with torch.no_grad():
            joined = method.joined
        yield joined


def is_configured(folder: Path) -> bool:
    """Whether a folder holds an adapter that only `load_configured` reads: of another type than a prompt, a prefix and
    LoRA, which PEFT knows."""
    if json_faults(folder / CONFIG):
        return False
    kind = json.loads((folder / CONFIG).read_text("utf-8")).get("peft_type")
    return isinstance(kind, str) and kind not in SUPPORTED_TYPES and kind in types_of_peft()


def load_configured(folder: Path, model: OpenModel) -> ConfiguredAdapter:
    """The adapter in a folder that PEFT saved, whatever its method.

    Raises:
        AdapterError: listing what is missing or damaged, settings that PEFT cannot read or put on this model, and
            tensors that the method does not have on it.
    """
    raise_if_any(file_faults(folder) + tokenizer_faults(folder, model), AdapterError)
    where, said = str(folder / CONFIG), json.loads((folder / CONFIG).read_text("utf-8"))
    raise_if_any(config_faults(said, where), AdapterError)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = types_of_peft()[said["peft_type"]].from_pretrained(str(folder))
    except Exception as error:  # every method checks its own settings, and as it likes
        seen = f"{said['peft_type']}: {str(error)[:300] or type(error).__name__}"
        remedy = "leave in feedforward_modules what is in target_modules alone" if "feedforward_modules" in seen else ""
        raise AdapterError(Fault(where, seen, "a config that PEFT reads", remedy)) from error
    try:
        raise_if_any(_faults(config), InputError)
        with attached_by_config(model, config, seed=0) as method:
            method.load_saved(load_file(folder / WEIGHTS), str(folder))
            return ConfiguredAdapter(config, method.state())
    except AdapterError:
        raise
    except InputError as error:
        raise AdapterError([replace(fault, where=where) for fault in error.faults]) from error
