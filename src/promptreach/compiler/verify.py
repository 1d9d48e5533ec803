"""The measured error of a compiled prompt on fresh points."""

from dataclasses import dataclass

import torch

from promptreach.certificate import Certificate, Evidence, Side
from promptreach.compiler.backbone import CompiledBackbone
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
    backbone: CompiledBackbone, prompt: SoftPrompt, target: TargetFunction, points: int = 20_000, seed: int = 0
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
    with torch.no_grad():
        outputs = backbone(x, prompt).to("cpu", torch.float64)
    errors = torch.linalg.vector_norm(outputs - target.at(x), dim=(1, 2))
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
