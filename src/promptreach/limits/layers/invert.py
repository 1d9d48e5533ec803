"""The inverse of layers that certainly contract, and what their injectivity means for prompts.

y = x + G(x) with Lip(G) = c < 1 is solved by x <- y - G(x). Whatever x the iteration stops at: when the ball of radius
e = |y - x - G(x)| / (1 - c) around x lies where c holds, x <- y - G(x) maps that ball into itself and contracts, so it
holds exactly one solution (Banach); two solutions anywhere in the domain would be c < 1 times their distance apart.

Reference: Wang et al. 2023 (paper A), Theorem 5; docs/theory/lipschitz.md, sections 6 and 7.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach import blocks, reference, rounding
from promptreach.balls import Ball
from promptreach.certificate import Assumption, Certificate, Evidence, Independence, Side, Statement, rechecks
from promptreach.errors import Fault, InputError, NotContractingError, raise_if_any
from promptreach.limits.layers import enclosure
from promptreach.limits.layers.inputs import ball_faults, formed_bytes, layer_faults, witnessed_layers
from promptreach.limits.layers.lipschitz import LayerSizes, layer_sizes
from promptreach.limits.layers.norm_routines import FAST, THOROUGH, NormRoutines
from promptreach.weights import LayerWeights
from promptreach.witness import number, tensor, whole

_UP = Side.UPPER
_WIDENED = Decimal("1e-9")
"""The share by which bounds on branches grow, so that a second path, whose norms differ by 1e-12, stays below."""
_GROWTH_STEPS = 200
_MOST_STEPS = 10_000


@dataclass(frozen=True, eq=False)
class Inverse:
    """The inputs of layers, found from their outputs.

    Attributes:
        inputs: (tokens, hidden), float64.
        error: UPPER bound on the Frobenius distance from `inputs` to the one exact solution.
        iterations: fixed-point steps over all branches.
        radii: for each layer a token norm; among streams that enter every layer within its norm the solution is unique.
    """

    inputs: Float[Tensor, "tokens hidden"]
    error: Certificate
    iterations: int
    radii: tuple[float, ...]


@dataclass(frozen=True)
class _Branch:
    """One residual step x -> x + G(x) of a layer: G in float64, G with its rounding, and where its bound holds."""

    plain: blocks.Branch
    enclosed: Callable[[Ball], Ball]
    contraction: Decimal
    radius: Decimal


def invert(
    layers: Sequence[LayerWeights], outputs: Float[Tensor, "tokens hidden"], tol: float | int = 1e-10
) -> Inverse:
    """The inputs that the layers map to `outputs`, where every branch is certified to contract.

    Every claim is about all tokens together, prompt included: `outputs` are those of the whole sequence.

    Args:
        layers: first layer first; no norms, no rotation.
        outputs: of the last layer.
        tol: the error to reach in the Frobenius norm. Where float64 does not reach it, `error` says what was reached.

    Raises:
        NotContractingError: naming every layer that has norms or rotation, or whose bounds are not below 1.
        InputError: for layers or outputs that do not fit.

    Reference: Wang et al. 2023, Theorem 5; theorem key ``contracting-inverse``.
    """
    raise_if_any(_faults(layers, outputs, tol))
    refused = [reason for index, layer in enumerate(layers) for reason in _refusals(index, layer)]
    if refused:
        raise NotContractingError("these layers cannot be inverted with a certificate", refused)
    given = outputs.detach().to("cpu", torch.float64)
    stream, error, iterations = [given], Decimal(0), 0
    radii: list[float] = []
    with localcontext(rounding.WIDE):
        for index, layer in reversed(list(enumerate(layers))):
            for branch in reversed(_branches(index, layer.detached(), stream[0], error)):
                states, error, steps = _solve(branch, stream[0], error, tol, index)
                stream.insert(0, states)
                iterations += steps
            radii.insert(0, float(branch.radius))
        value = rounding.round_up(error)
    witness = {
        "layers": [layer.packed() for layer in layers],
        "states": torch.stack(stream),
        "radii": torch.tensor(radii, dtype=torch.float64),
    }
    found = Certificate.stated(recheck_inverse, value, witness).confirmed()
    return Inverse(stream[0], found, iterations, tuple(radii))


def injective_consequence(layers: Sequence[LayerWeights], radius: float | int, tokens: int) -> Certificate:
    """The factor by which a causal stack keeps two inputs apart behind any one prompt: LOWER, 0 < value <= 1.

    For every prompt P in front and all contents X, X', with prompt and content tokens in the ball of `radius` and at
    most `tokens` of them together: |out(X) - out(X')| >= value |X - X'|, over the content positions. So two inputs
    with one target sequence cannot be fitted: one of them misses by at least value |X - X'| / 2.

    That is about the outputs at *all* content positions; a readout at one position alone may coincide. UNKNOWN for
    bidirectional layers even where the full map [P, X] -> outputs is injective: there the prompt's own outputs depend
    on X and may carry what the content positions lose. Two contracting linear layers exist whose content output is
    constantly 0 (docs/theory/lipschitz.md, section 7).

    Raises:
        InputError: as `lipschitz` does.

    Reference: Wang et al. 2023, Theorem 5; theorem key ``contracting-injective``.
    """
    raise_if_any(layer_faults(layers) + ball_faults(radius, tokens))
    kept, reasons = _kept(layers, radius, tokens, FAST, _WIDENED)
    witness = {"layers": [layer.packed() for layer in layers], "radius": radius, "tokens": tokens}
    found = Certificate.stated(recheck_injective, kept, witness)
    if not reasons:
        return found.confirmed()
    unmet = tuple(replace(assumption, checked=False) for assumption in found.assumptions)
    return replace(
        found, evidence=Evidence.UNKNOWN, reason="; ".join(reasons), assumptions=unmet, witness={}, checker=""
    )


def _states_injective(witness: Mapping[str, Any]) -> Statement:
    radius, tokens = number(witness, "radius", 0), whole(witness, "tokens")
    witnessed_layers(witness["layers"])
    return Statement(
        claim=(
            f"For every prompt and all contents X, X' whose tokens lie in the ball of radius {rounding.shown(radius)}, "
            f"prompt and content at most {tokens} tokens: the outputs at the content positions differ by at least "
            f"value |X - X'| (Frobenius). So two inputs with one target sequence cannot be fitted."
        ),
        side=Side.LOWER,
        theorem="contracting-injective",
        assumptions=(Assumption("causal, prompt first, every branch contracts on its ball", True),),
    )


def _kept(
    layers: Sequence[LayerWeights], radius: float | int, tokens: int, routines: NormRoutines, widened: Decimal
) -> tuple[float, list[str]]:
    """The product over all branches of 1 minus their widened bounds, rounded down; 0 with the reasons for none."""
    with localcontext(rounding.WIDE):
        margin, ball, reasons = Decimal(1), Decimal(radius), []
        for index, layer in enumerate(layers):
            if not layer.attention.causal:
                reasons.append(
                    f"layer {index} is bidirectional: even an injective map of prompt and content together does not "
                    f"make the content's outputs injective"
                )
            if layer.norm_position == "post" and (layer.attention_norm or layer.feed_forward_norm):
                reasons.append(f"layer {index} has a norm behind its residual sum")
                continue
            sizes = layer_sizes(layer.detached(), ball, tokens, routines)
            ball = sizes.output_radius * (1 + widened)
            bounds = sizes.attention * (1 + widened), sizes.feed_forward * (1 + widened)
            reasons += _not_contracting(index, *bounds)
            margin *= (1 - bounds[0]) * (1 - bounds[1])
        return 0.0 if reasons else rounding.float_below(margin * (1 - Decimal("1e-30"))), reasons


def _branches(index: int, layer: LayerWeights, outputs: Tensor, error: Decimal) -> list[_Branch]:
    """Attention, then feed-forward, with bounds on a ball that holds every token of every solution's stream.

    The ball is grown until it holds what the layer can have been given: each token of x = y - G(x) is at most
    |y| + reach(G) long. The ball of the attention branch is the layer's own, its radius a float64, as claims name it.
    """
    target = _longest(outputs) + error
    radius = target * (1 + Decimal("1e-3"))
    for _ in range(_GROWTH_STEPS):
        sizes = layer_sizes(layer, radius, len(outputs))
        if found := _not_contracting(index, sizes.attention, sizes.feed_forward):
            raise NotContractingError("these layers cannot be inverted with a certificate", found)
        # output_radius - radius bounds what both branches together can have added to a token.
        needed = target + (sizes.output_radius - radius)
        if needed <= radius:
            break
        radius = needed * (1 + Decimal("1e-3"))
    else:
        grown = f"layer {index}: no ball found that holds all inputs of these outputs"
        raise NotContractingError("these layers cannot be inverted with a certificate", [grown])
    return _branches_of(layer, sizes, Decimal(rounding.float_below(radius)), _WIDENED)


def _branches_of(layer: LayerWeights, sizes: LayerSizes, radius: Decimal, widened: Decimal) -> list[_Branch]:
    attention, feed_forward = layer.attention, layer.feed_forward
    return [
        _Branch(
            blocks.attention_branch(layer),
            lambda states: enclosure.attention(attention, states),
            sizes.attention * (1 + widened),
            radius,
        ),
        _Branch(
            blocks.feed_forward_branch(layer),
            lambda states: enclosure.feed_forward(feed_forward, states),
            sizes.feed_forward * (1 + widened),
            sizes.mlp_radius,
        ),
    ]


def _solve(
    branch: _Branch, target: Float[Tensor, "tokens hidden"], target_error: Decimal, tol: float | int, index: int
) -> tuple[Float[Tensor, "tokens hidden"], Decimal, int]:
    """x with x + G(x) = target, its distance to the exact solution for the exact target, and the steps taken."""
    states, last, steps = target, math.inf, 0
    while steps < _MOST_STEPS:
        moved = target - branch.plain(states)
        step = Ball.exact(moved - states).norm()
        states, steps = moved, steps + 1
        # Stop at the tolerance, or where rounding stops the steps from shrinking.
        if step <= tol * float(1 - branch.contraction) / 4 or step >= last:
            break
        last = step
    error = _carried(branch, states, target, target_error)
    if error is None:
        outside = f"layer {index}: the solution may lie outside the ball of radius {float(branch.radius):g}"
        raise NotContractingError("the inverse was computed but not certified", [outside])
    return states, error, steps


def _carried(branch: _Branch, states: Tensor, target: Tensor, target_error: Decimal) -> Decimal | None:
    """The distance from `states` to the exact solution for a target known to within an error.

    None where the solution may lie outside the ball on which the branch is known to contract.
    """
    point = Ball.exact(states)
    residual = (Ball.exact(target) - point - branch.enclosed(point)).norm()
    if not math.isfinite(residual):
        return None
    error = (Decimal(residual) + target_error) / (1 - branch.contraction)
    return error if _longest(states) + error <= branch.radius else None


def _longest(states: Float[Tensor, "tokens hidden"]) -> Decimal:
    """At least the norm of each token, at any size that a float64 has."""
    return max(Decimal(Ball.exact(token).norm()) for token in states)


def _states_inverse(witness: Mapping[str, Any]) -> Statement:
    layers = witnessed_layers(witness["layers"])
    radii = tensor(witness, "radii", len(layers)).tolist()
    tensor(witness, "states", 2 * len(layers) + 1, None, layers[0].attention.hidden_size)
    if any(_refusals(0, layer) for layer in layers):
        raise InputError(Fault("layers", "norms or rotation", "layers without"))
    norms = ", ".join(rounding.shown(radius) for radius in radii)
    return Statement(
        claim=(
            f"Among inputs whose stream enters the layers with token norms of at most {norms}, exactly one is "
            f"mapped to the outputs, and it is at most value from the inputs returned (Frobenius), provided that "
            f"exp, erf and tanh of this machine err by at most 4 units in the last place."
        ),
        side=Side.UPPER,
        theorem="contracting-inverse",
        assumptions=(Assumption("every branch has a Lipschitz constant below 1 on its ball", True),),
    )


@rechecks(Independence.SHARED, states=_states_inverse, size=formed_bytes, quick=1_000_000, most=2**31)
def recheck_inverse(certificate: Certificate) -> bool:
    """Second path: the error carried back through the states between the branches, with norms from singular values.

    How far each state misses the next is enclosed by the first path's code; so the plain loops of `reference` take the
    inputs forward as well, and have to come to within (4^layers) value of the outputs, as each layer's Lipschitz
    constant is below (1 + 1) (1 + 1). As long as `recheck_lipschitz`.
    """
    seen = certificate.witness
    layers, stream = witnessed_layers(seen["layers"]), seen["states"]
    error = Decimal(0)
    with localcontext(rounding.WIDE):
        for index, layer in reversed(list(enumerate(layers))):
            radius = Decimal(float(seen["radii"][index]))
            sizes = layer_sizes(layer, radius, stream.shape[1], THOROUGH)
            if _not_contracting(index, sizes.attention, sizes.feed_forward):
                return False
            attention, feed_forward = _branches_of(layer, sizes, radius, widened=Decimal(0))
            start, between, end = stream[2 * index : 2 * index + 3]
            for branch, states, target in ((feed_forward, between, end), (attention, start, between)):
                found = _carried(branch, states, target, error)
                if found is None:
                    return False
                error = found
        missed = (reference.transformer(layers, stream[0]) - stream[-1]).norm()
        return error <= Decimal(certificate.value) and float(missed) <= 4.0 ** len(layers) * certificate.value


@rechecks(Independence.ARITHMETIC, states=_states_injective, size=formed_bytes, quick=1_000_000, most=2**31)
def recheck_injective(certificate: Certificate) -> bool:
    """Second path: the product again, with all matrices formed and all norms from singular values.

    As long as `recheck_lipschitz`.
    """
    seen = certificate.witness
    layers = witnessed_layers(seen["layers"])
    kept, reasons = _kept(layers, seen["radius"], seen["tokens"], THOROUGH, widened=Decimal(0))
    return not reasons and 0.0 <= certificate.value <= kept


def _not_contracting(index: int, attention: Decimal, feed_forward: Decimal) -> list[str]:
    return [
        f"layer {index}: the bound on the {name} branch is {rounding.shown_bound(float(bound), _UP)}, not below 1"
        for name, bound in (("attention", attention), ("feed-forward", feed_forward))
        if not bound * (1 + Decimal("1e-30")) < 1
    ]


def _refusals(index: int, layer: LayerWeights) -> list[str]:
    reasons = []
    if layer.norm_position != "none" or layer.attention.query_norm or layer.attention.key_norm:
        reasons.append(f"layer {index} has norms")
    if layer.attention.rotary:
        reasons.append(f"layer {index} rotates queries and keys by positions that its weights do not tell")
    return reasons


def _faults(layers: Sequence[LayerWeights], outputs: Tensor, tol: float | int) -> list[Fault]:
    faults = layer_faults(layers)
    if layers and (outputs.ndim != 2 or not len(outputs) or outputs.shape[1] != layers[0].attention.hidden_size):
        expected = f"(tokens, {layers[0].attention.hidden_size})"
        faults.append(Fault("outputs", f"shape {tuple(outputs.shape)}", expected))
    elif not bool(outputs.isfinite().all()):
        faults.append(Fault("outputs", "entries that are not finite", "finite numbers"))
    if not 0 < tol < math.inf:
        faults.append(Fault("tol", str(tol), "a positive finite number"))
    return faults
