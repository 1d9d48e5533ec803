"""What the data alone decides: the floor that contradictions put under every method. PROVED, since every method maps
equal inputs to equal outputs."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from promptreach.certificate import Assumption, Certificate, Evidence, Side, rechecks
from promptreach.data import LabelledTexts, TaskData
from promptreach.tuning.backbone import Backbone
from promptreach.tuning.diagnosis.study import Measured
from promptreach.tuning.encoding import Encoded, encode

Content = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Floors:
    """The data as the model sees it, and its contradictions.

    Attributes:
        encoded: after tokenization and truncation.
        contents: what the model reads of each example before it must answer.
        conflicting: the contents that carry more than one answer.
        measured: the numbers.
    """

    encoded: Encoded
    contents: tuple[Content, ...]
    conflicting: tuple[Content, ...]
    measured: Measured


def find(backbone: Backbone, data: TaskData, max_length: int) -> Floors:
    """Read all of `data`, cut to `max_length` tokens, and find its floors."""
    encoded = encode(backbone, data, max_length)
    contents = contents_of(encoded.sequences, encoded.answer_lengths)
    groups = group(contents, data.answers)
    answers = [1] * len(data) if encoded.answer_lengths is None else list(encoded.answer_lengths)
    loss_floor, accuracy_floor = floors(groups, sum(answers))
    conflicting = tuple(key for key, counts in groups.items() if len(counts) > 1)
    shares = Counter(data.answers)
    lengths = sorted(len(sequence) for sequence in encoded.sequences)
    classes = len(data.label_names) if isinstance(data, LabelledTexts) else 0
    values = {
        "rows": len(data),
        "classes": classes,
        "majority_share": max(shares.values()) / len(data),
        "smallest_class": min(shares.values()) if classes else None,
        "different_inputs": len(groups),
        "conflicting_inputs": len(conflicting),
        "conflicting_rows": sum(sum(groups[key].values()) for key in conflicting),
        "loss_floor": loss_floor.value,
        "best_accuracy": accuracy_floor.value,
        "truncated": encoded.truncated,
        "median_tokens": lengths[len(lengths) // 2],
        "longest_tokens": lengths[-1],
        "max_length": max_length,
    }
    sample = f"all {len(data):,} rows"
    measured = Measured("data", Evidence.PROVED, sample, values, certificates=(loss_floor, accuracy_floor))
    return Floors(encoded, contents, conflicting, measured)


def contents_of(sequences: Sequence[Content], answer_lengths: Sequence[int] | None) -> tuple[Content, ...]:
    """What the model reads of each example before it must answer."""
    if answer_lengths is None:
        return tuple(sequences)
    return tuple(ids[: len(ids) - length] for ids, length in zip(sequences, answer_lengths, strict=True))


def group(contents: Sequence[Content], answers: Sequence[str]) -> dict[Content, Counter[str]]:
    """How often each content carries each answer."""
    groups: dict[Content, Counter[str]] = defaultdict(Counter)
    for content, answer in zip(contents, answers, strict=True):
        groups[content][answer] += 1
    return groups


def floors(groups: Mapping[Content, Counter[str]], answers: int) -> tuple[Certificate, Certificate]:
    """The least mean loss and the best accuracy that any function of the input reaches on these rows.

    For a group of equal inputs with counts c_1, ..., c_k the best constant answer is the empirical distribution: its
    loss is -sum c_i log(c_i / c), and the most frequent answer is right max c_i times. Both are attained.
    """
    counts = [sorted(group.values(), reverse=True) for group in groups.values()]
    rows = sum(map(sum, counts))
    # Groups with one answer add nothing to the loss and everything to the accuracy, so they are kept as one number.
    conflicts = [group for group in counts if len(group) > 1]
    witness = {"conflicts": conflicts, "rows": rows, "answers": answers}
    assumption = (
        Assumption("the model's output is a function of the tokens it reads", True, "evaluation without dropout"),
    )
    loss = Certificate(
        claim="value is the least mean loss, in nats per answer, of any function of the input on these rows",
        value=_loss_floor(conflicts, answers),
        side=Side.EXACT,
        evidence=Evidence.PROVED,
        assumptions=assumption,
        witness=witness,
        checker="tuning.diagnosis.floors:recheck_loss_floor",
    )
    accuracy = Certificate(
        claim="value is the largest share of rows on which any function of the input gives the whole answer",
        value=1 - sum(sum(group) - group[0] for group in conflicts) / rows,
        side=Side.EXACT,
        evidence=Evidence.PROVED,
        assumptions=assumption,
        witness=witness,
        checker="tuning.diagnosis.floors:recheck_best_accuracy",
    )
    return loss, accuracy


def _loss_floor(conflicts: Sequence[Sequence[int]], answers: int) -> float:
    return math.fsum(-count * math.log(count / sum(group)) for group in conflicts for count in group) / answers


@rechecks
def recheck_loss_floor(certificate: Certificate) -> bool:
    """The same floor as the summed entropy of the groups, c log c - sum c_i log c_i."""
    conflicts, answers = certificate.witness["conflicts"], certificate.witness["answers"]
    total = math.fsum(
        sum(group) * math.log(sum(group)) - math.fsum(count * math.log(count) for count in group) for group in conflicts
    )
    return math.isclose(total / answers, certificate.value, rel_tol=1e-9, abs_tol=1e-12)


@rechecks
def recheck_best_accuracy(certificate: Certificate) -> bool:
    """Count the rows that a majority answer per group gets right."""
    conflicts, rows = certificate.witness["conflicts"], certificate.witness["rows"]
    alone = rows - sum(map(sum, conflicts))
    return math.isclose((alone + sum(map(max, conflicts))) / rows, certificate.value, rel_tol=1e-12)
