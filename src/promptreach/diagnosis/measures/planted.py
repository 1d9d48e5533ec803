"""The planted prompt: a test whether this training finds a prompt that is known to exist.

A random prompt of vocabulary rows, none of them in the student's start, goes through the frozen model and writes the
answers of a task: the continuation that a causal model finds likeliest, or the class that a fixed direction of an
encoder's last hidden state tells. So a prompt that does this task exists. A student then trains from the usual start
with the usual settings. If it finds what exists, a gap to LoRA on the user's own task speaks for the form; if it does
not, that gap may as well be the training's.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from promptreach.backbone import Prepended
from promptreach.diagnosis.controls import PlantedNumbers
from promptreach.diagnosis.experiment import Experiment, Measured, Skipped
from promptreach.diagnosis.measures.comparison import held_out
from promptreach.diagnosis.rules.rules import depends_on
from promptreach.training.methods.initial import initial_prompt
from promptreach.training.runs import RunConfig
from promptreach.training.search.sweep import sweep
from promptreach.training.task.encoding import Encoded, evaluation_batches
from promptreach.training.task.kinds.labels import Labels
from promptreach.training.task.objective import Completion
from promptreach.training.task.readout import PENALTIES, POOLINGS, fit_probe
from promptreach.training.task.task import Task, features

SCALES = (1.0, 3.0)
"""Lengths of the planted rows, in vocabulary rows; the first that is no gift to the head alone is taken."""
DRAWS = 4
"""Prompts that are tried on a causal model until one changes what it says."""
MOST_FOR_THE_HEAD = 0.85
"""Accuracy from which a head on the bare model leaves a prompt too little to find."""
LONGEST_ANSWER = 8
"""Tokens of a planted continuation."""
CLASS_ANSWER = 4
"""Tokens of a planted continuation of a text to classify, whose own answer has no length."""
_DIRECTIONS = 16
_CLEAR = 0.25
"""The share of rows nearest to the border between the two classes, which are left out: their labels are noise."""
_RIDGE = 1.0


@dataclass(frozen=True, eq=False)
class Planted:
    """A task that a prompt is known to do.

    Attributes:
        task: with the planted answers.
        prompt: that wrote them.
    """

    task: Task
    prompt: Float[Tensor, "prompt hidden"]


def measure(experiment: Experiment) -> Measured[PlantedNumbers] | Skipped:
    """Train the best prompt's settings on the planted task, and see how much of it is found.

    Done only where the verdict on what was measured so far depends on it.
    """
    if not depends_on("planted", experiment.numbers):
        return Skipped("The verdict does not hang on it.")
    return find_planted(experiment)


def find_planted(experiment: Experiment) -> Measured[PlantedNumbers] | Skipped:
    """As `measure`, whatever the verdict."""
    best = experiment.best("prompt")
    if best is None:
        return Skipped("No prompt finished training, so there is no setting to test.")
    config = best.config
    planted = plant(experiment, config)
    if isinstance(planted, str):
        return Skipped(planted)
    task, executor = planted.task, experiment.executor_of(planted.task)
    control = held_out(executor.run([experiment.config("head")])[0])
    if task.pooling is not None:
        unit, start, possible = "accuracy", control.accuracy, 1.0
    else:
        teacher = task.evaluate("held_out", Completion(), Prepended(prompt=planted.prompt))
        unit, start, possible = "nats saved per token", 0.0, control.mean_loss - teacher.mean_loss
    if start >= possible:  # few rows: the probe's folds saw it err
        return Skipped("Without a prompt every judged row gets its planted answer right.")
    # A rate that suits the user's own task is no part of what is tested: where a prompt cannot help, the smallest wins.
    student = sweep(executor, config).best
    found = held_out(student)
    reached = found.accuracy if task.pooling is not None else control.mean_loss - found.mean_loss
    numbers = PlantedNumbers(
        unit=unit,
        tokens=config.tokens,
        learning_rate=student.config.learning_rate,
        steps=config.steps,
        control=start,
        student=reached,
        possible=possible,
        share=(reached - start) / (possible - start),
        status=student.status,
    )
    rows = f"{len(task.encoded['train']):,} training and {len(task.encoded['held_out']):,} judged rows"
    return Measured(numbers, f"{rows} with planted answers, 1 seed")


def plant(experiment: Experiment, config: RunConfig) -> Planted | str:
    """A planted task for the student `config`, or why none could be made."""
    if experiment.task.backbone.task != "encoder":
        tried = (continuations(experiment, config, fresh_prompt(experiment, config, draw)) for draw in range(DRAWS))
        found = next((planted for planted in tried if planted is not None), None)
        return found or f"None of {DRAWS} planted prompts changes enough of what the model says."
    for scale in SCALES:
        prompt = scale * fresh_prompt(experiment, config)
        classes = _classes(experiment, prompt)
        if classes is not None:
            return Planted(classes, prompt)
    return "A head on the bare model tells the planted classes apart by itself, so there is nothing for a prompt to do."


def fresh_prompt(experiment: Experiment, config: RunConfig, draw: int = 0) -> Float[Tensor, "prompt hidden"]:
    """Vocabulary rows that the student does not start from; other rows for every draw."""
    backbone, sequences = experiment.task.backbone, config.texts(experiment.task.encoded["train"].sequences)
    start = initial_prompt(backbone, config.tokens, config.init, sequences, config.seed).embeddings
    vocabulary = backbone.vocabulary
    generator = torch.Generator().manual_seed(experiment.seed + 1)
    rows = vocabulary[torch.randperm(len(vocabulary), generator=generator)]
    exactly = "donot_use_mm_for_euclid_dist"  # or rounding would tell equal rows apart
    taken = torch.cdist(rows.float(), start.float(), compute_mode=exactly).min(1).values == 0
    fresh = rows[~taken] if int((~taken).sum()) else rows
    return fresh[torch.arange(draw * config.tokens, (draw + 1) * config.tokens) % len(fresh)].clone()


def _classes(experiment: Experiment, prompt: Float[Tensor, "prompt hidden"]) -> Task | None:
    """The task whose two classes are the sides of a direction that the prompt moves; None when the head suffices."""
    task = experiment.task
    assert task.pooling is not None
    parts = ("train", "validation", "held_out")
    place = POOLINGS[task.backbone.task][0] if task.pooling == "each" else task.pooling
    bare = {part: features(task, part, [place])[place].double() for part in parts}
    moved = {part: features(task, part, [place], Prepended(prompt=prompt))[place].double() for part in parts}
    direction = least_foreseen(bare["train"], moved["train"])
    margins = {part: moved[part] @ direction for part in parts}
    border = margins["train"].median()
    width = (margins["train"] - border).abs().quantile(_CLEAR)
    encoded = {}
    for part, margin in margins.items():
        clear: Bool[Tensor, " examples"] = (margin - border).abs() >= width
        kept = clear.nonzero().flatten().tolist()
        labels = (margin > border).long()[clear]
        if len(kept) < 2 or len(set(labels.tolist())) < 2:
            return None
        encoded[part] = replace(task.encoded[part].take(kept), targets=labels, truths=(), weights=None)
        bare[part] = bare[part][clear]
    truth = encoded["train"].labels
    assert truth is not None
    probe = fit_probe(bare["train"].float(), truth, 2, place, experiment.seed)
    if probe.accuracy > MOST_FOR_THE_HEAD:
        return None
    return replace(
        task,
        encoded=encoded,
        probes={place: probe},
        pooling=place,
        kind=Labels(),
        penalties=PENALTIES,
        class_weights=None,
    )


def least_foreseen(bare: Float[Tensor, "rows hidden"], moved: Float[Tensor, "rows hidden"]) -> Tensor:
    """The direction, among the main ones of `moved`, of which a ridge regression on `bare` foresees the least.

    Regression and judgement use different halves of the rows, so that nothing is foreseen by memory.
    """
    centred = moved - moved.mean(0)
    kept = max(1, min(_DIRECTIONS, len(bare) // 8))
    basis = torch.linalg.svd(centred, full_matrices=False).Vh[:kept].T
    target = centred @ basis
    inputs = (bare - bare.mean(0)) / bare.std(0).clamp(min=1e-6)
    kernel = inputs @ inputs.T / inputs.shape[1]
    half = len(bare) // 2
    seen, other = slice(0, half), slice(half, None)
    weight = torch.linalg.solve(kernel[seen, seen] + _RIDGE * torch.eye(half, dtype=kernel.dtype), target[seen])
    left = target[other] - kernel[other, seen] @ weight
    total = target[other].T @ target[other]
    scale = _inverse_root(total)
    values, vectors = torch.linalg.eigh(scale @ (left.T @ left) @ scale)
    direction: Tensor = basis @ (scale @ vectors[:, values.argmax()])
    return direction


def _inverse_root(matrix: Float[Tensor, "size size"]) -> Float[Tensor, "size size"]:
    values, vectors = torch.linalg.eigh(matrix)
    values = values.clamp(min=1e-9 * float(values.max()))
    root: Tensor = vectors @ torch.diag(values.rsqrt()) @ vectors.T
    return root


def continuations(experiment: Experiment, config: RunConfig, prompt: Float[Tensor, "prompt hidden"]) -> Planted | None:
    """The task whose completions are the planted model's own likeliest continuations of the user's inputs; None where
    these are no likelier with the prompt than without it.

    Texts to classify are continued as well: what is in question is the search for a prompt, and every word that the
    prompt changes shows it, while a class shows little.
    """
    task = experiment.task
    room = task.backbone.max_positions - config.tokens
    encoded: dict[str, Encoded] = {}
    for part, data in task.encoded.items():
        lengths = data.answer_lengths or (0,) * len(data)
        length = min(LONGEST_ANSWER, sorted(lengths)[len(data) // 2] or CLASS_ANSWER)
        inputs = [ids[: len(ids) - answer] for ids, answer in zip(data.sequences, lengths, strict=True)]
        prompts = [ids[: room - length] for ids in inputs]
        sequences = _continued(task, prompts, length, prompt)
        encoded[part] = Encoded(sequences, None, (length,) * len(sequences), 0)
    new = replace(task, encoded=encoded, probes={}, pooling=None)
    bare, teacher = (new.evaluate("held_out", Completion(), joined) for joined in (None, Prepended(prompt=prompt)))
    if bare.mean_loss - teacher.mean_loss <= 0:
        return None
    return Planted(new, prompt)


def _continued(
    task: Task, prompts: list[tuple[int, ...]], length: int, prompt: Float[Tensor, "prompt hidden"]
) -> tuple[tuple[int, ...], ...]:
    """Each prompt with the model's likeliest next tokens behind it, one after another."""
    sequences: list[tuple[int, ...]] = list(prompts)
    backbone = task.backbone
    with torch.no_grad():
        for count in range(length):
            for rows in evaluation_batches([len(ids) for ids in sequences], task.batch_size):
                batch = backbone.batch([sequences[row] for row in rows], [count] * len(rows))
                hidden = backbone.hidden(batch, Prepended(prompt=prompt))
                last = hidden[torch.arange(len(rows)), batch.mask.sum(1) - 1]
                for row, token in zip(rows, backbone.vocabulary_logits(last).argmax(-1).tolist(), strict=True):
                    sequences[row] = (*sequences[row], token)
    return tuple(sequences)
