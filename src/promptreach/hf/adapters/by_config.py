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
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache

from promptreach.backbone import Prepended
from promptreach.errors import Fault, InputError, raise_if_any
from promptreach.files import atomic_folder
from promptreach.formats import read_text
from promptreach.hf.adapters._lora import check_state
from promptreach.hf.adapters.folders import CARD, Readout, base_of, write_readout
from promptreach.hf.adapters.places import CONFIG
from promptreach.hf.models.model import OpenModel
from promptreach.hf.running.slots import prefix_of

_BY_TASK = ("MULTITASK_PROMPT_TUNING", "POLY", "XLORA", "HRA_MULTI")
"""Methods whose forward pass needs a task's number or weights beside the tokens."""
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
        kind = {str(key).rpartition(".")[2]: value for key, value in PEFT_TYPE_TO_CONFIG_MAPPING.items()}.get(name)
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
    return []


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

    def save(self, folder: Path) -> None:
        """Write PEFT's own files into a folder that is there."""
        self._wrapper.save_pretrained(str(folder), save_embedding_layers=False)


@contextmanager
def attached_by_config(model: OpenModel, config: PeftConfig, seed: int) -> Iterator[AttachedMethod]:
    """Attach what a config describes, drawing what it draws from `seed`; on leaving, the model is what it was.

    Raises:
        InputError: for a config that PEFT cannot put on this model, with its reason.
    """
    _ = model.fingerprint  # taken before the weights get company
    module = model.release()
    before = _Modules(module)
    own = copy.deepcopy(config)
    own.task_type, own.inference_mode = model.peft_task, False
    own.base_model_name_or_path, own.revision = base_of(model)
    for name in ("lora_dropout", "dropout", "encoder_dropout"):
        if getattr(own, name, None):
            setattr(own, name, 0.0)
    sizes = {"token_dim": model.embedding_size, "num_layers": model.num_layers, "num_attention_heads": model.num_heads}
    for name, size in sizes.items() if own.is_prompt_learning else ():
        setattr(own, name, getattr(own, name, None) or size)
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.default_generator.manual_seed(seed)
            try:
                wrapper = get_peft_model(module, own)
            except (ValueError, TypeError, AttributeError, KeyError, RuntimeError, NotImplementedError) as error:
                seen = f"{name_of(config)} on {model.family}: {str(error)[:300] or type(error).__name__}"
                raise InputError(Fault("method", seen, "a config that PEFT can put on this model")) from error
        wrapper.eval()
        yield AttachedMethod(wrapper)
    finally:
        before.restore()


def save_by_config(
    folder: Path,
    model: OpenModel,
    config: PeftConfig,
    state: Mapping[str, Tensor],
    *,
    readout: Readout | None = None,
    card: str = "",
) -> Path:
    """Write a trained state as PEFT's own folder, which `PeftModel.from_pretrained` loads, and return its path.

    Args:
        readout: the head that reads it, which lies beside PEFT's files.
        card: the text of README.md, in the place of PEFT's.

    Raises:
        OutputError: when it cannot be written, or something else is there.
    """
    with atomic_folder(folder, replace=(folder / CONFIG).is_file()) as partial:
        with attached_by_config(model, config, seed=0) as method:
            method.load(state)
            method.save(partial)
        if readout is not None:
            write_readout(partial, readout)
        if card:
            (partial / CARD).write_text(card, "utf-8")
    return folder


class _Modules:
    """The modules, attributes and flags of a model, to be put back after PEFT has changed them."""

    def __init__(self, module: nn.Module) -> None:
        self._parts = [
            (part, dict(part._modules), dict(part._parameters), set(vars(part))) for part in module.modules()
        ]
        self._flags = [(weight, weight.requires_grad) for weight in module.parameters()]

    def restore(self) -> None:
        """Put them back."""
        for part, modules, parameters, names in self._parts:
            part._modules.clear()
            part._modules.update(modules)
            part._parameters.clear()
            part._parameters.update(parameters)
            for name in set(vars(part)) - names:
                delattr(part, name)
        for weight, flag in self._flags:
            weight.requires_grad_(flag)
            weight.grad = None
