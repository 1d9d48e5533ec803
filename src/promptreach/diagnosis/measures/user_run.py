"""The user's own: their attempt trained again, or their adapter as it is."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from promptreach.backbone import Classifier
from promptreach.data import LabelledTexts
from promptreach.diagnosis.experiment import Study
from promptreach.diagnosis.measures.ablation import replay
from promptreach.diagnosis.measures.pooling import predictions, read, task_at
from promptreach.prompt import Adapter
from promptreach.training.runs import applied
from promptreach.training.task.objective import Classification, Outcomes


@dataclass(frozen=True, eq=False)
class Theirs:
    """What the user brought, as far as it can be scored.

    Attributes:
        outcomes: on the held-out rows, through their own read-out where that is known.
        adapter: the adapter itself; for an attempt, what it came to.
        answers: the class that it puts each held-out row into; None for completions.
        status: ``diverged`` when the attempt's loss stopped being a number.
    """

    outcomes: Outcomes
    adapter: Adapter | None
    answers: Tensor | None
    status: str


def score_theirs(study: Study) -> Theirs | None:
    """Score what the user brought, if anything; an attempt needs the ladder's run of the same size to be trained."""
    if study.attempt is not None:
        run = replay(study, study.attempt)
        assert run.held_out is not None
        task = task_at(study.task, study.attempt.pooling if study.task.pooling else None, study.seed)
        objective = task.objective()
        objective.load_head(run.head)
        if not isinstance(objective, Classification):
            return Theirs(run.held_out, run.adapter, None, run.status)
        with applied(task.backbone, run) as joined:
            answers = predictions(task, "held_out", objective.head, joined)
        return Theirs(run.held_out, run.adapter, answers, run.status)
    if study.adapter is None:
        return None
    own = None if study.classifier is None else _classified(study, study.classifier)
    if own is not None:
        return own
    place = None if study.task.pooling is None else study.reading or study.task.pooling
    found = read(study, study.adapter, place)
    return Theirs(found.outcomes, study.adapter, found.answers, "finished")


def _classified(study: Study, classifier: Classifier) -> Theirs | None:
    """The user's adapter through the user's own classifier; None when it knows other classes than the data.

    Labels are numbered in their sorted order. Of two, the other order is taken where it suits the training rows better:
    nobody is to be blamed for how they numbered them.
    """
    train, held_out = study.task.encoded["train"], study.task.encoded["held_out"]
    assert train.labels is not None
    assert held_out.labels is not None
    logits = classifier(held_out.sequences)
    if not isinstance(study.data, LabelledTexts) or logits.shape[1] != len(study.data.label_names):
        return None
    if logits.shape[1] == 2 and (classifier(train.sequences).argmax(1) == train.labels).double().mean() < 0.5:
        logits = logits.flip(1)
    answers = logits.argmax(1)
    loss = cross_entropy(logits, held_out.labels, reduction="none")
    outcomes = Outcomes(loss, torch.ones_like(loss), (answers == held_out.labels).to(loss.dtype))
    return Theirs(outcomes, study.adapter, answers, "finished")
