"""The parts that the rows are split into: what a verdict cannot see when a label or a row stands on the wrong side."""

from collections import Counter
from collections.abc import Sequence

from promptreach.data import Completions, LabelledTexts, TaskData
from promptreach.diagnosis.circumstances import PartsNumbers
from promptreach.diagnosis.experiment import Experiment, Measured
from promptreach.rows.options import repeated
from promptreach.training.task.encoding import Encoded
from promptreach.training.task.judging import decoded
from promptreach.training.task.parts import shared_rows

_MERGES_LOOKED_AT = 200


def measure(experiment: Experiment) -> Measured[PartsNumbers]:
    """Count labels and rows that both parts hold; where rows are memorised, the parts are the same on purpose."""
    task = experiment.task
    known = 0 if experiment.every_row else _known_rows(task.train, task.held_out, task.encoded)
    data = experiment.data
    numbers = PartsNumbers(
        train_labels=_counted(data, task.train),
        held_out_labels=_counted(data, task.held_out),
        held_out_rows=len(task.held_out),
        known_rows=known,
        cut_side="beginning" if isinstance(data, Completions) else "end",
        room=experiment.content_length,
        context=task.backbone.max_positions,
        remarks=(
            *data.remarks,
            *_shared_remarks(experiment),
            *_blank_remarks(experiment),
            *_merge_remarks(experiment),
            *_answer_remarks(experiment),
        ),
    )
    return Measured(numbers, experiment.sample)


def _counted(data: TaskData, part: TaskData) -> dict[str, int]:
    if not isinstance(data, LabelledTexts):
        return {}
    counts = Counter(part.answers)
    return {name: counts[name] for name in data.label_names}


def _known_rows(train: TaskData, held_out: TaskData, encoded: dict[str, Encoded] | object) -> int:
    """The held-out rows that the training part holds as well, to the model or to a reader."""
    assert isinstance(encoded, dict)
    tokens = set(_contents(encoded["train"]))
    texts = {_plain(text) for text in train.inputs}
    pairs = zip(_contents(encoded["held_out"]), held_out.inputs, strict=True)
    return sum(content in tokens or _plain(text) in texts for content, text in pairs)


def _contents(part: Encoded) -> Sequence[tuple[int, ...]]:
    """What the model reads of each row before it must answer."""
    if part.answer_lengths is None:
        return part.sequences
    return [ids[:-length] for ids, length in zip(part.sequences, part.answer_lengths, strict=True)]


def _shared_remarks(experiment: Experiment) -> list[str]:
    """Rows of the user's own parts that stand in the validation part and in another one; `known_rows` has the rest."""
    if experiment.every_row or not experiment.data.parts:
        return []
    words = {"train": "training part", "validation": "validation part", "held_out": "test part"}
    encoded = experiment.task.encoded
    shared = shared_rows({name: list(_contents(part)) for name, part in encoded.items()})
    return [
        f"{count:,} of {len(encoded[later]):,} rows of the {words[later]} stand in the {words[earlier]} as well, to "
        "the model."
        for (earlier, later), count in shared.items()
        if "validation" in (earlier, later)
    ]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _blank_remarks(experiment: Experiment) -> list[str]:
    """Blanks between prompt and completion that pre-training has not seen there."""
    data = experiment.data
    if not isinstance(data, Completions):
        return []
    found, rows = [], len(data)
    if ends := sum(prompt[-1] in " \t" for prompt in data.prompts):
        found.append(
            f"{ends:,} of {rows:,} prompts end in white space: most tokenizers put a blank to the word behind it, so "
            "that one at a prompt's end is a token that the model rarely saw there; move it to the completion."
        )
    starts = [
        row for row, text in enumerate(data.completions) if text[0].isalnum() and not data.prompts[row][-1].isspace()
    ]
    if starts and _wants_blanks(experiment, [data.completions[row] for row in starts[:20]]):
        found.append(
            f"{len(starts):,} of {rows:,} completions begin without a blank, where this tokenizer marks the starts of "
            "words: they are trained as the middle of one, exactly as written; begin them with a blank where they are "
            "words."
        )
    return found


def _merge_remarks(experiment: Experiment) -> list[str]:
    """Rows whose completion would share a token with its prompt, were the two written as one text; with an example."""
    part = experiment.task.train.take(range(min(_MERGES_LOOKED_AT, len(experiment.task.train))))
    if not isinstance(part, Completions):
        return []
    tokenize = experiment.task.backbone.tokenize_pairs
    apart = tokenize(part.prompts, part.completions)[0]
    joint = tokenize([one + two for one, two in zip(part.prompts, part.completions, strict=True)], part.completions)[0]
    merged = [row for row, (ids, whole) in enumerate(zip(apart, joint, strict=True)) if whole[: len(ids)] != ids]
    if not merged:
        return []
    end, start = part.prompts[merged[0]][-12:], part.completions[merged[0]][:12]
    return [
        f"In {len(merged):,} of {len(part):,} training rows the completion's first token would merge with the prompt's "
        f"last in running text, as in {end!r} and {start!r}: they are trained apart, as they will be asked."
    ]


def _answer_remarks(experiment: Experiment) -> list[str]:
    """Completions that could be options, and those that no model can write with this tokenizer."""
    data, task = experiment.data, experiment.task
    if not isinstance(data, Completions) or data.options:
        return []
    found = []
    if few := repeated(data.completions):
        found.append(
            f"The completions are {len(few)} texts that repeat: {', '.join(few)}. Named as options (--options), the "
            "likeliest of them is the answer, and accuracy is what counts."
        )
    if task.judging.metric is not None:
        part = task.encoded["train"]
        tails = [ids[len(ids) - own :] for ids, own in zip(part.sequences, part.answer_lengths or (), strict=True)]
        pairs = zip(part.texts, decoded(task.backbone, tails), strict=True)
        lost = [(text, back) for text, back in pairs if text.strip() != back.strip()]
        if lost:
            found.append(
                f"The tokens of {len(lost):,} of {len(part):,} training completions do not read as the text that they "
                f"stand for ({lost[0][1][:40]!r} for {lost[0][0][:40]!r}): a model that writes them does not match it."
            )
    return found


def _wants_blanks(experiment: Experiment, texts: Sequence[str]) -> bool:
    """Whether the tokenizer writes the start of a word otherwise than its middle: alone it reads a text as a start."""
    tokenize = experiment.task.backbone.tokenize_pairs
    alone = experiment.task.backbone.tokenize(texts, special_tokens=False)
    return tokenize([":"] * len(texts), texts)[1] != alone
