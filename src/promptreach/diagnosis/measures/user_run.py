"""The user's own training: their attempt trained again, or their adapter as it is; and whether its answers collapse.

A classifier collapses when it gives (nearly) every row the same class, whatever accuracy that happens to give.
"""

from dataclasses import replace

import torch
from jaxtyping import Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import cross_entropy

from promptreach.backbone import Classifier
from promptreach.data import LabelledTexts
from promptreach.diagnosis.experiment import Experiment, Measured, Skipped, UserRun
from promptreach.diagnosis.measures._ablation import replay
from promptreach.diagnosis.measures.comparison import held_out
from promptreach.diagnosis.measures.pooling import class_given, read
from promptreach.diagnosis.numbers import CollapseNumbers
from promptreach.training.task.objective import Outcomes

COLLAPSED = 0.95
"""The share of rows in one class from which a classifier counts as collapsed, unless the labels are so themselves."""


def score_user_run(experiment: Experiment) -> UserRun | None:
    """Score what the user brought, if anything; an attempt needs the run of the same size to be trained."""
    task = experiment.task
    if experiment.attempt is not None:
        run = replay(experiment, experiment.attempt)
        return UserRun(held_out(run), run.adapter, class_given(task, held_out(run)), run.status)
    if experiment.user_adapter is None:
        return None
    if experiment.classifier is not None and (found := _classified(experiment, experiment.classifier)):
        return found
    place = task.pooling if task.pooling in (None, "each") else experiment.user_pooling or task.pooling
    brought = UserRun(*read(experiment, experiment.user_adapter, place))
    if experiment.classifier is None:
        return brought
    return replace(brought, num_outputs=experiment.classifier(task.encoded["held_out"].sequences[:1]).shape[1])


def _classified(experiment: Experiment, classifier: Classifier) -> UserRun | None:
    """The user's adapter through the user's own classifier; None when it has too few outputs for the data's labels.

    Nobody is to be blamed for how they numbered the labels: see `numbering`. Outputs that stand for no label stay, and
    a row that goes to one is answered wrong.
    """
    if not isinstance(experiment.data, LabelledTexts):
        return None
    train, judged = experiment.task.encoded["train"], experiment.task.encoded["held_out"]
    assert train.labels is not None
    assert judged.labels is not None
    logits = classifier(judged.sequences)
    if logits.shape[1] < len(experiment.data.label_names):
        return None
    classes = len(experiment.data.label_names)
    outputs = numbering(classifier(train.sequences).argmax(1), train.labels, classes, logits.shape[1])
    order = [*outputs, *sorted(set(range(logits.shape[1])) - set(outputs))]
    logits = logits[:, order]
    answers = logits.argmax(1)
    loss = cross_entropy(logits, judged.labels, reduction="none")
    outcomes = Outcomes(
        loss,
        torch.ones_like(loss),
        (answers == judged.labels).to(loss.dtype),
        given=answers.to(loss.dtype),
        true=judged.labels.to(loss.dtype),
    ).weighted(judged.weights)
    num_outputs = logits.shape[1]
    return UserRun(outcomes, experiment.user_adapter, answers, outputs=outputs, num_outputs=num_outputs)


def numbering(
    answers: Int[Tensor, " examples"], labels: Int[Tensor, " examples"], classes: int, num_outputs: int
) -> tuple[int, ...]:
    """The output that stands for each label: of all assignments the one that gets most training rows right.

    Among equals the one that moves fewest labels from their place in the sorted order.

    Args:
        answers: the output that a classifier gives for each training row.
        labels: their labels, in [0, classes).
        classes, num_outputs: of the data, and of the classifier, which has as many or more.
    """
    agree = torch.zeros(classes, num_outputs, dtype=torch.long)
    agree.index_put_((labels, answers), torch.ones_like(labels), accumulate=True)
    # A whole row right outweighs every label in its place.
    worth = agree * (classes + 1) + torch.eye(classes, num_outputs, dtype=torch.long)
    _, chosen = linear_sum_assignment(worth.numpy(), maximize=True)
    return tuple(int(output) for output in chosen)


def collapse(experiment: Experiment) -> Measured[CollapseNumbers] | Skipped:
    """The spread of the held-out rows over the classes, as the user's own training answers them."""
    if experiment.user_run is None:
        return Skipped("Neither an attempt nor an adapter was given.")
    answers = experiment.user_run.answers
    if answers is None or not isinstance(experiment.data, LabelledTexts):
        return Skipped("Only a classifier can collapse into one class.")
    extra = max(0, experiment.user_run.num_outputs - len(experiment.data.label_names))
    names = [*experiment.data.label_names, *(f"no label of the data ({number + 1})" for number in range(extra))]
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
