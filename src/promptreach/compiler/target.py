"""The function to compile: a map of the cube [0,1]^(tokens x dim) into itself, with a declared Lipschitz constant.

Nothing here proves anything of the function between the points where it was called. Calls can refute what was declared
(shape, range, determinism, the Lipschitz constant), and every refutation names the point.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.errors import Fault, InputError, raise_if_any

PROBES = 64
"""Random points that a function is tried at before it is compiled, each of them twice."""

Points = Float[Tensor, "points tokens dim"]
"""Many inputs or outputs of a function on sequences."""

_STEPS = (1e-3, 1e-2, 0.1, 0.5)
# A float64 program rounds its values; at steps of 1e-3 and more that moves a slope by far less than this.
_SLOPE_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class TargetFunction:
    """A function on sequences, as a program.

    Attributes:
        function: takes one input (tokens, dim) and returns the output, of the same shape; with `batched`, takes
            (points, tokens, dim) and returns that shape. Values lie in [0, 1].
        dim: size of one token.
        tokens: of one input.
        lipschitz: declared, not proved: |f(X) - f(X')| <= lipschitz |X - X'| in the 2-norm over all entries.
        batched: whether `function` takes many inputs at once.
        name: for messages and pictures.
        array: what `function` is called with, float64 in either case. None finds out by one call: numpy, and torch
            where numpy raises.
        curvature: declared, or None: every second derivative along one axis, d^2 f / dx_a^2, is at most this long in
            the 2-norm over all entries of f. Multilinear interpolation asks for it.
    """

    function: Callable[[Any], Any]
    dim: int
    tokens: int
    lipschitz: float
    batched: bool = False
    name: str = "f"
    array: Literal["numpy", "torch"] | None = None
    curvature: float | None = None

    def at(self, points: Points) -> Points:
        """The function's values at the points, in float64.

        Raises:
            InputError: with every kind of fault that occurs (an exception, a wrong shape, values that are NaN or
                outside [0, 1]), each with the first point it occurs at and how often it does.
        """
        points = points.detach().to("cpu", torch.float64)
        if len(points) == 0:
            return points.clone()
        kind = self.array or self._kind(points[0])
        if self.batched:
            values = self._call(points, kind)
            self._require_shape(values, tuple(points.shape))
        else:
            rows = []
            for point in points:
                value = self._call(point, kind)
                self._require_shape(value, tuple(point.shape))
                rows.append(value)
            values = torch.stack(rows)
        raise_if_any(self._value_faults(points, values))
        return values

    def check(self, seed: int = 0) -> None:
        """Try to refute what was declared, at random points.

        Args:
            seed: of the points.

        Raises:
            InputError: naming everything that was refuted. Silence proves nothing.
        """
        generator = torch.Generator().manual_seed(seed)
        points = torch.rand(PROBES, self.tokens, self.dim, generator=generator, dtype=torch.float64)
        values = self.at(points)
        again = self.at(points)
        faults = []
        if not torch.equal(values, again):
            row = int((values != again).flatten(1).any(dim=1).nonzero()[0])
            seen = f"two calls at {points[row].tolist()} differ by up to {float((values - again).abs().max()):.3g}"
            faults.append(Fault(self.name, seen, "the same value at every call", "Fix its seed, or take out its state"))
        steps = torch.tensor(_STEPS, dtype=torch.float64).repeat_interleave(PROBES)[:, None, None]
        points, values = points.repeat(len(_STEPS), 1, 1), values.repeat(len(_STEPS), 1, 1)
        moves = torch.randn(points.shape, generator=generator, dtype=torch.float64)
        moved = (points + steps * moves / moves.flatten(1).norm(dim=1)[:, None, None]).clamp(0, 1)
        raise_if_any(faults + self.slope_faults(points, values, moved, self.at(moved)))

    def slope_faults(self, left: Points, left_values: Points, right: Points, right_values: Points) -> list[Fault]:
        """A fault for the pair of points, if any, whose values are further apart than the declared constant allows."""
        distance = (left - right).flatten(1).norm(dim=1)
        apart = (left_values - right_values).flatten(1).norm(dim=1)
        excess = apart - self.lipschitz * distance * (1 + _SLOPE_ROUNDING)
        # Closer than the smallest step, rounding of the values could pass for a slope.
        excess = torch.where(distance < 0.1 * _STEPS[0], -torch.inf, excess - _SLOPE_ROUNDING * _STEPS[0])
        if not bool((excess > 0).any()):
            return []
        row = int(excess.argmax())
        slope = float(apart[row] / distance[row])
        seen = f"slope {slope:.4g} between {left[row].tolist()} and {right[row].tolist()}"
        expected = f"at most the declared Lipschitz constant {self.lipschitz:g}, in the 2-norm over all entries"
        return [Fault(self.name, seen, expected, f"Build the backbone for lipschitz={1.1 * slope:.2g} or more")]

    def _kind(self, point: Tensor) -> Literal["numpy", "torch"]:
        try:
            self.function((point[None] if self.batched else point).numpy().copy())
        except Exception as numpy_refusal:
            try:
                self.function((point[None] if self.batched else point).clone())
            except Exception:
                seen = f"raised {type(numpy_refusal).__name__}: {numpy_refusal}"
                raise InputError(Fault(self.name, f"{seen}, at {point.tolist()}", "a value there")) from numpy_refusal
            return "torch"
        return "numpy"

    def _call(self, argument: Tensor, kind: str) -> Tensor:
        # A copy, so that a function that writes into its argument harms nobody.
        given = argument.numpy().copy() if kind == "numpy" else argument.clone()
        try:
            value = self.function(given)
        except Exception as refusal:
            where = f"at {argument.tolist()}" if argument.ndim == 2 else f"on {len(argument)} points"
            seen = f"raised {type(refusal).__name__}: {refusal}, {where}"
            raise InputError(Fault(self.name, seen, "a value there")) from refusal
        if isinstance(value, torch.Tensor):
            return value.detach().to("cpu", torch.float64)
        try:
            return torch.from_numpy(np.array(value, dtype=np.float64))
        except (TypeError, ValueError) as refusal:
            raise InputError(Fault(self.name, f"returned a {type(value).__name__}", "an array of numbers")) from refusal

    def _require_shape(self, values: Tensor, shape: tuple[int, ...]) -> None:
        if tuple(values.shape) != shape:
            expected = f"{shape}, the shape of its argument"
            raise InputError(Fault(self.name, f"returned shape {tuple(values.shape)}", expected))

    def _value_faults(self, points: Tensor, values: Tensor) -> list[Fault]:
        faults = []
        wrong = ~values.isfinite()
        outside = (values < 0) | (values > 1)
        for mask, what, remedy in (
            (wrong, "NaN or infinite values", ""),
            (outside & ~wrong, "values outside [0, 1]", "Rescale it, or clip what is rounding"),
        ):
            rows = mask.flatten(1).any(dim=1)
            if bool(rows.any()):
                row = int(rows.nonzero()[0])
                entry = float(values[row][mask[row]][0])
                seen = f"{what} at {int(rows.sum())} of {len(points)} points, first {entry} at {points[row].tolist()}"
                faults.append(Fault(self.name, seen, "values in [0, 1]", remedy))
        return faults


def as_target(function: Any, dim: int, tokens: int, lipschitz: float) -> TargetFunction:
    """`function` as a target of this shape: a plain callable declares the backbone's Lipschitz constant.

    Raises:
        InputError: when a TargetFunction was made for another shape, or is steeper than the backbone allows.
    """
    if not isinstance(function, TargetFunction):
        if not callable(function):
            raise InputError(Fault("f", f"a {type(function).__name__}", "a function or a TargetFunction"))
        return TargetFunction(function, dim, tokens, lipschitz, name=getattr(function, "__name__", "f"))
    faults = []
    if (function.dim, function.tokens) != (dim, tokens):
        seen = f"made for dim {function.dim}, tokens {function.tokens}"
        faults.append(Fault(function.name, seen, f"the backbone's dim {dim}, tokens {tokens}"))
    if not 0 <= function.lipschitz <= lipschitz:
        seen = f"declared Lipschitz constant {function.lipschitz:g}"
        expected = f"0 to {lipschitz:g}, for which the backbone was built"
        faults.append(Fault(function.name, seen, expected, f"Build one for lipschitz={function.lipschitz:g}"))
    raise_if_any(faults)
    return function
