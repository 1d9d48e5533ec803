"""Plans: the sizes and costs of a construction before any weight is made, and the refusal of what will not fit."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import NamedTuple

import torch

from promptreach.errors import Fault, PromptreachError
from promptreach.evidence import Side
from promptreach.rounding import shown_bound

MEMORY = 2**31
"""Bytes that a plan may take unless the caller grants more."""

MOST_SIZE = 100_000
"""Entries of a token, and tokens of an input, at most: each construction has long outgrown every memory by then."""

EXTREME = 1e30
"""Lipschitz constants, tol and its reciprocal stay below this, so that no size derived from them leaves the floats."""

ITEM_BYTES = {"float64": 8, "float32": 4}
FLOPS = 4e9
"""Floating-point operations a second that `Plan.seconds` reckons with: one core of a small machine."""


@dataclass(frozen=True)
class SizeComparison:
    """The size of one thing by a paper's formula and as achieved here, both as powers of ten."""

    what: str
    paper: str
    paper_log10: float
    achieved_log10: float


class Question(NamedTuple):
    """What every construction is asked for: the first fields of its `Plan`."""

    construction: str
    dim: int
    tokens: int
    lipschitz: float
    tol: float
    dtype: str

    @property
    def size(self) -> int:
        """The entries of one input."""
        return self.dim * self.tokens


@dataclass(frozen=True)
class Plan:
    """The sizes of one backbone and its prompts, derived from the error wanted.

    Attributes:
        construction: its key in `build.CONSTRUCTIONS`.
        dim, tokens, lipschitz, tol: what was asked for; `tol` in the papers' d_2.
        dtype: "float64" or "float32".
        cells: grid cells along each axis of [0,1]^(tokens x dim).
        slots: prompt length in tokens.
        hidden_size: of the stream.
        width: the widest feed-forward layer.
        passes: the names of the layers, in order.
        sharpness: how far, in nats, a wrong slot's score stays below the right one's; 0 where nothing selects.
        ramp: width of the quantiser's ramps, in units of the input; 0 where there are none.
        table_entries: numbers of the prompt that depend on the function.
        evaluations: how often the function is called to compile it.
        parameters: numbers in the backbone's weights, all frozen.
        bytes: weights, one prompt and working memory together, at most.
        seconds: PREDICTED time to evaluate 1,000 inputs on one core.
        bound: the certificate that this plan leads to, at the declared Lipschitz constant.
        compared: sizes beside the papers'.
        options: what the construction was asked for beyond this.
        derived: whole numbers that only this construction has, by name; empty for most.
        obstacle: what stands in the way, memory aside; empty when nothing does.
    """

    construction: str
    dim: int
    tokens: int
    lipschitz: float
    tol: float
    dtype: str
    cells: int
    slots: int
    hidden_size: int
    width: int
    passes: tuple[str, ...]
    sharpness: float
    ramp: float
    table_entries: int
    evaluations: int
    parameters: int
    bytes: int
    seconds: float
    bound: float
    compared: tuple[SizeComparison, ...] = ()
    options: Mapping[str, float | int | str] = field(default_factory=dict)
    derived: Mapping[str, int] = field(default_factory=dict)
    obstacle: str = ""

    @property
    def question(self) -> Question:
        """What was asked for, options aside."""
        return Question(self.construction, self.dim, self.tokens, self.lipschitz, self.tol, self.dtype)

    @property
    def torch_dtype(self) -> torch.dtype:
        return {"float64": torch.float64, "float32": torch.float32}[self.dtype]

    def summary(self) -> str:
        """The plan in a few lines for people."""
        lines = [
            f"{self.construction}: dim {self.dim}, tokens {self.tokens}, Lipschitz {self.lipschitz:g},"
            f" tol {self.tol:g}",
            f"  {count(self.cells)} cells an axis, {count(self.slots)} slots of hidden size {count(self.hidden_size)},"
            f" width {count(self.width)}, {count(self.parameters)} frozen parameters, {self.dtype}",
            f"  sharpness {self.sharpness:g} nats, ramps {self.ramp:.3g} wide; certified error"
            f" {shown_bound(self.bound, Side.UPPER, 4)}",
            f"  {count(self.table_entries)} numbers of the prompt depend on the function, which is called"
            f" {count(self.evaluations)} times; {count(self.bytes)} bytes; about {self.seconds:.2g} s per 1,000 inputs",
        ]
        for row in self.compared:
            lines.append(f"  {row.what}: 10^{row.achieved_log10:.1f} here, 10^{row.paper_log10:.1f} by {row.paper}")
        return "\n".join(lines)


class PlanTooLargeError(PromptreachError):
    """The plan needs more memory than it was granted; no weight has been made.

    Attributes:
        plan: the whole plan, with its numbers.
        memory: what was granted, in bytes.
        nearest_tol: the smallest tol, to one per cent, whose plan fits; None when none does.
    """

    def __init__(self, plan: Plan, memory: int, nearest_tol: float | None) -> None:
        self.plan, self.memory, self.nearest_tol = plan, memory, nearest_tol
        advice = "no useful tol fits" if nearest_tol is None else f"tol={nearest_tol:.3g} fits"
        super().__init__(
            f"the {plan.construction} backbone for dim {plan.dim}, tokens {plan.tokens}, tol {plan.tol:g} takes"
            f" {count(plan.cells)} cells an axis, {count(plan.slots)} slots, {count(plan.table_entries)} table entries"
            f" and {count(plan.bytes)} bytes; "
            + (plan.obstacle or f"granted are {count(memory)} bytes; grant more with memory=")
            + f". {advice}"
        )


def refuse_if_too_large(plan: Plan, memory: int, replan: Callable[[float], Plan]) -> None:
    """Refuse a plan that needs more than `memory` bytes.

    Args:
        plan: as wanted.
        memory: bytes granted.
        replan: the same construction's plan for another tol.

    Raises:
        PlanTooLargeError: with the nearest tol that fits.
    """

    def fits_at(tol: float) -> bool:
        tried = replan(tol)
        return tried.bytes <= memory and not tried.obstacle and tried.bound <= tol

    if plan.bytes <= memory and not plan.obstacle:
        return
    largest = math.sqrt(plan.dim * plan.tokens)  # the cube's diameter: every function is this close to any other
    if plan.tol >= largest or not fits_at(largest):
        raise PlanTooLargeError(plan, memory, None)
    too_small, fits = plan.tol, largest
    while fits > 1.01 * too_small:
        middle = math.sqrt(too_small * fits)
        if fits_at(middle):
            fits = middle
        else:
            too_small = middle
    # Rounded up to three digits, so that the number printed is one that fits.
    digits = 10.0 ** (2 - math.floor(math.log10(fits)))
    printed = math.ceil(fits * digits) / digits
    raise PlanTooLargeError(plan, memory, printed if fits_at(printed) else fits)


def count(number: int) -> str:
    """A whole number for people: with separators up to a million millions, as a power of ten above."""
    return f"{number:,}" if number < 10**12 else f"10^{math.log10(number):.1f}"


def question_faults(dim: int, tokens: int, lipschitz: float | int, tol: float | int) -> list[Fault]:
    """Everything wrong with what every construction is asked for."""
    faults = [
        Fault(name, repr(value), f"a whole number, 1 to {MOST_SIZE:,}")
        for name, value in (("dim", dim), ("tokens", tokens))
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_SIZE
    ]
    if not is_number(lipschitz) or not 0 <= lipschitz <= EXTREME:
        faults.append(Fault("lipschitz", repr(lipschitz), f"a finite number, 0 to {EXTREME:g}"))
    if not is_number(tol) or not 1 / EXTREME <= tol <= EXTREME:
        expected = f"a number above 0, {1 / EXTREME:g} to {EXTREME:g}"
        faults.append(Fault("tol", repr(tol), expected, "It is the error wanted, in the papers' d_2"))
    return faults


def is_number(value: object) -> bool:
    """Whether this is a number and not a flag."""
    return isinstance(value, Real) and not isinstance(value, bool)
