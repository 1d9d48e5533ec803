"""The share of wanted outputs that prompts reach in a model that can only be run, without any distribution assumed.

Nothing is looked at but outputs: a model may be quantised, remote, or of a kind that no weights can be read of. Prompts
are drawn, run, and compared with targets. Two statements follow, each with its own confidence, exact for every sample
size (Clopper and Pearson), whatever the outputs' distribution:

1. Targets are a sample of what is wanted. Given the prompts, whether a target is reached by one of them is a coin of
   one bias for all targets: the share of all that is wanted which these prompts reach. Reached k times of n it is at
   least the p with P(Binomial(n, p) >= k) = 1 - confidence.
2. Prompts after the first half are a sample of their own kind. Given the first half and the targets, whether one of
   them reaches a target that the first half does not is a coin too. Come up j times of r its bias is at most the p with
   P(Binomial(r, p) <= j) = 1 - confidence: how rarely more drawing will help.

What a search would find is not bounded by either: a target that no drawn prompt reaches is not proved out of reach.
Where weights can be read, floors (`promptreach.limits`) say that.

Reference: theorem key ``sampled-reach``; the nearest published work is GenCtrl (arXiv 2601.05637).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from scipy.stats import beta
from torch import Tensor

from promptreach.certificate import Certificate, Evidence, Independence, Side, Statement, rechecks
from promptreach.errors import Fault, InputError, raise_if_any
from promptreach.rounding import WIDE, shown, shown_bound
from promptreach.witness import number, tensor, whole

Drawn = TypeVar("Drawn")

_STEP = 1e-9  # by which both bounds give way, so that a second path in other arithmetic agrees
_MOST = 20_000  # targets or prompts of one certificate, so that a second path takes a minute


@dataclass(frozen=True, eq=False)
class ReachedShare:
    """How much of what is wanted the drawn prompts reach.

    Attributes:
        share: LOWER, MEASURED: of all that is wanted, what these prompts reach.
        more: UPPER, MEASURED: the chance that one more prompt reaches a target that the first half did not.
        least: for each target the least error that a prompt had.
        best: for each target the number of that prompt.
    """

    share: Certificate
    more: Certificate
    least: Float[Tensor, " n"]
    best: Tensor


def reached_share(
    run: Callable[[Drawn], Tensor],
    draw: Callable[[torch.Generator], Drawn],
    targets: Float[Tensor, "n *output"],
    within: float,
    prompts: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> ReachedShare:
    """What share of wanted outputs prompts reach in a model that can only be run, with sample size and confidence.

    Args:
        run: the output with a prompt, of the shape of one target: of one input or of many at once, scores, states.
        draw: a prompt, from a generator: soft tokens, token ids, a text. The same kind each time, independently.
        targets: what is wanted; a sample, each independent of the others and of the prompts.
        within: the root-mean-square error over the entries of a target up to which it counts as reached.
        prompts: how many are drawn and run; at least 2.
        confidence: of each of the two statements, below 1.
        seed: of the draws.

    Raises:
        InputError: for numbers out of range, targets that are none, or outputs of another shape.

    Reference: theorem key ``sampled-reach``.
    """
    raise_if_any(_faults(targets, within, prompts, confidence))
    wanted = targets.detach().to("cpu", torch.float64).flatten(1)
    generator = torch.Generator().manual_seed(seed)
    least = torch.full((len(wanted),), math.inf, dtype=torch.float64)
    best = torch.zeros(len(wanted), dtype=torch.long)
    fresh: list[bool] = []
    before = least
    for index in range(prompts):
        output = run(draw(generator)).detach().to("cpu", torch.float64)
        if output.shape != targets.shape[1:]:
            seen, expected = (
                f"an output of shape {tuple(output.shape)}",
                f"{tuple(targets.shape[1:])}, that of a target",
            )
            raise InputError(Fault("run", seen, expected))
        errors = (wanted - output.flatten()).square().mean(1).sqrt().nan_to_num(math.inf)
        if index == prompts // 2:
            before = least.clone()
        if index >= prompts // 2:
            fresh.append(bool(((errors <= within) & ~(before <= within)).any()))
        closer = errors < least
        least, best = torch.where(closer, errors, least), torch.where(closer, index, best)
    reached, news = int((least <= within).sum()), sum(fresh)
    asked = {"within": float(within), "prompts": prompts, "confidence": float(confidence)}
    low = _below(reached, len(wanted), confidence)
    high = _above(news, len(fresh), confidence)
    share = Certificate.stated(recheck_share, low, {**asked, "errors": least.clamp(max=1e300)})
    more = Certificate.stated(recheck_more, high, {**asked, "targets": len(wanted), "news": news, "drawn": len(fresh)})
    return ReachedShare(share.checked(), more.checked(), least, best)


def _below(hits: int, tries: int, confidence: float) -> float:
    return max(0.0, float(beta.ppf(1 - confidence, hits, tries - hits + 1)) - _STEP) if hits else 0.0


def _above(hits: int, tries: int, confidence: float) -> float:
    return min(1.0, float(beta.ppf(confidence, hits + 1, tries - hits)) + _STEP) if hits < tries else 1.0


def _tail(first: int, last: int, tries: int, share: float) -> Decimal:
    """P(first <= Binomial(tries, share) <= last), in 50 digits."""
    with localcontext(WIDE):
        one, other = Decimal(share), 1 - Decimal(share)
        terms = (
            Decimal(math.comb(tries, hits)) * one**hits * other ** (tries - hits) for hits in range(first, last + 1)
        )
        return sum(terms, Decimal(0))


def _asked(witness: Mapping[str, Any]) -> tuple[str, float, float]:
    within, prompts = float(number(witness, "within", 0)), whole(witness, "prompts", 2, _MOST)
    confidence = float(number(witness, "confidence", 0, 1))
    if not 0 < confidence < 1:
        raise ValueError("the confidence is 0 or 1")
    return f"within {shown(within)} by one of {prompts:,} drawn prompts", within, confidence


def _states_share(witness: Mapping[str, Any]) -> Statement:
    how, within, confidence = _asked(witness)
    errors = tensor(witness, "errors", None)
    if len(errors) > _MOST or bool((errors < 0).any()):
        raise ValueError("too many targets, or a negative error")
    reached = int((errors <= within).sum())
    return Statement(
        claim=f"of all that is wanted, at least a share of value is reached {how}, as {reached} of {len(errors)} "
        "targets were, provided that these are independent of one another and of the prompts",
        side=Side.LOWER,
        theorem="sampled-reach",
        evidence=Evidence.MEASURED,
        sample=f"{len(errors)} targets, {witness['prompts']:,} prompts",
        confidence=confidence,
    )


def _states_more(witness: Mapping[str, Any]) -> Statement:
    how, _, confidence = _asked(witness)
    targets, drawn = whole(witness, "targets", 1, _MOST), whole(witness, "drawn", 1, _MOST)
    news = whole(witness, "news", 0, drawn)
    if drawn != witness["prompts"] - witness["prompts"] // 2:
        raise ValueError("not the second half of the prompts")
    return Statement(
        claim=f"one more prompt reaches a target of these {targets} that the first half did not with a chance of at "
        f"most value, as {news} of {drawn} did, provided that prompts are drawn independently, all in the same way; "
        f"reached means {how.split(' by ')[0]}",
        side=Side.UPPER,
        theorem="sampled-reach",
        evidence=Evidence.MEASURED,
        sample=f"{drawn:,} prompts after {witness['prompts'] // 2:,}",
        confidence=confidence,
    )


@rechecks(Independence.ARITHMETIC, states=_states_share, most=8 * _MOST + 1000)
def recheck_share(certificate: Certificate) -> bool:
    """Second path: the binomial tail at value, summed in 50 digits, is at most 1 - confidence."""
    witness = certificate.witness
    tries, hits = len(witness["errors"]), int((witness["errors"] <= witness["within"]).sum())
    if not 0 <= certificate.value <= 1:
        return False
    return certificate.value == 0 or _tail(hits, tries, tries, certificate.value) <= _missed(witness)


@rechecks(Independence.ARITHMETIC, states=_states_more, most=1000)
def recheck_more(certificate: Certificate) -> bool:
    """Second path: the binomial tail at value, summed in 50 digits, is at most 1 - confidence."""
    witness = certificate.witness
    if not 0 <= certificate.value <= 1:
        return False
    tail = _tail(0, witness["news"], witness["drawn"], certificate.value)
    return witness["news"] == witness["drawn"] or tail <= _missed(witness)


def _missed(witness: Mapping[str, Any]) -> Decimal:
    with localcontext(WIDE):
        return 1 - Decimal(float(witness["confidence"]))


def summary(reach: ReachedShare) -> str:
    """The two statements in a line for people."""
    low, high = (shown_bound(item.value, item.side, percent=True) for item in (reach.share, reach.more))
    return f"at least {low} % reached; one more prompt reaches something new in at most {high} % of cases"


def _faults(targets: Tensor, within: float, prompts: int, confidence: float) -> list[Fault]:
    faults = []
    if targets.ndim < 2 or not targets.numel() or not bool(targets.isfinite().all()) or len(targets) > _MOST:
        expected = f"(n, output), 1 to {_MOST:,} of them, finite numbers"
        faults.append(Fault("targets", f"shape {tuple(targets.shape)}", expected))
    if not 0 <= within < math.inf:
        faults.append(Fault("within", str(within), "a finite number, not negative"))
    if type(prompts) is not int or not 2 <= prompts <= _MOST:
        faults.append(Fault("prompts", repr(prompts), f"a whole number from 2 to {_MOST:,}"))
    if not 0 < confidence < 1:
        faults.append(Fault("confidence", str(confidence), "between 0 and 1"))
    return faults
