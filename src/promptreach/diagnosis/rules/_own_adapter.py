"""Rules about what the user brought, where it is the best there is, and what is to be told of it before all else."""

from dataclasses import replace

from promptreach.certificate import Evidence
from promptreach.diagnosis.circumstances import BroughtNumbers
from promptreach.diagnosis.numbers import USER, UserNumbers
from promptreach.diagnosis.rules.measurements import FORMS, Measurements, size_of
from promptreach.diagnosis.verdict import Judgement, measured, undecided
from promptreach.report.verdict import Reason, TuningVerdict

KEEP = "Keep it."


def own_beats_all(seen: Measurements) -> Judgement | None:
    """UNDECIDED: the user's own is surely better than everything trained here, which was not at its best, then."""
    best = _best_here(seen)
    if best is None or seen.training.against_user[best].high >= -seen.margin / 2:
        return None
    assert seen.user is not None
    return undecided(
        f"{_own(seen, seen.user)} is better than everything that was trained here: it reaches {seen.score(USER)}, the "
        f"best of these ({best}) {seen.score(best)}.",
        (
            measured(f"{best} against yours on the same {seen.rows}: {seen.gain(seen.training.against_user[best])}."),
            measured("So what was trained here was not at its best, and says nothing against any form or length."),
        ),
        f"{KEEP} Whether another form or a smaller one does as well would take a larger budget to see: with more steps "
        "one of these has to reach yours first.",
    )


def told_first(seen: Measurements, judgement: Judgement) -> Judgement:
    """The judgement, begun with what the user must know of their own: that it does nothing, or that nothing beats it.

    How its outputs and texts were led to the data's stands among the last reasons.
    """
    if seen.user is None:
        return judgement
    brought, best = seen.brought, _best_here(seen)
    judgement = replace(judgement, reasons=(*judgement.reasons, *_facts(brought)))
    if brought is not None and brought.unchanged:
        text = f"{seen.your} changes nothing: with it the model computes what it computes without it"
        if brought.zero_updates:
            text += f" ({brought.zero_updates} of its {brought.updates} updates are zero)"
        headline = f"{text}. {judgement.headline}"
        return replace(judgement, headline=headline, reasons=(measured(f"{text}.", "brought"), *judgement.reasons))
    is_theirs = judgement.headline.startswith(seen.your)
    if best is None or judgement.evidence is Evidence.PROVED or judgement.verdict is TuningVerdict.DATA:
        return judgement
    if not is_theirs:
        headline = f"{_own(seen, seen.user)} is as good as anything trained here ({seen.score(USER)})."
        judgement = replace(judgement, headline=f"{headline} {judgement.headline}")
    if not judgement.advice.startswith("Keep it"):
        advice = f"{KEEP} Nothing trained here is better; the best of it is {best}, with {seen.score(best)}."
        judgement = replace(judgement, advice=advice, chosen=None)
    return judgement


def _best_here(seen: Measurements) -> str | None:
    """The best run trained here where the user's own beats or equals all of them, and the control surely."""
    user, over, head = seen.user, seen.training.against_user, seen.training.against_head
    if user is None or user.status == "diverged" or USER not in head or head[USER].low <= 0:
        return None
    rivals = {name: over[name] for name, run in seen.runs.items() if run.status == "finished" and name in over}
    if not rivals or any(gain.gain > 0 and (gain.low > 0 or gain.gain > seen.margin / 2) for gain in rivals.values()):
        return None
    return max(rivals, key=lambda name: rivals[name].gain)


def _own(seen: Measurements, user: UserNumbers) -> str:
    """The user's own in words, with its form and size."""
    size = f"rank {user.rank}" if user.method == "lora" else size_of(user.method, user.tokens)
    return f"{seen.your} ({FORMS[user.method]} of {size})"


def _facts(brought: BroughtNumbers | None) -> list[Reason]:
    """What was found of the adapter's folder and head, and done about it."""
    if brought is None:
        return []
    found = []
    if brought.numbering:
        pairs = ", ".join(f"{output} for {label!r}" for output, label in list(brought.numbering.items())[:5])
        found.append(
            f"Its classifier numbers the labels otherwise than in their sorted order; matched on the training rows it "
            f"has {pairs}."
        )
    if brought.extra_outputs:
        text = f"{brought.extra_outputs} of its classifier's outputs stand for no label of the data"
        found.append(f"{text}; a row that goes to one of them counts as wrong.")
    if brought.missing_outputs:
        text = f"Its classifier has {brought.missing_outputs} outputs too few for the data's labels"
        found.append(f"{text}, so it is read through a linear head fitted here.")
    if brought.other_base:
        found.append(f"It names another base model, {brought.other_base}: is this the one that it was trained on?")
    if brought.added_tokens:
        shown = ", ".join(brought.added_tokens[:5])
        more = f" and {len(brought.added_tokens) - 5} more" if len(brought.added_tokens) > 5 else ""
        text = f"All texts were read with the tokenizer beside it, which differs from the model's ({shown}{more})."
        found.append(text)
    if 0 < brought.zero_updates < brought.updates:
        found.append(f"{brought.zero_updates} of its {brought.updates} updates are zero and change nothing.")
    return [measured(text, "brought") for text in found]
