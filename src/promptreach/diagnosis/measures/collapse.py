"""Collapse: a classifier that gives (nearly) every row the same class, whatever accuracy that happens to give."""

from jaxtyping import Int
from torch import Tensor

from promptreach.certificate import Evidence
from promptreach.data import LabelledTexts
from promptreach.diagnosis.experiment import Measured, Study, not_measured

COLLAPSED = 0.95
"""The share of rows in one class from which a classifier counts as collapsed, unless the labels are so themselves."""


def measure(study: Study, found: Int[Tensor, " examples"] | None) -> Measured:
    """How the user's own training spreads the held-out rows over the classes.

    Args:
        study: what is diagnosed.
        found: the class that each held-out row is put into; None for completions.
    """
    if found is None or not isinstance(study.data, LabelledTexts):
        return not_measured("collapse", "Only a classifier can collapse into one class.")
    names = study.data.label_names
    counts = found.bincount(minlength=len(names))
    truth = study.task.encoded["held_out"].labels
    assert truth is not None
    true_counts = truth.bincount(minlength=len(names))
    favourite = int(counts.argmax())
    share, true_share = float(counts[favourite]) / len(found), float(true_counts[favourite]) / len(found)
    values = {
        "class": names[favourite],
        "share": share,
        "true_share": true_share,
        "classes_never_given": int(((counts == 0) & (true_counts > 0)).sum()),
        "collapsed": share >= COLLAPSED and true_share < COLLAPSED,
    }
    return Measured("collapse", Evidence.MEASURED, study.judged_rows, values)
