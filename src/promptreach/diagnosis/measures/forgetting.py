"""Drift: what an adapter does to text that it was not trained for, in nats per token of plain language modelling."""

from dataclasses import replace

from promptreach.certificate import Evidence
from promptreach.diagnosis.experiment import Measured, Study, not_measured
from promptreach.diagnosis.measures.comparison import paired
from promptreach.hf import attach
from promptreach.prompt import Adapter
from promptreach.training.task.encoding import Encoded
from promptreach.training.task.objective import Completion

_MOST_TEXTS = 128


def measure(study: Study, adapters: dict[str, Adapter]) -> Measured:
    """The loss on plain text with and without each adapter; causal models only.

    Args:
        study: its `plain_text`, or the inputs held out from training, is what is read.
        adapters: by the name they are reported under.
    """
    backbone = study.task.backbone
    if backbone.task != "causal":
        return not_measured("drift", "An encoder models no text of its own.")
    if not adapters:
        return not_measured("drift", "Nothing was trained that could drift.")
    texts = study.plain_text or study.task.held_out.inputs
    longest = max((len(ids) for ids in study.task.encoded["train"].sequences), default=0)
    sequences = [tuple(ids[:longest]) for ids in backbone.tokenize(texts[:_MOST_TEXTS])]
    sequences = [ids for ids in sequences if len(ids) > 1]
    if not sequences:
        return not_measured("drift", "No plain text of two tokens or more.")
    plain = Encoded(tuple(sequences), None, tuple(len(ids) - 1 for ids in sequences), 0)
    task = replace(study.task, encoded={"plain": plain}, probes={}, pooling=None)
    bare = task.evaluate("plain", Completion())
    rises = {}
    for name, adapter in adapters.items():
        with attach(backbone, adapter) as joined:
            rises[name] = paired(bare, task.evaluate("plain", Completion(), joined), "loss")
    source = "given texts" if study.plain_text else "held-out inputs"
    values = {"bare_loss": bare.mean_loss, "rise": rises, "source": source}
    return Measured("drift", Evidence.MEASURED, f"{len(sequences):,} {source} as plain text", values)
