"""The floors that contradictions in the data put under every method. PROVED, since every method maps equal inputs to
equal outputs.

An answer is predicted token by token, each from the input and the true tokens before it: its context. A label is an
answer of one token, whose context is the text. Two rows contradict each other where one context goes on differently in
them, whatever the strings were that the tokens came from.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

from promptreach.backbone import Backbone
from promptreach.certificate import Assumption, Certificate, Evidence, Independence, Side, Statement, rechecks
from promptreach.data import LabelledTexts, TaskData
from promptreach.diagnosis.experiment import Experiment, Measured
from promptreach.diagnosis.numbers import DataNumbers
from promptreach.rounding import WIDE, float_above, float_below, narrowed
from promptreach.training.task.encoding import Encoded, encode
from promptreach.witness import whole

Tokens = tuple[int, ...]

_FUNCTION = Assumption(
    "the model's output is a function of the tokens it reads",
    True,
    "evaluation without dropout, and no prompt between content and answer",
)
_METHOD = "any function of the tokens read, evaluated without dropout and with no prompt between content and answer,"
_MOST_ROWS = 10**9


@dataclass(frozen=True, eq=False, kw_only=True)
class Floors(Measured[DataNumbers]):
    """The numbers of the data, and the rows behind them.

    Attributes:
        lengths: tokens of each example after truncation, ascending.
        contents: what the model reads of each example before it must answer.
        conflicting: the contents whose answers no function gives all.
    """

    lengths: tuple[int, ...]
    contents: tuple[Tokens, ...]
    conflicting: tuple[Tokens, ...]


def measure(experiment: Experiment) -> Floors:
    """The floors of all rows, or of those to be memorised."""
    rows = experiment.task.train if experiment.every_row else experiment.data
    return find(experiment.task.backbone, rows, experiment.content_length)


def find(backbone: Backbone, data: TaskData, max_length: int) -> Floors:
    """Read all of `data`, cut to `max_length` tokens, and find its floors."""
    encoded = encode(backbone, data, max_length)
    if encoded.targets is not None and encoded.labels is None:
        return _several_parts(data, encoded, max_length)
    contents, answers = split(encoded)
    contexts = disputed_contexts(contents, answers)
    rivals = disputed_contents(contents, answers)
    loss = loss_floor([[len(rows) for rows in context] for context in contexts], answers)
    accuracy = best_accuracy(rivals.values(), answers)
    conflicting = len({row for context in contexts for rows in context for row in rows})
    return _found(data, encoded, max_length, (contents, answers), rivals, conflicting, loss, accuracy)


def _several_parts(data: TaskData, encoded: Encoded, max_length: int) -> Floors:
    """The floors of answers whose parts are told apart from each other, each from the whole content: one of several
    labels, the tag of a word. Numbers and spans have none that is proved here: their bounds are 0 and 1, and what
    contradicts itself is counted."""
    contents, parts = encoded.sequences, parted(data, encoded)
    whole = [(index,) for index in _indices(parts)]
    rivals = disputed_contents(contents, whole)
    conflicting = sum(sum(counts) for counts in rivals.values())
    if data.kind in ("number", "span"):
        return _found(data, encoded, max_length, (contents, whole), rivals, conflicting, None, None)
    groups: dict[tuple[Tokens, int], Counter[int]] = defaultdict(Counter)
    for content, answer in zip(contents, parts, strict=True):
        for place, part in enumerate(answer):
            groups[content, place][part] += 1
    loss = loss_floor([list(counts.values()) for counts in groups.values() if len(counts) > 1], parts)
    accuracy = best_accuracy(rivals.values(), whole)
    return _found(data, encoded, max_length, (contents, whole), rivals, conflicting, loss, accuracy)


def parted(data: TaskData, encoded: Encoded) -> tuple[Tokens, ...]:
    """Each answer as whole numbers that are equal where the answers are: 0 or 1 a label, a tag a word read, the number,
    the first and the last token."""
    assert encoded.targets is not None
    if data.kind == "number":
        return tuple((index,) for index in _indices(encoded.targets.tolist()))
    return tuple(tuple(int(part) for part in row if part >= 0) for row in encoded.targets.tolist())


def _indices(values: Iterable[object]) -> list[int]:
    """The number of each value in the order in which they occur first."""
    known: dict[object, int] = {}
    return [known.setdefault(value, len(known)) for value in values]


def _found(
    data: TaskData,
    encoded: Encoded,
    max_length: int,
    rows: tuple[Sequence[Tokens], Sequence[Tokens]],
    rivals: Mapping[Tokens, Sequence[int]],
    conflicting: int,
    loss: Certificate | None,
    accuracy: Certificate | None,
) -> Floors:
    """The numbers of rows with these contents and answers."""
    contents, answers = rows
    lengths = sorted(len(sequence) for sequence in encoded.sequences)
    numbers = DataNumbers(
        rows=len(data),
        classes=len(data.label_names) if isinstance(data, LabelledTexts) else 0,
        majority_share=max(Counter(answers).values()) / len(data),
        different_inputs=len(set(contents)),
        conflicting_rows=conflicting,
        loss_floor=0.0 if loss is None else loss.value,
        best_accuracy=1.0 if accuracy is None else accuracy.value,
        kind=data.kind,
        truncated=encoded.truncated,
        cut_answers=encoded.cut_answers,
        median_tokens=lengths[len(lengths) // 2],
        longest_tokens=lengths[-1],
        max_length=max_length,
    )
    return Floors(
        numbers,
        f"all {len(data):,} rows",
        Evidence.MEASURED if loss is None else Evidence.PROVED,
        tuple(one for one in (loss, accuracy) if one is not None),
        lengths=tuple(lengths),
        contents=tuple(contents),
        conflicting=tuple(rivals),
    )


def split(encoded: Encoded) -> tuple[tuple[Tokens, ...], tuple[Tokens, ...]]:
    """The tokens of each example that the model reads before it must answer, and its answer's (a label is one)."""
    if encoded.labels is not None:
        return encoded.sequences, tuple((int(label),) for label in encoded.labels.tolist())
    assert encoded.answer_lengths is not None
    pairs = list(zip(encoded.sequences, encoded.answer_lengths, strict=True))
    return tuple(ids[:-length] for ids, length in pairs), tuple(ids[-length:] for ids, length in pairs)


def disputed_contexts(contents: Sequence[Tokens], answers: Sequence[Tokens]) -> list[list[list[int]]]:
    """Every context in which an answer goes on in two or more ways: for each way, the rows that take it.

    The context of the answer's token i is the content with the first i tokens of the answer, wherever in it the content
    ends: the input "q" that has reached "q a" is in the same context as the input "q a".
    """
    sequences = [(*content, *answer) for content, answer in zip(contents, answers, strict=True)]
    found = []
    # Rows that agree up to a depth stay together; a row that is alone there disagrees with nobody from there on.
    groups, depth = [list(range(len(sequences)))], 0
    while groups:
        longer = []
        for group in groups:
            branches: dict[int, list[int]] = defaultdict(list)
            for row in group:
                if depth < len(sequences[row]):
                    branches[sequences[row][depth]].append(row)
            ways = [[row for row in rows if len(contents[row]) <= depth] for rows in branches.values()]
            ways = [rows for rows in ways if rows]
            if len(ways) > 1:
                found.append(ways)
            longer += [rows for rows in branches.values() if len(rows) > 1]
        groups, depth = longer, depth + 1
    return found


def disputed_contents(contents: Sequence[Tokens], answers: Sequence[Tokens]) -> dict[Tokens, list[int]]:
    """The contents whose answers no function gives all, each with its rows counted: first the most that one function
    gets right, then the rows of each other answer.

    A function that gives an answer gives all that begin it as well, and of the rows of one content no others.
    """
    groups: dict[Tokens, Counter[Tokens]] = defaultdict(Counter)
    for content, answer in zip(contents, answers, strict=True):
        groups[content][answer] += 1
    found = {}
    for content, counts in groups.items():
        right = {answer: sum(counts[part] for part in _beginnings(answer)) for answer in counts}
        best = max(right, key=right.__getitem__)
        others = counts.keys() - set(_beginnings(best))
        if others:
            found[content] = [right[best], *sorted((counts[answer] for answer in others), reverse=True)]
    return found


def loss_floor(conflicts: Sequence[Sequence[int]], answers: Sequence[Tokens]) -> Certificate:
    """The least mean loss that any function of the tokens read reaches on these rows.

    In a context with counts c_1, ..., c_k of the next token, c in all, the best output is the empirical distribution:
    its loss is -sum c_i log(c_i / c). Outputs in different contexts are free of each other, so the sum is attained.

    Args:
        conflicts: the counts of each disputed context; the others cost nothing.
        answers: of all rows, disputed or not; the mean is over their tokens.
    """
    count = sum(map(len, answers))
    with localcontext(WIDE):
        total = sum((c * (Decimal(sum(group)) / c).ln() for group in conflicts for c in group), Decimal(0))
    witness = {"conflicts": [list(group) for group in conflicts], "rows": len(answers), "answers": count}
    return Certificate.stated(recheck_loss_floor, _below(total, count), witness).checked()


def best_accuracy(conflicts: Iterable[Sequence[int]], answers: Sequence[Tokens]) -> Certificate:
    """The share of rows on which no function of the tokens read does better.

    EXACT where every answer is one token, since each row then has one context. An answer of several tokens may pass
    through the context of another input, which costs more than is counted here: UPPER.

    Args:
        conflicts: of each disputed content the rows that one function gets right, and the others, by answer.
        answers: of all rows, disputed or not.
    """
    conflicts, rows = list(conflicts), len(answers)
    lost = sum(sum(others) for _, *others in conflicts)
    witness = {"conflicts": [list(group) for group in conflicts], "rows": rows, "answers": sum(map(len, answers))}
    value = float_above(Fraction(rows - lost, rows))
    return Certificate.stated(recheck_best_accuracy, value, witness).checked()


def _counts(witness: Mapping[str, Any], most: str) -> tuple[list[list[int]], int, int]:
    """Conflicts, rows and answers, where each group disagrees and all of them are no more than there are."""
    rows, answers = whole(witness, "rows", 1, _MOST_ROWS), whole(witness, "answers", 1, _MOST_ROWS)
    conflicts = [[whole({"count": count}, "count", 1, _MOST_ROWS) for count in group] for group in witness["conflicts"]]
    if rows > answers or any(len(group) < 2 for group in conflicts) or sum(map(sum, conflicts)) > witness[most]:
        raise ValueError("counts that belong to no rows")
    return conflicts, rows, answers


def _states_loss(witness: Mapping[str, Any]) -> Statement:
    _, rows, answers = _counts(witness, "answers")
    return Statement(
        claim=f"value is the least mean loss, in nats per answer (of a completion: per token), of {_METHOD} on these "
        f"{rows:,} rows with {answers:,} answers (of completions: tokens) and conflicts as counted, rounded down",
        side=Side.EXACT,
        assumptions=(_FUNCTION,),
    )


def _states_accuracy(witness: Mapping[str, Any]) -> Statement:
    _, rows, answers = _counts(witness, "rows")
    return Statement(
        claim=f"value is the largest share of rows on which {_METHOD} gives the whole answer, on these {rows:,} rows "
        "whose conflicts are as counted, rounded up",
        side=Side.EXACT if rows == answers else Side.UPPER,
        assumptions=(_FUNCTION,),
    )


@rechecks(Independence.FULL, states=_states_loss)
def recheck_loss_floor(certificate: Certificate) -> bool:
    """The same floor as the summed entropy of the contexts, c log c - sum c_i log c_i, rounded in the same way.

    About a second for each 100,000 counts, on any witness.
    """
    conflicts, _, answers = _counts(certificate.witness, "answers")
    with localcontext(WIDE):
        total = sum((_count_log(sum(group)) - sum(map(_count_log, group)) for group in conflicts), Decimal(0))
    return certificate.value == _below(total, answers)


@rechecks(Independence.FULL, states=_states_accuracy)
def recheck_best_accuracy(certificate: Certificate) -> bool:
    """Count the rows of undisputed contents and those that the best function gets right of each other one.

    About a second for a million counts, on any witness.
    """
    conflicts, rows, _ = _counts(certificate.witness, "rows")
    alone = rows - sum(map(sum, conflicts))
    return certificate.value == float_above(Fraction(alone + sum(map(max, conflicts)), rows))


def _beginnings(answer: Tokens) -> list[Tokens]:
    """Every beginning of an answer, itself included."""
    return [answer[: end + 1] for end in range(len(answer))]


def _count_log(count: int) -> Decimal:
    return count * Decimal(count).ln()


def _below(total: Decimal, count: int) -> float:
    """The largest float64 below `total / count`.

    Fifty digits lose at most nine to the cancellation in a sum over a billion rows, which 1e-40 covers. So both paths
    round to the same number, unless a float64 lay that close to a mean of logarithms.
    """
    with localcontext(WIDE):
        return float_below(narrowed(total / count))
