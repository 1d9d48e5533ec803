"""The cost of inference with each adapter on this model and these inputs, and what would make it cheaper.

Times are measured on a typical held-out batch and said as ratios to the bare model's; costs at lengths that were not
run are counted from shapes. Everything under a name with "seconds" in it is a time; nothing else depends on the
machine's speed, so that the same seed gives the same report, times aside.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from promptreach.audit.check import Outcome, Shown
from promptreach.audit.context import AuditContext
from promptreach.audit.cost.advice import Suggestion, suggestions
from promptreach.audit.cost.heads import CostAtLength, cost_at_length, head_blocks, norm_reports, norm_values
from promptreach.audit.cost.times import answers, difference, median_seconds
from promptreach.audit.cost.work import BARE, DeploymentOption, ForwardWork, adapter_bytes, cache_bytes
from promptreach.backbone import TokenBatch
from promptreach.certificate import Evidence
from promptreach.diagnosis.experiment import Measured, Skipped
from promptreach.diagnosis.measures.comparison import held_out
from promptreach.diagnosis.numbers import Comparison
from promptreach.errors import InputError
from promptreach.hf import precompute
from promptreach.report.findings import Block, Cell, Table, Text
from promptreach.training.runs import Run
from promptreach.training.task.metric_names import in_words

BATCH = 8
"""Inputs in the batch that is timed."""
LENGTHS = (4096, 65536)
"""Tokens of inputs that are counted and not run."""

_NO_HEADS = (
    "What fast attention could do on single heads was not measured: nobody can look at this architecture's attention, "
    "or it is more than a softmax of scores."
)

Seconds = Mapping[str, dict[str, float]]
Differences = Mapping[str, tuple[float, bool]]


def measure(context: AuditContext) -> Outcome:
    """Time, count and compare what was trained and what was given."""
    if context.model.task == "seq2seq":
        return Skipped("an encoder runs once and its decoder once a token, and costs of the two are not told apart yet")
    options, refusal = _options(context)
    if len(options) == 1:
        return Skipped("nothing was trained")
    rows = typical(context)
    length = len(rows[0])
    work = ForwardWork.of(context.model)
    with context.progress.task("timing inference", total=None):
        batch = context.model.batch(rows)
        seconds = _seconds(context, options, batch, context.model.batch(rows[:1]))
        differences = _differences(context, options, batch)
    with context.progress.task("reading the heads", total=None):
        reports = norm_reports(context)
    advice = suggestions(context, options, differences, lambda run, best: _compared(context, run, best))
    advice.sort(key=lambda item: work.of_option(item.then, length) / work.of_option(item.now, length))
    advice_values = [_advice_values(item, work, length) for item in advice]
    longest = max(map(len, context.task.encoded["held_out"].sequences))
    at = {count: cost_at_length(work, reports, options, count) for count in sorted({length, longest, *LENGTHS})}
    table = [_row(context, option, at[length], differences) for option in options]
    values = {
        "tokens": length,
        "ways": {row["name"]: row for row in table},
        "seconds": seconds,
        "not_precomputed": refusal,
        "advice": advice_values,
        "lengths": [asdict(item) for item in at.values()],
        **(norm_values(reports) if reports else {}),
    }
    sample = f"{len(rows)} held-out inputs of about {length} tokens"
    if reports:
        sample += f"; heads on {reports[0].criterion.joined.length} tokens, prompt included"
    blocks = [
        _time_table(table, seconds, len(rows), length),
        _byte_table(table),
        *_advice_blocks(advice, advice_values, seconds, refusal),
        *(head_blocks(context.model, reports, options, at, longest) if reports else [Text(text=_NO_HEADS)]),
    ]
    return Measured(values, sample, Evidence.PREDICTED), Shown(_summary(at[length], at[longest], advice), blocks)


def _options(context: AuditContext) -> tuple[list[DeploymentOption], str]:
    """The bare model, the best trained adapter of each kind and the user's own; and why none was precomputed, if so."""
    best = context.best_adapters("prompt", "prefix", "lora")
    found = [(name.replace("lora", "LoRA"), adapter) for name, adapter in best.items()]
    if context.user_adapter is not None and context.user_settings is not None:
        found.append((f"your {context.user_settings.method}".replace("lora", "LoRA"), context.user_adapter))
    options, refusal = [BARE], ""
    for name, adapter in found:
        options.append(DeploymentOption(name, adapter))
        if adapter.kind == "prompt":
            try:
                options.append(DeploymentOption(f"{name} (precomputed)", adapter, precompute(context.model, adapter)))
            except InputError as error:
                refusal = error.faults[0].remedy
    return options, refusal


def typical(context: AuditContext) -> list[tuple[int, ...]]:
    """Held-out inputs of about the median length, that nearest to it first; completions are left out."""
    encoded = context.task.encoded["held_out"]
    answers_of = encoded.answer_lengths or (0,) * len(encoded)
    inputs = [ids[: len(ids) - count] for ids, count in zip(encoded.sequences, answers_of, strict=True)]
    middle = statistics.median_low(map(len, inputs))
    return sorted(inputs, key=lambda ids: abs(len(ids) - middle))[:BATCH]


def _seconds(context: AuditContext, options: Sequence[DeploymentOption], batch: TokenBatch, one: TokenBatch) -> Seconds:
    """Seconds of a batch, and of a single input's first new token on causal models, each also over the bare model."""
    measured = {"batch": median_seconds(context.model, options, batch)}
    if context.model.task == "causal":
        measured["first_token"] = median_seconds(context.model, options, one, next_token=True)
    found: dict[str, dict[str, float]] = {}
    for option in options:
        found[option.name] = {kind: times[option.name] for kind, times in measured.items()}
        found[option.name] |= {
            f"{kind}_over_bare": times[option.name] / times[BARE.name] for kind, times in measured.items()
        }
    return found


def _differences(context: AuditContext, options: Sequence[DeploymentOption], batch: TokenBatch) -> Differences:
    """The differences of each precomputed option's answers from those of the prompt in front."""
    return {
        option.name: difference(
            answers(context.model, option, batch), answers(context.model, DeploymentOption("", option.adapter), batch)
        )
        for option in options
        if option.cache is not None
    }


def _compared(context: AuditContext, run: Run, best: Run) -> tuple[Comparison, str]:
    found = context.compare(held_out(run), held_out(best))
    scale, unit = (1, "nats a token") if context.metric == "loss" else (100, f"points of {in_words(context.metric)}")
    gain, low, high = scale * found.gain, scale * found.low, scale * found.high
    return found, f"{gain:+.2g} {unit} (90 % interval {low:+.2g} to {high:+.2g})"


def _row(
    context: AuditContext, option: DeploymentOption, here: CostAtLength, differences: Differences
) -> dict[str, Any]:
    """The numbers of one option that need no clock."""
    gap, same = differences.get(option.name, (None, None))
    # An encoder keeps nothing between requests: a prompt's states are made anew, only a prefix has keys of its own.
    keeps = option.positions and not (context.model.both_ways and option.runs_prompt)
    held = cache_bytes(context.model, option.positions) if keeps else None
    return {
        "name": option.name,
        "work_over_bare": here.over_bare.get(option.name, 1.0),
        "logits_difference": gap,
        "same_next_tokens": same,
        "positions": option.positions,
        "share_of_context": option.positions / context.model.max_positions,
        "cache_bytes": held,
        "cache_bytes_of_batch": None if held is None else held if option.cache is not None else BATCH * held,
        "adapter_bytes": None if option.adapter is None else adapter_bytes(context.model, option.adapter),
    }


_TIMES = {
    "what runs": "name",
    "seconds, × bare": "batch_over_bare",
    "first token: seconds, × bare": "first_token_over_bare",
    "logits off by": "logits_difference",
    "work, × bare": "work_over_bare",
    "seconds": "batch",
    "first token: seconds": "first_token",
}
_BYTES = {
    "what runs": "name",
    "positions taken": "positions",
    "share of the context": "share_of_context",
    "keys and values, bytes": "cache_bytes",
    f"of {BATCH} requests at once": "cache_bytes_of_batch",
    "adapter file, bytes": "adapter_bytes",
}


def _time_table(table: Sequence[dict[str, Any]], seconds: Seconds, rows: int, length: int) -> Table:
    records = [row | seconds[row["name"]] for row in table]
    causal = "first_token" in records[0]
    columns = [name for name in _TIMES if causal or not name.startswith(("first token", "logits"))]
    return Table(
        title="Time of a forward pass",
        columns=columns,
        rows=[[record[_TIMES[name]] for name in columns] for record in records],
        note=f"A batch of {rows} held-out inputs of about {length} tokens"
        + (", and the first new token of one of them" if causal else "")
        + ". Work is PREDICTED from shapes. Seconds are MEASURED: medians of rounds in which all take turns; read "
        "their ratios, and a difference of a few percent as none."
        + (" Logits: |precomputed - in front| / |in front|, MEASURED." if causal else ""),
    )


def _byte_table(table: Sequence[dict[str, Any]]) -> Table:
    return Table(
        title="Memory and context",
        columns=list(_BYTES),
        rows=[[row[key] for key in _BYTES.values()] for row in table if row["name"] != BARE.name],
        note="MEASURED. Keys and values of the adapter's own positions, in all layers; those of the content come on "
        "top. Precomputed ones are held once and shared.",
    )


def _advice_blocks(
    advice: Sequence[Suggestion], advice_values: Sequence[dict[str, Any]], seconds: Seconds, refusal: str
) -> list[Block]:
    rows: list[list[Cell]] = []
    for item, values in zip(advice, advice_values, strict=True):
        now, then = (seconds.get(option.name) for option in (item.now, item.then))
        ratio = then["batch"] / now["batch"] if now and then else None
        rows.append([item.what, ratio, values["work_now"], values["work_then"], f"{item.evidence.value}: {item.cost}"])
    table = Table(
        title="What would make it cheaper",
        columns=["what", "seconds, then over now", "work now, × bare", "work then", "what it costs"],
        rows=rows,
        note="Most work saved first. Seconds are MEASURED where both ran, work is PREDICTED from shapes.",
    )
    blocks: list[Block] = [table, *(item.code for item in advice)] if advice else []
    return [*blocks, Text(text=f"Nothing can be precomputed here. {refusal}.")] if refusal else blocks


def _advice_values(item: Suggestion, work: ForwardWork, length: int) -> dict[str, Any]:
    bare = work.of_option(BARE, length)
    return {
        "what": item.what,
        "work_now": work.of_option(item.now, length) / bare,
        "work_then": work.of_option(item.then, length) / bare,
        "positions_freed": item.now.positions - item.then.positions,
        "cost": item.cost,
        "evidence": item.evidence.value,
    }


def _summary(here: CostAtLength, longest: CostAtLength, advice: Sequence[Suggestion]) -> str:
    costs = ", ".join(f"{ratio:.2f} with {name}" for name, ratio in here.over_bare.items())
    text = f"For an input of {here.tokens} tokens, work over the bare model's is PREDICTED as {costs}."
    if advice:
        text += f" What saves most: {advice[0].what[0].lower()}{advice[0].what[1:]}."
    return (
        f"{text} Attention is {here.attention_share:.1%} of the bare model's work at this length and "
        f"{longest.attention_share:.1%} at the longest input, {longest.tokens} tokens: making it faster saves no more."
    )
