"""The conclusion of a diagnosis: the verdict, its ranked reasons, and the settings that it advises."""

from dataclasses import dataclass

from promptreach.certificate import Evidence
from promptreach.report.verdict import Reason, TuningVerdict
from promptreach.training.task.readout import Pooling


@dataclass(frozen=True)
class Judgement:
    """A verdict with its reasons and the run that the advice builds on.

    Attributes:
        verdict: the conclusion.
        evidence: how sure it is.
        headline: the verdict as one sentence that a person can act on.
        reasons: ranked, the weightiest first.
        chosen: the name of the recommended run among the methods that were trained, or None.
        advice: what to do, as a sentence.
    """

    verdict: TuningVerdict
    evidence: Evidence
    headline: str
    reasons: tuple[Reason, ...]
    chosen: str | None
    advice: str


@dataclass(frozen=True)
class Attempt:
    """The settings that somebody trained with, or should train with. A setting that is not known is None.

    Attributes:
        method: ``"prompt"``, ``"prefix"`` or ``"lora"``.
        tokens: virtual tokens of a prompt, slots of a prefix; 0 for LoRA.
        rank: of a LoRA update; 0 for a prompt and a prefix.
        learning_rate: of the method's own tensors under Adam, absolute.
        init: how it started: one of `METHODS[method].inits`; PEFT's default is ``"random"``.
        steps: optimiser steps.
        pooling: where the classifier's head read: ``"mean"`` over the content, its ``"first"`` or ``"last"`` token.
            A head of transformers reads the first position of an encoder, which behind a prompt is no content token
            any more.
    """

    method: str = "prompt"
    tokens: int = 0
    rank: int = 0
    learning_rate: float | None = None
    init: str | None = None
    steps: int | None = None
    pooling: Pooling | None = None


def undecided(headline: str, reasons: tuple[Reason, ...], advice: str, chosen: str | None = None) -> Judgement:
    """The judgement that the evidence does not decide; `advice` says what would."""
    return Judgement(TuningVerdict.UNDECIDED, Evidence.UNKNOWN, headline, reasons, chosen, advice)


def measured(text: str, check: str = "training") -> Reason:
    """A reason that rests on what `check` measured."""
    return Reason(text=text, evidence=Evidence.MEASURED, check=check)
