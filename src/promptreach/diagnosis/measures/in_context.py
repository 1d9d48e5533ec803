"""The bare model with words in front of every row: the written instruction, and examples of the training rows.

A user has these without training anything, so a tuned prompt has to beat them, too. Nothing of the rows judged is in
them. Labels are asked for by their own words, the likeliest of which is the answer.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from promptreach.backbone import UNBOUNDED, Backbone
from promptreach.data import Completions, LabelledTexts, TaskData
from promptreach.diagnosis.experiment import Experiment
from promptreach.diagnosis.measures.comparison import held_out, scores_of
from promptreach.diagnosis.numbers import InContextNumbers
from promptreach.errors import Fault, InputError
from promptreach.rows.options import with_options
from promptreach.training.task.chats import rendered
from promptreach.training.task.encoding import encode
from promptreach.training.task.in_context import drawn_shots, in_context
from promptreach.training.task.limits import drawn_rows
from promptreach.training.task.objective import Outcomes
from promptreach.training.task.parts import divided
from promptreach.training.task.task import Task

WORDS = ("instruction", "examples")
"""The words that a start may be named by."""


def measure(experiment: Experiment) -> dict[str, InContextNumbers]:
    """The scores of each way of asking, and how the best prompt or prefix, and LoRA, compare with it."""
    lora, soft = experiment.best("lora"), experiment.best("prompt", "prefix")
    found = {}
    for name, (outcomes, cut, tokens) in answered(experiment).items():
        over_lora, by_soft = None, None
        if lora is not None and _comparable(experiment, outcomes, held_out(lora)):
            over_lora = experiment.compare(outcomes, held_out(lora))
        if soft is not None and _comparable(experiment, outcomes, held_out(soft)):
            by_soft = experiment.compare(held_out(soft), outcomes)
        found[name] = InContextNumbers(
            **scores_of(outcomes, experiment.beside, experiment.positive),
            against_lora=over_lora,
            against_soft=by_soft,
            cut_rows=cut,
            median_tokens=tokens,
        )
    return found


def answered(experiment: Experiment) -> dict[str, tuple[Outcomes, int, int]]:
    """By its name, the outcomes of each way of asking, how many rows were cut, and how many tokens they have in the
    middle; each is scored once."""
    for name, rows in asked(experiment).items():
        if name not in experiment.asked:
            experiment.asked[name] = _scored(experiment, rows)
    return experiment.asked


def asked(experiment: Experiment) -> dict[str, Completions]:
    """The rows judged, in every way of asking that was wished for, by its name."""
    if not experiment.instruction and not experiment.shots:
        return {}
    parts = _parts(experiment)
    instruction, count = experiment.instruction, experiment.shots
    shots = drawn_shots(parts["train"], count, experiment.seed) if count else None
    ways: dict[str, tuple[str, Completions | None]] = {}
    if instruction:
        ways["bare model, instruction"] = (instruction, None)
    if shots is not None:
        ways[f"bare model, {len(shots)} examples"] = ("", shots)
    if instruction and shots is not None:
        ways[f"bare model, instruction and {len(shots)} examples"] = (instruction, shots)
    return {name: in_context(parts["held_out"], *way) for name, way in ways.items()}


def start_text(experiment: Experiment, text: str) -> str:
    """The text that prompts start from: the user's own, or the words of the instruction or examples by that name."""
    if text not in WORDS:
        return text
    shots = drawn_shots(_parts(experiment)["train"], experiment.shots, experiment.seed) if text == "examples" else None
    empty = Completions(("",), ("",))
    return in_context(empty, experiment.instruction if text == "instruction" else "", shots).prompts[0].strip()


def start_faults(text: str | None, instruction: str | None, shots: int | None) -> list[Fault]:
    """The faults of a text to start from: an empty one, or words that were not given."""
    if text is None:
        return []
    if not text.strip():
        return [Fault("init_text", "an empty text", "a text to start from")]
    given = {"instruction": instruction, "examples": shots}
    if text in WORDS and not given[text]:
        return [Fault("init_text", f"{text!r}, and none are given", "a text, or these words as well")]
    return []


def in_context_faults(
    model: Backbone, data: TaskData | None, instruction: str | None, shots: int | None
) -> list[Fault]:
    """The refusal of instructions and examples on a model that does not write, or of rows that cannot be asked for."""
    if data is None or (not instruction and not shots):
        return []
    where = "instruction" if instruction else "shots"
    if model.task == "encoder":
        remedy = "An encoder reads labels off a head; give a model that writes (task='causal')."
        return [Fault(where, f"for {model.name}, opened as an encoder", "a model that writes", remedy)]
    found = _asked_for(data)
    return found if isinstance(found, list) else []


def _asked_for(data: TaskData) -> Completions | list[Fault]:
    """Rows of completions as they are, and of labels as the choice among the labels' own words."""
    if isinstance(data, Completions):
        return data
    if not isinstance(data, LabelledTexts):
        seen = f"a task of the kind {data.kind!r}"
        return [Fault("data", f"{seen}, to be asked for in words", "one label a row, or completions")]
    found = with_options(data, data.label_names)
    assert isinstance(found, Completions | list)
    return found


def _parts(experiment: Experiment) -> Mapping[str, Completions]:
    """The rows of each part as the user wrote them: chats before any template."""
    data, backbone, limits = _asked_for(experiment.data), experiment.task.backbone, experiment.limits
    if isinstance(data, list):
        raise InputError(data)
    numbered = replace(experiment.data, rows=tuple(range(1, len(data) + 1)))
    parts = divided(rendered(backbone, numbered), experiment.seed)

    def rows() -> Iterator[tuple[str, Completions]]:
        for name, part in parts.items():
            taken = part.take(drawn_rows(len(part), getattr(limits, name), experiment.seed))
            yield name, data.take([row - 1 for row in taken.rows])

    return dict(rows())


def _scored(experiment: Experiment, rows: Completions) -> tuple[Outcomes, int, int]:
    """The outcomes, how many rows were cut, and how many tokens they have in the middle."""
    task, backbone = experiment.task, experiment.task.backbone
    written = rendered(backbone, rows)
    # What is read at once and never trained on may fill the context; the rest of a row's room is that of the words.
    longest = max(map(len, backbone.tokenize(written.inputs))) + experiment.content_length
    encoded = encode(backbone, written, min(backbone.max_positions, longest, UNBOUNDED))
    parts = {"train": task.encoded["train"], "held_out": encoded}
    if task.pooling is not None:
        parts = {"held_out": encoded}
    new = Task(backbone, task.train, task.validation, written, parts, probes={}, pooling=None, judging=task.judging)
    outcomes = new.answered("held_out", new.evaluate("held_out", new.objective()))
    lengths = sorted(map(len, encoded.sequences))
    return outcomes, encoded.truncated, lengths[len(lengths) // 2]


def _comparable(experiment: Experiment, outcomes: Outcomes, other: Outcomes) -> bool:
    """Whether two runs answer the same rows in the same tokens, and both hold what the metric needs."""
    if experiment.metric == "average_precision":
        return outcomes.score is not None and other.score is not None
    return experiment.metric != "loss" or bool((outcomes.answers == other.answers).all())
