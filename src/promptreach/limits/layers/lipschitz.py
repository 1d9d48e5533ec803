"""Lipschitz constants of each layer, from above (certified) and from below (measured), and certain injectivity.

Paper A, Theorem 5: a layer x -> x + G(x) whose branches G have Lipschitz constants below 1 is injective, so a stack of
them fits only data of injective maps. Everything here is in the Frobenius norm over stacked tokens, on inputs whose
tokens each lie in a ball of stated radius around 0, with a stated number of tokens, the prompt's included.

Derivations: docs/theory/lipschitz.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach import blocks, rounding
from promptreach.balls import NormBall
from promptreach.certificate import (
    Assumption,
    Certificate,
    Evidence,
    Independence,
    Side,
    Statement,
    Verdict,
    rechecks,
)
from promptreach.errors import Fault, raise_if_any
from promptreach.limits.layers.attention_bounds import Reading, attention_bound
from promptreach.limits.layers.feed_forward_bounds import feed_forward_bound
from promptreach.limits.layers.inputs import ball_faults, formed_bytes, layer_faults, witnessed_layers
from promptreach.limits.layers.norm_routines import FAST, THOROUGH, NormRoutines
from promptreach.weights import LayerWeights, NormWeights
from promptreach.witness import choice, number, whole

_TOKENS = 4


@dataclass(frozen=True)
class LayerBound:
    """Bounds on the Lipschitz constants of one layer and its two branches on the ball.

    A branch is what a layer adds to the stream: attention or feed-forward, with the norm in front of it where there is
    one, without the residual connection and without a norm behind it.

    Attributes:
        layer: its index in the list.
        attention, mlp: UPPER bounds on the Lipschitz constants of the branches; `mlp` is 0 without a feed-forward.
        total: UPPER bound for the whole layer, residual connections and norms included.
        attention_lower, mlp_lower: MEASURED lower bounds: Jacobian norms found at points of the ball, or at the states.
        attention_local, mlp_local: MEASURED upper bounds on the Jacobian norms at the given states, or None.
        invertible: POSSIBLE when the layer is certainly injective on the ball; otherwise UNKNOWN, with `reasons`.
        reasons: why not certified; empty when it is.
        not_covered: what the bounds do not speak of.
        published: formulas of the literature for the attention branch, where they are proved too (see
            `attention_bounds`), by paper; for comparison.
        mlp_radius: of the ball on which `mlp` holds and in which every stream after attention lies, rounded up by less
            than a part in 1e8; the claim of `mlp` names a radius that is rounded down.
        output_radius: every token that leaves the layer is at most this long.
    """

    layer: int
    attention: Certificate
    mlp: Certificate
    total: Certificate
    attention_lower: Certificate
    mlp_lower: Certificate
    attention_local: Certificate | None
    mlp_local: Certificate | None
    invertible: Verdict
    reasons: tuple[str, ...]
    not_covered: tuple[str, ...]
    published: Mapping[str, float]
    mlp_radius: float
    output_radius: float


def lipschitz(
    layers: Sequence[LayerWeights],
    radius: float | int,
    tokens: int,
    states: Sequence[Float[Tensor, "tokens hidden"]] | None = None,
    rotate: blocks.Rotation | None = None,
    iterations: int = 6,
    seed: int = 0,
) -> list[LayerBound]:
    """Bounds for each layer on its own, first layer first, each on the same ball of inputs.

    For all inputs X, X' of at most `tokens` tokens with every token in the ball of `radius`:
    |G(X) - G(X')| <= attention.value |X - X'|, and likewise for `mlp` on its ball and `total`.

    Args:
        layers: of one model; BERT, GPT-2 and Llama families with their norms, or layers without any.
        radius: of the ball around 0 that holds every token of a layer's input, prompt included. Not a property of the
            weights: measure it, or choose it.
        tokens: how many, prompt included.
        states: the stream that enters each layer, one tensor a layer, for bounds and power iteration at that point;
            float64 is used whatever comes. None takes random points of the ball.
        rotate: how queries and keys are rotated by position, for the measured numbers. The certified ones hold for
            every rotation; without `rotate` the measured ones use none.
        iterations: of the power method.
        seed: of its starts.

    Raises:
        InputError: listing every layer and argument that does not fit.

    Reference: Wang et al. 2023 (paper A), Theorem 5; theorem keys ``attention-lipschitz``, ``feed-forward-lipschitz``
    and ``contracting-injective``.
    """
    raise_if_any(_faults(layers, radius, tokens, states))
    generator = torch.Generator().manual_seed(seed)
    found = [None] * len(layers) if states is None else [state.detach().to("cpu", torch.float64) for state in states]
    return [
        _layer_bound(index, layer, radius, tokens, state, rotate, iterations, generator)
        for index, (layer, state) in enumerate(zip(layers, found, strict=True))
    ]


@dataclass(frozen=True)
class LayerSizes:
    """The numbers behind one layer's certificates, as 50-digit rounding.

    Attributes:
        attention, feed_forward: Lipschitz bounds of the branches, the norms in front included.
        total: of the layer.
        mlp_radius, output_radius: as in `LayerBound`.
        published: as in `LayerBound`.
    """

    attention: Decimal
    feed_forward: Decimal
    total: Decimal
    mlp_radius: Decimal
    output_radius: Decimal
    published: dict[str, Decimal]

    def part(self, name: str) -> Decimal:
        """The Lipschitz bound on one part, as `LayerBound` names it."""
        return {"attention": self.attention, "mlp": self.feed_forward, "total": self.total}[name]


def layer_sizes(layer: LayerWeights, radius: Decimal, tokens: int, routines: NormRoutines = FAST) -> LayerSizes:
    """Bounds on the ball, for float64 weights; call inside ``localcontext(rounding.WIDE)``."""
    first, second = blocks.norms_in_front(layer)
    attended = attention_bound(layer.attention, first, _reading(first, radius), tokens, routines)
    after, total = radius + attended.reach, 1 + attended.lipschitz
    if layer.norm_position == "post" and layer.attention_norm is not None:
        total, after = total * _norm_slope(layer.attention_norm), _normed_size(layer.attention_norm, after)
    mapped = feed_forward_bound(layer.feed_forward, second, _reading(second, after), routines)
    end, total = after + mapped.reach, total * (1 + mapped.lipschitz)
    if layer.norm_position == "post" and layer.feed_forward is not None and layer.feed_forward_norm is not None:
        total, end = total * _norm_slope(layer.feed_forward_norm), _normed_size(layer.feed_forward_norm, end)
    return LayerSizes(attended.lipschitz, mapped.lipschitz, total, after, end, attended.published)


def _reading(norm: NormWeights | None, radius: Decimal) -> Reading:
    """The reading of a branch from a stream in the ball; only a norm in front of it changes that."""
    if norm is None:
        return Reading(radius, radius, Decimal(1))
    size = _standardised_size(norm, radius)
    return Reading(size, size, _unit_slope(norm))


def _unit_slope(norm: NormWeights) -> Decimal:
    """Bounds the slope of a norm without its weight: its Jacobian is a matrix between 0 and 1 over s, s^2 >= eps."""
    return 1 / Decimal(norm.eps).sqrt()


def _standardised_size(norm: NormWeights, radius: Decimal) -> Decimal:
    return min(Decimal(len(norm.weight)).sqrt(), radius * _unit_slope(norm))


def _norm_slope(norm: NormWeights) -> Decimal:
    return _unit_slope(norm) * Decimal(float(norm.weight.abs().max()))


def _normed_size(norm: NormWeights, radius: Decimal) -> Decimal:
    moved = Decimal(0) if norm.bias is None else NormBall.exact(norm.bias).frobenius()
    return _standardised_size(norm, radius) * Decimal(float(norm.weight.abs().max())) + moved


def _layer_bound(
    index: int,
    layer: LayerWeights,
    radius: float | int,
    tokens: int,
    state: Float[Tensor, "tokens hidden"] | None,
    rotate: blocks.Rotation | None,
    iterations: int,
    generator: torch.Generator,
) -> LayerBound:
    given, layer = layer, layer.detached()
    with localcontext(rounding.WIDE):
        sizes = layer_sizes(layer, Decimal(radius), tokens)
        local = None if state is None else _local_sizes(layer, state, rotate)
        published = {name: rounding.round_up(value) for name, value in sizes.published.items()}
    hidden, random = layer.attention.hidden_size, state is None
    points = blocks.points_in_ball(hidden, tokens, float(radius), generator) if state is None else [state]
    attention, mlp = blocks.attention_branch(layer, rotate), blocks.feed_forward_branch(layer)
    lower = {
        "attention": max(blocks.jacobian_norm(attention, x, iterations, generator) for x in points),
        # Token-wise: a few tokens are enough for a lower bound.
        "mlp": max(
            blocks.jacobian_norm(mlp, blocks.between(layer, x, rotate)[:_TOKENS], iterations, generator) for x in points
        ),
    }
    upper = {part: _certified(part, given, radius, tokens, sizes) for part in ("attention", "mlp", "total")}
    reasons = _reasons(layer, upper)
    return LayerBound(
        layer=index,
        attention=upper["attention"],
        mlp=upper["mlp"],
        total=upper["total"],
        attention_lower=_measured("attention", lower["attention"], Side.LOWER, len(points), random),
        mlp_lower=_measured("mlp", lower["mlp"], Side.LOWER, len(points), random),
        attention_local=None if local is None else _measured("attention", local[0], Side.UPPER, 1, False),
        mlp_local=None if local is None else _measured("mlp", local[1], Side.UPPER, 1, False),
        invertible=Verdict.UNKNOWN if reasons else Verdict.POSSIBLE,
        reasons=reasons,
        not_covered=_not_covered(layer, rotate),
        published=published,
        mlp_radius=rounding.round_up(sizes.mlp_radius),
        output_radius=rounding.round_up(sizes.output_radius),
    )


def _local_sizes(
    layer: LayerWeights, state: Float[Tensor, "tokens hidden"], rotate: blocks.Rotation | None
) -> tuple[float, float]:
    """Bounds on the Jacobian norms at one point: the formulas for the ball, with the sizes found at that point."""
    first, second = blocks.norms_in_front(layer)
    attended = attention_bound(layer.attention, first, _found(first, state), len(state), FAST)
    after = blocks.between(layer, state, rotate)
    mapped = feed_forward_bound(layer.feed_forward, second, _found(second, after), FAST)
    return rounding.round_up(attended.lipschitz), rounding.round_up(mapped.lipschitz)


def _found(norm: NormWeights | None, state: Float[Tensor, "tokens hidden"]) -> Reading:
    """Length, spread around their mean and slope of the norm, the largest over the tokens that stand there."""
    slope = Decimal(1)
    if norm is not None:
        moved = state - state.mean(dim=-1, keepdim=True) if norm.kind == "layer" else state
        slope = Decimal(float((moved.square().mean(dim=-1) + norm.eps).rsqrt().max()))
        state = blocks.standardised(norm, state)
    radius, spread = (float(x.norm(dim=-1).max()) for x in (state, state - state.mean(dim=0)))
    return Reading(Decimal(radius), Decimal(min(radius, spread)), slope)


_PARTS = {"attention": "attention branch", "mlp": "feed-forward branch", "total": "whole layer"}


def _certified(part: str, layer: LayerWeights, radius: float | int, tokens: int, sizes: LayerSizes) -> Certificate:
    ball = rounding.float_below(sizes.mlp_radius) if part == "mlp" else radius
    witness = {"part": part, "layer": layer.packed(), "ball": ball, "tokens": tokens}
    return Certificate.stated(recheck_lipschitz, rounding.round_up(sizes.part(part)), witness).confirmed()


def _states(witness: Mapping[str, Any]) -> Statement:
    part, ball, tokens = choice(witness, "part", _PARTS), number(witness, "ball", 0), whole(witness, "tokens")
    witnessed_layers([witness["layer"]])
    return Statement(
        claim=(
            f"For all inputs X, X' of at most {tokens} tokens, each of Euclidean norm at most {rounding.shown(ball)}, "
            f"the outputs of the layer's {_PARTS[part]} differ by at most value |X - X'|, in the Frobenius norm over "
            f"stacked tokens."
        ),
        side=Side.UPPER,
        theorem="feed-forward-lipschitz" if part == "mlp" else "attention-lipschitz",
        assumptions=(Assumption("every weight is a finite number", checked=True, detail="looked at each"),),
    )


def _measured(part: str, value: float, side: Side, points: int, random: bool) -> Certificate:
    where = f"{points} points of the ball" if random else "the given states"
    claim = (
        f"At some of {where} the Jacobian of the layer's {_PARTS[part]} has at least this spectral norm."
        if side is Side.LOWER
        else f"At {where} the Jacobian of the layer's {_PARTS[part]} has at most this spectral norm."
    )
    sample = f"{where}; float64, rounding of the forward pass not accounted for"
    return Certificate(claim, value, side, Evidence.MEASURED, sample=sample)


def _reasons(layer: LayerWeights, upper: Mapping[str, Certificate]) -> tuple[str, ...]:
    reasons = []
    if layer.norm_position == "post" and (layer.attention_norm or layer.feed_forward_norm):
        reasons.append(
            "a norm stands behind the residual sum; it maps many vectors to one, and the theorem does not speak of it"
        )
    for part in ("attention", "mlp"):
        if upper[part].evidence is not Evidence.PROVED:
            reasons.append(f"the bound on the {_PARTS[part]} is not confirmed: {upper[part].reason}")
        if not upper[part].value < 1:
            bound = rounding.shown_bound(upper[part].value, Side.UPPER)
            reasons.append(f"the bound on the {_PARTS[part]} is {bound}, not below 1")
    return tuple(reasons)


def _not_covered(layer: LayerWeights, rotate: blocks.Rotation | None) -> tuple[str, ...]:
    notes = ["dropout; sequences in which some tokens are hidden from others by more than causality (sliding windows)"]
    if layer.attention.rotary and rotate is None:
        notes.append("positions: measured numbers rotate nothing; the certified ones hold for every rotation")
    if layer.norm_position == "pre":
        notes.append("the norm behind the last layer of the model")
    return tuple(notes)


@rechecks(Independence.ARITHMETIC, states=_states, size=formed_bytes, quick=1_000_000, most=2**31)
def recheck_lipschitz(certificate: Certificate) -> bool:
    """Second path: the formulas again, with all products formed and all norms from singular values.

    Up to a second at `quick`, growing by 2^(3/2) as `formed_bytes` doubles: ten minutes at most.
    """
    seen = certificate.witness
    (layer,) = witnessed_layers([seen["layer"]])
    with localcontext(rounding.WIDE):
        if seen["part"] == "mlp":
            _, norm = blocks.norms_in_front(layer)
            bound = feed_forward_bound(layer.feed_forward, norm, _reading(norm, Decimal(seen["ball"])), THOROUGH)
            return bool(bound.lipschitz <= Decimal(certificate.value))
        sizes = layer_sizes(layer, Decimal(seen["ball"]), seen["tokens"], THOROUGH)
        return bool(sizes.part(seen["part"]) <= Decimal(certificate.value))


def _faults(
    layers: Sequence[LayerWeights], radius: float | int, tokens: int, states: Sequence[Tensor] | None
) -> list[Fault]:
    faults = layer_faults(layers) + ball_faults(radius, tokens)
    if states is None:
        return faults
    if len(states) != len(layers):
        faults.append(Fault("states", f"{len(states)} tensors", f"{len(layers)}, one for each layer"))
    for index, (state, layer) in enumerate(zip(states, layers, strict=False)):
        where, hidden = f"states[{index}]", layer.attention.hidden_size
        if state.ndim != 2 or state.shape[1] != hidden or not 1 <= state.shape[0] <= tokens:
            faults.append(Fault(where, f"shape {tuple(state.shape)}", f"(1 to {tokens}, {hidden})"))
        elif not bool(state.isfinite().all()):
            faults.append(Fault(where, "entries that are not finite", "finite numbers"))
        elif float(state.double().norm(dim=1).max()) > radius:
            faults.append(Fault(where, "a token outside the ball", f"norms up to {radius:g}", "Raise `radius`"))
    return faults
