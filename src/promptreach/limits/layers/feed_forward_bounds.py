"""Upper bounds on the Lipschitz constant of a feed-forward branch.

Plain, down(act(up x)): with slopes of act in [low, high], centre c and half width w of that interval, every Jacobian is
down D up with D = c I + E, |E| <= w. Hence at most c |down up| + w |down| |up|, which is never above the usual
high |down| |up|. A positive diagonal between the factors changes neither D nor the product: balancing rows of `up`
against columns of `down` (by powers of two, exactly) often lowers |down| |up|, and the better of both is taken.

Gated, down(act(gate x) * up x): the two terms of the product rule, each bounded in two ways on a ball
(docs/theory/lipschitz.md, section 5). All activations here have |act(t)| <= |t|.
"""

from collections.abc import Mapping
from decimal import Decimal

import torch

from promptreach.balls import NormBall
from promptreach.limits.layers.attention_bounds import BranchBound, Reading, folded
from promptreach.limits.layers.norm_routines import NormRoutines
from promptreach.weights import Activation, FeedForwardWeights, NormWeights

LARGEST_SLOPE: Mapping[Activation, Decimal] = {
    "relu": Decimal(1),
    "gelu": Decimal("1.12905"),
    "gelu_tanh": Decimal("1.13"),
    "silu": Decimal("1.09985"),
}
"""At least the largest slope of each activation. The smallest is 0 for relu and at least 1 minus the largest for the
others, as each is t/2 plus an even function. Derived in docs/theory/lipschitz.md, section 5."""


def feed_forward_bound(
    weights: FeedForwardWeights | None, norm: NormWeights | None, reading: Reading, routines: NormRoutines
) -> BranchBound:
    """Bounds that hold for every token that, after `norm`, fits `reading`; 0 without a network."""
    if weights is None:
        return BranchBound(Decimal(0), Decimal(0))
    up, up_bias = folded(norm, weights.up, weights.up_bias)
    down = NormBall.exact(weights.down)
    offset = _size(None if weights.down_bias is None else NormBall.exact(weights.down_bias))
    slope = LARGEST_SLOPE[weights.activation]
    if weights.gate is None:
        # |act(t)| <= |t|, so that down(act(up_bias)) is at most |down| |up_bias| long.
        lipschitz = _plain(up, down, slope, weights.activation == "relu", routines)
        down_norm = routines.of(down)
        reach = lipschitz * reading.radius + down_norm * _size(up_bias) + offset
        return BranchBound(lipschitz * reading.slope, reach)
    gate, gate_bias = folded(norm, weights.gate, weights.gate_bias)
    down_norm, up_norm, gate_norm = routines.of(down), routines.of(up), routines.of(gate)
    up_row, gate_row = up.longest_row(), gate.longest_row()
    up_size, gate_size = up_norm * reading.radius + _size(up_bias), gate_norm * reading.radius + _size(gate_bias)
    up_entry, gate_entry = up_row * reading.radius + _largest(up_bias), gate_row * reading.radius + _largest(gate_bias)
    through_gate = slope * min(up_size * gate_row, up_entry * gate_norm)
    through_up = min(gate_size * up_row, gate_entry * up_norm)
    reach = down_norm * min(gate_size * up_entry, gate_entry * up_size) + offset
    return BranchBound(down_norm * (through_gate + through_up) * reading.slope, reach)


def _plain(up: NormBall, down: NormBall, slope: Decimal, is_relu: bool, routines: NormRoutines) -> Decimal:
    least = Decimal(0) if is_relu else 1 - slope
    centre, width = (slope + least) / 2, (slope - least) / 2
    separate = routines.of(down) * routines.of(up)
    # Powers of two that bring each row of `up` and its column of `down` to about the same length.
    ratio = (down.centre.norm(dim=0) / up.centre.norm(dim=1)).sqrt()
    if bool((ratio.isfinite() & (ratio > 0)).all()):
        power = torch.exp2(ratio.log2().round().clamp(-64, 64))
        larger, smaller = Decimal(float(power.max())), Decimal(float((1 / power).max()))
        balanced_up = NormBall((up.centre.mT * power).mT, up.radius * larger)
        balanced_down = NormBall(down.centre / power, down.radius * smaller)
        separate = min(separate, routines.of(balanced_down) * routines.of(balanced_up))
    return centre * routines.of_product(down, up) + width * separate


def _size(vector: NormBall | None) -> Decimal:
    return Decimal(0) if vector is None else vector.frobenius()


def _largest(vector: NormBall | None) -> Decimal:
    return Decimal(0) if vector is None else Decimal(float(vector.centre.abs().max())) + vector.radius
