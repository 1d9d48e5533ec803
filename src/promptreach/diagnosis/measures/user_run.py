"""The user's own training: their attempt trained again, or their adapter as it is; and whether its answers collapse.

A classifier collapses when it gives (nearly) every row the same class, whatever accuracy that happens to give.
"""

import torch
from torch.nn.functional import cross_entropy

from promptreach.backbone import Classifier
from promptreach.data import LabelledTexts
from promptreach.diagnosis.experiment import Experiment, Measured, Skipped, UserRun
from promptreach.diagnosis.measures._ablation import replay
from promptreach.diagnosis.measures.comparison import held_out
from promptreach.diagnosis.measures.pooling import predictions, read, task_at
from promptreach.diagnosis.numbers import CollapseNumbers
from promptreach.training.runs import applied
from promptreach.training.task.objective import Classification, Outcomes

COLLAPSED = 0.95
"""The share of rows in one class from which a classifier counts as collapsed, unless the labels are so themselves."""


def score_user_run(experiment: Experiment) -> UserRun | None:
    """Score what the user brought, if anything; an attempt needs the run of the same size to be trained."""
    task = experiment.task
    if experiment.attempt is not None:
        run = replay(experiment, experiment.attempt)
        objective = task_at(task, experiment.attempt.pooling if task.pooling else None, experiment.seed).objective()
        objective.load_head(run.head)
        if not isinstance(objective, Classification):
            return UserRun(held_out(run), run.adapter, None, run.status)
        with applied(task.backbone, run) as joined:
            answers = predictions(task, "held_out", objective.head, joined)
        return UserRun(held_out(run), run.adapter, answers, run.status)
    if experiment.user_adapter is None:
        return None
    if experiment.classifier is not None and (found := _classified(experiment, experiment.classifier)):
        return found
    place = None if task.pooling is None else experiment.user_pooling or task.pooling
    return UserRun(*read(experiment, experiment.user_adapter, place))


def _classified(experiment: Experiment, classifier: Classifier) -> UserRun | None:
    """The user's adapter through the user's own classifier; None when it knows other classes than the data.

    Labels are numbered in their sorted order. Of two, the other order is taken where it suits the training rows better:
    nobody is to be blamed for how they numbered them.
    """
    train, judged = experiment.task.encoded["train"], experiment.task.encoded["held_out"]
    assert train.labels is not None
    assert judged.labels is not None
    logits = classifier(judged.sequences)
    if not isinstance(experiment.data, LabelledTexts) or logits.shape[1] != len(experiment.data.label_names):
        return None
    if logits.shape[1] == 2 and (classifier(train.sequences).argmax(1) == train.labels).double().mean() < 0.5:
        logits = logits.flip(1)
    answers = logits.argmax(1)
    loss = cross_entropy(logits, judged.labels, reduction="none")
    outcomes = Outcomes(loss, torch.ones_like(loss), (answers == judged.labels).to(loss.dtype))
    return UserRun(outcomes, experiment.user_adapter, answers)


def collapse(experiment: Experiment) -> Measured[CollapseNumbers] | Skipped:
    """The spread of the held-out rows over the classes, as the user's own training answers them."""
    if experiment.user_run is None:
        return Skipped("Neither an attempt nor an adapter was given.")
    answers = experiment.user_run.answers
    if answers is None or not isinstance(experiment.data, LabelledTexts):
        return Skipped("Only a classifier can collapse into one class.")
    names = experiment.data.label_names
    counts = answers.bincount(minlength=len(names))
    truth = experiment.task.encoded["held_out"].labels
    assert truth is not None
    true_counts = truth.bincount(minlength=len(names))
    favourite = int(counts.argmax())
    share, true_share = float(counts[favourite]) / len(answers), float(true_counts[favourite]) / len(answers)
    numbers = CollapseNumbers(
        favourite=names[favourite],
        share=share,
        true_share=true_share,
        classes_never_given=int(((counts == 0) & (true_counts > 0)).sum()),
        collapsed=share >= COLLAPSED and true_share < COLLAPSED,
    )
    return Measured(numbers, experiment.judged_rows)
