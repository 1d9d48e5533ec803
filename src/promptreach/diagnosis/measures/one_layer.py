"""The floor of any prompt in a model of one layer, on the user's rows.

In one layer a prompt adds to what a head reads and scales it; how the content's own tokens compare stays as it is. So
the oracle can be asked how much of what the trained LoRA does to the heads, where the answer is read, no slots of any
number imitate. That is no proof about the task, which may be done in another way; together with a gap that was
measured it says that the form binds. Content and positions are taken as they stand; a prompt that shifts positions is
outside the claim.
"""

import math
from collections import defaultdict

import torch
from torch import Tensor

from promptreach import attention
from promptreach.diagnosis.controls import OneLayerNumbers
from promptreach.diagnosis.experiment import Experiment, Measured, Skipped
from promptreach.diagnosis.rules.rules import depends_on
from promptreach.hf import attach, capture
from promptreach.hf.running.capture import LayerCapture
from promptreach.limits import memorisable_statistics

MOST_ROWS = 256
"""Held-out rows that are looked at."""
MOST_QUERIES = 4
"""Groups of rows with one query that the oracle is asked about, the largest."""


def measure(experiment: Experiment) -> Measured[OneLayerNumbers] | Skipped:
    """Ask the oracle, where the model has one layer and the verdict hangs on it."""
    if experiment.task.backbone.num_layers != 1:
        return Skipped("The model has several layers, and the oracle speaks of one.")
    if experiment.task.pooling == "each":
        return Skipped("Every token is read, and the oracle speaks of the last one.")
    if not depends_on("one_layer", experiment.numbers):
        return Skipped("The verdict does not hang on it.")
    lora = experiment.best("lora")
    if lora is None or lora.adapter is None:
        return Skipped("No LoRA update was trained that could set the targets.")
    rows = read_at(experiment)
    groups = _groups(rows)
    if not groups:
        return Skipped("No two rows share the last token and its position, so no two share a query.")
    backbone = experiment.task.backbone
    with attach(backbone, lora.adapter) as joined:
        targets = {
            key: _last(capture(backbone, backbone.batch(group), joined, layers=[0])[0])[2]
            for key, group in groups.items()
        }
    floor = change = 0.0
    for key, group in groups.items():
        layer = capture(backbone, backbone.batch(group), layers=[0])[0]
        query, lse, mean = _last(layer)
        change += float((targets[key] - mean).square().sum())
        for head in range(mean.shape[1]):
            found = memorisable_statistics(
                query[head], lse[:, head], mean[:, head], targets[key][:, head], scale=layer.scale
            )
            floor += found.floor.value**2 * mean[:, head].numel()
    entries = sum(target.numel() for target in targets.values())
    numbers = OneLayerNumbers(
        change=math.sqrt(change / entries),
        floor=math.sqrt(floor / entries),
        share=math.sqrt(floor / change) if change > 0 else 0.0,
        rows=sum(map(len, groups.values())),
        queries=len(groups),
    )
    return Measured(numbers, f"{numbers.rows:,} held-out rows that share {numbers.queries} queries")


def read_at(experiment: Experiment) -> list[tuple[int, ...]]:
    """Held-out rows up to the token that the first answer is read at: all of a text, a completion's prompt."""
    held_out = experiment.task.encoded["held_out"]
    lengths = held_out.answer_lengths or (0,) * len(held_out)
    pairs = zip(held_out.sequences[:MOST_ROWS], lengths, strict=False)
    return [tuple(ids[: len(ids) - answer]) for ids, answer in pairs]


def _groups(rows: list[tuple[int, ...]]) -> dict[tuple[int, int], list[tuple[int, ...]]]:
    """Different rows by their last token and its position, which decide the query: the largest groups."""
    found: dict[tuple[int, int], list[tuple[int, ...]]] = defaultdict(list)
    for row in dict.fromkeys(rows):
        found[row[-1], len(row)].append(row)
    largest = sorted(found.items(), key=lambda item: -len(item[1]))[:MOST_QUERIES]
    return {key: group for key, group in largest if len(group) > 1}


def _last(layer: LayerCapture) -> tuple[Tensor, Tensor, Tensor]:
    """The queries (heads, size) at the last token of rows of equal length, and the content's log masses (rows, heads)
    and means (rows, heads, size) there."""
    last = slice(layer.query.shape[2] - 1, None)
    found = attention.statistics(
        layer.query[:, :, last].double(), layer.key.double(), layer.value.double(), layer.scale, layer.mask[:, :, last]
    )
    return layer.query[0, :, -1].double(), found.lse[:, :, 0], found.mean[:, :, 0].to(torch.float64)
