"""The error that no prefix of m slots goes below in the first layer's heads, by m, at what the trained LoRA does there.

Where all examples ask with one query, one slot does what any number does, and the oracle's floor is the floor of every
length. Where queries differ, more slots do more, and `token_floor` bounds each number of them: on whatever queries, so
in a decoder too. Only the first layer will do, since what enters a later one depends on the prompt.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach import attention
from promptreach.audit.context import AuditContext
from promptreach.backbone import TokenBatch
from promptreach.certificate import Certificate
from promptreach.errors import UnsupportedModelError
from promptreach.evidence import Side
from promptreach.hf import attach, capture
from promptreach.hf.running.capture import LayerCapture, require_plain
from promptreach.limits import token_floor
from promptreach.report.findings import Block, Cell, Curve, Series, Table, Text

ROWS = 16
"""Examples of a curve: fewer than a head has dimensions, so that their outputs leave directions free."""
HEADS = 4
"""Heads with a curve, those that LoRA changes most."""
SLOTS = (1, 2, 4, 8)


@dataclass(frozen=True)
class HeadCurve:
    """The floors of one head by number of slots.

    Attributes:
        head: of the first layer.
        change: how far LoRA moves the head's output on these examples, root mean square.
        floors: slots and the floor of at most so many, in their order.
    """

    head: int
    change: float
    floors: tuple[tuple[int, Certificate], ...]


@dataclass(frozen=True)
class FloorCurves:
    """The curves of the heads, or why there are none.

    Attributes:
        heads: by their index.
        examples: how many share a prefix.
        missing: which hypothesis fails; empty where there are curves.
    """

    heads: tuple[HeadCurve, ...] = ()
    examples: int = 0
    missing: str = ""

    @property
    def certificates(self) -> list[Certificate]:
        """Every floor, with the head and the number of slots it is about."""
        return [
            floor.about(f"First layer, head {curve.head}, prefixes of {slots} slots against what LoRA does there")
            for curve in self.heads
            for slots, floor in curve.floors
        ]

    @property
    def values(self) -> dict[str, object]:
        """What the finding keeps of them; shares are floors over LoRA's change."""
        shares = {str(curve.head): [floor.value / curve.change for _, floor in curve.floors] for curve in self.heads}
        slots = [slots for slots, _ in self.heads[0].floors] if self.heads else []
        return {"floor_curve_slots": slots, "floor_curve_shares": shares, "floor_curve_missing": self.missing}


def floor_curves(context: AuditContext) -> FloorCurves:
    """The floors of prefixes of 1, 2, 4, 8 and n - 1 slots for n probe rows, in the heads that LoRA changes most.

    In an encoder the query is the second token, whose own word it holds; [CLS] would be the same for all. In a decoder
    it is the last. The prefix moves no positions and meets the content as it is.
    """
    lora = context.best("lora")
    if lora is None or lora.adapter is None:
        return FloorCurves(missing="no LoRA update was trained that could set the targets")
    if reason := context.model.lacks("prefix", "random"):
        return FloorCurves(missing=f"no prefix can stand in front of the first layer, since {reason}")
    batch = context.probe_batch.rows(slice(0, ROWS))
    places = _places(batch, context.model.both_ways)
    try:
        outputs = _outputs(capture(context.model, batch, layers=[0])[0], places, context.model.name)
        with attach(context.model, lora.adapter) as joined:
            targets = _outputs(capture(context.model, batch, joined, layers=[0])[0], places, context.model.name)
    except UnsupportedModelError as error:
        return FloorCurves(missing=str(error))
    count = len(places)
    slots = [*(number for number in SLOTS if number < count - 1), *([count - 1] if count > 1 else [])]
    changes = (targets - outputs).square().mean(dim=(1, 2)).sqrt()
    chosen = [head for head in changes.argsort(descending=True)[:HEADS].tolist() if changes[head] > 0]
    if not chosen or not slots:
        why = "LoRA left the first layer's heads as they were" if slots else "a single probe row needs one slot"
        return FloorCurves(missing=why)
    curves = (
        HeadCurve(
            head,
            float(changes[head]),
            tuple((number, token_floor(outputs[head], targets[head], number)) for number in slots),
        )
        for head in sorted(chosen)
    )
    return FloorCurves(tuple(curves), count)


def curve_blocks(curves: FloorCurves) -> list[Block]:
    """The curves as a picture and as a table, or a line that says why there are none."""
    if curves.missing:
        return [Text(text=f"There is no floor by number of slots: {curves.missing}.")]
    names = [f"{slots} slots" if slots > 1 else "1 slot" for slots, _ in curves.heads[0].floors]
    rows: list[list[Cell]] = [
        [curve.head, curve.change, *(floor.value for _, floor in curve.floors)] for curve in curves.heads
    ]
    series = [
        Series(
            name=f"head {curve.head}",
            x=[float(slots) for slots, _ in curve.floors],
            y=[floor.value / curve.change for _, floor in curve.floors],
        )
        for curve in curves.heads
    ]
    note = (
        f"{curves.examples} rows at a token whose query differs between them, one prefix for all. PROVED for the "
        "captured outputs: no prefix of at most m slots comes closer to what LoRA makes of this head, whatever its "
        "keys and values, content and positions left as they are. The true minimum may be higher."
    )
    return [
        Curve(
            title="Error that no prefix of m slots goes below, as a share of LoRA's change",
            x_label="slots",
            y_label="floor / LoRA's change",
            series=series,
            note=note,
        ),
        Table(
            title="First layer: the floor by number of slots (rms)",
            columns=["head", "LoRA's change (rms)", *names],
            rows=rows,
            note=note,
            sides=dict.fromkeys(names, Side.LOWER),
        ),
    ]


def curve_summary(curves: FloorCurves) -> str:
    """A sentence on the head that asks for most slots, or nothing."""
    if curves.missing:
        return ""
    shares = [(curve.floors[0][1].value / curve.change, curve) for curve in curves.heads]
    share, curve = max(shares, key=lambda pair: pair[0])
    needed = max((slots for slots, floor in curve.floors if floor.value > 0), default=0)
    if not needed:
        return f"No number of slots is ruled out on {curves.examples} rows where queries differ."
    return (
        f"Where queries differ, on {curves.examples} rows, one slot leaves at least {share:.0%} of LoRA's change of "
        f"head {curve.head} undone, and {needed} {'slots leave' if needed > 1 else 'slot leaves'} some of it."
    )


def _places(batch: TokenBatch, both_ways: bool) -> Tensor:
    """The position of each row's query."""
    counts = batch.mask.long().cumsum(dim=1)
    wanted = counts[:, -1].clamp(max=2) if both_ways else counts[:, -1]
    return (counts >= wanted[:, None]).long().argmax(dim=1)


def _outputs(layer: LayerCapture, places: Tensor, name: str) -> Float[Tensor, "heads rows value_dim"]:
    """Each head's output at the rows' positions, in float64 from the captured queries, keys and values."""
    require_plain(layer, name)
    rows = torch.arange(len(places), device=places.device)
    query = layer.query[rows, :, places][:, :, None].double()
    mask = layer.mask[rows, :, places][:, :, None]
    groups = layer.query.shape[1] // layer.key.shape[1]
    key, value = (part.double().repeat_interleave(groups, dim=1) for part in (layer.key, layer.value))
    mean = attention.statistics(query, key, value, layer.scale, mask).mean[:, :, 0]
    return mean.transpose(0, 1).cpu()
