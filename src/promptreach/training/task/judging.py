"""The ways in which answers are judged beside their loss: what the model writes, or which option it finds likeliest.

A written answer is greedy, and as long as the longest true one of the training rows with a little to spare. Texts are
compared whole, or by what a pattern finds in them, as the final number of a worked solution.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from promptreach.backbone import Backbone, Prepended
from promptreach.data import Completions, TaskData
from promptreach.errors import Fault, InputError
from promptreach.hf.models.texts import tokenizer_of
from promptreach.training.task.encoding import Encoded
from promptreach.training.task.metric_names import TEXT_METRICS, TextMetric
from promptreach.training.task.objective import Outcomes
from promptreach.training.task.text_metrics import statistics
from promptreach.training.task.writing import greedy

SPARE = 8
"""Tokens that a written answer may have more than the longest true one of the training rows."""
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3})")
_NONE = -1  # in place of a token behind the end of an answer


@dataclass(frozen=True)
class Judging:
    """How answers are judged beside their loss.

    Attributes:
        metric: of written answers; None writes nothing.
        pattern: a regular expression; the last match in a text, or its first group, stands for the text. Commas between
            thousands are left out. None compares whole texts.
        length_normalised: whether one of several options is chosen by its likelihood per character.
    """

    metric: TextMetric | None = None
    pattern: str | None = None
    length_normalised: bool = False

    def compared(self, text: str) -> str | None:
        """The part of a text that is compared; None where the pattern finds nothing."""
        if self.pattern is None:
            return text
        matches = list(re.finditer(self.pattern, text))
        if not matches:
            return None
        found = matches[-1]
        part = next((group for group in found.groups() if group is not None), "") if found.groups() else found[0]
        return _THOUSANDS.sub("", part.strip())

    def answered(
        self,
        backbone: Backbone,
        part: Encoded,
        outcomes: Outcomes,
        room: tuple[int, frozenset[int]],
        joined: Prepended | None,
    ) -> Outcomes:
        """`outcomes` with what the model writes behind every prompt of `part`, and the numbers of the metric.

        Args:
            room: the most tokens of an answer, and those that end one, see `room_of`.
        """
        if self.metric is None or not part.texts:
            return outcomes
        most, stops = room
        written = greedy(backbone, part.prompts, most, stops, joined)
        given = [self.compared(text) or "" for text in decoded(backbone, written)]
        wanted = [self.compared(text) or "" for text in part.texts]
        tokens = torch.tensor([[*ids, *[_NONE] * (most - len(ids))] for ids in written])
        return replace(outcomes, judged=statistics(self.metric, given, wanted), written=tokens)


PLAIN = Judging()
"""By the loss, or by the label."""


def room_of(backbone: Backbone, train: Encoded) -> tuple[int, frozenset[int]]:
    """The most tokens that an answer may have, and the tokens that end one: the end token, those of the model's own
    settings, and a special one that all true answers of the training rows end with, as chats do.

    Raises:
        InputError: when there is no such token, so that nothing written would ever end.
    """
    assert train.answer_lengths is not None
    special = set(getattr(tokenizer_of(backbone), "all_special_ids", ()))
    ends = {ids[-1] for ids in train.sequences}
    stops = stops_of(backbone) | frozenset(ends & special if len(ends) == 1 else ())
    if not stops:
        remedy = "Set the tokenizer's eos_token, or judge by the loss"
        raise InputError(Fault("metric", "written answers, and a tokenizer without an end token", "one", remedy))
    return max(train.answer_lengths) + SPARE, stops


def stops_of(backbone: Backbone) -> frozenset[int]:
    """The tokens that end what a model writes: the end token, and those of the model's own settings."""
    own = getattr(getattr(backbone.release(), "generation_config", None), "eos_token_id", None)
    known = {backbone.end_token, *(own if isinstance(own, list) else [own])}
    return frozenset(stop for stop in known if isinstance(stop, int))


def decoded(backbone: Backbone, written: Sequence[Sequence[int]]) -> list[str]:
    """The texts of tokens that were written, special ones left out."""
    tokenizer = tokenizer_of(backbone)
    ids = [[token for token in row if token != _NONE] for row in written]
    texts: list[str] = tokenizer.batch_decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return texts


def judging_faults(judging: Judging, data: TaskData | None = None) -> list[Fault]:
    """The faults of a way of judging by itself, and on such data where these are known."""
    if judging.pattern is not None:
        try:
            empty = re.compile(judging.pattern).search("")
        except re.error as error:
            return [Fault("answer_pattern", f"{judging.pattern!r} ({error})", "a regular expression of Python")]
        if empty:
            return [Fault("answer_pattern", f"{judging.pattern!r}, which finds an empty text", "one that finds a text")]
    if data is None:
        return []
    faults = []
    options = isinstance(data, Completions) and bool(data.options)
    if judging.length_normalised and not options:
        faults.append(
            Fault("length_normalised", "for rows without options", "rows with several options to choose from")
        )
    if judging.pattern is not None and isinstance(data, Completions) and not options:
        faults += _unmatched(judging, data)
    elif judging.pattern is not None:
        faults.append(Fault("answer_pattern", "for answers that are not written", "completions", "Leave it out."))
    texts = data.completions if judging.metric == "rouge_l" and isinstance(data, Completions) else ()
    if silent := sum(re.search("[a-z0-9]", text.lower()) is None for text in texts):
        seen = f"'rouge_l' on {silent:,} completions without a Latin letter or a digit, which it does not see"
        faults.append(Fault("metric", seen, "completions of such words", "Take chrf, which reads any script."))
    return faults


def _unmatched(judging: Judging, data: Completions) -> list[Fault]:
    """The completions in which the pattern finds nothing: no answer could be right there."""
    rows = data.rows or tuple(range(1, len(data) + 1))
    missing = [row for row, text in zip(rows, data.completions, strict=True) if not judging.compared(text)]
    if not missing:
        return []
    seen = f"finds nothing in {len(missing):,} of {len(data):,} completions (row {', '.join(map(str, missing[:5]))})"
    return [Fault("answer_pattern", seen, "a pattern that finds the answer in every completion")]


def judging_of(
    metric: str | None, pattern: str | None, length_normalised: bool, data: TaskData | None = None
) -> Judging:
    """The way of judging that a call asks for: with a pattern and no metric, written answers are to match exactly; on
    rows that are read through a head nothing is written, though a metric may bear the same name."""
    named: Mapping[str, TextMetric] = {name: name for name in TEXT_METRICS}
    writes = data is None or isinstance(data, Completions)
    found = named.get(metric or ("exact_match" if pattern is not None else "")) if writes else None
    return Judging(found, pattern, length_normalised)
