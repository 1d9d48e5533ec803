"""Plain records of a transformer layer's weights, which every room accepts.

They say nothing of where the weights came from: random, hand-made, or one layer of a real model (`promptreach.hf`
fills them). Matrices act on column vectors: a projection with shape (out, in) maps x to W x + b.

Numbers are kept in the dtype they came in; rooms that prove something convert with `.to(torch.float64)`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.errors import Fault, InputError, raise_if_any

Activation = Literal["relu", "gelu", "gelu_tanh", "silu"]
NormKind = Literal["layer", "rms"]
NormPosition = Literal["pre", "post", "none"]


# Not typing.Self: the runtime type check of the tests decorates methods one by one and cannot resolve it there.
Record = TypeVar("Record", bound="_Record")


class _Record:
    """Conversions that all weight records share: every tensor at once, plain dictionaries and back."""

    def to(self: Record, dtype: torch.dtype) -> Record:
        """A copy with every tensor, at any depth, in `dtype`."""
        return self._converted(lambda tensor: tensor.to(dtype))

    def detached(self: Record) -> Record:
        """A copy to prove things about: every tensor, at any depth, in float64 on the CPU and without a graph."""
        return self._converted(lambda tensor: tensor.detach().to("cpu", torch.float64))

    def packed(self) -> dict[str, Any]:
        """This record as nested dictionaries, which a certificate's witness can hold; tensors lose their graph."""

        def plain(value: Any) -> Any:
            return value.detach() if isinstance(value, Tensor) else value

        return {
            name: value.packed() if isinstance(value, _Record) else plain(value)
            for name, value in self._fields().items()
        }

    @classmethod
    def unpacked(cls: type[Record], fields: Mapping[str, Any]) -> Record:
        """The record that `packed` took apart.

        Raises:
            InputError: for a value that is not of its field's kind, as in a witness that was damaged.
        """
        raise_if_any([fault for name, value in fields.items() for fault in _kind_faults(name, value)])
        kinds: dict[str, type[_Record]] = {"attention": AttentionWeights, "feed_forward": FeedForwardWeights}
        return cls(
            **{
                name: kinds.get(name, NormWeights).unpacked(value) if isinstance(value, Mapping) else value
                for name, value in fields.items()
            }
        )

    def _converted(self: Record, convert: Callable[[Tensor], Tensor]) -> Record:
        fields = self._fields()
        for name, value in fields.items():
            if isinstance(value, Tensor):
                fields[name] = convert(value)
            elif isinstance(value, _Record):
                fields[name] = value._converted(convert)
        return type(self)(**fields)

    def _fields(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}  # type: ignore[arg-type]


_KINDS: dict[str, tuple[type, ...]] = {
    "rotary": (bool,),
    "causal": (bool,),
    "scale": (float, int, type(None)),
    "eps": (float, int),
    **dict.fromkeys(("kind", "activation", "norm_position"), (str,)),
}
"""What stands in the fields that hold neither a tensor of floats nor a record."""


def _kind_faults(name: str, value: Any) -> list[Fault]:
    if name in _KINDS:
        fits = type(value) in _KINDS[name] and (not isinstance(value, float) or math.isfinite(value))
        expected = " or ".join(kind.__name__ for kind in _KINDS[name])
    else:
        fits = value is None or isinstance(value, Mapping) or (isinstance(value, Tensor) and value.is_floating_point())
        expected = "a tensor of floats, a record or None"
    return [] if fits else [Fault(name, f"{value!r:.60}", expected)]


def _choice_faults(where: str, value: str, choices: object) -> list[Fault]:
    """A fault for a word that is none of a Literal's: anything else would silently be taken for one of them."""
    expected = " or ".join(repr(choice) for choice in get_args(choices))
    return [] if value in get_args(choices) else [Fault(where, repr(value), expected)]


def _shape_faults(where: str, tensor: Tensor | None, shape: tuple[int, ...]) -> list[Fault]:
    if tensor is None or tuple(tensor.shape) == shape:
        return []
    return [Fault(where, f"shape {tuple(tensor.shape)}", str(shape))]


@dataclass(frozen=True, eq=False)
class NormWeights(_Record):
    """A LayerNorm (`kind="layer"`: subtract the mean, divide by the deviation) or RMSNorm (`kind="rms"`).

    Raises:
        InputError: for another kind, or a weight and bias that are not vectors of one size.
    """

    kind: NormKind
    weight: Float[Tensor, " hidden"]
    bias: Float[Tensor, " hidden"] | None = None
    eps: float = 1e-5

    def __post_init__(self) -> None:
        faults = _choice_faults("kind", self.kind, NormKind)
        faults += _shape_faults("weight", self.weight, (self.weight.numel(),))
        raise_if_any(faults + _shape_faults("bias", self.bias, (self.weight.numel(),)))


@dataclass(frozen=True, eq=False)
class AttentionWeights(_Record):
    """One attention block, with grouped-query heads: head h reads key/value head h * kv_heads // heads.

    Attributes:
        query, key, value: one projection per head.
        output: maps the concatenated heads to the residual stream; None means the concatenation itself is the output.
        scale: the factor on q.k before the softmax. None means 1/sqrt(head_dim), as models do; papers A and B write
            none at all, which is ``scale=1.0``.
        query_bias, key_bias, value_bias, output_bias: None where the architecture has none.
        query_norm, key_norm: an RMSNorm over each head's vector, before rotation (Qwen3), or None.
        rotary: True when queries and keys are rotated by position after projection. Scores then depend on positions,
            so a result derived from the weights alone does not cover them; use captured queries and keys instead.
        causal: True when a token sees only itself and what stands before it.

    Raises:
        InputError: listing every shape that does not fit.
    """

    query: Float[Tensor, "heads head_dim hidden"]
    key: Float[Tensor, "kv_heads head_dim hidden"]
    value: Float[Tensor, "kv_heads value_dim hidden"]
    output: Float[Tensor, "out concatenated"] | None = None
    scale: float | None = None
    query_bias: Float[Tensor, "heads head_dim"] | None = None
    key_bias: Float[Tensor, "kv_heads head_dim"] | None = None
    value_bias: Float[Tensor, "kv_heads value_dim"] | None = None
    output_bias: Float[Tensor, " out"] | None = None
    query_norm: NormWeights | None = None
    key_norm: NormWeights | None = None
    rotary: bool = False
    causal: bool = False

    def __post_init__(self) -> None:
        # Without these three no other shape can be told to fit.
        raise_if_any(
            [
                Fault(name, f"shape {tuple(tensor.shape)}", "(heads, head_dim, hidden), nothing empty")
                for name, tensor in (("query", self.query), ("key", self.key), ("value", self.value))
                if tensor.ndim != 3 or 0 in tensor.shape
            ]
        )
        heads, head_dim, hidden = self.query.shape
        kv_heads = self.key.shape[0]
        value_dim = self.value.shape[1]
        faults = []
        if heads % kv_heads:
            faults.append(Fault("key", f"{kv_heads} key/value heads", f"a divisor of the {heads} query heads"))
        if self.key.shape[1:] != (head_dim, hidden):
            faults.append(Fault("key", f"shape {tuple(self.key.shape)}", f"(kv_heads, {head_dim}, {hidden})"))
        if self.value.shape[0] != kv_heads or self.value.shape[2] != hidden:
            faults.append(Fault("value", f"shape {tuple(self.value.shape)}", f"({kv_heads}, value_dim, {hidden})"))
        if self.output is not None and (self.output.ndim != 2 or self.output.shape[1] != heads * value_dim):
            faults.append(Fault("output", f"shape {tuple(self.output.shape)}", f"(out, {heads * value_dim})"))
        faults += _shape_faults("query_bias", self.query_bias, (heads, head_dim))
        faults += _shape_faults("key_bias", self.key_bias, (kv_heads, head_dim))
        faults += _shape_faults("value_bias", self.value_bias, (kv_heads, value_dim))
        if self.output is None or self.output.ndim == 2:
            faults += _shape_faults("output_bias", self.output_bias, (self.output_size,))
        for name, norm in (("query_norm", self.query_norm), ("key_norm", self.key_norm)):
            faults += [] if norm is None else _shape_faults(f"{name}.weight", norm.weight, (head_dim,))
        dtypes = {str(t.dtype) for t in (self.query, self.key, self.value, self.output) if t is not None}
        if len(dtypes) > 1:
            faults.append(Fault("weights", f"mixed dtypes {sorted(dtypes)}", "one dtype", "convert with .to(dtype)"))
        raise_if_any(faults)

    @property
    def num_heads(self) -> int:
        return self.query.shape[0]

    @property
    def num_kv_heads(self) -> int:
        return self.key.shape[0]

    @property
    def head_dim(self) -> int:
        return self.query.shape[1]

    @property
    def hidden_size(self) -> int:
        return self.query.shape[2]

    @property
    def output_size(self) -> int:
        """The size of one output vector."""
        return self.num_heads * self.value.shape[1] if self.output is None else self.output.shape[0]

    @property
    def softmax_scale(self) -> float:
        """The factor on q.k that is in force."""
        return self.head_dim**-0.5 if self.scale is None else self.scale

    def head(self, index: int) -> "AttentionWeights":
        """Head `index` alone, with its slice of the output projection; the output bias belongs to the sum of heads."""
        if not 0 <= index < self.num_heads:
            raise InputError(Fault("index", str(index), f"0 to {self.num_heads - 1}"))
        group = index * self.num_kv_heads // self.num_heads
        value_dim = self.value.shape[1]
        columns = slice(index * value_dim, (index + 1) * value_dim)

        def pick(bias: Tensor | None, row: int) -> Tensor | None:
            return None if bias is None else bias[row : row + 1]

        return dataclasses.replace(
            self,
            query=self.query[index : index + 1],
            key=self.key[group : group + 1],
            value=self.value[group : group + 1],
            output=None if self.output is None else self.output[:, columns],
            query_bias=pick(self.query_bias, index),
            key_bias=pick(self.key_bias, group),
            value_bias=pick(self.value_bias, group),
            output_bias=None,
        )


@dataclass(frozen=True, eq=False)
class FeedForwardWeights(_Record):
    """A token-wise network: ``down(act(up x))``, or gated ``down(act(gate x) * up x)`` where `gate` is given.

    Raises:
        InputError: for an activation that is not one of `Activation`, and listing every shape that does not fit.
    """

    up: Float[Tensor, "width hidden"]
    down: Float[Tensor, "hidden width"]
    activation: Activation
    up_bias: Float[Tensor, " width"] | None = None
    down_bias: Float[Tensor, " hidden"] | None = None
    gate: Float[Tensor, "width hidden"] | None = None
    gate_bias: Float[Tensor, " width"] | None = None

    def __post_init__(self) -> None:
        faults = _choice_faults("activation", self.activation, Activation)
        for name, tensor in (("up", self.up), ("down", self.down)):
            if tensor.ndim != 2:
                faults.append(Fault(name, f"shape {tuple(tensor.shape)}", "a matrix"))
        raise_if_any(faults)
        width = self.up.shape[0]
        faults += _shape_faults("down", self.down, (self.down.shape[0], width))
        faults += _shape_faults("up_bias", self.up_bias, (width,))
        faults += _shape_faults("down_bias", self.down_bias, (self.down.shape[0],))
        faults += _shape_faults("gate", self.gate, tuple(self.up.shape))
        raise_if_any(faults + _shape_faults("gate_bias", self.gate_bias, (width,)))


@dataclass(frozen=True, eq=False)
class LayerWeights(_Record):
    """One transformer layer: attention and feed-forward, each with a residual connection and perhaps a norm.

    `norm_position` says where the norms stand: ``"pre"`` (x + f(norm(x)): GPT-2, Llama), ``"post"``
    (norm(x + f(x)): BERT) or ``"none"`` (x + f(x): papers A and B).

    Raises:
        InputError: for another position, ``"none"`` with a norm given, or a norm of another size than the stream's.
    """

    attention: AttentionWeights
    feed_forward: FeedForwardWeights | None = None
    attention_norm: NormWeights | None = None
    feed_forward_norm: NormWeights | None = None
    norm_position: NormPosition = "none"

    def __post_init__(self) -> None:
        faults = _choice_faults("norm_position", self.norm_position, NormPosition)
        norms = {"attention_norm": self.attention_norm, "feed_forward_norm": self.feed_forward_norm}
        if self.norm_position == "none" and any(norm is not None for norm in norms.values()):
            faults.append(Fault("norm_position", "'none' with a norm given", "'pre' or 'post'"))
        for name, norm in norms.items():
            size = (self.attention.hidden_size,)
            faults += [] if norm is None else _shape_faults(f"{name}.weight", norm.weight, size)
        raise_if_any(faults)
