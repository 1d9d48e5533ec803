"""UniPELT on a frozen model for the length of a `with` block: a gated prefix, gated LoRA and a gated adapter a layer.

A gate is a sigmoid of a linear function of what its part reads. One that is closed is truly off: with all gates at 0
the model computes what it computes alone, up to the order of float summation.

For LoRA and the adapter that is plain, since the gate g multiplies what they add. For the prefix it is a choice. The
published gate multiplies the slots' keys and values; at g = 0 a slot then has the logit 0, not none, and m slots keep
the mass m: a head's output x becomes x Z / (Z + m), where Z is the content's sum of exponentials. Here g scales the
slots' share of the softmax itself. With logits s_i of slots and t_j of content, values u_i and v_j,

    output = (g sum_i exp(s_i) u_i + sum_j exp(t_j) v_j) / (g sum_i exp(s_i) + sum_j exp(t_j)),

which is plain attention with log g added to the slots' logits: the bare head at g = 0, the whole prefix at g = 1, and
in between as if there were g times as many slots. log g is computed as such, so that its gradient stays finite however
far a gate closes. The slots also take no positions: content stands where it stands without them.

The gates of prefix and adapter are means over positions. In a causal model the mean at a position runs up to that
position: a mean over all of them would let a token see the ones it is to predict. Padding is left out.

Because its gates read the input, this is not one prefix shared by all inputs: bounds on what a prefix can do
(`promptreach.limits`) do not apply to it.

Reference: Mao et al., ACL 2022, "UniPELT: A Unified Framework for Parameter-Efficient Language Model Tuning".
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid
from torch.utils.hooks import RemovableHandle
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from promptreach.errors import Fault, InputError, raise_if_any
from promptreach.hf.adapters._lora import check_state
from promptreach.hf.models.families import Family
from promptreach.hf.running.capture import spelled_mask
from promptreach.prompt import Prefix

_NAME = "promptreach_unipelt"
_NEVER = -1e30  # the log of a gate that stands for padding: finite, so that no gradient is the difference of infinities


class Gate(nn.Module):
    """A gate's logits, w.x + b at every position; w and b start at zero, and the gate at one half."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, states: Float[Tensor, "batch seq size"]) -> Float[Tensor, "batch seq"]:
        """The logits; the gate is their sigmoid."""
        return states @ self.weight + self.bias


def log_mean_gate(
    logits: Float[Tensor, "batch seq"], mask: Bool[Tensor, "batch seq"], causal: bool
) -> Float[Tensor, "batch seen"]:
    """The log of the mean gate over the content of each example, or, if causal, over the content up to each position.

    Args:
        logits: of the gates.
        mask: True at content, which comes before the padding.
        causal: whether a position sees only what stands before it; `seen` is then seq, otherwise 1.
    """
    logs = logsigmoid(logits).masked_fill(~mask, _NEVER)
    if causal:
        return torch.logcumsumexp(logs, dim=1) - mask.cumsum(1).log()
    return torch.logsumexp(logs, dim=1, keepdim=True) - mask.sum(1, keepdim=True).log()


class GatedUpdate(nn.Module):
    """The addition of LoRA to one projection, B A x, times a gate at each position; B starts at zero."""

    def __init__(self, inputs: int, outputs: int, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.first = _uniform(rank, inputs, generator)
        self.second = nn.Parameter(torch.zeros(outputs, rank))
        self.gate = Gate(inputs)

    def forward(self, states: Float[Tensor, "batch seq inputs"]) -> Float[Tensor, "batch seq outputs"]:
        """The addition to the projection's output."""
        states = states.to(self.first.dtype)
        return torch.sigmoid(self.gate(states))[..., None] * (states @ self.first.T @ self.second.T)


class GatedBottleneck(nn.Module):
    """The addition of an adapter to a feed-forward sublayer's output, times its mean gate; it starts at zero."""

    def __init__(self, hidden_size: int, bottleneck: int, generator: torch.Generator) -> None:
        super().__init__()
        self.down = _uniform(bottleneck, hidden_size, generator)
        self.down_bias = nn.Parameter(torch.zeros(bottleneck))
        self.up = nn.Parameter(torch.zeros(hidden_size, bottleneck))
        self.up_bias = nn.Parameter(torch.zeros(hidden_size))
        self.gate = Gate(hidden_size)

    def forward(
        self, states: Float[Tensor, "batch seq hidden"], mask: Bool[Tensor, "batch seq"], causal: bool
    ) -> Float[Tensor, "batch seq hidden"]:
        """The addition to the sublayer's output."""
        gate = log_mean_gate(self.gate(states), mask, causal).exp()[..., None]
        return gate * (torch.relu(states @ self.down.T + self.down_bias) @ self.up.T + self.up_bias)


class GatedSlots(nn.Module):
    """A layer's prefix, and the gate on its share of the softmax."""

    def __init__(self, keys: Float[Tensor, "kv_head prompt dim"], values: Tensor, hidden_size: int) -> None:
        super().__init__()
        self.keys = nn.Parameter(keys.clone())
        self.values = nn.Parameter(values.clone())
        self.gate = Gate(hidden_size)

    def join(
        self,
        key: Float[Tensor, "batch kv_head n dim"],
        value: Tensor,
        mask: Bool[Tensor, "batch 1 q n"],
        log_gate: Float[Tensor, "batch seen"],
    ) -> tuple[Tensor, Tensor, Float[Tensor, "batch 1 q joined"]]:
        """Keys and values with the slots in front, and what is added to the logits."""
        slots = [part.to(key).expand(len(key), -1, -1, -1) for part in (self.keys, self.values)]
        content = torch.zeros_like(mask, dtype=key.dtype).masked_fill(~mask, torch.finfo(key.dtype).min)
        opened = log_gate.to(key)[:, None, :, None].expand(*content.shape[:3], self.keys.shape[1])
        return (
            torch.cat([slots[0], key], dim=2),
            torch.cat([slots[1], value], dim=2),
            torch.cat([opened, content], dim=3),
        )


class GatedLayer(nn.Module):
    """The three parts of one layer, one update a projection."""

    def __init__(self, slots: GatedSlots, updates: Sequence[GatedUpdate], bottleneck: GatedBottleneck) -> None:
        super().__init__()
        self.slots = slots
        self.updates = nn.ModuleList(updates)
        self.bottleneck = bottleneck


class AttachedUnipelt:
    """UniPELT that is attached; fulfils `promptreach.backbone.Attachment`."""

    def __init__(self, layers: Sequence[GatedLayer], causal: bool) -> None:
        self._layers = layers
        self._whole = nn.ModuleList(layers)
        self._causal = causal
        self._mask = torch.empty(0, 0, dtype=torch.bool)  # of the forward pass under way
        self._log_gates: dict[int, Tensor] = {}

    def parameters(self) -> list[nn.Parameter]:
        """The slots, matrices and gates."""
        return list(self._whole.parameters())

    def state(self) -> dict[str, Tensor]:
        """A detached copy of them, by layer and part."""
        return {name: tensor.detach().clone() for name, tensor in self._whole.state_dict().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put a copy made by `state` back.

        Raises:
            AdapterError: naming every tensor that is missing, of another shape, or not part of this.
        """
        check_state(state, self.state())
        self._whole.load_state_dict(dict(state))

    def hooked(self, module: PreTrainedModel, layers: Sequence[nn.Module], row: Family) -> Iterator[RemovableHandle]:
        """Put the hooks in one by one, each handle given before the next is put in."""
        yield module.base_model.register_forward_pre_hook(self._begin, with_kwargs=True)
        for index, (own, layer) in enumerate(zip(self._layers, layers, strict=True)):
            projections = _projections(layer, row)
            yield projections[0].register_forward_pre_hook(partial(self._open, index, own.slots.gate))
            for update, projection in zip(own.updates, projections, strict=True):
                yield projection.register_forward_hook(partial(_add, update))
            yield layer.get_submodule(row.down).register_forward_hook(partial(self._adapt, own.bottleneck))

    def attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, **options: Any
    ) -> tuple[Tensor, None]:
        """Attention over the layer's slots and the content."""
        slots = self._layers[module.layer_idx].slots
        keys, values, bias = slots.join(key, value, mask, self._log_gates.pop(module.layer_idx))
        output, _ = sdpa_attention_forward(module, query, keys, values, bias, **options)
        return output, None

    def _begin(self, module: PreTrainedModel, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Note where the content is, and refuse what would bypass the gates."""
        faults = []
        if module.config._attn_implementation != _NAME:
            expected = "the one that UniPELT brings, for as long as it is attached"
            faults.append(Fault("attention", repr(module.config._attn_implementation), expected))
        if options.get("past_key_values") is not None:
            faults.append(Fault("joined", "a prefix or a cache", "whole sequences", "UniPELT has slots of its own"))
        raise_if_any(faults, InputError)
        self._mask = options["attention_mask"].bool()

    def _open(self, index: int, gate: Gate, module: nn.Module, inputs: tuple[Tensor]) -> None:
        """The log of a layer's prefix gate, from what its attention reads."""
        logits = gate(inputs[0].to(gate.weight.dtype))
        self._log_gates[index] = log_mean_gate(logits, self._mask.to(logits.device), self._causal)

    def _adapt(self, own: GatedBottleneck, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        added: Tensor = own(output.to(own.down.dtype), self._mask.to(output.device), self._causal)
        return output + added.to(output.dtype)


_attached: ContextVar[AttachedUnipelt] = ContextVar("promptreach_attached_unipelt")


@contextmanager
def attached(
    module: PreTrainedModel,
    layers: Sequence[nn.Module],
    row: Family,
    start: Prefix,
    rank: int,
    bottleneck: int,
    seed: int,
) -> Iterator[AttachedUnipelt]:
    """Attach UniPELT to `layers` of `module`; on leaving, hooks and attention are what they were.

    Args:
        module: the model.
        layers: its layers.
        row: where their parts are.
        start: what the gated prefix starts as.
        rank: of the updates of the query and value projections (one of all three where one matrix computes them).
        bottleneck: of the adapters behind the feed-forward sublayers, inside the residual sum.
        seed: for the first factors; the second ones start at zero. The global generator is left alone.

    Raises:
        InputError: when it is attached already, or the model computes its feed-forward sublayer in chunks.
    """
    before = module.config._attn_implementation
    chunk = getattr(module.config, "chunk_size_feed_forward", 0)
    faults = []
    if before == _NAME:
        faults.append(Fault("model", "has UniPELT attached", "a bare model", "leave the other block first"))
    if chunk:  # the mean over positions needs them all at once
        faults.append(Fault("model", f"chunk_size_feed_forward={chunk}", "0, while it is tuned with UniPELT"))
    raise_if_any(faults, InputError)
    generator = torch.Generator().manual_seed(seed)
    own = [
        _layer(layer, row, keys, values, rank, bottleneck, generator)
        for layer, keys, values in zip(layers, start.keys, start.values, strict=True)
    ]
    attachment = AttachedUnipelt(own, causal=not row.encoder)
    with ExitStack() as stack:
        token = _attached.set(attachment)
        stack.callback(_attached.reset, token)
        for handle in attachment.hooked(module, layers, row):
            stack.callback(handle.remove)
        stack.callback(module.set_attn_implementation, before)
        module.set_attn_implementation(_NAME)
        yield attachment


def _layer(
    layer: nn.Module,
    row: Family,
    keys: Tensor,
    values: Tensor,
    rank: int,
    bottleneck: int,
    generator: torch.Generator,
) -> GatedLayer:
    """The parts of one layer, at least float32, on the layer's device."""
    shapes = [projection.weight.shape for projection in _projections(layer, row)]
    sizes = [tuple(shape) if row.transposed else tuple(reversed(shape)) for shape in shapes]
    hidden_size = sizes[0][0]
    own = GatedLayer(
        GatedSlots(keys, values, hidden_size),
        [GatedUpdate(inputs, outputs, rank, generator) for inputs, outputs in sizes],
        GatedBottleneck(hidden_size, bottleneck, generator),
    )
    like = next(layer.parameters())
    return own.to(like.device, torch.promote_types(like.dtype, torch.float32))


def _projections(layer: nn.Module, row: Family) -> list[Any]:
    """The query and value projections, or the one that computes both."""
    ends = dict.fromkeys((row.projections[0], row.projections[-1]))
    return [layer.get_submodule(name) for name in ends]


def _add(update: nn.Module, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    added: Tensor = update(inputs[0])
    return output + added.to(output.dtype)


def _uniform(rows: int, columns: int, generator: torch.Generator) -> nn.Parameter:
    """Entries within 1 / sqrt(columns) of zero, as a linear layer starts."""
    return nn.Parameter((2 * torch.rand(rows, columns, generator=generator) - 1) / columns**0.5)


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, **options: Any
) -> tuple[Tensor, None]:
    """The attention that transformers calls in every layer."""
    return _attached.get().attend(module, query, key, value, attention_mask, **options)


AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, spelled_mask)
