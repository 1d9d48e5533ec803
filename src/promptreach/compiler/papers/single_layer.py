"""Paper B's transformer: relu layers, one softmax attention layer with one head of any rank, relu layers.

    ramps, steps    codes of all rows (`tabulated`)
    context         softmax attention over [P, X] with a skip connection: the contextual map
    table, values   a step function of the id (`tabulated`), wide with two hidden layers or narrow and deep

The contextual map is that of `context_map`: with its skip connection, the attention's softmax mean of all codes is a
number that no other (function, input, own token) has.

Ids are computed in floating point, with an error that must stay below a third of the separation in units of the ramps
(`ContextMap.resolved`); then every id meets its rung at exactly 0 or 1, and the output is the codeword's level exactly.
"""

import math
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.certificate import Assumption, Certificate, Evidence, Independence, Side, rechecks
from promptreach.compiler.papers import tabulated
from promptreach.compiler.papers.codebook import Choice, choose
from promptreach.compiler.papers.context_map import ContextMap, context_map, query_scale
from promptreach.compiler.papers.ladder import Rungs
from promptreach.compiler.papers.separation import Separation, paper_separation_log10
from promptreach.compiler.parts.blocks import Attention, FeedForward
from promptreach.compiler.parts.error_budget import EXP_UNITS
from promptreach.compiler.parts.stream import Stream
from promptreach.compiler.plan import Comparison, Plan
from promptreach.errors import Fault, raise_if_any

MOST_RANK = 64
"""The largest rank of the attention weights."""


def plan(
    dim: int,
    tokens: int,
    lipschitz: float,
    tol: float,
    dtype: str,
    rank: float | int | str = 1,
    form: float | int | str = "wide",
) -> Plan:
    """The sizes of the backbone with the smallest table that reaches `tol`.

    Args:
        rank: of query, key and value matrices, 1 to 64.
        form: "wide", two hidden layers after the attention; or "narrow", layers of dim + 2 units.

    Raises:
        InputError: for a rank or form that does not exist.
    """
    faults = []
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= MOST_RANK:
        faults.append(Fault("rank", repr(rank), f"a whole number from 1 to {MOST_RANK}"))
    if form not in tabulated.FORMS:
        faults.append(Fault("form", repr(form), f"one of {', '.join(tabulated.FORMS)}"))
    raise_if_any(faults)
    choice = choose(dim, tokens, lipschitz, tol, tabulated.FINEST[dtype], tabulated.MOST_ENTRIES)
    return _sized(choice, lipschitz, tol, dtype, int(rank), str(form))


def _sized(choice: Choice, lipschitz: float, tol: float, dtype: str, rank: int, form: str) -> Plan:
    codebook = choice.codebook
    found = context_map(codebook, dtype, rank) if choice.fits else None
    rungs = choice.entries if found is None else found.rungs.number
    attention = rank * (codebook.tokens + rank + 1) + rank * rank + rank * (rank + 1) + rank
    obstacle = "" if choice.fits else tabulated.too_many(choice.entries)
    sizes = tabulated.Sizes(codebook, choice.entries, rungs, rank, form, obstacle, attention, ("context",))
    compared = tabulated.compared(codebook, tol, rungs, "Hu et al. 2025, Theorem 2.5", "Theorem 2.3 or 2.4")
    if found is not None:
        own, slots = codebook.cells**codebook.dim, codebook.prompt_length
        vocabulary = slots * codebook.levels**codebook.dim + codebook.tokens * own
        proved = paper_separation_log10(
            vocabulary, slots + codebook.tokens, codebook.dim, found.smallest, found.largest, found.apart
        )
        achieved = math.log10(found.separation)
        compared += (Comparison("separation of ids", "Hu et al. 2025, Lemma 2.2", proved, achieved),)
    resolved = found is None or found.resolved
    bound = tabulated.error_of(codebook, lipschitz, dtype, everywhere=False) if resolved else math.inf
    return tabulated.plan_of(
        "single_layer", sizes, lipschitz, tol, dtype, bound, compared, {"rank": rank, "form": form}
    )


class SingleLayer(tabulated.Tabulated):
    """Paper B's backbone. See the module."""

    def __init__(self, plan: Plan) -> None:
        choice = choose(
            plan.dim, plan.tokens, plan.lipschitz, plan.tol, tabulated.FINEST[plan.dtype], tabulated.MOST_ENTRIES
        )
        codebook, dtype = choice.codebook, plan.torch_dtype
        self.map = context_map(codebook, plan.dtype, int(plan.options["rank"]))
        stream = tabulated.stream_of(codebook, self.map.score.shape[1])
        rungs = Rungs(*(part.to(dtype) for part in self.map.rungs))
        passes: list[FeedForward | Attention] = [
            tabulated.ramps(codebook, stream, dtype),
            tabulated.steps(codebook, stream, dtype, self.map.spread),
            context(stream, self.map, dtype),
            tabulated.table(stream, rungs, str(plan.options["form"])),
            tabulated.values(codebook, stream, dtype),
        ]
        super().__init__(plan, codebook, stream, passes)
        own = codebook.cells**codebook.dim
        numbers = 1 + self.map.spread * own * torch.arange(plan.tokens, dtype=dtype)
        with torch.no_grad():
            self.position[:, stream.blocks["token"]] = numbers[:, None]
            self.position[:, stream.blocks["score"]] = self.map.score[codebook.prompt_length :]
        self.freeze()

    def frame(self) -> Float[Tensor, "prompt hidden"]:
        """Position features of the slots."""
        prompt = torch.zeros(self.plan.slots, self.stream.size, dtype=self.plan.torch_dtype)
        prompt[:, self.stream.blocks["score"]] = self.map.score[: self.plan.slots]
        return prompt

    def _certificate(self, embeddings: Tensor, lipschitz: float, everywhere: bool) -> Certificate:
        return Certificate(
            claim=tabulated.claim_of(self.plan, lipschitz, everywhere)
            + f" The exponential is right to {EXP_UNITS} units in the last place.",
            value=tabulated.error_of(self.codebook, lipschitz, self.plan.dtype, everywhere),
            side=Side.UPPER,
            evidence=Evidence.PROVED,
            assumptions=(
                Assumption(
                    "ids of different contexts are told apart in floating point", self.map.resolved, "separation"
                ),
                Assumption("the weights are those of the plan, the rows hold a codeword", True, "compared"),
            ),
            theorem="single-layer-table",
            witness={
                **tabulated.witness_of(self, embeddings, lipschitz, everywhere),
                "separation": self.map.separation,
            },
            checker="compiler.papers.single_layer:recheck_single_layer",
        )

    def measured_separation(self) -> Separation:
        """What the contextual map achieves: see `ContextMap.measured`."""
        return self.map.measured()


def context(stream: Stream, found: ContextMap, dtype: torch.dtype) -> Attention:
    """token += the softmax mean of all codes, plus a drift that depends on the own token alone.

    Query, key and value matrices all have rank `rank`: the first direction carries the scores and the codes, the others
    make the softmax depend on the own token.
    """
    codebook, rank = found.codebook, found.score.shape[1]
    tau, own = query_scale(rank), codebook.cells**codebook.dim
    query = torch.zeros(rank, codebook.tokens + rank + 1, dtype=torch.float64)
    query[0, : codebook.tokens] = 1
    query[1:, codebook.tokens + 1 : -1] = tau * torch.eye(rank - 1)
    query[1:, -1] = tau * found.turn[1:].double() / max(own - 1, 1)
    value = torch.eye(rank, rank + 1, dtype=dtype)
    if rank > 1:
        value[1:] = torch.eye(rank + 1, dtype=dtype)[2:]
    output = torch.full((1, rank), 1 / rank, dtype=dtype)
    output[0, 0] = 1
    return Attention(
        "context",
        stream,
        query_reads=["position", "score", "code"],
        key_reads=["score"],
        value_reads=["code", "score"],
        writes=["token"],
        query=query.to(dtype),
        key=torch.eye(rank, dtype=dtype),
        value=value,
        output=output,
    )


@lru_cache(maxsize=4)
def _rebuilt(**question: Any) -> SingleLayer:
    return SingleLayer(plan(**question))


@rechecks(Independence.SHARED, quick=0)
def recheck_single_layer(certificate: Certificate) -> bool:
    """Second path: the separation again, from a float64 softmax of the rebuilt weights, to nine digits; the error."""
    seen, rebuilt = certificate.witness, _rebuilt(**certificate.witness["question"])
    scores, counts = rebuilt.map.score.double(), rebuilt.map.counts
    for query in rebuilt.map.queries().values():
        weights = (scores @ torch.tensor(query, dtype=torch.float64)).softmax(dim=0)
        lower = 0.0
        for weight, count in zip(weights.tolist(), counts, strict=True):
            if count > 1 and weight - lower < seen["separation"] * (1 - 1e-9):
                return False
            lower += weight * (count - 1)
    return tabulated.recheck_error(certificate, rebuilt)
