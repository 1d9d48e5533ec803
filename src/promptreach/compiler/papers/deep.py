"""Paper A's transformer, after Yun et al.: selective shifts give every context an id, layer by layer, in whole numbers.

    ramps, steps    codes of all rows (`tabulated`); row j then holds the whole number z_j = j G + code
    shift v         for every value v = 0, 1, ..., n G - 1: rows with z = v move up by B (max z - min z)
    lift            every row moves up by S max z
    table, values   a step function of the id (`tabulated`), by default in narrow layers, as in the paper

A shift is two hardmax heads of size 1 with scores (z_i - v + 1/2) z_j and (z_i - v - 1/2) z_j and value z_j: the first
returns max z for rows with z_i >= v and min z for all others, the second the same for z_i >= v + 1. Their difference is
max z - min z where z_i = v, and 0 elsewhere. Hardmax is the limit of softmax at temperature 0; equal scores share.

Notation
    letter    meaning                                                papers A, Yun et al.
    n         rows, prompt and content
    G         largest number of codes of a row                       delta^-d
    B         G + 1                                                  delta^-d
    S         a power of two above every z                           L delta^-(L+1)d-1

Ids are different. Rows lie in disjoint intervals [j G, j G + G - 1] and are met in order; the row that moves is the
least, the others are at most max z, and z + B (max - z) > max, and > n G - 1, so that no row moves twice (for n >= 2:
at first max - min >= (n - 2) G + 1, and B > G covers n = 2). The last row ends at z_(n-1) + B (z'_(n-2) - z_(n-1)),
where z'_j is row j after its move. Modulo B this is z_(n-1) modulo B, which tells z_(n-1), as an interval of G < B
numbers is known to hold it; then z'_(n-2) is known, and so on down to z_0. So max z tells the whole context, and with
S > z the sum z_i + S max z tells the own row too.

All numbers that occur are whole, or half whole before a comparison. They are exact while (max z)^2 and the ids stay
below a quarter of the largest whole number of the dtype (2^53 in float64), which the plan checks. So the float64 module
computes what `exact_output` computes in fractions, bit for bit up to the last division by 2 q.
"""

import math
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptreach import rounding
from promptreach.certificate import Assumption, Certificate, Independence, Statement, rechecks
from promptreach.compiler.backbone import rebuilt
from promptreach.compiler.papers import tabulated
from promptreach.compiler.papers.codebook import Codebook, CodebookChoice, choose
from promptreach.compiler.papers.separation import Separation, separation_of
from promptreach.compiler.papers.step_function import StepFunction, changes
from promptreach.compiler.parts.blocks import Attention, Projection, Stream
from promptreach.compiler.plan import Plan, Question, SizeComparison
from promptreach.covering import covering_length_log10
from promptreach.errors import raise_if_any

_COLD = 64.0
"""The scale at which softmax heads of the same weights stand for hardmax, up to exp(-64 times the gap of scores)."""


def plan(dim: int, tokens: int, lipschitz: float, tol: float, dtype: str, form: float | int | str = "narrow") -> Plan:
    """The sizes of the backbone with the smallest table that reaches `tol`.

    Args:
        form: "narrow", as in the paper, or "wide": see `step_function`.

    Raises:
        InputError: for a form that does not exist.
    """
    raise_if_any(tabulated.form_faults(form))
    question = Question("deep", dim, tokens, lipschitz, tol, dtype)
    return _sized(choose(question, _IS_EXACT[dtype]), question, str(form))


def _sized(choice: CodebookChoice, question: Question, form: str) -> Plan:
    codebook, base = choice.codebook, base_of(choice.codebook)
    rows = codebook.prompt_length + codebook.tokens
    jumps, layers = id_steps(codebook).number if choice.fits else choice.entries, rows * base
    compared = tabulated.compared(
        codebook, question.tol, jumps, "Wang et al. 2023, Theorem 1", "counted by Hu et al. 2025"
    )
    paper_layers = covering_length_log10(*question[1:5]) + codebook.dim * max(-math.log10(question.tol), 0.0)
    compared += (SizeComparison("attention layers", "Hu et al. 2025, on Theorem 1", paper_layers, math.log10(layers)),)
    if choice.fits:
        # Ids of Yun et al. lie above L delta^(-2(L+1)d) (delta^-d - 1) and are delta apart, with L the rows.
        yun = 2 * (rows + 1) * math.log10(base) + math.log10(rows * max(base - 1, 1)) + math.log10(base)
        largest = float(id_heights(codebook)[0].max())
        compared += (SizeComparison("largest id over least distance", "Yun et al. 2020", yun, math.log10(largest)),)
    return tabulated.plan_of(
        question,
        codebook,
        entries=choice.entries,
        jumps=jumps,
        score=0,
        # A shift has four matrices and a bias, for two heads of size 1; the lift has them for one.
        context=10 * layers + 5,
        layers=(*(f"shift {value}" for value in range(layers)), "lift") if choice.fits else (),
        bound=tabulated.error_of(codebook, question.lipschitz, question.dtype, everywhere=False),
        compared=compared,
        options={"form": form},
        obstacle=_obstacle(choice, question.dtype),
    )


def _obstacle(choice: CodebookChoice, dtype: str) -> str:
    """Why the backbone cannot be built, or empty."""
    if choice.fits:
        return ""
    if not is_exact(choice.codebook, dtype):
        return f"its ids outgrow the whole numbers that {dtype} holds exactly"
    return tabulated.too_many(choice.entries)


def base_of(codebook: Codebook) -> int:
    """G: how many codes a row may have, prompt or content."""
    return int(max(codebook.levels, codebook.cells) ** codebook.dim)


def highest(codebook: Codebook) -> int:
    """At least every z after the shifts, before the lift: each of n moves multiplies by at most B and adds z."""
    base, rows = base_of(codebook), codebook.prompt_length + codebook.tokens
    top = rows * base - 1
    for _ in range(rows):
        top = (base + 1) * top
    return top


def lift_of(codebook: Codebook) -> int:
    """S: the least power of two above every z."""
    return 1 << highest(codebook).bit_length()


def is_exact(codebook: Codebook, dtype: str) -> bool:
    """Whether every number that occurs is exact in `dtype`: see the module."""
    # With more rows than this, z has more bits than any dtype, and need not be computed to know it.
    if codebook.prompt_length > 64:
        return False
    top, limit = highest(codebook), rounding.LARGEST_WHOLE[dtype]
    return 4 * (top + 1) ** 2 < limit and 4 * (1 + lift_of(codebook)) * top < limit


_IS_EXACT = {dtype: partial(is_exact, dtype=dtype) for dtype in rounding.LARGEST_WHOLE}  # one each: `choose` caches


def shifted(rows: Int[Tensor, "*batch rows"], factor: int) -> Int[Tensor, "*batch rows"]:
    """All rows after all shifts, by the recursion of the module's proof instead of layer by layer."""
    rows = rows.clone()
    for row in range(rows.shape[-1]):
        rows[..., row] += factor * (rows.amax(dim=-1) - rows[..., row])
    return rows


@lru_cache(maxsize=8)
def id_heights(codebook: Codebook) -> tuple[Int[Tensor, " ids"], Int[Tensor, "ids dim"]]:
    """The id of every (function, cell, token), rising, and the levels of the output there."""
    tables = tabulated.all_tables(codebook)
    base, dim = base_of(codebook), codebook.dim
    prompts, contents = tabulated.prompt_codes(codebook, tables), tabulated.content_codes(codebook)
    front, back = prompts[:, None].expand(-1, len(contents), -1), contents[None].expand(len(prompts), -1, -1)
    codes = torch.cat([front, back], dim=-1)
    rows = shifted(codes + base * torch.arange(codes.shape[-1]), base + 1)
    ids = rows[..., codebook.prompt_length :] + lift_of(codebook) * rows.amax(dim=-1, keepdim=True)
    heights = tables.reshape(*ids.shape, dim)
    order = ids.flatten().argsort()
    return ids.flatten()[order], heights.reshape(-1, dim)[order]


def id_steps(codebook: Codebook) -> StepFunction:
    """The table as a step function: from an id to the next whole number, so that whole ids meet 0 or 1 exactly."""
    ids, heights = id_heights(codebook)
    steps = changes(heights)
    offset = ids[steps].double()
    jumps = heights.diff(dim=0)[steps].double()
    return StepFunction(torch.ones_like(offset), offset, jumps, heights[0].double())


class HardmaxHeads(Attention):
    """Hardmax heads of size 1 on one block: z_i += sum_h output_h z_(j*), j* any argmax of (z_i - threshold_h) z_j.

    Args:
        name: of the layer.
        stream: the layout of the hidden state; z is the block "token".
        thresholds: (heads,).
        output: (heads,).
    """

    def __init__(
        self, name: str, stream: Stream, thresholds: Float[Tensor, " heads"], output: Float[Tensor, " heads"]
    ) -> None:
        ones = torch.ones(len(thresholds), 1, dtype=thresholds.dtype)
        super().__init__(
            name,
            stream,
            query=Projection(["token"], ones, -thresholds),
            key=Projection(["token"], ones),
            value=Projection(["token"], ones),
            output=Projection(["token"], output[None]),
            scale=_COLD,
        )

    def _attend(self, states: Tensor, keys: Tensor, values: Tensor, front: tuple[Tensor, Tensor] | None) -> Tensor:
        query = torch.nn.functional.linear(self.stream.read(states, self.query_reads), self.query, self.query_bias)
        if front is not None:
            keys, values = (
                torch.cat([rows.expand(len(behind), -1, -1), behind], dim=1)
                for rows, behind in zip(front, (keys, values), strict=True)
            )
        read = []
        for head in range(query.shape[-1]):
            scores = query[..., head : head + 1] * keys[:, None, :, head]
            chosen = (scores == scores.amax(dim=-1, keepdim=True)).to(scores)
            # A sum of equal whole numbers and a count: their quotient is exact, shares of 1/3 would not be.
            read.append((chosen @ values[..., head : head + 1]) / chosen.sum(dim=-1, keepdim=True))
        return torch.cat(read, dim=-1) @ self.output.T


class Deep(tabulated.Tabulated):
    """Paper A's backbone. See the module."""

    checker = "compiler.papers.deep:recheck_deep"

    def __init__(self, plan: Plan) -> None:
        codebook = choose(plan.question, _IS_EXACT[plan.dtype]).codebook
        dtype, stream = plan.torch_dtype, tabulated.stream_of(codebook, 0)
        values = range((plan.slots + plan.tokens) * base_of(codebook))
        shifts = [shift(codebook, stream, value, dtype) for value in values]
        super().__init__(plan, codebook, stream, 1, [*shifts, lift(codebook, stream, dtype)], id_steps(codebook))
        with torch.no_grad():
            numbers = plan.slots + torch.arange(plan.tokens, dtype=dtype)
            self.position[:, stream.blocks["token"]] = base_of(codebook) * numbers[:, None]
        self.freeze()

    def frame(self) -> Float[Tensor, "prompt hidden"]:
        """Slot j holds j G."""
        prompt = torch.zeros(self.plan.slots, self.stream.size, dtype=self.plan.torch_dtype)
        numbers = torch.arange(self.plan.slots, dtype=prompt.dtype)
        prompt[:, self.stream.blocks["token"]] = base_of(self.codebook) * numbers[:, None]
        return prompt

    @property
    def ids_differ(self) -> bool:
        """Ids are whole numbers, told apart where all arithmetic on them is exact."""
        return is_exact(self.codebook, self.plan.dtype)

    def measured_separation(self) -> Separation:
        """The separation over all contexts of the codebook: whole numbers, so nothing is rounded."""
        return separation_of(id_heights(self.codebook)[0].tolist(), 0)


def shift(codebook: Codebook, stream: Stream, value: int, dtype: torch.dtype) -> HardmaxHeads:
    """Rows with z = value move up by B (max z - min z), and no others."""
    factor = base_of(codebook) + 1.0
    thresholds = torch.tensor([value - 0.5, value + 0.5], dtype=dtype)
    return HardmaxHeads(f"shift {value}", stream, thresholds, torch.tensor([factor, -factor], dtype=dtype))


def lift(codebook: Codebook, stream: Stream, dtype: torch.dtype) -> HardmaxHeads:
    """Every row moves up by S max z."""
    height = torch.tensor([float(lift_of(codebook))], dtype=dtype)
    return HardmaxHeads("lift", stream, torch.tensor([-0.5], dtype=dtype), height)


def _states(witness: Mapping[str, Any]) -> Statement:
    exact = Assumption("every number of the shifts is exact", True, "counted")
    return tabulated.codeword_statement(witness, "selective-shift-table", exact)


@rechecks(Independence.SHARED, states=_states, quick=tabulated.QUICK_BYTES)
def recheck_deep(certificate: Certificate) -> bool:
    """Second path: run the shifts on the highest context in whole numbers, see that nothing outgrows the dtype and that
    a context is read back from its last row; then the error (`tabulated.recheck_error`). The backbone is built again,
    which takes some minutes at most."""
    backbone = rebuilt(Deep, plan, certificate)
    if backbone is None:
        return False
    codebook, limit = backbone.codebook, rounding.LARGEST_WHOLE[backbone.plan.dtype]
    own, levels = codebook.cells**codebook.dim, codebook.levels**codebook.dim
    slots, base = codebook.prompt_length, max(own, levels)
    for first, then in ((levels - 1, own - 1), (0, own - 1), (levels - 1, 0)):
        codes = [first] * slots + [then] * codebook.tokens
        rows = [base * row + code for row, code in enumerate(codes)]
        before = list(rows)
        for value in range(len(rows) * base):
            rows = [row + (base + 1) * (max(rows) - min(rows)) if row == value else row for row in rows]
        if 4 * max(rows) ** 2 >= limit:
            return False
        # Read the context back, last row first: see the module's proof.
        number = rows[-1]
        for row in reversed(range(len(before))):
            code = (number - base * row) % (base + 1)
            if code != codes[row]:
                return False
            settled = base * row + code
            number = (number - settled) // (base + 1) + settled
    return tabulated.recheck_error(certificate, backbone.codebook)
