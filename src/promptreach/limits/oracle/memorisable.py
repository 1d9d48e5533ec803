"""The oracle: whether any prompt of any length makes one attention layer give these outputs, and how close one comes.

The front of the room. It reads as the list of its steps: check the input, group the examples by their last token,
find each group's floor, build a prompt that reaches it, run that prompt, and compare.

What it decides is one layer of attention at its input, read at the last token of each sequence, before the residual
connection, norms and the feed-forward network. A prefix (free keys and values) is the most general prompt of a layer; a
soft prompt (tokens in front of the input) is a prefix whose keys and values come from one vector.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from promptreach import attention
from promptreach.certificate import Certificate, Evidence, Side, Verdict
from promptreach.errors import Fault, raise_if_any
from promptreach.limits.counting.token_floors import length_faults, problem_floors
from promptreach.limits.oracle.checks import number_faults, oracle_faults, scale_faults, spread_faults, tol_faults
from promptreach.limits.oracle.floor_check import floor_certificate
from promptreach.limits.oracle.floor_witness import FloorProblem, captured_problem, layer_problem
from promptreach.limits.oracle.forward import measured_error
from promptreach.limits.oracle.scales import root_mean_square
from promptreach.limits.oracle.several import heads_certificate, heads_floor
from promptreach.limits.oracle.single_head import head_floor
from promptreach.limits.oracle.slots import Slots, Wish, one_slot, prefix_for
from promptreach.limits.oracle.soft_tokens import soft_prompt_for
from promptreach.limits.oracle.statistics import HeadStatistics
from promptreach.prompt import Prefix, SoftPrompt
from promptreach.rounding import shown_bound
from promptreach.weights import AttentionWeights


@dataclass(frozen=True, eq=False)
class QueryGroup:
    """The examples that share their last token.

    Attributes:
        examples: their indices.
        floor: the least root-mean-square error over the entries of these examples alone, certified from below.
        lse, mean: log a (nats) and b / a of the prompt that comes closest, for one head; else None.
        min_tokens: the least number of soft tokens with this mass and mean; None when undecided, when no number of soft
            tokens has them, when the infimum is not attained, or where other masses fit as well and more than one token
            is needed: which of them needs the fewest is not decided.
    """

    examples: tuple[int, ...]
    floor: float
    lse: float | None
    mean: Tensor | None
    min_tokens: int | None


@dataclass(frozen=True, eq=False)
class Memorisation:
    """The oracle's answer for the given examples.

    Attributes:
        verdict: POSSIBLE: a prefix or soft prompt was built, and a forward pass reached every target to within
            `threshold` (root mean square). IMPOSSIBLE: `floor` is above `threshold`, and its second code path said so
            too. UNKNOWN: neither; `reason` says why.
        floor: LOWER. No prompt of any length has a smaller root-mean-square error over all target entries. PROVED where
            its second code path confirmed it, UNKNOWN where that refused.
        upper: UPPER. The error that a forward pass measured with the better of `prefix` and `prompt`.
        attained: True when some prompt has the least error itself: with one head and one query exactly, otherwise when
            the one built does. False when it is only approached (by prompts that take none or all of the attention), or
            when that is not known.
        prefix: the keys and values that came closest; None when no prompt at all is best, or none could be built.
        prompt: soft tokens that came closest; None when none were built (`prompt_reason`).
        prompt_verdict: the verdict for soft prompts alone. UNKNOWN also where a prefix fits but no soft tokens were
            found.
        min_tokens: one number (or None) per query group; see `QueryGroup`.
        threshold: tol times the root mean square of the targets (times 1 when they are all 0).
        token_floors: LOWER, one for each of the lengths asked for: no prompt of at most so many tokens or slots has a
            smaller root-mean-square error over all target entries. It may lie above or below `floor`, which holds for
            every length; both hold.
    """

    verdict: Verdict
    floor: Certificate
    upper: Certificate
    attained: bool
    prefix: Prefix | None
    prompt: SoftPrompt | None
    prompt_verdict: Verdict
    min_tokens: tuple[int | None, ...]
    groups: tuple[QueryGroup, ...]
    threshold: float
    reason: str = ""
    prompt_reason: str = ""
    token_floors: tuple[Certificate, ...] = ()


def memorisable(
    weights: AttentionWeights,
    sequences: Sequence[Tensor],
    targets: Tensor,
    tol: float = 1e-9,
    lengths: Sequence[int] = (),
) -> Memorisation:
    """Whether any prompt of any length gives the targets at the last tokens, with a certificate or a prompt.

    For one head and one query token the answer is exact: ``floor`` is the least error over all prefixes of all lengths,
    up to a relative 1e-9, where the output projection has full column or row rank; else it is that of a head that
    reaches every output direction, since enormous values reach what such a projection nearly loses. For several query
    tokens, ``floor`` adds up the groups' own floors (one prompt must serve them all, so the truth may be higher) and
    ``upper`` is what a constructed prompt reaches. With several heads, ``floor`` is proved and ``upper`` was reached;
    between them the answer is UNKNOWN, and both numbers are there.

    Args:
        weights: one attention layer, or one head of it (`AttentionWeights.head`).
        sequences: one (tokens, hidden) tensor per example, of any floating dtype (converted to float64 exactly). The
            last token is the query; causal or not makes no difference to it.
        targets: (examples, out), the wanted outputs of the layer at the last tokens.
        tol: the root-mean-square error that counts as memorised, relative to that of the targets.
        lengths: prompt lengths to give a floor of their own, as `token_floors` does.

    Raises:
        InputError: listing every sequence, target or weight that does not fit; for rotary weights, whose scores the
            weights alone do not determine (use `memorisable_statistics` on captured queries, keys and values).

    Reference: Wang et al. 2023 (paper A), Theorem 2, in an exact form; theorem keys ``one-query-dual-bound``,
    ``one-slot-prefix``, ``soft-token-count`` and ``unmemorisable-pair``.
    """
    raise_if_any([*oracle_faults(weights, sequences, targets, tol), *length_faults(lengths)])
    weights = weights.detached()
    inputs = [sequence.detach().to("cpu", torch.float64) for sequence in sequences]
    wanted = targets.detach().to("cpu", torch.float64)
    threshold = tol * (root_mean_square(wanted) or 1.0)
    problem = layer_problem(weights, inputs, wanted)
    floor, wishes, attained, lowers = _floor(weights, problem, wanted)
    floor = floor.checked()
    prefix = prefix_for(weights, wishes, problem.parts)
    counts, prompt, why = soft_prompt_for(weights, wishes, problem.parts, prefix, threshold)
    upper, prompt_error = _reached(weights, inputs, wanted, prefix, prompt)
    if weights.num_heads > 1 or len(problem.groups) > 1:
        attained = attained and upper.value <= max(threshold, floor.value * (1 + 1e-6))
    records = tuple(
        QueryGroup(tuple(members), lower, *_single(wish), count)
        for members, lower, wish, count in zip(problem.groups, lowers, wishes, counts, strict=True)
    )
    verdict, prompt_verdict, reason = _verdicts(floor, upper.value, prompt_error, threshold)
    return Memorisation(
        verdict=verdict,
        floor=floor,
        upper=upper,
        attained=attained,
        prefix=prefix,
        prompt=prompt,
        prompt_verdict=prompt_verdict,
        min_tokens=counts,
        groups=records,
        threshold=threshold,
        reason=reason,
        prompt_reason=why,
        token_floors=problem_floors(problem, lengths),
    )


def memorisable_statistics(
    query: Tensor,
    lse: Tensor,
    mean: Tensor,
    targets: Tensor,
    output: Tensor | None = None,
    scale: float | None = None,
    tol: float = 1e-9,
    lengths: Sequence[int] = (),
) -> Memorisation:
    """`memorisable` for one head whose attention was captured, rotary ones included.

    The claim is about these statistics as they stand (`attention.statistics` computes them from captured queries, keys
    and values); what rounding they carry is not part of it. Soft tokens are not looked for: from rotated keys one
    cannot tell which tokens they belong to.

    Args:
        query: (head_dim,), the vector that all examples share, after any rotation.
        lse: (n,), log Z_i over each example's visible content, in nats, never shifted per example.
        mean: (n, value_dim), the head's output on each example without a prompt.
        targets: (n, out), the wanted outputs behind `output`, or the head's own where that is None.
        output: (out, value_dim), the head's slice of the output projection.
        scale: the factor on q.k. None means 1/sqrt(head_dim).
        lengths: prompt lengths to give a floor of their own.

    Raises:
        InputError: listing every argument that does not fit.
    """
    raise_if_any([*_statistics_faults(query, lse, mean, targets, output, scale, tol), *length_faults(lengths)])
    query, lse, mean, targets = (item.detach().to("cpu", torch.float64) for item in (query, lse, mean, targets))
    output = None if output is None else output.detach().to("cpu", torch.float64)
    factor = query.shape[0] ** -0.5 if scale is None else scale
    none = torch.zeros_like(lse)
    zero = factor == 0.0 or not bool(query.any())
    statistics = HeadStatistics(
        lse, mean, none, none, query=torch.zeros_like(query) if zero else query, zero_query=zero
    )
    part = head_floor(statistics, targets, output)
    problem = captured_problem(statistics, targets, output)
    floor = floor_certificate(problem, targets, [part]).checked()
    slots = one_slot(statistics, factor, part.lse, part.mean)
    prefix = None if slots is None else Prefix(slots[0][None, None], slots[1][None, None])
    upper = _reached_captured(statistics, targets, output, factor, slots)
    threshold = tol * (root_mean_square(targets) or 1.0)
    verdict, prompt_verdict, reason = _verdicts(floor, upper.value, math.inf, threshold)
    group = QueryGroup(tuple(range(len(mean))), floor.value, part.lse, part.mean, None)
    return Memorisation(
        verdict=verdict,
        floor=floor,
        upper=upper,
        attained=part.attained,
        prefix=prefix,
        prompt=None,
        prompt_verdict=prompt_verdict,
        min_tokens=(None,),
        groups=(group,),
        threshold=threshold,
        reason=reason,
        prompt_reason="captured keys do not tell which tokens they belong to",
        token_floors=problem_floors(problem, lengths),
    )


def _reached_captured(
    statistics: HeadStatistics, targets: Tensor, output: Tensor | None, factor: float, slots: Slots | None
) -> Certificate:
    """The error with these slots, or without any, by the algebra of masses: the content's keys are not there to run."""
    outputs = statistics.mean
    if slots is not None and statistics.query is not None:
        added = attention.statistics(statistics.query[None], slots.keys, slots.values, factor)
        share = torch.sigmoid(added.lse - statistics.lse)[:, None]
        outputs = (1 - share) * outputs + share * added.mean
    missed = (outputs if output is None else outputs @ output.mT) - targets
    what = "without a prompt" if slots is None else "with the prefix"
    return Certificate(
        claim=f"{what}, the root-mean-square error over all target entries is at most value",
        value=root_mean_square(missed),
        side=Side.UPPER,
        evidence=Evidence.MEASURED,
        sample=f"the captured statistics of all {len(outputs)} examples",
    )


def _floor(
    weights: AttentionWeights, problem: FloorProblem, targets: Tensor
) -> tuple[Certificate, list[list[Wish]], bool, list[float]]:
    """The certificate, what each group wants of each head, whether it is attained, and each group's own floor."""
    statistics, parts = problem.statistics, problem.parts
    if weights.num_heads > 1:
        bounds = [heads_floor(heads, weights.output, part) for heads, part in zip(statistics, parts, strict=True)]
        wishes = [
            [Wish(*wish) for wish in zip(heads, bound.best.lse.tolist(), bound.best.means, strict=True)]
            for heads, bound in zip(statistics, bounds, strict=True)
        ]
        lowers = [bound.lower / math.sqrt(part.numel()) for bound, part in zip(bounds, parts, strict=True)]
        return heads_certificate(problem, targets, bounds), wishes, True, lowers
    floors = [head_floor(heads[0], part, weights.output) for heads, part in zip(statistics, parts, strict=True)]
    wishes = [[Wish(heads[0], floor.lse, floor.mean)] for heads, floor in zip(statistics, floors, strict=True)]
    lowers = [floor.lower / math.sqrt(part.numel()) for part, floor in zip(parts, floors, strict=True)]
    certificate = floor_certificate(problem, targets, floors)
    return certificate, wishes, all(floor.attained for floor in floors), lowers


def _single(wish: list[Wish]) -> tuple[float | None, Tensor | None]:
    return (wish[0].lse, wish[0].mean) if len(wish) == 1 else (None, None)


def _reached(
    weights: AttentionWeights, inputs: list[Tensor], wanted: Tensor, prefix: Prefix | None, prompt: SoftPrompt | None
) -> tuple[Certificate, float]:
    """The better of the two prompts by forward pass, and the soft prompt's own error."""
    with_prefix = measured_error(weights, inputs, wanted, prefix, None)
    if prompt is None:
        return with_prefix, math.inf
    with_prompt = measured_error(weights, inputs, wanted, None, prompt)
    return min(with_prefix, with_prompt, key=lambda certificate: certificate.value), with_prompt.value


def _verdicts(floor: Certificate, upper: float, prompt_error: float, threshold: float) -> tuple[Verdict, Verdict, str]:
    """The answer for all prompts, that for soft prompts, and why."""
    prompt = Verdict.POSSIBLE if prompt_error <= threshold else Verdict.UNKNOWN
    reached, least = shown_bound(upper, Side.UPPER), shown_bound(floor.value, Side.LOWER, 6)
    if upper <= threshold:
        return Verdict.POSSIBLE, prompt, f"a prompt was run and errs by {reached}, within {threshold:.3g}"
    if floor.evidence is not Evidence.PROVED:
        return Verdict.UNKNOWN, prompt, f"a floor of {least} is not proved: {floor.reason}"
    if floor.value > threshold:
        return Verdict.IMPOSSIBLE, Verdict.IMPOSSIBLE, f"no prompt of any length errs by less than {least}"
    return Verdict.UNKNOWN, prompt, f"no prompt errs by less than {least}; the best one built errs by {reached}"


def _statistics_faults(
    query: Tensor,
    lse: Tensor,
    mean: Tensor,
    targets: Tensor,
    output: Tensor | None,
    scale: float | None,
    tol: float,
) -> list[Fault]:
    faults = [*tol_faults(tol), *scale_faults("scale", scale)]
    named = {"query": query, "lse": lse, "mean": mean, "targets": targets, "output": output}
    axes = {"query": 1, "lse": 1}
    for name, tensor in named.items():
        if tensor is not None and tensor.ndim != axes.get(name, 2):
            faults.append(Fault(name, f"{tensor.ndim} axes", str(axes.get(name, 2))))
    if faults:
        return faults
    for name, tensor in named.items():
        faults += [] if tensor is None else number_faults(name, tensor)
    n = lse.shape[0]
    size = mean.shape[1] if output is None else output.shape[0]
    if not n:
        faults.append(Fault("lse", "no examples", "at least one"))
    elif bool(lse.isfinite().all()):
        faults += spread_faults("lse", lse)
    if mean.shape[0] != n:
        faults.append(Fault("mean", f"{mean.shape[0]} examples", f"{n}, as in lse"))
    if output is not None and output.shape[1] != mean.shape[1]:
        faults.append(Fault("output", f"shape {tuple(output.shape)}", f"(out, {mean.shape[1]})"))
    if tuple(targets.shape) != (n, size):
        faults.append(Fault("targets", f"shape {tuple(targets.shape)}", f"({n}, {size})"))
    return faults
