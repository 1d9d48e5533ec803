"""The shape of a method: a pilot that plans for one head, and a run by name over all heads of a problem."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, NamedTuple

from torch import Tensor

from promptreach.fast_attention.problem import AttentionProblem, Head
from promptreach.fast_attention.report import AttentionReport, PlanEntry
from promptreach.fast_attention.sampled.rows import SampledHead
from promptreach.fast_attention.tolerance import Request

SECONDS_PER_PAIR = 1.2e-9
"""Wall time of one exact query-key pair at head size 32 on two cores, for predictions in seconds only: choices compare
pairs, so that they do not depend on how busy the machine is."""


class Result(NamedTuple):
    """Attention as computed, and what can be said of it.

    Attributes:
        output: (..., heads, q, value_dim), in the dtype of the values.
        report: of all its heads.
    """

    output: Tensor
    report: AttentionReport


@dataclass(frozen=True, eq=False)
class HeadContext:
    """One key/value head with the request, as pilots and plans share it.

    Attributes:
        problem: of this head alone, as `AttentionProblem.parts` cuts it.
        request: what is asked.
        certificates: how many certificates share the confidence, over all heads of the call.
        charges: what pilots have cost so far, in pairs.
    """

    problem: AttentionProblem
    request: Request
    certificates: int = 1
    charges: list[float] = field(default_factory=list)

    @property
    def head(self) -> Head:
        return self.problem.head

    @property
    def pairs(self) -> float:
        """The cost of exact attention, in query-key pairs."""
        return float(len(self.head.rows) * len(self.head.key))

    @property
    def charged(self) -> float:
        """What all pilots have cost so far, predicted from sizes as every cost is."""
        return math.fsum(self.charges)

    @cached_property
    def sampled(self) -> SampledHead:
        """The head with rows drawn from it; drawn when first asked for, and the same for all methods."""
        return SampledHead(self.head, self.request)


@dataclass(frozen=True, eq=False)
class Plan:
    """One way to answer one head, before it is tried.

    Attributes:
        method: the method's name.
        pairs: predicted cost, in query-key pairs of exact attention.
        error: predicted.
        reason: as in `PlanEntry`.
        run: the head's result, certified to the tolerance, or ToleranceNotReachedError.
    """

    method: str
    pairs: float
    error: float
    reason: str
    run: Callable[[], Result]

    def entry(self, charged: float = 0.0) -> PlanEntry:
        """What the report says of the plan, with what pilots cost up to it."""
        return PlanEntry(self.method, (self.pairs + charged) * SECONDS_PER_PAIR, self.error, self.reason)


class Method(ABC):
    """A way to compute attention.

    Attributes:
        name: what `attend` calls it.
        half: whether it takes float16 and bfloat16; a method that states an error below their rounding does not.
    """

    name: ClassVar[str]
    half: ClassVar[bool] = False

    @abstractmethod
    def plan(self, context: HeadContext, limit: float = math.inf) -> Plan | None:
        """The plan for a head from a pilot; None where none should keep to the tolerance within `limit`.

        Args:
            limit: a cost, in query-key pairs of exact attention; what has to cost less is said by each method.
        """

    @abstractmethod
    def run(self, problem: AttentionProblem, request: Request) -> Result:
        """All heads of a problem by this method, whatever it costs.

        Raises:
            ToleranceNotReachedError: when it cannot keep to the tolerance.
        """
