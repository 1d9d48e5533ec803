"""The witness of a floor: a layer with its data, or a captured head's statistics, and what each group's bound rests on.

From weights and sequences it leads to the statistics that the bound is about: they are kept with the account of their
rounding, and the second path forms them again in extended precision (`wide_statistics`). Captured statistics have no
such origin; a floor of them speaks of the statistics as they stand.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from promptreach.certificate import Assumption, Side, Statement
from promptreach.limits.oracle.checks import oracle_faults, spread_faults
from promptreach.limits.oracle.statistics import HeadStatistics, group_by_query, head_statistics, query_is_zero
from promptreach.limits.oracle.wide_statistics import wide_statistics
from promptreach.weights import AttentionWeights
from promptreach.witness import tensor

MOST_WORK = 2 * 10**9
"""Entries of all intervals or boxes together that a second path looks at: a few minutes on one core."""

_SPARE = 1 / 128  # of the account of rounding, which extended precision does not use up: its unit is 2^-11 of float64's


class FloorProblem(NamedTuple):
    """What a floor is of: per query group the examples, the statistics of each head, and targets without bias.

    Attributes:
        weights, sequences: None where the statistics were captured.
        output: the whole output projection, or None for the identity.
    """

    weights: AttentionWeights | None
    sequences: list[Tensor] | None
    groups: list[list[int]]
    statistics: list[list[HeadStatistics]]
    parts: list[Tensor]
    output: Tensor | None

    @property
    def entries(self) -> int:
        """Target entries in all."""
        return sum(part.numel() for part in self.parts)


def layer_problem(weights: AttentionWeights, sequences: list[Tensor], targets: Tensor) -> FloorProblem:
    """The problem of one attention layer, with everything in float64."""
    groups = group_by_query(sequences)
    statistics = [
        [head_statistics(weights, [sequences[index] for index in members], head) for head in range(weights.num_heads)]
        for members in groups
    ]
    return FloorProblem(weights, sequences, groups, statistics, _parts(weights, targets, groups), weights.output)


def captured_problem(statistics: HeadStatistics, targets: Tensor, output: Tensor | None) -> FloorProblem:
    """The problem of one captured head, whose query is that which enters the softmax, scaled."""
    return FloorProblem(None, None, [list(range(len(targets)))], [[statistics]], [targets], output)


def packed(problem: FloorProblem, targets: Tensor, bounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The witness of a floor over the groups of the problem, each with what its bound rests on."""
    return {
        "weights": None if problem.weights is None else problem.weights.packed(),
        "sequences": problem.sequences,
        "output": problem.output if problem.weights is None else None,
        "query": problem.statistics[0][0].query if problem.weights is None else None,
        "targets": targets,
        "groups": [
            {"heads": [_packed_head(item) for item in heads], **bound}
            for heads, bound in zip(problem.statistics, bounds, strict=True)
        ],
    }


def unpacked(witness: Mapping[str, Any]) -> FloorProblem:
    """The problem that `packed` took apart.

    Raises:
        ValueError, KeyError, InputError: for a witness that is not one.
    """
    targets = tensor(witness, "targets", None, None)
    statistics = [[_unpacked_head(head) for head in group["heads"]] for group in witness["groups"]]
    if witness["weights"] is None:
        output = None if witness["output"] is None else tensor(witness, "output", targets.shape[1], None)
        problem = captured_problem(statistics[0][0], targets, output)
        zero = not bool(tensor(witness, "query", None).any())
        fits = witness["sequences"] is None and [len(heads) for heads in statistics] == [1]
        fits = fits and statistics[0][0].zero_query == zero
    else:
        weights, sequences = AttentionWeights.unpacked(witness["weights"]), list(witness["sequences"])
        if oracle_faults(weights, sequences, targets, 0.5) or (witness["output"], witness["query"]) != (None, None):
            raise ValueError("the layer does not fit its data")
        if any(item.dtype != torch.float64 for item in [*sequences, weights.query]):
            raise ValueError("the layer or a sequence is not float64")
        groups = group_by_query(sequences)
        problem = FloorProblem(weights, sequences, groups, statistics, _parts(weights, targets, groups), weights.output)
        fits = len(statistics) == len(groups) and all(len(heads) == weights.num_heads for heads in statistics)
    width = problem.statistics[0][0].mean.shape[1]
    sizes = [(len(part), width) for part in problem.parts]
    heads = [[tuple(item.mean.shape) for item in group] for group in statistics]
    if not fits or any(set(group) != {size} for group, size in zip(heads, sizes, strict=True)):
        raise ValueError("the statistics do not belong to the data")
    through = targets.shape[1] if problem.output is None else problem.output.shape[1]
    if through != width * len(statistics[0]):
        raise ValueError("the output projection does not belong to the heads")
    return problem


def floor_statement(witness: Mapping[str, Any], what: str, theorem: str, *assumptions: Assumption) -> Statement:
    """What a floor says that has this witness."""
    problem = unpacked(witness)
    captured = problem.weights is None
    if captured:
        what = "one captured attention head, whose content has these statistics as they stand,"
    shared = "given as one query" if captured else "compared bit by bit"
    return Statement(
        claim=(
            f"for every prompt of any length, the root-mean-square error of {what} over all {problem.entries} target "
            "entries is at least value"
        ),
        side=Side.LOWER,
        theorem=theorem,
        assumptions=(
            *assumptions,
            Assumption("examples of one group share their last token", True, shared),
            Assumption(
                "the target entries are compared before any residual, norm or feed-forward", True, "by definition"
            ),
        ),
    )


def floor_over(lowers: Sequence[float], entries: int) -> float:
    """The root-mean-square floor over groups each of which bounds its own examples, for any one prompt; unrounded."""
    return math.hypot(*lowers) / math.sqrt(entries)


def rechecked(
    value: float, witness: Mapping[str, Any], floor_of: Callable[[FloorProblem, int, Mapping[str, Any]], float]
) -> bool:
    """True if the statistics are those of the data, and a floor is at most that of its groups.

    Args:
        floor_of: the floor of one group as the second path finds it: from the problem, its number, and what was kept.
    """
    if np.finfo(np.longdouble).nmant <= 52:  # no extended precision here, and the first path is not to be repeated
        return False
    problem = unpacked(witness)
    if not all(_belongs(problem, index) for index in range(len(problem.groups))):
        return False
    floors = [floor_of(problem, index, group) for index, group in enumerate(witness["groups"])]
    return bool(0.0 <= value <= floor_over(floors, problem.entries))


def _belongs(problem: FloorProblem, index: int) -> bool:
    """Whether the statistics of one group are those of its sequences, to within the account of their rounding."""
    if problem.weights is None or problem.sequences is None:
        return True
    mine = [problem.sequences[example] for example in problem.groups[index]]
    for head, stored in enumerate(problem.statistics[index]):
        again = head_statistics(problem.weights, mine, head)
        wider = 0.9 * again.lse_error <= stored.lse_error, 0.9 * again.mean_error <= stored.mean_error
        if not all(bool(item.all()) for item in wider):
            return False
        if stored.zero_query and not query_is_zero(problem.weights, mine[0][-1], head):
            return False
        lse, mean = wide_statistics(problem.weights, mine, head)
        off = np.abs(lse - stored.lse.numpy()), np.sqrt(((mean - stored.mean.numpy()) ** 2).sum(1))
        room = stored.lse_error.numpy(), stored.mean_error.numpy()
        if not all(bool((away <= most * (1 - _SPARE)).all()) for away, most in zip(off, room, strict=True)):
            return False
    return True


def _parts(weights: AttentionWeights, targets: Tensor, groups: list[list[int]]) -> list[Tensor]:
    centred = targets if weights.output_bias is None else targets - weights.output_bias
    return [centred[members] for members in groups]


def _packed_head(statistics: HeadStatistics) -> dict[str, Any]:
    return {
        "log_mass": statistics.lse,
        "mean": statistics.mean,
        "log_mass_error": statistics.lse_error,
        "mean_error": statistics.mean_error,
        "zero_query": statistics.zero_query,
    }


def _unpacked_head(head: Mapping[str, Any]) -> HeadStatistics:
    lse = tensor(head, "log_mass", None)
    lse_error, mean_error = (tensor(head, name, len(lse)) for name in ("log_mass_error", "mean_error"))
    negative = bool((lse_error < 0).any() or (mean_error < 0).any())
    if type(head["zero_query"]) is not bool or negative or spread_faults("log_mass", lse):
        raise ValueError("the statistics have a negative error or too wide masses, or 'zero_query' is no truth value")
    mean = tensor(head, "mean", len(lse), None)
    return HeadStatistics(lse, mean, lse_error, mean_error, zero_query=head["zero_query"])
