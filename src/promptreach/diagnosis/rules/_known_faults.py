"""Rules about what other findings know of the rows: a score is no evidence where they say that it cannot be.

Rows that lose what decides, a held-out part of one label or of training rows, a control that is as good already: each
ends in a verdict that names it, or stands among the reasons of another.
"""

from dataclasses import replace

from promptreach.certificate import Evidence
from promptreach.diagnosis.circumstances import PartsNumbers
from promptreach.diagnosis.numbers import USER
from promptreach.diagnosis.rules._blame import training_reasons
from promptreach.diagnosis.rules._unlearnable import nothing_learnt
from promptreach.diagnosis.rules.measurements import Measurements, sentence
from promptreach.diagnosis.verdict import Judgement, measured, undecided
from promptreach.report.verdict import Reason, TuningVerdict

MANY_CUT = 0.25
"""The share of rows cut from which "nothing was learnt" may be the cut's doing."""
SOME_CUT = 0.02
"""The share of rows cut that is worth a reason."""
MOSTLY_KNOWN = 0.5
"""The share of held-out rows that training saw from which their score is memory."""
SOME_KNOWN = 0.02
"""The share of held-out rows that training saw that is worth a reason."""
FEW = 5
"""Held-out rows of a label below which accuracy hardly hears of it."""
ENOUGH = 20
"""Held-out rows of a label that make a difference of the margin visible."""
HELD_OUT_SHARE = 0.27
"""The share of all rows that is held out to judge on."""


def one_label(seen: Measurements) -> Judgement | None:
    """UNDECIDED: (nearly) all held-out rows have one label, so that every method is "as good" as any."""
    parts = seen.parts
    if parts is None or seen.metric != "accuracy" or not parts.held_out_labels or seen.training.goal == "memorise":
        return None
    counts, total = parts.held_out_labels, sum(parts.held_out_labels.values())
    common = max(counts, key=counts.__getitem__)
    others = total - counts[common]
    if others >= seen.margin * total and (others >= FEW or total < 2 * FEW):
        return None
    rare = {name: count for name, count in counts.items() if name != common}
    only = "rows of one label only" if not others else f"{others} rows of any label but one"
    headline = (
        f"Accuracy cannot tell anything here: the {total:,} held-out rows have {only} ({common!r} on "
        f"{counts[common]:,}; {_occurrences(seen, parts, list(rare))})."
    )
    needed = round(ENOUGH / HELD_OUT_SHARE)
    reason = (
        f"Always answering {common!r} is right on {counts[common] / total:.1%} of them, within the margin "
        f"({seen.margin_text}) of everything that could be right; more rows like these would not change that."
    )
    named = " and ".join(repr(name) for name in list(rare)[:3])
    return undecided(
        headline, (measured(reason, "parts"),), f"Add rows of {named}: at least {needed} of each, and ask again."
    )


def rows_cut(seen: Measurements) -> Judgement | None:
    """UNDECIDED: nothing was learnt, and a large share of the rows lost tokens that may decide."""
    if seen.data.truncated < MANY_CUT * seen.data.rows or seen.training.goal == "memorise" or not _learnt_nothing(seen):
        return None
    longer = "a larger budget, which reads more of each row,"
    if seen.parts is not None and seen.parts.context <= 2 * seen.data.max_length:
        longer = f"a model with a longer context than {seen.parts.context:,} tokens, or shorter prompts,"
    side = seen.parts.cut_side if seen.parts else "end"
    return undecided(
        f"Nothing was learnt, and what decides may stand behind the cut: {_cut(seen)}.",
        (_cut_reason(seen), _best_reason(seen)),
        f"Use {longer} or texts with the deciding part in front."
        if side == "end"
        else f"Use {longer} or prompts with the deciding part right before the completion.",
    )


def known_rows(seen: Measurements) -> Judgement | None:
    """UNDECIDED: most held-out rows were trained on, so that their score is memory."""
    parts = seen.parts
    if parts is None or parts.known_rows < MOSTLY_KNOWN * parts.held_out_rows or not parts.known_rows:
        return None
    return undecided(
        f"The held-out rows are not held out: {_known(parts)}.",
        (measured("What a method gains on rows that it was trained on says nothing of others.", "parts"),),
        "Drop the duplicates (case, white space and what is behind the cut make no difference), and ask again.",
    )


def control_does(seen: Measurements) -> Judgement | None:
    """OPTIMISER: the user's own falls short of the control, and nothing trained here gains anything over that."""
    user, over = seen.user, seen.training.against_user
    if user is None or "head" not in over or not (user.status == "diverged" or over["head"].low > seen.margin / 2):
        return None
    head = seen.training.against_head
    tuned = [name for name, run in seen.runs.items() if run.method != "head" and run.status == "finished"]
    if not tuned or any(head[name].low > 0 for name in tuned) or not seen.keeps_up("head"):
        return None
    best = max(tuned, key=lambda name: head[name].gain)
    # What one of their settings costs tells more than that the whole falls short.
    costs = [reason for reason in training_reasons(seen) if reason.check == "attempt"]
    return Judgement(
        TuningVerdict.OPTIMISER,
        Evidence.MEASURED,
        f"{sentence(seen.control)} does this task already ({seen.score('head')}), and {_small(seen.your)} is worse "
        f"than that ({seen.score(USER)}).",
        (
            *costs,
            measured(f"{sentence(seen.control)} against yours: {seen.gain(over['head'])}."),
            measured(f"Nothing trained here is better than it: {best} {seen.gain(head[best])}."),
        ),
        "head",
        f"Take {seen.control}; tune only if more rows or a longer training show a gain over it.",
    )


def also_known(seen: Measurements, judgement: Judgement) -> Judgement:
    """The judgement with what is known of the rows among its last reasons, where it does not say so already."""
    found: list[Reason] = []
    if seen.data.truncated >= max(1, SOME_CUT * seen.data.rows):
        found.append(_cut_reason(seen))
    parts = seen.parts
    if parts is not None:
        if parts.known_rows >= max(1, SOME_KNOWN * parts.held_out_rows):
            found.append(measured(f"{sentence(_known(parts))}; their score is memory in part.", "parts"))
        rare = [name for name, count in parts.held_out_labels.items() if count < FEW]
        if rare and _occurrences(seen, parts, rare) not in judgement.headline:
            text = f"Accuracy hardly hears of rare labels: {_occurrences(seen, parts, rare)}."
            found.append(measured(text, "parts"))
        found += [measured(remark, "parts") for remark in parts.remarks]
    said = judgement.headline + " ".join(reason.text for reason in judgement.reasons)
    new = [reason for reason in found if reason not in judgement.reasons and reason.text.rstrip(".") not in said]
    return replace(judgement, reasons=(*judgement.reasons, *new))


def _learnt_nothing(seen: Measurements) -> bool:
    if seen.constant is not None:
        return nothing_learnt(seen) is not None
    gains = [seen.training.against_head[name] for name in seen.methods("prompt", "prefix", "lora")]
    return bool(gains) and all(gain.low <= 0 for gain in gains)


def _best_reason(seen: Measurements) -> Reason:
    runs = seen.methods("prompt", "prefix", "lora") or seen.runs
    best = max(runs, key=lambda name: (0.0 if seen.metric == "loss" else seen.value(runs[name]), -runs[name].loss))
    return measured(f"The best of {len(seen.runs)} methods ({best}) reaches {seen.score(best)} on {seen.rows}.")


def _cut(seen: Measurements) -> str:
    side = seen.parts.cut_side if seen.parts else "end"
    return (
        f"{seen.data.truncated:,} of {seen.data.rows:,} rows are cut at {seen.data.max_length:,} tokens, and their "
        f"{side} is lost"
    )


def _cut_reason(seen: Measurements) -> Reason:
    parts, why = seen.parts, ""
    if parts is not None and parts.room < parts.context and parts.context <= 2 * seen.data.max_length:
        why = f"; the model's context is {parts.context:,} tokens, and the longest prompt takes part of it"
    return measured(f"{_cut(seen)}{why}.", "data")


def _known(parts: PartsNumbers) -> str:
    return f"{parts.known_rows:,} of {parts.held_out_rows:,} of them stand in the training part as well"


def _occurrences(seen: Measurements, parts: PartsNumbers, names: list[str]) -> str:
    """The rows of some labels, in the part judged on and in the one trained on."""
    listed = [
        f"{name!r} on {parts.held_out_labels[name]} of the held-out and {parts.train_labels[name]} of the training rows"
        for name in names[:3]
    ]
    more = f", and {len(names) - 3} labels more" if len(names) > 3 else ""
    return ", ".join(listed) + more


def _small(text: str) -> str:
    return text[0].lower() + text[1:]
