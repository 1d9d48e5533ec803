"""The frozen model before any tuning: zero-shot, and with nothing but a head.

The head-only control is what a "prompt tuning" score must be compared with wherever a classifier head is trained along:
without it, a linear probe passes for a prompt. It also answers where that head should read.
"""

import torch

from promptreach.audit.check import Shown
from promptreach.audit.context import AuditContext
from promptreach.data import LabelledTexts
from promptreach.diagnosis.experiment import Measured
from promptreach.diagnosis.measures.comparison import held_out
from promptreach.diagnosis.numbers import BareNumbers
from promptreach.diagnosis.rules.measurements import POOLINGS_IN_WORDS
from promptreach.report.findings import Cell, Table, Text
from promptreach.training.task.encoding import evaluation_batches
from promptreach.training.task.metric_names import in_words
from promptreach.training.task.metrics import score


def show(context: AuditContext, found: Measured[BareNumbers]) -> Shown:
    """The bare model's scores, where a head should read, and the zero-shot accuracy."""
    numbers = found.numbers
    if context.task.encoded["held_out"].options is not None:
        counts = context.task.encoded["held_out"].options.counts
        chance = sum(1 / count for count in counts) / len(counts)
        return Shown(
            f"The bare model finds the right option likeliest on {numbers.accuracy:.1%} of {found.sample} "
            f"(by chance: {chance:.1%}); the right options cost it {numbers.loss:.3f} nats a row.",
            more={"zero_shot_accuracy": numbers.accuracy},
        )
    kind = context.kind
    if kind is None:
        summary = (
            f"The bare model's loss on the completions is {numbers.loss:.3f} nats per token; it predicts "
            f"{numbers.accuracy:.1%} of their tokens and {numbers.all_right:.1%} of whole completions "
            "(each token given the true ones before it)."
        )
        if numbers.value is not None:
            summary += f" Of what it writes by itself the {in_words(context.metric)} is {numbers.value:.3f}."
        return Shown(summary, more={"zero_shot_accuracy": None})
    zero_shot = _zero_shot(context)
    reads = f"The head reads {POOLINGS_IN_WORDS[str(context.task.pooling)]}."
    if context.is_classification:
        summary = (
            f"With a linear head alone the frozen model is right on {numbers.accuracy:.1%} of {found.sample} "
            f"(always answering the most frequent label: {numbers.majority_accuracy:.1%}). {reads}"
        )
    else:
        value = score(context.metric, held_out(context.runs["head"]), context.positive)
        summary = (
            f"With {kind.probe} alone on its states the frozen model has {in_words(context.metric)} {value:.3f} on "
            f"{found.sample}; the best answer that ignores its input has {numbers.constant or 0.0:.3f}. {reads}"
        )
    if zero_shot is not None:
        summary += f" Zero-shot, comparing the labels' own words, it is right on {zero_shot:.1%}."
    note = Text(
        text="Every method below starts from this head and trains it along, so what a method gains over this "
        "control is its own."
    )
    return Shown(summary, [_probe_table(context), note], {"zero_shot_accuracy": zero_shot})


def _probe_table(context: AuditContext) -> Table:
    probes = context.task.probes
    rows: list[list[Cell]] = [[POOLINGS_IN_WORDS[place], probe.accuracy, probe.loss] for place, probe in probes.items()]
    return Table(
        title="Where should the head read?",
        columns=["read-out", (context.kind.accuracy if context.kind else "") or "R²", "loss (nats)"],
        rows=rows,
        highlight=list(probes).index(context.task.pooling) if context.task.pooling else None,
        note=f"Linear probes on the frozen model, cross-validated on {len(context.task.train):,} training rows.",
    )


def _zero_shot(context: AuditContext) -> float | None:
    """The accuracy of comparing the next-token logits of the labels' first tokens; None where that means nothing.

    It needs a causal model, and labels whose words begin with different tokens.
    """
    data = context.data
    if context.model.task != "causal" or not isinstance(data, LabelledTexts):
        return None
    firsts = [ids[:1] for ids in context.model.tokenize([f" {n}" for n in data.label_names], special_tokens=False)]
    words = [ids[0] for ids in firsts if ids]
    if len(set(words)) < len(data.label_names):
        return None
    held_out = context.task.encoded["held_out"]
    assert held_out.labels is not None
    right = 0
    with torch.no_grad():
        for rows in evaluation_batches([len(ids) for ids in held_out.sequences], context.task.batch_size):
            batch = context.model.batch([held_out.sequences[row] for row in rows])
            hidden = context.model.hidden(batch)
            last = hidden[torch.arange(len(rows)), batch.mask.sum(1) - 1]
            guesses = context.model.vocabulary_logits(last)[:, words].argmax(-1).cpu()
            right += int((guesses == held_out.labels[rows]).sum())
    return right / len(held_out)
