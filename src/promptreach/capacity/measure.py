"""The numbers of one job, text by text: found where it was done before, trained for otherwise.

A job is named by a hash of everything that decides its numbers: the model, the method, the number of virtual tokens,
the texts and the settings.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict

from promptreach.backbone import Backbone
from promptreach.capacity.memorise import MemoryJob, MemoryTrainer, Status, memorise
from promptreach.capacity.result import MemoryRecord
from promptreach.capacity.scoring import ONE_PASS, TextScores, recalled_freely, scored
from promptreach.capacity.texts import MemoryText
from promptreach.errors import Fault, InputError
from promptreach.progress import Step
from promptreach.training.store import Store, read_stored

MEMORY_VERSION = 3
"""Part of every job's name: raise it when the same settings would give another outcome."""


def measured(
    backbone: Backbone, job: MemoryJob, bare: Callable[[], Sequence[TextScores]], store: Store, step: Step
) -> list[MemoryRecord]:
    """One record a text of the job.

    Args:
        bare: gives the scores of the job's texts without virtual tokens; asked only where there is work.
        store: keeps the records, one JSON file a job.
        step: called once an optimiser step.

    Raises:
        OutputError: when they cannot be kept.
    """
    file = f"{store.key(MEMORY_VERSION, backbone.fingerprint, asdict(job))}.json"
    known = store.load(file, lambda path: [MemoryRecord(**record) for record in read_stored(path)["texts"]])
    if known is not None:
        step(job.settings.most_steps, "done before")
        return known
    runs = [memorise(backbone, job, bare(), share, step) for share in job.settings.shares]
    records = [_record(backbone, job, trainers) for trainers in zip(*runs, strict=True)]
    store.write_record(file, {"texts": [asdict(record) for record in records]})
    return records


def bare_scores(backbone: Backbone, texts: Sequence[MemoryText], opening: int) -> list[TextScores]:
    """The scores of each whole text with nothing in front but the opening token.

    Raises:
        InputError: when the bare model's loss is not a number.
    """
    found = [scored(backbone, [text.ids], opening)[0] for text in texts]
    if not all(bool(scores.nats.isfinite().all()) for scores in found):
        expected, remedy = "numbers", "check the weights, or open the model in another dtype"
        raise InputError(Fault("model", f"losses of {backbone.name} that are NaN or infinite", expected, remedy))
    return found


def _record(backbone: Backbone, job: MemoryJob, trainers: Sequence[MemoryTrainer]) -> MemoryRecord:
    """The numbers of one text from its runs; the free-running one is measured here, with what recalled most."""
    recaller, holder = (max(trainers, key=lambda one: getattr(one, name)) for name in ("recalled", "held"))
    text, bare, length = holder.text, holder.bare, holder.best_length
    window, joined = text.ids[: recaller.length], job.reads(recaller.recaller())
    # Scored once more: the text has grown since, and its next tokens may be right as well.
    recalled = scored(backbone, [window], job.opening, joined)[0].recalled
    status: Status = "diverged" if any(trainer.diverged for trainer in trainers) else "step limit"
    return MemoryRecord(
        method=job.method,
        tokens=job.tokens,
        kind=text.kind,
        sequence=text.index,
        length=length,
        bits_before=bare.bits(length),
        bits_after=holder.bits_after,
        bits_source=None if text.source_bits is None else text.source_bits * length,
        right_before=int(bare.right[:length].sum()),
        right=holder.hits,
        recalled=recalled,
        # In one pass nothing is read, so what was scored is what is written.
        recalled_free=recalled if job.method == ONE_PASS else recalled_freely(backbone, window, job.opening, joined),
        steps=sum(trainer.steps for trainer in trainers),
        status="whole text" if recalled == len(text.ids) else status,
    )
