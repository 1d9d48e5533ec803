"""From findings to a verdict. Rules read numbers by name and never measure; each returns a judgement or passes.

The order of `RULES` is the argument: first whether anything was measured, then whether the data allows any method, then
whether a soft prompt keeps up with LoRA, and only when a real gap remains what binds. A gap counts as real, or as
absent, by the paired interval on the held-out rows: absent if all of it lies above minus the margin, real if all of it
lies below minus half the margin; anything in between is UNDECIDED. Nothing here calls a failed optimiser an
impossibility: the verdicts about form and tokens are MEASURED, on the sizes and learning rates that were tried.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from promptreach.audit.findings import Finding
from promptreach.audit.measurements import Measurements, sentence, settings_of
from promptreach.audit.result import AuditVerdict, Reason
from promptreach.certificate import Evidence

STILL_FALLING = 0.02
"""Nats by which the validation loss fell over the last quarter of a training run that was not done."""
LENGTH_HELPS = 0.02
"""Nats by which the longest prompt beats the next shorter one where tokens still bind."""
ENOUGH_ROWS = 200
"""Training rows from which "nothing was learnt" says something about the data."""


@dataclass(frozen=True)
class Judgement:
    """A verdict with its reasons and the run that the advice builds on.

    Attributes:
        verdict, evidence, headline, reasons: as in `AuditResult`.
        chosen: the name of the recommended run among the training check's methods, or None.
        advice: what to do, as a sentence.
    """

    verdict: AuditVerdict
    evidence: Evidence
    headline: str
    reasons: tuple[Reason, ...]
    chosen: str | None
    advice: str


def judge(findings: Sequence[Finding]) -> Judgement:
    """The first rule that applies decides."""
    values = {finding.check: finding.values for finding in findings if finding.status == "done"}
    broken = [finding for finding in findings if finding.status == "failed" and finding.check in ("data", "training")]
    if broken or not {"data", "training"} <= values.keys():
        return _nothing_measured(broken)
    seen = Measurements(
        values["data"], values.get("bare_model", {}), values["training"], values.get("initialisation", {})
    )
    return next(judgement for rule in RULES if (judgement := rule(seen)) is not None)


def _nothing_measured(broken: Sequence[Finding]) -> Judgement:
    reasons = tuple(
        Reason(
            text=f"The check “{finding.title}” broke: {finding.reason}", evidence=Evidence.UNKNOWN, check=finding.check
        )
        for finding in broken
    )
    return Judgement(
        AuditVerdict.UNDECIDED,
        Evidence.UNKNOWN,
        "The audit could not measure what a verdict needs.",
        reasons,
        None,
        "Mend what the failed checks report and run the audit again.",
    )


def conflicting_labels(seen: Measurements) -> Judgement | None:
    """DATA, PROVED: contradictions alone keep every method from beating the most frequent label."""
    majority = seen.data["majority_share"]
    if majority is None or seen.data["best_accuracy"] > majority + seen.margin:
        return None
    best = seen.data["best_accuracy"]
    return Judgement(
        AuditVerdict.DATA,
        Evidence.PROVED,
        f"No method can do this task: equal inputs carry different labels, and no function of the input gets more than "
        f"{best:.1%} of the rows right (the most frequent label alone: {majority:.1%}).",
        (
            Reason(
                text=f"{seen.data['conflicting_rows']:,} of {seen.data['rows']:,} rows contradict each other.",
                evidence=Evidence.PROVED,
                check="data",
            ),
        ),
        None,
        "Mend the labels listed under “The data” before training anything.",
    )


def nothing_learnt(seen: Measurements) -> Judgement | None:
    """DATA or UNDECIDED: no method, LoRA included, beats the most frequent label."""
    majority = seen.bare.get("majority_accuracy")
    if seen.metric != "accuracy" or majority is None:
        return None
    runs = seen.training["methods"]
    if any(run["accuracy"] - 1.645 * run["accuracy_error"] > majority for run in runs.values()):
        return None
    rows = seen.training["train_rows"]
    reason = Reason(
        text=f"The best of {len(runs)} methods is right on {max(run['accuracy'] for run in runs.values()):.1%} of the "
        f"held-out rows; always answering the most frequent label on {majority:.1%}.",
        evidence=Evidence.MEASURED,
        check="training",
    )
    if rows < ENOUGH_ROWS:
        return _undecided(
            "Nothing was learnt, but there are too few rows to blame the data.",
            (reason,),
            f"Collect at least {ENOUGH_ROWS} training rows (there are {rows}) and audit again.",
        )
    return Judgement(
        AuditVerdict.DATA,
        Evidence.MEASURED,
        "No method learnt anything from these labels, LoRA and a linear head included.",
        (reason,),
        None,
        "Check that the labels belong to these texts; look at rows by hand before training anything.",
    )


def better_than_yours(seen: Measurements) -> Judgement | None:
    """OPTIMISER: the user's own prompt falls short, and one of the same form that was trained here does not."""
    own = seen.training["yours"]
    if own is None:
        return None
    mine = seen.training["against_lora"]["yours"]
    fitting = _fitting(seen)
    if fitting is None or mine["high"] >= -seen.margin / 2 or not _keeps_up(seen, fitting):
        return None
    run = seen.training["methods"][fitting]
    far = "your prompt" in seen.initialisation.get("far_out", ())
    reasons = [
        Reason(
            text=f"Your adapter reaches {seen.score('yours')}; the {fitting} trained here reaches "
            f"{seen.score(fitting)} on the same rows.",
            evidence=Evidence.MEASURED,
            check="training",
        )
    ]
    if far:
        ratio = seen.initialisation["geometry"]["your prompt"]["norm_ratio"]
        reasons.append(
            Reason(
                text=f"Your virtual tokens are {ratio:.1f} times as long as the median vocabulary row.",
                evidence=Evidence.MEASURED,
                check="initialisation",
            )
        )
    return Judgement(
        AuditVerdict.OPTIMISER,
        Evidence.MEASURED,
        f"A soft prompt fits; the training of yours missed it. {settings_of(run)} reaches {seen.score(fitting)}.",
        tuple(reasons),
        fitting,
        f"Train again with {settings_of(run)}, reading out as this report does, "
        "or take the adapter that comes with it.",
    )


def soft_prompt_keeps_up(seen: Measurements) -> Judgement | None:
    """FITS: the interval of the difference to LoRA lies above minus the margin."""
    name = _fitting(seen)
    if name is None:
        return None
    against = seen.training["against_lora"][name]
    control = seen.training["against_head"][name]
    run = seen.training["methods"][name]
    reasons = [
        Reason(
            text=f"{sentence(name)} against LoRA on the same {seen.training['held_out_rows']:,} held-out rows: "
            f"{seen.gain(against)}.",
            evidence=Evidence.MEASURED,
            check="training",
        ),
        Reason(
            text=f"{sentence(name)} against {seen.control}: {seen.gain(control)}.",
            evidence=Evidence.MEASURED,
            check="training",
        ),
    ]
    if run["method"] == "prefix":
        prompts = seen.methods("prompt")
        if prompts:
            best = max(prompts, key=lambda n: seen.training["against_lora"][n]["gain"])
            reasons.append(
                Reason(
                    text=f"A prompt at the input falls short of that: {best} against LoRA "
                    f"{seen.gain(seen.training['against_lora'][best])}.",
                    evidence=Evidence.MEASURED,
                    check="training",
                )
            )
    reasons += _start_reason(seen)
    if control["low"] <= 0:
        return _nothing_gained(seen, name, reasons)
    return Judgement(
        AuditVerdict.FITS,
        Evidence.MEASURED,
        f"A soft prompt fits: {settings_of(run)} reaches {seen.score(name)}, LoRA {seen.score(seen.lora)}, "
        f"{seen.control} {seen.score('head')}.",
        tuple(reasons),
        name,
        f"Train {settings_of(run)}; the adapter trained here comes with this report.",
    )


def _nothing_gained(seen: Measurements, name: str, reasons: list[Reason]) -> Judgement:
    """FITS, but not worth it: the soft prompt is as good as LoRA and no better than the control."""
    lora = seen.training["against_head"][seen.lora]
    rival = f"LoRA ({seen.score(seen.lora)}) neither"
    advice = f"Take {seen.control}, and tune only if more rows or a larger --budget show a gain."
    if lora["low"] > 0:
        rival = f"LoRA reaches {seen.score(seen.lora)}, {seen.gain(lora)}"
        advice = f"Take {seen.control}, or LoRA if that gain matters; a larger --budget trains the prompts longer."
    return Judgement(
        AuditVerdict.FITS,
        Evidence.MEASURED,
        f"{sentence(seen.control)} does this task already ({seen.score('head')}): a soft prompt "
        f"({seen.score(name)}) adds nothing measurable to it, {rival}.",
        tuple(reasons),
        "head",
        advice,
    )


def gap_not_settled(seen: Measurements) -> Judgement | None:
    """UNDECIDED: the interval allows both "as good" and "worse"."""
    name = _best_soft(seen)
    if name is None:
        return _undecided(
            "No soft prompt finished training.",
            (Reason(text="Every prompt and prefix diverged.", evidence=Evidence.MEASURED, check="training"),),
            "Give a smaller learning rate, or check the data for extreme inputs.",
        )
    against = seen.training["against_lora"][name]
    if against["high"] < -seen.margin / 2:
        return None
    # The interval narrows with the square root of the rows; this many would bring its width under the margin.
    needed = seen.training["held_out_rows"] * max(2.0, (2 * 1.645 * against["error"] / seen.margin) ** 2)
    return _undecided(
        f"{sentence(name)} is {seen.gain(against)} from LoRA: too close to call.",
        (
            Reason(
                text=f"The interval reaches from clearly worse to as good (margin {seen.margin_text}).",
                evidence=Evidence.MEASURED,
                check="training",
            ),
        ),
        f"Use about {needed:,.0f} held-out rows, or --budget standard, which also trains longer.",
        chosen=name,
    )


def training_not_done(seen: Measurements) -> Judgement | None:
    """UNDECIDED: there is a gap, but the best soft prompt was not trained as far or as fast as it could be."""
    name = _best_soft(seen)
    assert name is not None
    run = seen.training["methods"][name]
    signs = []
    if run["still_falling"] >= STILL_FALLING:
        signs.append(f"Its validation loss fell by {run['still_falling']:.3f} nats over the last stretch.")
    if run["rate_at_edge"]:
        signs.append(f"Its learning rate, {run['learning_rate']:.2g}, was the largest tried and the best of them.")
    if not signs:
        return None
    return _undecided(
        f"{sentence(name)} trails LoRA ({seen.gain(seen.training['against_lora'][name])}), but its training was not "
        "at its best yet.",
        tuple(Reason(text=text, evidence=Evidence.MEASURED, check="training") for text in signs),
        "Audit again with a larger --budget, which trains longer; until then LoRA is the safer choice.",
        chosen=seen.lora,
    )


def more_tokens_help(seen: Measurements) -> Judgement | None:
    """MORE_TOKENS: the loss still falls with the length of the prompt."""
    prompts = sorted(seen.methods("prompt").items(), key=lambda item: item[1]["tokens"])
    if len(prompts) < 2:
        return None
    (_, shorter), (name, longest) = prompts[-2:]
    saved = shorter["validation_loss"] - longest["validation_loss"]
    fitted = (shorter["train_loss"] or 0.0) - (longest["train_loss"] or 0.0)
    if min(saved, fitted) < LENGTH_HELPS:
        return None
    return Judgement(
        AuditVerdict.MORE_TOKENS,
        Evidence.MEASURED,
        f"A longer prompt is needed: from {shorter['tokens']} to {longest['tokens']} tokens the loss still fell by "
        f"{saved:.3f} nats, and {longest['tokens']} tokens trail LoRA: "
        f"{seen.gain(seen.training['against_lora'][name])}.",
        (
            Reason(
                text=f"Training and validation loss fall together with the length ({fitted:.3f} and {saved:.3f} nats).",
                evidence=Evidence.MEASURED,
                check="training",
            ),
        ),
        name,
        f"Train {4 * longest['tokens']} virtual tokens, or a prefix; audit again with a larger --budget to see "
        "the curve.",
    )


def form_falls_short(seen: Measurements) -> Judgement:
    """FORM: a real gap to LoRA that neither length nor the tried learning rates close."""
    name = _best_soft(seen)
    assert name is not None
    lora = seen.training["methods"][seen.lora]
    lengths = ", ".join(str(run["tokens"]) for run in seen.methods("prompt").values())
    return Judgement(
        AuditVerdict.FORM,
        Evidence.MEASURED,
        f"Use LoRA: rank {lora['rank']} reaches {seen.score(seen.lora)}, the best soft prompt ({name}) "
        f"{seen.score(name)}, at every length and learning rate tried.",
        (
            Reason(
                text=f"{sentence(name)} against LoRA: {seen.gain(seen.training['against_lora'][name])}.",
                evidence=Evidence.MEASURED,
                check="training",
            ),
            Reason(
                text=f"Prompts of {lengths} tokens: the loss no longer falls with the length, and training had "
                "settled.",
                evidence=Evidence.MEASURED,
                check="training",
            ),
        ),
        seen.lora,
        f"Train LoRA of rank {lora['rank']} at learning rate {lora['learning_rate']:.2g}. This is measured on the "
        "sizes and rates above, not a proof that no prompt exists.",
    )


Rule = Callable[[Measurements], Judgement | None]
RULES: tuple[Rule, ...] = (
    conflicting_labels,
    nothing_learnt,
    better_than_yours,
    soft_prompt_keeps_up,
    gap_not_settled,
    training_not_done,
    more_tokens_help,
    form_falls_short,
)


def _keeps_up(seen: Measurements, name: str) -> bool:
    return bool(seen.training["against_lora"][name]["low"] >= -seen.margin)


def _fitting(seen: Measurements) -> str | None:
    """The best prompt that keeps up with LoRA, or the best prefix if no prompt does."""
    for kind in ("prompt", "prefix"):
        names = [name for name in seen.methods(kind) if _keeps_up(seen, name)]
        if names:
            return min(names, key=lambda name: seen.training["methods"][name]["validation_loss"])
    return None


def _best_soft(seen: Measurements) -> str | None:
    names = seen.methods("prompt", "prefix")
    return max(names, key=lambda name: seen.training["against_lora"][name]["gain"], default=None)


def _start_reason(seen: Measurements) -> list[Reason]:
    """Why a run with PEFT's defaults would look worse, where that was measured."""
    starts = seen.initialisation.get("prompt_start_loss")
    if not starts:
        return []
    damage = starts["random (start)"] - starts["vocabulary (start)"]
    if damage < STILL_FALLING:
        return []
    return [
        Reason(
            text=f"The start matters: PEFT's random start costs {damage:.3f} nats more than vocabulary rows before the "
            "first step.",
            evidence=Evidence.MEASURED,
            check="initialisation",
        )
    ]


def _undecided(headline: str, reasons: tuple[Reason, ...], advice: str, chosen: str | None = None) -> Judgement:
    return Judgement(AuditVerdict.UNDECIDED, Evidence.UNKNOWN, headline, reasons, chosen, advice)
