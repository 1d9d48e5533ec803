"""What stands without any tuning: the head alone, or the bare model, and the most frequent label."""

from promptreach.certificate import Evidence
from promptreach.diagnosis.experiment import Measured, Study
from promptreach.diagnosis.measures.baselines import train_control
from promptreach.diagnosis.measures.comparison import score_values


def measure(study: Study) -> Measured:
    """The control's scores on the rows judged, and what always giving the most frequent label scores there."""
    control = train_control(study)
    assert control.held_out is not None
    values = score_values(control.held_out) | {"pooling": study.task.pooling}
    train, held_out = study.task.encoded["train"].labels, study.task.encoded["held_out"].labels
    if train is not None and held_out is not None:
        values["majority_accuracy"] = float((held_out == train.mode().values).double().mean())
    return Measured("bare_model", Evidence.MEASURED, study.judged_rows, values)
