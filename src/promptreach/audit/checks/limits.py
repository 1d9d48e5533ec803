"""The limits of any prompt, on the model's own heads and the user's own texts.

The oracle decides single heads whose query does not depend on the example. In a real model that holds at the first
layer where all examples read the same token at the same position: an encoder's [CLS]. What the trained LoRA update
makes of such a head serves as its target, so the floor says how much of LoRA's doing no prefix of any length can
imitate there. Everywhere else the hypotheses fail, and the check says which. By number of slots there is a floor in
decoders too, and the audit draws it (`_floor_curve`).
"""

import math

from torch import Tensor

from promptreach import attention
from promptreach.audit.check import Outcome, Shown
from promptreach.audit.checks._floor_curve import curve_blocks, curve_summary, floor_curves
from promptreach.audit.context import AuditContext
from promptreach.certificate import Certificate, Verdict
from promptreach.commands.limits import lipschitz_finding
from promptreach.diagnosis.experiment import Measured, Skipped
from promptreach.evidence import Side
from promptreach.hf import attach, capture
from promptreach.hf.running.capture import LayerCapture
from promptreach.limits import Memorisation, compare_with_lora, memorisable_statistics
from promptreach.report.findings import Block, Cell, Table, Text

_EXAMPLES = (1, 2, 4, 8, 16)
"""Numbers of examples at which tokens and LoRA parameters are compared."""
_CAPTURED = 1e-5
"""The error that counts as none, relative to the targets: queries and keys were captured in float32, and an
impossibility below their rounding would be one of the rounding."""


def measure(context: AuditContext) -> Outcome:
    """The oracle on the first layer's heads, their floors by slots, the layers' steepness, and tokens against LoRA."""
    if context.model.unread:
        return Skipped(f"Limits are computed from weights, and {context.model.unread}.")
    steep = lipschitz_finding(
        context.model,
        context.probe_batch,
        tokens=context.limits.max_length + max(context.tokens),
        sample=f"{len(context.probe_batch.mask)} held-out rows",
    )
    missing = _missing(context)
    blocks: list[Block] = []
    floors: list[Certificate] = []
    values = {f"lipschitz_{name}": value for name, value in steep.values.items()}
    if missing:
        text = f"The single-head oracle does not apply here: {missing}."
        blocks.append(Text(text=text))
    else:
        heads = head_floors(context)
        text = _oracle_summary(heads)
        blocks.append(_oracle_table(heads))
        floors = [
            found.floor.about(f"First layer, head {head}, against what LoRA does there")
            for head, (found, _, _) in enumerate(heads)
        ]
        values |= {
            "oracle_share": [share for _, _, share in heads],
            "oracle_impossible": sum(found.verdict is Verdict.IMPOSSIBLE for found, _, _ in heads),
        }
    curves = floor_curves(context)
    blocks += [*curve_blocks(curves), *steep.blocks, _parameter_table(context)]
    values |= {"oracle_missing": missing} | curves.values
    found = Measured(values, steep.sample, certificates=(*floors, *curves.certificates, *steep.certificates))
    return found, Shown(" ".join(filter(None, (text, curve_summary(curves), steep.summary))), blocks)


def _missing(context: AuditContext) -> str:
    """Which hypothesis of the oracle fails on this model and data, or nothing."""
    # Not the task: a decoder without its language-model head reads from left to right all the same.
    if not context.model.both_ways:
        return (
            "in a causal model the last tokens stand at different positions, so no two examples share a query once "
            "positions are encoded"
        )
    # Position and token type of the first token are the same in every row, so its id decides the first layer's query.
    first = set(context.probe_batch.input_ids[:, 0].tolist())
    if len(first) > 1:
        return (
            f"the probe rows start with {len(first)} different tokens, not with one that all share, such as [CLS], so "
            "they do not share a query"
        )
    if context.best("lora") is None:
        return "no LoRA update was trained that could set the targets"
    return ""


def head_floors(context: AuditContext) -> list[tuple[Memorisation, float, float]]:
    """For each head of the first layer: the oracle, LoRA's change of the head (rms), and the floor's share of it."""
    lora = context.best("lora")
    assert lora is not None
    assert lora.adapter is not None
    batch = context.probe_batch
    bare = capture(context.model, batch, layers=[0])[0]
    with attach(context.model, lora.adapter) as joined:
        _, targets = _statistics(capture(context.model, batch, joined, layers=[0])[0])
    lse, mean = _statistics(bare)
    results = []
    for head in range(targets.shape[1]):
        found = memorisable_statistics(
            bare.query[0, head, 0].double(),
            lse[:, head],
            mean[:, head],
            targets[:, head],
            scale=bare.scale,
            tol=_CAPTURED,
        )
        change = float((targets[:, head] - mean[:, head]).square().mean().sqrt())
        results.append((found, change, found.floor.value / change if change > 0 else math.nan))
    return results


def _statistics(layer: LayerCapture) -> tuple[Tensor, Tensor]:
    """(examples, heads) log masses and (examples, heads, value_dim) means of the content at the first position."""
    found = attention.statistics(
        layer.query[:, :, :1].double(), layer.key.double(), layer.value.double(), layer.scale, layer.mask[:, :, :1]
    )
    return found.lse[:, :, 0], found.mean[:, :, 0]


def _oracle_table(heads: list[tuple[Memorisation, float, float]]) -> Table:
    rows: list[list[Cell]] = [
        [index, change, found.floor.value, share, found.verdict.value]
        for index, (found, change, share) in enumerate(heads)
    ]
    return Table(
        title="First layer at [CLS]: can a prefix do to this head what LoRA did?",
        columns=["head", "LoRA's change (rms)", "floor of any prefix (rms)", "floor / change", "exactly"],
        rows=rows,
        note="IMPOSSIBLE: the floor lies above the rounding of the captures. The floor is PROVED for the "
        "captured statistics: no prefix of any length at this head comes closer on "
        "these rows, content and positions left as they are. It says nothing about later layers, which may repair or "
        "undo the difference. A prefix that moves positions, as PEFT's does, is outside the claim.",
        sides={"floor of any prefix (rms)": Side.LOWER, "floor / change": Side.LOWER},
    )


def _oracle_summary(heads: list[tuple[Memorisation, float, float]]) -> str:
    shares = sorted(share for _, _, share in heads if not math.isnan(share))
    if not shares:
        return "LoRA left the first layer's heads as they were, so the oracle has no target there."
    impossible = sum(found.verdict is Verdict.IMPOSSIBLE for found, _, _ in heads)
    return (
        f"In {impossible} of {len(heads)} heads of the first layer no prefix of any length reproduces at [CLS] what "
        f"the trained LoRA does; a median {shares[len(shares) // 2]:.0%} of its change is out of reach there."
    )


def _parameter_table(context: AuditContext) -> Table:
    hidden = context.model.hidden_size
    counts = [count for count in _EXAMPLES if count <= hidden // 2]
    rows: list[list[Cell]] = [
        [row.examples, row.tokens, row.prompt_parameters, row.lora_parameters, row.fewer]
        for row in compare_with_lora(hidden, counts)
    ]
    return Table(
        title="Tokens against LoRA, where every example needs a token of its own",
        columns=["examples", "tokens at least", "prompt parameters", "LoRA parameters", "fewer"],
        rows=rows,
        note="Paper A, Theorems 3 and 4, at this hidden size: n independent examples at a shared query need at least n "
        "tokens; an update that adds n hidden units fits them too. Both grow alike: a story about constants.",
    )
