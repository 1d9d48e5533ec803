"""The base of papers A and B: a quantiser, a contextual map that gives every context an id, a table over all ids.

    ramps     relu ramps at the inner edges of the content's cells and of the prompt's levels
    steps     the code of each row: the number of its cell, or of its levels, a whole number outside the ramps
    ...       the contextual map: after it, the block "token" of each content row holds the id of (function, input, own
              position), different for any two of these that differ
    table     a step function of the id, with a jump for each id at which the output changes: whole levels
    values    level l to (l + 1/2) / q

The table is over (prompt, input) pairs: this is the price of the papers' constructions, and the reason why they only
exist at toy sizes. `SingleLayer` and `Deep` differ in the contextual map. The prompt is the codeword of the function
(`codebook`): one soft token for each token of the output in each cell, holding dim levels.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptreach import rounding
from promptreach.certificate import Assumption, Certificate, Side, Statement
from promptreach.checkers import find
from promptreach.compiler.backbone import CHUNK_BYTES, CompiledBackbone
from promptreach.compiler.papers.codebook import MOST_ENTRIES, Codebook
from promptreach.compiler.papers.step_function import NarrowSteps, StepFunction, WideSteps
from promptreach.compiler.parts import fingerprint, relu
from promptreach.compiler.parts.blocks import Attention, FeedForward, Stream
from promptreach.compiler.parts.grid import ramp_edges
from promptreach.compiler.plan import FLOPS, ITEM_BYTES, Plan, Question, SizeComparison, count
from promptreach.compiler.target import Points, TargetFunction
from promptreach.covering import covering_length_log10
from promptreach.errors import Fault

QUICK_BYTES = 4096
"""The largest witness, the prompt above all, whose backbone is built again and looked at in about a second."""

FORMS = ("wide", "narrow")
"""How the table is laid out: two wide layers, or many narrow ones."""


def stream_of(codebook: Codebook, score: int) -> Stream:
    """The hidden state: `score` coordinates of position features beside what every tabulated backbone has."""
    dim = codebook.dim
    return Stream(
        input=dim,
        position=codebook.tokens,
        stored=dim,
        ramps=dim * (codebook.cells - 1) + dim * (codebook.levels - 1),
        code=1,
        token=1,
        score=score,
        level=dim,
        output=dim,
    )


def ramps(codebook: Codebook, stream: Stream, dtype: torch.dtype) -> FeedForward:
    """h = relu((x_a - t_k) / ramp) for the content's entries, and the same for the levels that prompt rows store.

    Content rows store 0 and prompt rows have input 0, so each kind passes no edge of the other.
    """
    cells, levels = starts(codebook, dtype), relu.thresholds(codebook.levels, codebook.ramp, dtype)
    content, content_bias = relu.ramp_units(cells, codebook.ramp, codebook.dim)
    prompt, prompt_bias = relu.ramp_units(levels, codebook.ramp, codebook.dim)
    up = torch.zeros(len(content) + len(prompt), 2 * codebook.dim, dtype=dtype)
    up[: len(content), : codebook.dim], up[len(content) :, codebook.dim :] = content, prompt
    bias = torch.cat([content_bias, prompt_bias])
    return FeedForward("ramps", stream, ["input", "stored"], ["ramps"], up, bias, torch.ones(len(up), dtype=dtype))


def starts(codebook: Codebook, dtype: torch.dtype) -> Float[Tensor, " inner"]:
    """Where the content's ramps begin, on each axis."""
    return relu.thresholds(codebook.cells, codebook.ramp, dtype)


def steps(codebook: Codebook, stream: Stream, dtype: torch.dtype, spread: int) -> FeedForward:
    """code += sum_a digit_a m^a (content) or sum_a level_a q^a (prompt), and token += spread times the same."""
    cells, levels, dim = codebook.cells, codebook.levels, codebook.dim
    up, bias, down, _ = relu.step_units((cells - 1) * dim + (levels - 1) * dim, 1, dtype)
    place = [float(cells**axis) for axis in range(dim) for _ in range(cells - 1)]
    place += [float(levels**axis) for axis in range(dim) for _ in range(levels - 1)]
    code, total = down * torch.tensor(place, dtype=dtype), torch.tensor([sum(place)], dtype=dtype)
    return FeedForward(
        "steps",
        stream,
        ["ramps"],
        ["code", "token"],
        up,
        bias,
        torch.cat([code, spread * code]),
        torch.cat([total, spread * total]),
    )


def values(codebook: Codebook, stream: Stream, dtype: torch.dtype) -> FeedForward:
    """output = (level + 1/2) / q."""
    ones = torch.ones(codebook.dim, dtype=dtype)
    return FeedForward("values", stream, ["level"], ["output"], ones, ones / 2, ones / codebook.levels)


def form_faults(form: object) -> list[Fault]:
    """A fault when the table cannot be laid out so."""
    return [] if form in FORMS else [Fault("form", repr(form), f"one of {', '.join(FORMS)}")]


def all_tables(codebook: Codebook) -> Int[Tensor, "tables cells entries"]:
    """Every function of a codebook that was chosen to have few enough."""
    tables = codebook.tables(MOST_ENTRIES // codebook.prompt_length)
    assert tables is not None
    return tables


def prompt_codes(codebook: Codebook, tables: Int[Tensor, "tables cells entries"]) -> Int[Tensor, "tables prompt"]:
    """The code of each prompt row: slot cell * tokens + token holds sum_a level_a q^a."""
    places = codebook.levels ** torch.arange(codebook.dim)
    return (tables.reshape(len(tables), -1, codebook.dim) * places).sum(dim=-1)


def content_codes(codebook: Codebook) -> Int[Tensor, "cells tokens"]:
    """The code of each token in each cell of the input cube."""
    places = codebook.cells ** torch.arange(codebook.dim)
    return (codebook.corners().reshape(-1, codebook.tokens, codebook.dim) * places).sum(dim=-1)


class Tabulated(CompiledBackbone):
    """A backbone that tabulates ids. Subclasses bring the contextual map and what tells its ids apart.

    Args:
        plan, codebook, stream: the sizes, the functions, the layout.
        spread: what codes are multiplied with on their way into ids.
        context: the layers of the contextual map.
        ids: the table.
    """

    checker: ClassVar[str]
    """The name of the second path of its certificates."""

    def __init__(
        self,
        plan: Plan,
        codebook: Codebook,
        stream: Stream,
        spread: int,
        context: Sequence[Attention],
        ids: StepFunction,
    ) -> None:
        dtype, form = plan.torch_dtype, plan.options["form"]
        codes = [ramps(codebook, stream, dtype), steps(codebook, stream, dtype, spread)]
        step_function = StepFunction(*(part.to(dtype) for part in ids))
        table = (WideSteps if form == "wide" else NarrowSteps)("table", stream, "token", "level", step_function)
        super().__init__(plan, stream, [*codes, *context, table, values(codebook, stream, dtype)])
        self.codebook = codebook

    def points(self) -> Points:
        """The sample points of all cells."""
        return self.codebook.points()

    def rows(self, values: Points) -> Float[Tensor, "prompt hidden"]:
        """Slot cell * tokens + token stores the levels of the codeword there, at the centres of the levels."""
        codebook, dtype = self.codebook, self.plan.torch_dtype
        prompt = self.frame()
        levels = codebook.decode(codebook.encode(values)).reshape(-1, codebook.dim)
        prompt[:, self.stream.blocks["stored"]] = levels.to(dtype)
        return prompt

    @abstractmethod
    def frame(self) -> Float[Tensor, "prompt hidden"]:
        """The part of a prompt that is the same for all functions: its position encoding."""

    def refutations(self, target: TargetFunction, points: Points, values: Points) -> list[Fault]:
        """Steep neighbours, or a codeword that no function with the declared constant has."""
        faults = super().refutations(target, points, values)
        return faults or self.codebook.faults(self.codebook.encode(values), target.name)

    def prompt_faults(self, embeddings: Tensor) -> list[Fault]:
        """What keeps the rows from holding a codeword."""
        faults = fingerprint.frame_faults(embeddings, self.frame(), self.stream.blocks["stored"])
        if faults:
            return faults
        codebook, stored = self.codebook, embeddings[:, self.stream.blocks["stored"]].detach().cpu()
        table = (stored.double() * codebook.levels).floor().long().clamp(0, codebook.levels - 1)
        if not torch.equal(codebook.decode(table).to(stored), stored):
            return [Fault("prompt", "stored entries between levels", f"(l + 1/2) / {codebook.levels}, l whole")]
        return codebook.faults(table.reshape(codebook.num_cells, -1), "prompt")

    @property
    @abstractmethod
    def ids_differ(self) -> bool:
        """Whether different contexts have ids that the arithmetic tells apart."""

    def _certificate(self, embeddings: Tensor, lipschitz: float, everywhere: bool) -> Certificate:
        if not self.ids_differ:
            raise ValueError(f"ids of {self.plan.construction} are not told apart in {self.plan.dtype}")
        value = error_of(self.codebook, lipschitz, self.plan.dtype, everywhere)
        return Certificate.stated(
            find(self.checker), value, self.witness(embeddings, lipschitz, everywhere)
        ).confirmed()

    def edges(self) -> Float[Tensor, " edges"]:
        """Both ends of every ramp of the content's quantiser, and 0 and 1."""
        return ramp_edges(starts(self.codebook, self.plan.torch_dtype), self.codebook.ramp)


def error_of(codebook: Codebook, lipschitz: float, dtype: str, everywhere: bool) -> float:
    """What a tabulated backbone is certain of, once its ids are: the codebook's error and the rounding of `values`."""
    own = replace(codebook, lipschitz=lipschitz)
    error = Fraction(own.sup_error if everywhere else own.error)
    # level + 1/2, 1 / q, their product: three roundings of numbers of at most 1. An input moves by half a unit.
    units = 4 + Fraction(lipschitz)
    return rounding.float_above(error + units * rounding.EXACT_UNIT[dtype] * rounding.sqrt_up(Fraction(codebook.size)))


def codeword_statement(
    witness: Mapping[str, Any], theorem: str, ids: Assumption, taken_for_granted: str = ""
) -> Statement:
    """The statement about all functions whose codeword the prompt's rows hold.

    Args:
        witness: `CompiledBackbone.witness`.
        theorem: its key.
        ids: the hypothesis under which ids differ.
        taken_for_granted: a sentence on what the claim takes for granted beyond IEEE arithmetic.

    Raises:
        InputError: for a witness that is damaged.
    """
    question = fingerprint.witnessed_question(witness)
    where = (
        "at every X with no coordinate inside a ramp, the error"
        if witness["everywhere"]
        else "the root mean square error over uniform X"
    )
    return Statement(
        claim=(
            f"For every f from [0,1]^({question['tokens']} x {question['dim']}) into itself with |f(X) - f(X')| <= "
            f"{rounding.shown(witness['lipschitz'])} |X - X'| whose codeword the prompt's rows hold, {where} "
            f"|backbone(X) - f(X)| is at most value. 2-norms over all entries; X is rounded to {question['dtype']} "
            f"first; arithmetic is IEEE {question['dtype']}.{taken_for_granted}"
        ),
        side=Side.UPPER,
        theorem=theorem,
        assumptions=(ids, Assumption("the weights are those of the plan, the rows hold a codeword", True, "compared")),
    )


def recheck_error(certificate: Certificate, codebook: Codebook) -> bool:
    """Second path for the error: cell by cell in decimals, with the distances of sample points summed one by one.

    On one axis of one cell, of width 1/m: the variance of X, the mean square distance of X to its nearest sample point,
    and the mean square distance of a corner to all sample points.
    """
    seen = certificate.witness
    size, cells, samples = codebook.size, codebook.cells, codebook.samples
    with localcontext(Context(prec=40)):
        width, constant = 1 / Decimal(cells), Decimal(seen["lipschitz"])
        rounded = Decimal(size).sqrt() / (2 * codebook.levels)
        if seen["everywhere"]:
            corner = sum(((Decimal(2 * k + 1) / (2 * samples)) ** 2 for k in range(samples)), Decimal(0)) / samples
            return bool(constant * width * (size * corner).sqrt() + rounded <= Decimal(certificate.value))
        variance = constant**2 * width**2 * size / 12
        mean = constant * (width / samples) * (Decimal(size) / 12).sqrt() + rounded
        ramps = size * (cells - 1) * Decimal(codebook.ramp) * size
        return bool((variance + mean**2 + ramps).sqrt() <= Decimal(certificate.value))


def too_many(entries: int) -> str:
    """Why a table cannot be listed."""
    return f"its table of (function, cell, token) triples has {count(entries)} entries, above {count(MOST_ENTRIES)}"


def plan_of(
    question: Question,
    codebook: Codebook,
    *,
    entries: int,
    jumps: int,
    score: int,
    context: int,
    layers: tuple[str, ...],
    bound: float,
    compared: tuple[SizeComparison, ...],
    options: Mapping[str, float | int | str],
    obstacle: str,
) -> Plan:
    """The plan of a tabulated backbone.

    Args:
        question: what was asked for.
        codebook: the functions.
        entries: of the table; `jumps` of them are those at which the output changes.
        score: position features.
        context: numbers in the weights of the contextual map, whose layers are `layers`.
        bound, compared, options, obstacle: as in `Plan`.
    """
    dim, tokens, slots, is_wide = codebook.dim, codebook.tokens, codebook.prompt_length, options["form"] == "wide"
    edges = dim * (codebook.cells - 1) + dim * (codebook.levels - 1)
    hidden = stream_of(codebook, score).size
    deep, width = max(jumps, 1), dim + 2
    wide = jumps * (2 + dim) + dim
    narrow = 2 * width + (2 * deep - 1) * (width**2 + width) + dim * width + dim
    table = wide if is_wide else narrow
    parameters = edges * (2 * dim + 6) + 2 + context + table + 3 * dim + (2 * dim + tokens) * hidden
    evaluations = codebook.num_cells * codebook.samples**codebook.size
    # Listing all functions takes codes and levels for each, a few times over; jumps are at most entries.
    listing = 8 * 4 * (dim + 4) * entries
    item, flops = ITEM_BYTES[question.dtype], 2000 * tokens * (table + context * (slots + tokens))
    return Plan(
        *question,
        cells=codebook.cells,
        slots=slots,
        hidden_size=hidden,
        width=max(edges, jumps if is_wide else width),
        passes=("ramps", "steps", *layers, "table", "values"),
        sharpness=0.0,
        ramp=codebook.ramp,
        table_entries=slots * dim,
        evaluations=evaluations,
        parameters=parameters,
        bytes=item * (parameters + 3 * slots * hidden) + 24 * evaluations + listing + 2 * CHUNK_BYTES,
        seconds=min(flops, 10**300) / FLOPS,
        bound=bound,
        compared=compared,
        options=options,
        obstacle=obstacle,
    )


def compared(codebook: Codebook, tol: float, jumps: int, source: str, theorem: str) -> tuple[SizeComparison, ...]:
    """Prompt length and size of the table beside the papers' formulas, both without their constants."""
    size = codebook.size
    length = covering_length_log10(codebook.dim, codebook.tokens, codebook.lipschitz, tol)
    pairs = codebook.dim * (10 ** min(length, 300) + codebook.tokens) * max(-math.log10(tol), 0.0)
    achieved = math.log10(codebook.tokens) + size * math.log10(codebook.cells)
    return (
        SizeComparison("prompt length", source, length, achieved),
        SizeComparison("table of (prompt, input) pairs", f"{source}, {theorem}", pairs, math.log10(max(jumps, 1))),
    )
