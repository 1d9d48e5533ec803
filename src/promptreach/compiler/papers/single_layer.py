"""Paper B's transformer: relu layers, one softmax attention layer with one head of any rank, relu layers.

    ramps, steps    codes of all rows (`tabulated`)
    context         softmax attention over [P, X] with a skip connection: the contextual map
    table, values   a step function of the id (`tabulated`), wide with two hidden layers or narrow and deep

The contextual map is that of `context_map`: with its skip connection, the attention's softmax mean of all codes is a
number that no other (function, input, own token) has.

Ids are computed in floating point, with an error that must stay below a third of the separation in units of the ramps
(`ContextMap.resolved`); then every id meets its jump at exactly 0 or 1, and the output is the codeword's level exactly.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.certificate import Assumption, Certificate, Independence, Statement, rechecks
from promptreach.compiler.backbone import rebuilt
from promptreach.compiler.papers import tabulated
from promptreach.compiler.papers.codebook import CodebookChoice, choose
from promptreach.compiler.papers.context_map import ContextMap, context_map, query_scale
from promptreach.compiler.papers.separation import Separation, paper_separation_log10
from promptreach.compiler.parts.blocks import Attention, Projection, Stream
from promptreach.compiler.plan import Plan, Question, SizeComparison
from promptreach.errors import Fault, raise_if_any
from promptreach.rounding import EXP_UNITS
from promptreach.witness import number

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
    faults = tabulated.form_faults(form)
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= MOST_RANK:
        faults.insert(0, Fault("rank", repr(rank), f"a whole number from 1 to {MOST_RANK}"))
    raise_if_any(faults)
    question = Question("single_layer", dim, tokens, lipschitz, tol, dtype)
    return _sized(choose(question), question, int(rank), str(form))


def _sized(choice: CodebookChoice, question: Question, rank: int, form: str) -> Plan:
    codebook, dtype = choice.codebook, question.dtype
    found = context_map(codebook, dtype, rank) if choice.fits else None
    jumps = choice.entries if found is None else found.staircase.number
    compared = tabulated.compared(codebook, question.tol, jumps, "Hu et al. 2025, Theorem 2.5", "Theorem 2.3 or 2.4")
    if found is not None:
        proved = paper_separation_log10(sum(found.counts), len(found.counts), codebook.dim, *found.vocabulary)
        achieved = math.log10(found.separation)
        compared += (SizeComparison("separation of ids", "Hu et al. 2025, Lemma 2.2", proved, achieved),)
    resolved = found is None or found.resolved
    return tabulated.plan_of(
        question,
        codebook,
        entries=choice.entries,
        jumps=jumps,
        score=rank,
        context=rank * (codebook.tokens + rank + 1) + rank * rank + rank * (rank + 1) + rank,
        layers=("context",),
        bound=tabulated.error_of(codebook, question.lipschitz, dtype, everywhere=False) if resolved else math.inf,
        compared=compared,
        options={"rank": rank, "form": form},
        obstacle="" if choice.fits else tabulated.too_many(choice.entries),
    )


class SingleLayer(tabulated.Tabulated):
    """Paper B's backbone. See the module."""

    checker = "compiler.papers.single_layer:recheck_single_layer"

    def __init__(self, plan: Plan) -> None:
        codebook = choose(plan.question).codebook
        dtype, found = plan.torch_dtype, context_map(codebook, plan.dtype, int(plan.options["rank"]))
        self.map, stream = found, tabulated.stream_of(codebook, found.rank)
        super().__init__(plan, codebook, stream, found.spread, [context(stream, found, dtype)], found.staircase)
        numbers = 1 + self.map.spread * self.map.own * torch.arange(plan.tokens, dtype=dtype)
        with torch.no_grad():
            self.position[:, stream.blocks["token"]] = numbers[:, None]
            self.position[:, stream.blocks["score"]] = self.map.score[codebook.prompt_length :]
        self.freeze()

    def frame(self) -> Float[Tensor, "prompt hidden"]:
        """Position features of the slots."""
        prompt = torch.zeros(self.plan.slots, self.stream.size, dtype=self.plan.torch_dtype)
        prompt[:, self.stream.blocks["score"]] = self.map.score[: self.plan.slots]
        return prompt

    @property
    def ids_differ(self) -> bool:
        """Ids are rounded, and told apart where their separation is wide against that."""
        return self.map.resolved

    def witness(self, embeddings: Tensor, lipschitz: float, everywhere: bool) -> dict[str, Any]:
        """That of every construction, and the separation claimed."""
        return {**super().witness(embeddings, lipschitz, everywhere), "separation": self.map.separation}

    def measured_separation(self) -> Separation:
        """What the contextual map achieves: see `ContextMap.measured`."""
        return self.map.measured()


def context(stream: Stream, found: ContextMap, dtype: torch.dtype) -> Attention:
    """token += the softmax mean of all codes, plus a drift that depends on the own token alone.

    Query, key and value matrices all have rank `rank`: the first direction carries the scores and the codes, the others
    make the softmax depend on the own token.
    """
    codebook, rank, own = found.codebook, found.rank, found.own
    tau = query_scale(rank)
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
        query=Projection(["position", "score", "code"], query.to(dtype)),
        key=Projection(["score"], torch.eye(rank, dtype=dtype)),
        value=Projection(["code", "score"], value),
        output=Projection(["token"], output),
    )


def _states(witness: Mapping[str, Any]) -> Statement:
    number(witness, "separation", 0)
    told_apart = Assumption("ids of different contexts are told apart in floating point", True, "separation")
    exponential = f" The exponential is right to {EXP_UNITS} units in the last place."
    return tabulated.codeword_statement(witness, "single-layer-table", told_apart, exponential)


@rechecks(Independence.SHARED, states=_states, quick=tabulated.QUICK_BYTES)
def recheck_single_layer(certificate: Certificate) -> bool:
    """Second path: the separation again, from a float64 softmax of the rebuilt weights, to nine digits; the error.

    The backbone is built again, which takes some minutes at most.
    """
    seen, backbone = certificate.witness, rebuilt(SingleLayer, plan, certificate)
    if backbone is None or not backbone.ids_differ or seen["separation"] != backbone.map.separation:
        return False
    scores, counts = backbone.map.score.double(), backbone.map.counts
    for query in backbone.map.queries().values():
        weights = (scores @ torch.tensor(query, dtype=torch.float64)).softmax(dim=0)
        lower = 0.0
        for weight, count in zip(weights.tolist(), counts, strict=True):
            if count > 1 and weight - lower < seen["separation"] * (1 - 1e-9):
                return False
            lower += weight * (count - 1)
    return tabulated.recheck_error(certificate, backbone.codebook)
