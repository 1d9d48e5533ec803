"""Trying a compiled prompt: the error on fresh points, a search for the worst input, and how far codes are apart."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptreach.certificate import Certificate, Evidence, Side
from promptreach.compiler.backbone import Backbone
from promptreach.compiler.target import TargetFunction
from promptreach.errors import Fault, InputError
from promptreach.prompt import SoftPrompt


@dataclass(frozen=True)
class Measurement:
    """What was seen at fresh points.

    Attributes:
        error: MEASURED d_2 error: the root of the mean over the points of |output - f|^2.
        largest: the largest |output - f| (2-norm over all entries) among the points outside the ramps.
        in_ramps: how many points fell into ramps.
        holds: whether `error` is at most the prompt's certificate.
    """

    error: Certificate
    largest: float
    in_ramps: int
    holds: bool


def measure(
    backbone: Backbone, prompt: SoftPrompt, target: TargetFunction, points: int = 20_000, seed: int = 0
) -> Measurement:
    """The error of a compiled prompt at uniform random points that its compiler has not seen.

    Raises:
        InputError: for a number of points below 1, or a prompt without a certificate.
    """
    if points < 1:
        raise InputError(Fault("points", str(points), "at least 1"))
    if prompt.certificate is None:
        raise InputError(Fault("prompt", "no certificate", "a prompt that `prompt_for` made"))
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(points, target.tokens, target.dim, generator=generator, dtype=torch.float64)
    errors = _errors(backbone, prompt, target, x)
    good = backbone.good(x)
    value = float(errors.square().mean().sqrt())
    certificate = Certificate(
        claim="On the sample, the root of the mean of |backbone(X) - f(X)|^2 is value; 2-norm over all entries.",
        value=value,
        side=Side.EXACT,
        evidence=Evidence.MEASURED,
        sample=f"{points} points uniform in the cube, seed {seed}, {target.name}",
    )
    return Measurement(
        error=certificate,
        largest=float(errors[good].max()) if bool(good.any()) else 0.0,
        in_ramps=int((~good).sum()),
        holds=value <= prompt.certificate.value,
    )


def attack(
    backbone: Backbone,
    prompt: SoftPrompt,
    target: TargetFunction,
    starts: int = 200,
    rounds: int = 60,
    seed: int = 0,
) -> tuple[float, Float[Tensor, "tokens dim"]]:
    """The largest |output - f| found outside the ramps by hill climbing, and where: a LOWER bound on the sup error.

    Each climb moves some coordinates at random and snaps some to the nearest edge of the good set, where cells are
    farthest from their centres. A move is kept when the error grows and the point is still outside the ramps.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (starts, target.tokens, target.dim)

    def draw() -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    x = draw()
    best = torch.where(backbone.good(x), _errors(backbone, prompt, target, x), -torch.inf)
    edges = backbone.edges()
    for _ in range(rounds):
        scale = 10 ** (-3 * draw()[:, :1, :1])
        moved = (x + scale * (2 * draw() - 1) * (draw() < 0.5)).clamp(0, 1)
        if len(edges):
            after = torch.searchsorted(edges, moved.contiguous()).clamp(1, len(edges) - 1)
            left, right = edges[after - 1], edges[after]
            moved = torch.where(draw() < 0.5, torch.where(moved - left < right - moved, left, right), moved)
        errors = torch.where(backbone.good(moved), _errors(backbone, prompt, target, moved), -torch.inf)
        better = errors > best
        x = torch.where(better[:, None, None], moved, x)
        best = torch.where(better, errors, best)
    worst = int(best.argmax())
    return float(best[worst]), x[worst]


def separation(states: Float[Tensor, "rows hidden"], codes: Int[Tensor, " rows"]) -> float:
    """The least distance (2-norm) between two states of different code: what a contextual map achieved.

    Infinite when all codes agree.
    """
    least = float("inf")
    for start in range(0, len(states), 1024):
        block = slice(start, start + 1024)
        # Differences, not the expansion of the square: tiny separations are what is asked for.
        distances = torch.cdist(states[block], states, compute_mode="donot_use_mm_for_euclid_dist")
        different = codes[block][:, None] != codes
        if bool(different.any()):
            least = min(least, float(distances[different].min()))
    return least


def _errors(backbone: Backbone, prompt: SoftPrompt, target: TargetFunction, x: Tensor) -> Tensor:
    with torch.no_grad():
        outputs = backbone(x, prompt).to("cpu", torch.float64)
    errors: Tensor = torch.linalg.vector_norm(outputs - target.at(x), dim=(1, 2))
    return errors
