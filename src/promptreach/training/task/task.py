"""A task made ready for training: split, encoded, and with a read-out to start from.

Three parts never mix: gradients see `train`, choices (learning rate, early stop) see `validation`, and what is reported
comes from `held_out`. The read-out is chosen by cross-validation inside `train`.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.backbone import Backbone, Prepended
from promptreach.data import TaskData
from promptreach.errors import DataError, Fault, InputError, raise_if_any
from promptreach.training.task._finite import unfinite_fault
from promptreach.training.task.chats import rendered
from promptreach.training.task.class_weights import ClassWeights, class_weight_faults, class_weights_of
from promptreach.training.task.encoding import Encoded, encode, evaluation_batches
from promptreach.training.task.judging import PLAIN, Judging, room_of
from promptreach.training.task.kinds.kind import Places, TaskKind, laid_out
from promptreach.training.task.kinds.labels import Labels
from promptreach.training.task.kinds.registry import kind_of
from promptreach.training.task.limits import Limits, check_room, content_length, drawn_rows, rows_beyond
from promptreach.training.task.objective import Completion, HeadObjective, Objective, Outcomes, RightOption, gather
from promptreach.training.task.parts import divided, refuse_weightless
from promptreach.training.task.readout import PENALTIES, Pooling, Probe, Problem, best_probe, pool, standardised
from promptreach.training.task.slices import Slices

Seen = TypeVar("Seen")
MIN_INPUTS = 12
"""Fewer different inputs than this do not make three parts."""


@dataclass(frozen=True, eq=False)
class Task:
    """One task on one frozen model.

    Attributes:
        backbone: the model.
        train, validation, held_out: the examples as the user wrote them.
        encoded: the same three by name, as tokens.
        probes: a probe for each pooling that a head could use; empty for completions.
        pooling: the one chosen, or None for completions.
        kind: what the head tells; of no account for completions.
        class_weights: of each output of the head; None where all count alike.
        penalties: the ridge strengths that a probe of this task is chosen from.
        batch_size: for evaluation.
        judging: how answers are judged beside their loss.
        slices: how batches are cut where memory is short; it decides no number.
        more_validation: rows of the validation part beyond those that every look scores, as tokens; None where there
            are none.
    """

    backbone: Backbone
    train: TaskData
    validation: TaskData
    held_out: TaskData
    encoded: Mapping[str, Encoded]
    probes: Mapping[Pooling, Probe]
    pooling: Pooling | None
    kind: TaskKind = field(default_factory=Labels)
    class_weights: Float[Tensor, " outputs"] | None = None
    penalties: Sequence[float] = PENALTIES
    batch_size: int = 64
    judging: Judging = PLAIN
    slices: Slices = field(default_factory=Slices)
    more_validation: Encoded | None = None

    def objective(self) -> Objective:
        """A fresh objective, its head (if it has one) at the probe."""
        if self.pooling is None:
            return RightOption() if any(part.options for part in self.encoded.values()) else Completion()
        scale = self.kind.scale(self.encoded["train"])
        return self.kind.objective(self.probes[self.pooling].head(), scale, self.class_weights)

    @property
    def digest(self) -> str:
        """A hash of all that a training run on this task depends on besides its settings."""
        parts = [self.backbone.fingerprint, *(part.digest for part in self.encoded.values())]
        if self.pooling:
            # With the training rows, these determine the head that training starts from.
            probe = self.probes[self.pooling]
            parts.append(f"{probe.pooling}, {len(probe.bias)} classes, penalty {probe.penalty}")
            parts += [] if probe.has_bias else ["no bias"]
        if self.pooling and self.kind.name != "labels":
            parts.append(self.kind.name)
        if self.class_weights is not None:
            parts.append(f"class weights {self.class_weights.tolist()}")
        if self.judging != PLAIN:
            parts.append(repr(self.judging))
        return hashlib.sha256("|".join(parts).encode()).hexdigest()

    def evaluate(self, part: str, objective: Objective, joined: Prepended | None = None) -> Outcomes:
        """The outcomes on ``"train"``, ``"validation"`` or ``"held_out"``, without gradients."""
        data = self.encoded[part]
        if data.options is None:
            return self._evaluated(data, objective, joined)
        nats = self.option_losses(part, joined)
        given = data.options.chosen(nats, per_character=self.judging.length_normalised)
        true = torch.tensor(data.options.true)
        loss = nats[torch.tensor(data.options.starts) + true]
        right = (given == true).to(loss.dtype)
        score = None
        if set(data.options.counts) == {2}:  # of the second option less that of the first
            first, second = nats.view(-1, 2).unbind(1)
            score = first - second
        return Outcomes(
            loss,
            torch.ones_like(loss),
            right,
            given=given.to(loss.dtype),
            true=true.to(loss.dtype),
            score=score,
        ).weighted(data.weights)

    def evaluate_bare(self, part: str, objective: Objective) -> Outcomes:
        """As `evaluate` of the frozen model with nothing attached, which is run once for all heads that read it."""
        if not isinstance(objective, HeadObjective) or objective.head.pooling == "each":
            return self.evaluate(part, objective)
        places = dict.fromkeys((*self.kind.poolings(self.backbone.task), objective.head.pooling))
        pooled = self.looked_once(f"features: {part} {[*places]}", lambda: _pooled(self, part, places, None))
        data, rows = self.encoded[part], range(len(self.encoded[part]))
        with torch.no_grad():
            found = objective.answered(objective.head.of_features(pooled[objective.head.pooling]), data, rows)
        return gather([found.weighted(data.weights)], [rows])

    def looked_once(self, name: str, look: Callable[[], Seen]) -> Seen:
        """What `look` finds, which is asked once for every name in the life of this object."""
        if name not in self._kept:
            self._kept[name] = look()
        return cast(Seen, self._kept[name])

    @cached_property
    def _kept(self) -> dict[str, Any]:
        """What was found so far by `looked_once`."""
        return {}

    def option_losses(self, part: str, joined: Prepended | None = None) -> Float[Tensor, " options"]:
        """The summed loss of every option of a part's examples, one example's behind another's, in nats."""
        options = self.encoded[part].options
        assert options is not None
        every = Encoded(options.sequences, None, options.answer_lengths, 0)
        return self._evaluated(every, Completion(), joined).loss

    def answered(self, part: str, outcomes: Outcomes, joined: Prepended | None = None) -> Outcomes:
        """`outcomes` of a part with what is written there with `joined`, where written answers are judged."""
        if self.judging.metric is None:
            return outcomes
        room = room_of(self.backbone, self.encoded.get("train", self.encoded[part]))
        return self.judging.answered(self.backbone, self.encoded[part], outcomes, room, joined)

    def _evaluated(self, data: Encoded, objective: Objective, joined: Prepended | None) -> Outcomes:
        def look(rows: list[int]) -> Outcomes:
            batch = data.batch(self.backbone, rows)
            found = objective.outcomes(self.backbone, self.backbone.hidden(batch, joined), batch, data, rows)
            return found.weighted(data.weights_of(rows))

        with torch.no_grad():
            found = [
                part
                for rows in evaluation_batches([len(ids) for ids in data.sequences], self.batch_size)
                for part in self.slices.look(rows, look)
            ]
        rows, results = zip(*found, strict=True)
        return gather(results, rows)


def prepare(
    backbone: Backbone,
    data: TaskData,
    *,
    limits: Limits | None = None,
    seed: int = 0,
    longest_prompt: int = 16,
    pooling: Pooling | None = None,
    class_weights: ClassWeights = None,
    judging: Judging = PLAIN,
    accumulate: int = 1,
    head_bias: bool = True,
) -> Task:
    """The task of `data` on a model: split as the user did or here, cut and encoded, with a read-out chosen.

    Args:
        backbone: the frozen model.
        data: at least `MIN_INPUTS` different inputs.
        limits: how much data is used; the default suits a first look.
        seed: for the split and the probe's folds.
        longest_prompt: room to keep free in the context, in tokens.
        pooling: where a classifier's head reads; None chooses by cross-validation.
        class_weights: ``"balanced"``, or the weight of each label by its name, 1 for those that are not named; they
            weigh the loss, in training and wherever it is told, and are scaled to a mean of 1 over the training rows.
        judging: how answers are judged beside their loss.
        accumulate: the slices of a training step, whose gradients are added up.
        head_bias: False trains a head without a bias, as the classifiers of transformers' decoders are.

    Raises:
        InputError: when the prompt leaves no room for content, completions are asked of an encoder, the class weights
            do not fit the task, answers are to be written and nothing ends one, or the bare model's hidden states or
            losses are not finite, naming the module that breaks.
        DataError: when there are too few different inputs for three parts, all rows of one weigh 0, or one of them
            cannot be encoded.
    """
    limits = limits or Limits()
    check_room(backbone, data, longest_prompt)
    raise_if_any(class_weight_faults(class_weights, data), InputError)
    data = rendered(backbone, data)
    different = len(set(data.inputs))
    if different < MIN_INPUTS:
        expected = f"at least {MIN_INPUTS}, to train, choose and judge on"
        raise DataError(Fault(data.source, f"{different} different inputs", expected))
    whole = divided(data, seed)
    parts = {name: part.take(drawn_rows(len(part), getattr(limits, name), seed)) for name, part in whole.items()}
    refuse_weightless(parts)
    max_length = content_length(backbone, limits, longest_prompt)
    encoded = {name: encode(backbone, part, max_length) for name, part in parts.items()}
    train, validation, held_out = parts.values()
    task = Task(backbone, train, validation, held_out, encoded=encoded, probes={}, pooling=None)
    task = replace(task, judging=judging, slices=Slices(accumulate))
    if rest := rows_beyond(len(whole["validation"]), limits.validation, limits.held_out, seed):
        with suppress(DataError):  # a fault in rows that nobody asked for stops nothing
            task = replace(task, more_validation=encode(backbone, whole["validation"].take(rest), max_length))
    kind = kind_of(data)
    if kind is None:
        if judging.metric is not None:
            room_of(backbone, encoded["train"])
        _check_losses(task)
        return task
    weights = class_weights_of(class_weights, kind, data, encoded["train"])
    task = replace(task, kind=kind, class_weights=weights, penalties=kind.penalties)
    usual = kind.poolings(backbone.task)
    poolings: Sequence[Pooling] = (pooling,) if pooling and usual != ("each",) else usual
    probes = fit_probes(task, poolings, kind.outputs(data), seed, has_bias=head_bias)
    best = min(poolings, key=lambda one: probes[one].loss)
    return replace(task, probes=probes, pooling=best)


def _check_losses(task: Task) -> None:
    """Refuse a bare model whose loss on the validation rows is not finite.

    Raises:
        InputError: naming the module that breaks.
    """
    finite = task.evaluate("validation", Completion()).loss.isfinite()
    if not finite.all():
        sequences = task.encoded["validation"].sequences
        broken = [ids for ids, good in zip(sequences, finite.tolist(), strict=True) if not good]
        seen = f"{len(broken):,} of {len(sequences):,} examples whose loss is not finite"
        raise InputError(unfinite_fault(task.backbone, broken, seen))


def features(
    task: Task, part: str, poolings: Sequence[Pooling], joined: Prepended | None = None
) -> dict[Pooling, Tensor]:
    """The pooled last hidden states of one part, (examples, hidden), in the order of the examples.

    Raises:
        InputError: when one of them is not finite.
    """
    data, found = task.encoded[part], _pooled(task, part, poolings, joined)
    finite = torch.stack([pooled.isfinite().all(1) for pooled in found.values()]).all(0)
    if not finite.all():
        broken = [ids for ids, good in zip(data.sequences, finite.tolist(), strict=True) if not good]
        seen = f"{len(broken):,} of {len(data):,} examples whose hidden states are not finite"
        raise InputError(unfinite_fault(task.backbone, broken, seen))
    return found


def _pooled(
    task: Task, part: str, poolings: Iterable[Pooling], joined: Prepended | None
) -> dict[Pooling, Float[Tensor, "examples hidden"]]:
    """The pooled last hidden states of one part, as they come."""
    data = task.encoded[part]
    found = {pooling: torch.empty(len(data), task.backbone.hidden_size) for pooling in poolings}

    def look(rows: list[int]) -> None:
        batch = data.batch(task.backbone, rows)
        hidden = task.backbone.hidden(batch, joined)
        for pooling, pooled in found.items():
            pooled[rows] = pool(hidden, batch.mask, pooling).float().cpu()

    with torch.no_grad():
        for rows in evaluation_batches([len(ids) for ids in data.sequences], task.batch_size):
            task.slices.look(rows, look)
    return found


def features_at(task: Task, part: str, places: Places, joined: Prepended | None = None) -> Float[Tensor, "all hidden"]:
    """The last hidden states of one part at some of its tokens, one example's after another's, in order.

    Raises:
        InputError: when one of them is not finite.
    """
    data = task.encoded[part]
    drawn = list(places)
    found: dict[int, Tensor] = {}
    with torch.no_grad():
        for at in evaluation_batches([len(data.sequences[row]) for row in drawn], task.batch_size):
            rows = [drawn[index] for index in at]
            hidden = task.backbone.hidden(data.batch(task.backbone, rows), joined)
            found |= {row: hidden[index, list(places[row])].float().cpu() for index, row in enumerate(rows)}
    if broken := [data.sequences[row] for row in drawn if not found[row].isfinite().all()]:
        seen = f"{len(broken):,} of {len(drawn):,} examples whose hidden states are not finite"
        raise InputError(unfinite_fault(task.backbone, broken, seen))
    return torch.cat([found[row] for row in drawn])


def fit_probes(
    task: Task,
    poolings: Sequence[Pooling],
    outputs: int,
    seed: int,
    joined: Prepended | None = None,
    has_bias: bool = True,
) -> dict[Pooling, Probe]:
    """A linear probe on the training rows' features with each pooling, its penalty one of the task's.

    Args:
        task: one with a head; the probes that it has play no part.
        poolings: where to read.
        outputs: of the head.
        seed: for the folds.
        joined: what stands in front of the rows or at every layer; None reads the bare model.
        has_bias: as for `promptreach.training.task.readout.best_probe`.

    Raises:
        InputError: when hidden states are not finite.
    """
    return {
        one: best_probe(x, problem, one, task.penalties, has_bias)
        for one, x, problem in _problems(task, poolings, outputs, seed, joined=joined)
    }


def cross_answered(task: Task, poolings: Sequence[Pooling], outputs: int, seed: int) -> Tensor:
    """The outputs of the best of such probes on the training rows, each row's from the probe of the other folds.

    (examples, outputs); where each token is read (examples, tokens, outputs), and zero at tokens that are not.
    """
    found = []
    for one, x, problem in _problems(task, poolings, outputs, seed, every=True):
        probe = best_probe(x, problem, one, task.penalties)
        found.append((probe.loss, torch.from_numpy(problem.crossed(standardised(x)[0], probe.penalty)).float()))
    rows: Tensor = min(found, key=lambda entry: entry[0])[1]
    places = task.kind.places(task.encoded["train"], seed, every=True)
    return rows if places is None else laid_out(rows, places, task.encoded["train"])


def _problems(
    task: Task,
    poolings: Sequence[Pooling],
    outputs: int,
    seed: int,
    *,
    joined: Prepended | None = None,
    every: bool = False,
) -> Iterator[tuple[Pooling, Tensor, Problem]]:
    """The features of the training rows with each pooling, and what is fitted to them."""
    train = task.encoded["train"]
    places = task.kind.places(train, seed, every=every)
    problem = task.kind.problem(train, places, outputs, seed, task.class_weights)
    if places is None:
        yield from ((one, x, problem) for one, x in features(task, "train", poolings, joined).items())
        return
    x = features_at(task, "train", places, joined)
    yield from ((one, x, problem) for one in poolings)
