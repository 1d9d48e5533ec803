"""A gallery of functions to compile, each with a Lipschitz constant that follows from how it is made.

All map [0,1]^(tokens x dim) into itself and take many inputs at once. With n = tokens * dim entries and C the constant:

    ridge     fold(A triangle(C W x + b)), A and W orthogonal: each of n directions bends to and fro
    smooth    the same with sines: its second derivatives are bounded too
    distance  entry j folds C / sqrt(n) times the distance to the nearest of some points
    lookup    entry j is the least C / sqrt(n)-Lipschitz function below a random table (McShane)
    product   entry j folds C / 2 times x_j x_(j+1): rows and columns of the Jacobian sum to at most C
    mixture   a mean of two of these
    reverse, sort, average      of the tokens, the distance to 1/2 scaled by min(C, 1)

`fold` runs to and fro in [0, 1] with slope 1 and `clip` cuts; neither makes anything steeper.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.compiler.target import TargetFunction
from promptreach.errors import Fault, InputError

Batch = Float[Tensor, "points tokens dim"]
Maker = Callable[[int, int, float, torch.Generator], Callable[[Tensor], Tensor]]


def gallery_function(name: str, dim: int, tokens: int, lipschitz: float, seed: int = 0) -> TargetFunction:
    """The member of the gallery with this name, its random parts drawn from `seed`.

    Raises:
        InputError: for a name that is not in `GALLERY`.
    """
    if name not in GALLERY:
        raise InputError(Fault("name", repr(name), f"one of {', '.join(GALLERY)}"))
    generator = torch.Generator().manual_seed(seed)
    flat = GALLERY[name](dim, tokens, lipschitz, generator)

    def function(points: Tensor) -> Tensor:
        # Orthogonal matrices and square roots round: clamping undoes what that does at the ends of [0, 1].
        values: Tensor = flat(points.flatten(1)).reshape(points.shape).clamp(0, 1)
        return values

    curvature = _bend(dim * tokens) * lipschitz**2 if name == "smooth" else None
    return TargetFunction(function, dim, tokens, lipschitz, True, f"{name}({seed})", "torch", curvature)


def random_function(dim: int, tokens: int, lipschitz: float, seed: int) -> TargetFunction:
    """One of the random families, by turns."""
    return gallery_function(RANDOM[seed % len(RANDOM)], dim, tokens, lipschitz, seed)


def fold(values: Tensor) -> Tensor:
    """To and fro in [0, 1] with slope 1: the identity there, reflected at both ends."""
    folded: Tensor = 1 - (values.remainder(2) - 1).abs()
    return folded


def _orthogonal(size: int, generator: torch.Generator) -> Tensor:
    matrix: Tensor = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
    return matrix


def _ridge(dim: int, tokens: int, lipschitz: float, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    size = dim * tokens
    inner, outer = lipschitz * _orthogonal(size, generator), _orthogonal(size, generator)
    shift = 2 * torch.rand(size, generator=generator, dtype=torch.float64)
    return lambda x: fold(fold(x @ inner.mT + shift) @ outer.mT + 0.5)


def _smooth(dim: int, tokens: int, lipschitz: float, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """1/2 + A sin(bend C W x + b) / bend: Jacobian at most C, second derivative along an axis at most bend C^2."""
    size = dim * tokens
    inner, outer = lipschitz * _orthogonal(size, generator), _orthogonal(size, generator)
    shift, bend = 6 * torch.rand(size, generator=generator, dtype=torch.float64), _bend(size)
    return lambda x: 0.5 + torch.sin(bend * (x @ inner.mT) + shift) @ outer.mT / bend


def _bend(size: int) -> float:
    """The slowest sines of full slope that stay in the cube: entries are within sqrt(n) / bend of 1/2."""
    return 2 * math.sqrt(size)


def _distance(dim: int, tokens: int, lipschitz: float, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    size, steep = dim * tokens, lipschitz / math.sqrt(dim * tokens)
    centres = torch.rand(size, 3, size, generator=generator, dtype=torch.float64)
    return lambda x: fold(steep * torch.stack([_distances(x, points).amin(dim=1) for points in centres], dim=1))


def _lookup(dim: int, tokens: int, lipschitz: float, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    size, steep = dim * tokens, lipschitz / math.sqrt(dim * tokens)
    places = torch.rand(8, size, generator=generator, dtype=torch.float64)
    table = torch.rand(size, 8, generator=generator, dtype=torch.float64)
    return lambda x: (table + steep * _distances(x, places)[:, None]).amin(dim=2).clamp(0, 1)


def _product(dim: int, tokens: int, lipschitz: float, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    order = torch.randperm(dim * tokens, generator=generator)
    return lambda x: fold(lipschitz / 2 * (x * x[:, order].roll(1, dims=1)[:, order.argsort()]))


def _mixture(dim: int, tokens: int, lipschitz: float, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    parts = (_ridge, _distance, _lookup, _product)
    first, second = torch.randperm(len(parts), generator=generator)[:2].tolist()
    left = parts[first](dim, tokens, lipschitz, generator)
    right = parts[second](dim, tokens, lipschitz, generator)
    return lambda x: (left(x) + right(x)) / 2


def _of_tokens(change: Callable[[Tensor], Tensor]) -> Maker:
    def maker(dim: int, tokens: int, lipschitz: float, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
        scale = min(lipschitz, 1.0)
        return lambda x: (0.5 + scale * (change(x.reshape(-1, tokens, dim)) - 0.5)).flatten(1)

    return maker


def _distances(x: Tensor, places: Tensor) -> Tensor:
    # Differences, not the expansion of the square: that would lose half the digits near a place.
    distances: Tensor = torch.linalg.vector_norm(x[:, None] - places, dim=2)
    return distances


GALLERY: dict[str, Maker] = {
    "ridge": _ridge,
    "smooth": _smooth,
    "distance": _distance,
    "lookup": _lookup,
    "product": _product,
    "mixture": _mixture,
    "reverse": _of_tokens(lambda x: x.flip(1)),
    "sort": _of_tokens(lambda x: x.sort(dim=1).values),
    "average": _of_tokens(lambda x: x.mean(dim=1, keepdim=True).expand_as(x)),
}
"""The functions that `gallery_function` makes, by name."""
RANDOM = ("ridge", "distance", "lookup", "product", "mixture")
"""The families that `random_function` goes through."""
