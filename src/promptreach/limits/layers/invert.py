"""The inverse of layers that certainly contract, and what their injectivity means for prompts.

y = x + G(x) with Lip(G) = c < 1 is solved by x <- y - G(x). Whatever x the iteration stops at: when the ball of radius
e = |y - x - G(x)| / (1 - c) around x lies where c holds, x <- y - G(x) maps that ball into itself and contracts, so it
holds exactly one solution (Banach); two solutions anywhere in the domain would be c < 1 times their distance apart.

Reference: Wang et al. 2023 (paper A), Theorem 5; docs/theory/lipschitz.md, sections 6 and 7.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach import reference, rounding
from promptreach.balls import Ball
from promptreach.certificate import Assumption, Certificate, Evidence, Independence, Side, rechecks
from promptreach.errors import Fault, NotContractingError, raise_if_any
from promptreach.limits.layers import blocks, enclosure
from promptreach.limits.layers.lipschitz import ball_faults, layer_faults, layer_sizes
from promptreach.limits.layers.norm_routines import FAST, THOROUGH, NormRoutines
from promptreach.weights import LayerWeights

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
    states, error, iterations = given, Decimal(0), 0
    radii: list[float] = []
    with localcontext(rounding.WIDE):
        for index, layer in reversed(list(enumerate(layers))):
            for branch in reversed(_branches(index, layer.detached(), states, error)):
                states, error, steps = _solve(branch, states, error, tol, index)
                iterations += steps
            radii.insert(0, float(branch.radius))
        value = rounding.round_up(error)
    return Inverse(states, _certificate(value, radii, layers, states, given), iterations, tuple(radii))


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
    kept, reasons = _kept(layers, radius, tokens, FAST, widened=Decimal("1e-9"))
    claim = (
        f"For every prompt and all contents X, X' whose tokens lie in the ball of radius {rounding.shown(radius)}, "
        f"prompt and content at most {tokens} tokens: the outputs at the content positions differ by at least "
        f"value |X - X'| (Frobenius). So two inputs with one target sequence cannot be fitted."
    )
    return Certificate(
        claim=claim,
        value=kept,
        side=Side.LOWER,
        evidence=Evidence.UNKNOWN if reasons else Evidence.PROVED,
        assumptions=(Assumption("causal, prompt first, every branch contracts on its ball", not reasons),),
        theorem="contracting-injective",
        witness={} if reasons else {"layers": [layer.packed() for layer in layers], "radius": radius, "tokens": tokens},
        checker="" if reasons else "limits.layers.invert:recheck_injective",
        reason="; ".join(reasons),
    )


def _kept(
    layers: Sequence[LayerWeights], radius: float | int, tokens: int, routines: NormRoutines, widened: Decimal
) -> tuple[float, list[str]]:
    """The product over all branches of 1 minus their Lipschitz bounds, rounded down; 0 with the reasons for none.

    `widened` is the share by which every bound grows, so that a second path, whose bounds differ by 1e-12, stays below.
    """
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
    target = Decimal(float(outputs.norm(dim=1).max())) * (1 + Decimal("1e-9")) + error
    radius = target
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
    attention, feed_forward = layer.attention, layer.feed_forward
    return [
        _Branch(
            blocks.attention_branch(layer),
            lambda states: enclosure.attention(attention, states),
            sizes.attention,
            Decimal(rounding.float_below(radius)),
        ),
        _Branch(
            blocks.feed_forward_branch(layer),
            lambda states: enclosure.feed_forward(feed_forward, states),
            sizes.feed_forward,
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
        step = float((moved - states).norm())
        states, steps = moved, steps + 1
        # Stop at the tolerance, or where rounding stops the steps from shrinking.
        if step <= tol * float(1 - branch.contraction) / 4 or step >= last:
            break
        last = step
    point = Ball.exact(states)
    residual = Decimal((Ball.exact(target) - point - branch.enclosed(point)).norm())
    error = (residual + target_error) / (1 - branch.contraction)
    reach = Decimal(float(states.norm(dim=1).max())) * (1 + Decimal("1e-9")) + error
    if not reach <= branch.radius:
        outside = f"layer {index}: the solution may lie outside the ball of radius {float(branch.radius):g}"
        raise NotContractingError("the inverse was computed but not certified", [outside])
    return states, error, steps


def _certificate(
    value: float, radii: list[float], layers: Sequence[LayerWeights], inputs: Tensor, outputs: Tensor
) -> Certificate:
    norms = ", ".join(rounding.shown(radius) for radius in radii)
    return Certificate(
        claim=(
            f"Among inputs whose stream enters the layers with token norms of at most {norms}, exactly one is "
            f"mapped to the outputs, and it is at most value from the inputs returned (Frobenius), provided that "
            f"exp, erf and tanh of this machine err by at most 4 units in the last place."
        ),
        value=value,
        side=Side.UPPER,
        evidence=Evidence.PROVED,
        assumptions=(Assumption("every branch has a Lipschitz constant below 1 on its ball", True),),
        theorem="contracting-inverse",
        witness={"layers": [layer.packed() for layer in layers], "inputs": inputs, "outputs": outputs},
        checker="limits.layers.invert:recheck_inverse",
    )


@rechecks(Independence.ARITHMETIC, quick=0)
def recheck_inverse(certificate: Certificate) -> bool:
    """Second path: the plain loops of `reference` take the inputs to within (4^layers) value of the outputs.

    Each layer has a Lipschitz constant below (1 + 1) (1 + 1). This can refute a claim; the proof is the first path's.
    """
    seen = certificate.witness
    layers = [LayerWeights.unpacked(layer).detached() for layer in seen["layers"]]
    missed = float((reference.transformer(layers, seen["inputs"]) - seen["outputs"]).norm())
    return missed <= 4.0 ** len(layers) * certificate.value


@rechecks(Independence.ARITHMETIC, quick=800_000)
def recheck_injective(certificate: Certificate) -> bool:
    """Second path: the product again, with all matrices formed and all norms from singular values."""
    seen = certificate.witness
    layers = [LayerWeights.unpacked(layer).detached() for layer in seen["layers"]]
    kept, reasons = _kept(layers, seen["radius"], int(seen["tokens"]), THOROUGH, widened=Decimal(0))
    return not reasons and 0.0 <= certificate.value <= kept


def _not_contracting(index: int, attention: Decimal, feed_forward: Decimal) -> list[str]:
    return [
        f"layer {index}: the bound on the {name} branch is {float(bound):.3g}, not below 1"
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
