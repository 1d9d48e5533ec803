"""LoRA on a frozen model for the length of a `with` block, through PEFT.

Everything that PEFT puts into the module is taken out again, and no random number is drawn from the global generator.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from promptreach.errors import AdapterError, Fault, InputError, raise_if_any
from promptreach.hf.models.sizes import body_of, layer_count, layers_of
from promptreach.stored import packing_of, projection_sizes

QUERY_AND_VALUE = (
    ("q_proj", "v_proj"),
    ("query", "value"),
    ("q", "v"),
    ("query_proj", "value_proj"),
    ("q_lin", "v_lin"),
    ("q_b_proj", "kv_b_proj"),
    ("q_proj", "kv_b_proj"),
    ("Wqkv",),
    ("qkv_proj",),
    ("query_key_value",),
    ("c_attn",),
    ("in_proj",),
)
"""The names that models give to their query and value projections, or to the one matrix that computes them along with
the keys; the first that all occur are taken."""


@dataclass(frozen=True)
class LoraTargets:
    """The projections that LoRA adapts.

    Attributes:
        names: the ends of their paths, or whole paths, as PEFT matches them; none where the model has no projection.
        transposed: whether their weights are stored (in, out).
    """

    names: tuple[str, ...]
    transposed: bool


ALL_LINEAR = "all-linear"
"""The name of every projection inside the layers, as PEFT has it."""


def lora_targets(module: PreTrainedModel, chosen: Sequence[str] = ()) -> LoraTargets:
    """The query and value projections of every layer, or every projection inside the layers where these have no name
    of their own; or those whose paths end in one of the `chosen` names, of which ``all-linear`` means every one.

    PEFT takes no ``out_proj`` of a state-space layer, which reads the weight by itself.

    Raises:
        InputError: naming each chosen one that no projection's path ends in.
    """
    body = body_of(module)
    layers = layers_of(body, layer_count(module.config)) or [body]
    inside = {id(part) for layer in layers for part in layer.modules()}
    packed = bool(packing_of(module))
    found: dict[str, nn.Module] = {}
    for path, part in module.named_modules():
        # A subclass may compute something else from its weight than PEFT adds to; PEFT knows those of quantisers.
        plain = type(part) in (nn.Linear, Conv1D)
        if id(part) in inside and (plain or (packed and projection_sizes(part))) and "pooler" not in path:
            found[path] = part
    ends = {path.rpartition(".")[2] for path in found}
    expected = f"{ALL_LINEAR}, or ends of paths such as {', '.join(sorted(ends))}"
    absent = [name for name in chosen if name != ALL_LINEAR and not any(_ends_in(path, name) for path in found)]
    raise_if_any([Fault("lora_targets", repr(name), expected) for name in absent])
    usual = next((names for names in QUERY_AND_VALUE if ends.issuperset(names)), ())
    named = () if ALL_LINEAR in chosen else tuple(chosen) or usual
    names = named or tuple(path for path in found if not path.endswith("out_proj"))
    taken = [part for path, part in found.items() if any(_ends_in(path, name) for name in names)]
    return LoraTargets(names, bool(taken) and all(isinstance(part, Conv1D) for part in taken))


def _ends_in(path: str, name: str) -> bool:
    """Whether PEFT takes the module at `path` for the target `name`."""
    return path == name or path.endswith(f".{name}")


def attachable(module: PreTrainedModel, targets: LoraTargets) -> bool:
    """Whether PEFT has LoRA for these projections: of packed ones it knows some schemes, where their kernels are."""
    try:
        with attached(module, LoraConfig(r=1, target_modules=list(targets.names)), seed=0):
            return True
    except Exception:  # it raises whatever the kernels' own packages do
        return False


class AttachedLora:
    """A LoRA update that is attached; fulfils `promptreach.backbone.Attachment`."""

    def __init__(self, wrapper: PeftModel) -> None:
        self._wrapper = wrapper

    def parameters(self) -> list[nn.Parameter]:
        """The trainable matrices."""
        return [parameter for parameter in self._wrapper.parameters() if parameter.requires_grad]

    def state(self) -> dict[str, Tensor]:
        """A detached copy of them, by PEFT's key."""
        # The embeddings are frozen, and asking PEFT to find out for itself makes it call the hub.
        state = get_peft_model_state_dict(self._wrapper, save_embedding_layers=False)
        return {key: tensor.detach().clone() for key, tensor in state.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put a copy made by `state` back.

        Raises:
            AdapterError: naming every tensor that is missing, of another shape, or not part of this update.
        """
        check_state(state, self.state())
        set_peft_model_state_dict(self._wrapper, dict(state))


def check_state(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Refuse a state that was not made by something of this size.

    Raises:
        AdapterError: naming every tensor of `given` that is missing, of another shape than in `own`, or not in it.
    """
    seen, expected = ({key: tuple(tensor.shape) for key, tensor in state.items()} for state in (given, own))
    faults = [
        Fault(key, f"shape {seen.get(key, 'missing')}", f"shape {expected.get(key, 'none: no such tensor here')}")
        for key in sorted(seen.keys() | expected.keys())
        if seen.get(key) != expected.get(key)
    ]
    raise_if_any(faults, AdapterError)


@contextmanager
def attached(module: PreTrainedModel, config: LoraConfig, seed: int) -> Iterator[AttachedLora]:
    """Attach the LoRA that `config` describes, drawing its first factors from `seed`.

    Raises:
        InputError: when something is attached already; PEFT would take both off together.
    """
    if any(isinstance(part, BaseTunerLayer) for part in module.modules()):
        raise InputError(Fault("model", "has an adapter attached", "a bare model", "leave the other block first"))
    before = set(vars(module))
    with torch.random.fork_rng(devices=[]):
        # PEFT makes its matrices on the CPU and moves them, so the CPU's generator is the only one that matters.
        torch.default_generator.manual_seed(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # between PEFT and transformers, not for our callers
            wrapper = get_peft_model(module, config)
    wrapper.eval()
    try:
        yield AttachedLora(wrapper)
    finally:
        wrapper.base_model.unload()
        for name in set(vars(module)) - before:
            delattr(module, name)


class Unchanged:
    """A `with` block that leaves the modules, attributes and flags of a model as they were, whatever PEFT did."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __enter__(self) -> "Unchanged":
        self._parts = [
            (part, dict(part._modules), dict(part._parameters), dict(vars(part))) for part in self._module.modules()
        ]
        self._flags = [(weight, weight.requires_grad) for weight in self._module.parameters()]
        return self

    def __exit__(self, *raised: object) -> None:
        for part, modules, parameters, names in self._parts:
            part._modules.clear()
            part._modules.update(modules)
            part._parameters.clear()
            part._parameters.update(parameters)
            for name in set(vars(part)) - set(names):
                delattr(part, name)
            vars(part).update({name: names[name] for name in set(names) - set(vars(part))})
        for weight, flag in self._flags:
            weight.requires_grad_(flag)
            weight.grad = None
