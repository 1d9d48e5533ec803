"""The prompt as a kernel smoother: softmax over slots is a Gaussian kernel, keys are centres, values are f there.

The layers, in order (`gather` only where there are several tokens, one for each of them, as in the papers, whose depth
grows with the length):

    gather    every token collects the token at one position, by a sharp softmax over positions
    smooth    softmax attention over the prompt: slot n has score 2 beta X.c_n - beta |c_n|^2, that is a constant minus
              beta |X - c_n|^2, and value f(c_n); content tokens stand far below all slots
    own       of the outputs of all tokens, the one of the own position

Notation
    letter    meaning                                                       Petrov et al.
    D         dim * tokens, the entries of one input                        m, on the sphere S^m
    m         centres along each axis, at (n + 1/2) / m; m^D slots          N, the prefix length
    h         1 / m
    beta      concentration of the kernel, s / h^2 with s the sharpness     lambda
    V(x)      mean of (x - c)^2 on one axis, under its kernel weights

Proof of the certificate. The kernel and the grid are products over axes, so under the softmax weights the mean of
|X - c|^2 is the sum over axes of V(x_a), and |sum_n w_n f(c_n) - f(X)| <= C sum_n w_n |X - c_n| <= C sqrt(sum_a V(x_a))
at every X: there are no ramps and no bad set. On one axis, let c* be the nearest centre, u = |x - c*| <= h/2, and write
(x - c_n)^2 = u^2 + t_n / beta. The weight of c_n is at most exp(-t_n), so V <= u^2 + sum_n t_n exp(-t_n) / beta. For
the centres k steps to either side t = beta (k^2 h^2 -+ 2 k h u), linear in u; with G(t) = (1 + t) exp(-t), minus the
antiderivative of t exp(-t), the integral over u in [0, h/2] of both is (G(k (k-1) s) - G(k (k+1) s)) / (2 beta k h).
Summed over k with weights 1/k this telescopes to at most G(0) = 1, and over the 2 m half cells of the axis:

    mean of V over [0, 1]  <=  h^2 (1/12 + 1/s^2),      so  d_2 <= C h sqrt(D (1/12 + 1/s^2))      (plus rounding).

Everywhere, t exp(-t) is at most 1/e for the near neighbour and j s exp(-j s), each j >= 1 at most twice, elsewhere:
V <= h^2 (1/4 + (1/e + 2 s exp(-s) / (1 - exp(-s))^2) / s) for s >= 1, which gives the sup bound.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from promptreach import rounding
from promptreach.certificate import Assumption, Certificate, Independence, Side, Statement, rechecks
from promptreach.compiler.backbone import CHUNK_BYTES, CompiledBackbone, rebuilt
from promptreach.compiler.papers.codebook import power_up_to_beyond
from promptreach.compiler.parts import fingerprint
from promptreach.compiler.parts.blocks import Attention, FeedForward, Projection, Stream, own_entries
from promptreach.compiler.parts.grid import cell_centres, grid_points
from promptreach.compiler.plan import FLOPS, ITEM_BYTES, Plan, Question, SizeComparison
from promptreach.compiler.target import Points
from promptreach.errors import Fault
from promptreach.rounding import EXP_UNITS

SHARPEST = 32.0
"""The largest s: beyond, the kernel is a table in all but name."""

SHARE = 2.0**-10
"""The part of tol that each of the two softmax leaks may take."""

# Refinements of the coarsest grid that are tried: float32 needs some for its roundings, float64 one at most.
_MOST_EXTRA = 24


@dataclass(frozen=True)
class KernelSizes:
    """What the certificate depends on.

    Attributes:
        dim, tokens, cells: as in `Plan`.
        beta: concentration.
        apart: nats between the right position and every other row in a gather layer.
        below: nats between the best slot and every content token in the smooth layer.
    """

    dim: int
    tokens: int
    cells: int
    beta: float
    apart: int
    below: int

    @property
    def size(self) -> int:
        return self.dim * self.tokens

    @property
    def sharpness(self) -> Fraction:
        """s = beta h^2, exactly."""
        return Fraction(self.beta) / self.cells**2


def plan(dim: int, tokens: int, lipschitz: float, tol: float, dtype: str) -> Plan:
    """The fewest slots that reach `tol`, and for these the widest kernel; `bound` stays above `tol` if none does."""
    return planned(Question("kernel", dim, tokens, lipschitz, tol, dtype), sizes_for, bound)


Sized = Callable[[int, int, int, float, float], "KernelSizes"]
"""Sizes from dim, tokens, cells, sharpness and tol."""


def planned(question: Question, sized_by: Sized, bounded_by: Callable[["KernelSizes", float, str], float]) -> Plan:
    """The plan of a kernel whose sizes and certificate are these."""
    _, dim, tokens, lipschitz, tol, dtype = question

    def reached(cells: int, sharpness: float) -> bool:
        return bounded_by(sized_by(dim, tokens, cells, sharpness, tol), lipschitz, dtype) <= tol

    coarsest = max(1, math.ceil(lipschitz * math.sqrt(dim * tokens / 12) / tol))
    sizes = sized_by(dim, tokens, coarsest, SHARPEST, tol)
    for extra in range(_MOST_EXTRA):
        cells = coarsest + extra + coarsest * extra // 50
        if reached(cells, SHARPEST):
            # In steps of 1/64, so that s, beta = s m^2 and back are exact.
            steps = range(64, int(64 * SHARPEST) + 1)
            first = bisect_left(steps, True, key=lambda step: reached(cells, step / 64))
            sizes = sized_by(dim, tokens, cells, steps[first] / 64, tol)
            break
    return _sized(question, sizes, bounded_by(sizes, lipschitz, dtype))


def sizes_for(dim: int, tokens: int, cells: int, sharpness: float, tol: float) -> KernelSizes:
    """Concentration and score gaps for so many centres an axis."""
    size, beta = dim * tokens, sharpness * cells**2
    # In logarithms: the number of slots may be beyond every float.
    rows = size * math.log(cells) + math.log(2 * tokens)
    apart = math.ceil(rows + math.log(4 * beta * size**1.5 / (SHARE * tol)))
    below = math.ceil(math.log(tokens * math.sqrt(size) / (SHARE * tol)))
    return KernelSizes(dim, tokens, cells, beta, max(apart, 1), max(below, 1))


def bound(sizes: KernelSizes, lipschitz: float, dtype: str, everywhere: bool = False, raised: float = 0.0) -> float:
    """The certificate (module docstring), with leaks and roundings, rounded up; infinite where nothing is certain.

    Args:
        sizes: of the backbone.
        lipschitz: of the functions, in the 2-norm.
        dtype: of the arithmetic.
        everywhere: the largest error at any X instead of d_2.
        raised: what the scores of slots hold beside those terms, in nats.
    """
    size, unit = sizes.size, rounding.EXACT_UNIT[dtype]
    if size * math.log2(sizes.cells) > 45:
        return math.inf
    rows = sizes.cells**size + sizes.tokens
    # Weights err by 2 sigma in their logarithm: sigma from the roundings of a score, whose terms add up to at most
    # 3 beta D, and from X itself, rounded to dtype and gathered with a leak.
    moved = 2 * unit + (rows * rounding.exp_up(sizes.apart) if sizes.tokens > 1 else 0)
    if rows * unit > Fraction(1, 64):
        return math.inf
    lost = rounding.exact_gamma(2 * rows + 4 * EXP_UNITS, dtype)
    moved += lost if sizes.tokens > 1 else 0
    terms = 3 * Fraction(sizes.beta) * size + Fraction(raised)
    sigma = 2 * (rounding.exact_gamma(size + 16, dtype) * terms + 2 * moved * Fraction(sizes.beta) * size)
    if sigma > Fraction(1, 4):
        return math.inf
    perturbed = sigma / (1 - sigma) * (1 + lost) + lost
    leak = sizes.tokens * rounding.exp_up(sizes.below)
    root = rounding.sqrt_up(Fraction(size))
    variance = _sup_variance(sizes.sharpness) if everywhere else Fraction(1, 12) + 1 / sizes.sharpness**2
    smooth = Fraction(lipschitz) * rounding.sqrt_up(size * variance) / sizes.cells
    # The centres at which f is called are float64 numbers; its values are rounded to dtype, and `own` rounds thrice.
    small = Fraction(lipschitz) * root * Fraction(1, 2**52) + 5 * unit * root
    return rounding.float_above(smooth + (perturbed + leak) * root + small)


def _sup_variance(sharpness: Fraction) -> Fraction:
    """At least the largest V / h^2; the exponential is taken at a whole number of nats below s."""
    power = rounding.exp_up(math.floor(sharpness))
    # 1/e is at most 0.36788; where s exp(-s) is bounded by s exp(-floor s) the quotient only grows.
    return Fraction(1, 4) + (Fraction(36788, 10**5) + 2 * sharpness * power / (1 - power) ** 2) / sharpness


def _sized(question: Question, sizes: KernelSizes, reached: float) -> Plan:
    dim, tokens, size = sizes.dim, sizes.tokens, sizes.size
    tol, dtype = question.tol, question.dtype
    slots, stream = power_up_to_beyond(sizes.cells, size), stream_for(dim, tokens)
    gathers = tokens if tokens > 1 else 0
    gathering = gathers * (2 * tokens + 1 + dim + size * dim)
    smoothing = (size + 1) * (2 * size + tokens + 2) + 2 * size
    parameters = gathering + smoothing + size * (size + tokens + 1 + dim) + (2 * dim + tokens) * stream.size
    flops = 1000.0 * tokens * (gathers * (dim + 6) + 2 * size + 8) * min(slots, 10**200)
    accuracy = max(-math.log10(tol), 0.0)
    return Plan(
        *question,
        cells=sizes.cells,
        slots=slots,
        hidden_size=stream.size,
        width=size,
        passes=(*(f"gather {position}" for position in range(gathers)), "smooth", "own"),
        sharpness=float(sizes.sharpness),
        ramp=0.0,
        table_entries=slots * size,
        evaluations=slots,
        parameters=parameters,
        bytes=ITEM_BYTES[dtype] * (parameters + 3 * slots * stream.size) + 3 * 8 * slots * size + 2 * CHUNK_BYTES,
        seconds=flops / FLOPS,
        bound=reached,
        compared=(
            SizeComparison(
                "prompt length",
                "Petrov et al. 2024 (2402.14753), rate for the sphere S^D from memory, without its constant",
                accuracy * (10 + 14 * size + 4 * size**2),
                math.log10(slots),
            ),
        ),
    )


def stream_for(dim: int, tokens: int) -> Stream:
    """The layout of the hidden state."""
    size = dim * tokens
    return Stream(input=dim, position=tokens, gathered=size, centre=size, height=1, value=size, mixed=size, output=dim)


class Kernel(CompiledBackbone):
    """The backbone whose prompt is a set of kernel centres with the function's values there. See the module."""

    def __init__(self, plan: Plan) -> None:
        self.sizes = sizes_for(plan.dim, plan.tokens, plan.cells, plan.sharpness, plan.tol)
        stream = stream_for(plan.dim, plan.tokens)
        gathers = [gather(plan, stream, self.sizes, position) for position in range(plan.tokens)]
        passes: list[FeedForward | Attention] = [*(gathers if plan.tokens > 1 else [])]
        passes += [smooth(plan, stream, self.sizes), own_entries("own", stream, "mixed", "output", 1, plan.torch_dtype)]
        super().__init__(plan, stream, passes)
        self.freeze()

    def points(self) -> Points:
        """The centres; the last axis of the last token varies fastest."""
        return grid_points(cell_centres(self.plan.cells), self.plan.tokens, self.plan.dim)

    def rows(self, values: Points) -> Float[Tensor, "prompt hidden"]:
        """Slot n: its centre c, -beta |c|^2, and the function's value there."""
        centres = self.points().flatten(1)
        prompt = torch.zeros(len(centres), self.stream.size, dtype=torch.float64)
        prompt[:, self.stream.blocks["centre"]] = centres
        prompt[:, self.stream.blocks["height"]] = -self.sizes.beta * centres.square().sum(dim=1, keepdim=True)
        prompt[:, self.stream.blocks["value"]] = values.flatten(1)
        return prompt.to(self.plan.torch_dtype)

    def edges(self) -> Float[Tensor, " edges"]:
        """Where the nearest centre changes, and 0 and 1: no ramps, but where errors are largest."""
        return torch.arange(self.plan.cells + 1, dtype=torch.float64) / self.plan.cells

    def good(self, x: Float[Tensor, "batch tokens dim"]) -> Bool[Tensor, " batch"]:
        """True for every input: the sup certificate of a kernel has no exceptions."""
        return torch.ones(len(x), dtype=torch.bool)

    def prompt_faults(self, embeddings: Tensor) -> list[Fault]:
        """What keeps the rows from being centres with values in [0, 1]."""
        frame = self.rows(torch.zeros(self.plan.slots, self.plan.tokens, self.plan.dim, dtype=torch.float64))
        return fingerprint.frame_faults(embeddings, frame, self.stream.blocks["value"])

    def _certificate(self, embeddings: Tensor, lipschitz: float, everywhere: bool) -> Certificate:
        value = bound(self.sizes, lipschitz, self.plan.dtype, everywhere)
        return Certificate.stated(recheck_kernel, value, self.witness(embeddings, lipschitz, everywhere)).confirmed()


def gather(plan: Plan, stream: Stream, sizes: KernelSizes, position: int) -> Attention:
    """Every row collects the input of the content token at `position`, and nothing else up to exp(-apart)."""
    dim, dtype = plan.dim, plan.torch_dtype
    key = torch.zeros(1, plan.tokens, dtype=dtype)
    key[0, position] = sizes.apart
    output = torch.zeros(sizes.size, dim, dtype=dtype)
    output[position * dim : (position + 1) * dim] = torch.eye(dim, dtype=dtype)
    return Attention(
        f"gather {position}",
        stream,
        query=Projection(["position"], torch.zeros(1, plan.tokens, dtype=dtype), torch.ones(1, dtype=dtype)),
        key=Projection(["position"], key),
        value=Projection(["input"], torch.ones(dim, dtype=dtype)),
        output=Projection(["gathered"], output),
    )


def smooth(plan: Plan, stream: Stream, sizes: KernelSizes) -> Attention:
    """mixed = sum_n w_n f(c_n), with w_n proportional to exp(2 beta X.c_n - beta |c_n|^2).

    A content row has score -floor with floor = below + s D / 4 rounded up: the nearest centre's score is at least
    -s D / 4, as |X - c|^2 <= D h^2 / 4.
    """
    size, dtype = sizes.size, plan.torch_dtype
    floor = sizes.below + math.ceil(sizes.sharpness * size / 4)
    query = torch.zeros(size + 1, size, dtype=dtype)
    query[:size] = torch.eye(size, dtype=dtype)
    key = torch.zeros(size + 1, size + 1 + plan.tokens, dtype=dtype)
    key[:size, :size] = 2 * sizes.beta * torch.eye(size, dtype=dtype)
    key[size, size], key[size, size + 1 :] = 1, -floor
    query_bias = torch.zeros(size + 1, dtype=dtype)
    query_bias[size] = 1
    ones = torch.ones(size, dtype=dtype)
    return Attention(
        "smooth",
        stream,
        query=Projection(["gathered" if plan.tokens > 1 else "input"], query, query_bias),
        key=Projection(["centre", "height", "position"], key),
        value=Projection(["value"], ones),
        output=Projection(["mixed"], ones),
    )


def _states(witness: Mapping[str, Any]) -> Statement:
    return statement(witness, "kernel-smoother")


def statement(witness: Mapping[str, Any], theorem: str) -> Statement:
    """What the certificate of a kernel says that rests on this theorem."""
    question, dtype = fingerprint.witnessed_question(witness), witness["question"]["dtype"]
    everywhere = witness["everywhere"]
    what = "at every X of the cube the error" if everywhere else "the root mean square error over uniform X"
    return Statement(
        claim=(
            f"For every f from [0,1]^({question['tokens']} x {question['dim']}) into itself with |f(X) - f(X')| <= "
            f"{rounding.shown(witness['lipschitz'])} |X - X'| whose values at the {len(witness['prompt'])} centres "
            f"stand in the prompt's rows, {what} |backbone(X) - f(X)| is at most value. 2-norms over all entries; "
            f"arithmetic is IEEE {dtype} with an exponential right to {EXP_UNITS} units in the last place."
        ),
        side=Side.UPPER,
        theorem=theorem,
        assumptions=(Assumption("the weights are those of the plan, the rows hold centres", True, "compared"),),
    )


_POINTS = 2048
"""Points at which each cell is integrated."""


def integrated_size(witness: Mapping[str, Any]) -> int:
    """Exponentials that the second path takes: for each point of an axis, one for each cell of it."""
    axes = int(witness["question"]["dim"]) * int(witness["question"]["tokens"])
    return int(_POINTS * round(len(witness["prompt"]) ** (1 / axes)) ** 2)


@rechecks(Independence.SHARED, states=_states, size=integrated_size, quick=2**26, most=2**36)
def recheck_kernel(certificate: Certificate) -> bool:
    """Second path: integrate V on a fine grid in floats, axis by axis, instead of bounding it, and compare.

    The numerical d_2 bound C sqrt(D mean V), or the largest C sqrt(D V) that the grid finds, must not exceed `value`
    with the leaks of both softmaxes, bounded again by one exponential each; roundings are not looked at again. The
    backbone is built again from its plan and compared with the weights. A quarter of an hour at most.
    """
    backbone = rebuilt(Kernel, plan, certificate)
    return backbone is not None and integrated(backbone.sizes, certificate)


def integrated(sizes: KernelSizes, certificate: Certificate) -> bool:
    """Whether the integral of V with the leaks stays below what a kernel of these sizes is certified for."""
    seen = certificate.witness
    cells, beta, size, tokens = sizes.cells, sizes.beta, sizes.size, sizes.tokens
    centres = cell_centres(cells)
    worst, total, points = 0.0, 0.0, _POINTS
    for cell in range(cells):
        x = (cell + (torch.arange(points, dtype=torch.float64) + 0.5) / points) / cells
        squares = (x[:, None] - centres).square()
        spread = ((-beta * squares).softmax(dim=1) * squares).sum(dim=1)
        total, worst = total + float(spread.sum()) / points / cells, max(worst, float(spread.max()))
    smoothing = seen["lipschitz"] * math.sqrt(size * (worst if seen["everywhere"] else total))
    gathering = 4 * beta * size * (cells**size + tokens) * math.exp(-sizes.apart) if tokens > 1 else 0.0
    leaks = math.sqrt(size) * (gathering + tokens * math.exp(-sizes.below))
    return bool(smoothing + leaks <= certificate.value)
