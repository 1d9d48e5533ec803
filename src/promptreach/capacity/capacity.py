"""Bits and tokens of text that a prompt holds: the front door."""

import functools
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from promptreach.backbone import Backbone
from promptreach.capacity.counting import counting_bound
from promptreach.capacity.measure import bare_scores, measured
from promptreach.capacity.memorise import MEMORY_METHODS, MemoryJob, MemorySettings, trained_as
from promptreach.capacity.result import Capacity, Level
from promptreach.capacity.texts import KINDS, natural_texts, opening_token, random_texts
from promptreach.errors import Fault, raise_if_any
from promptreach.files import check_output
from promptreach.hf.models.load import as_backbone
from promptreach.progress import Progress
from promptreach.report.formatting import counted
from promptreach.training.arguments import least_faults, name_faults, rate_faults, seed_faults, size_faults
from promptreach.training.methods.budget import parameter_count
from promptreach.training.methods.methods import lacking_faults
from promptreach.training.store import Store


def capacity(
    model: Any,
    *,
    text: str | None = None,
    methods: Sequence[str] = ("prompt",),
    tokens: Sequence[int] = (1, 2, 4, 8),
    kinds: Sequence[str] = KINDS,
    sequences: int = 3,
    longest: int = 1024,
    vocabulary: int | None = None,
    settings: MemorySettings | None = None,
    folder: str | Path | None = None,
    quiet: bool = False,
) -> Capacity:
    """Bits and tokens that 1, 2, 4, ... virtual tokens memorise.

    For each form and each number of virtual tokens, one set of them is trained for each text, all texts in one batch,
    until the model writes the text from them alone or the step limit is reached; the text grows as it is recalled. What
    is found is a lower bound on what is possible (MEASURED), beside the counting bound, an upper one (PROVED).

    Args:
        model: what `promptreach.hf.open_model` opens or has opened: a causal model.
        text: natural text; its passages are the beginnings of equal parts. None takes the language reference that is
            installed with Python.
        methods: ``"prompt"``, virtual tokens at the input; ``"prefix"``, keys and values of their own at every layer;
            ``"one_pass"``, a prompt whose last virtual token stands in place of the text, which the model then writes
            in one pass, reading nothing of it.
        tokens: numbers of virtual tokens, or of slots at every layer.
        kinds: ``"natural"``, ``"random"`` (tokens drawn uniformly and independently), or both.
        sequences: texts of each kind.
        longest: tokens of a text at most; less where the context ends.
        vocabulary: how many different tokens random texts are drawn from; None takes all that the model has.
        settings: of the training; None takes the published ones.
        folder: keeps finished points there; a second call with the same arguments finds them.
        quiet: no progress bar.

    Raises:
        InputError: for arguments that make no sense, all at once; for an encoder; for too little text; for a model
            whose loss is not a number.
        OutputError: when nothing can be written to `folder`.
    """
    began = time.monotonic()
    settings = settings or MemorySettings()
    raise_if_any(_faults(methods, tokens, kinds, sequences, longest, settings))
    if folder is not None:
        check_output(folder, resume=True)
    backbone = as_backbone(model)
    counts = sorted(set(tokens))
    raise_if_any(
        [
            fault
            for method in dict.fromkeys(methods)
            for fault in lacking_faults("methods", backbone, trained_as(method))
        ]
    )
    raise_if_any(_faults_of(backbone, counts[-1], vocabulary, settings))
    longest = min(settings.length or longest, backbone.max_positions - counts[-1])
    opening = opening_token(backbone)
    drawn, size = random_texts(backbone, vocabulary, sequences, longest, settings.seed)
    texts = natural_texts(backbone, text, sequences, longest, settings.length or 2) if "natural" in kinds else []
    texts += drawn if "random" in kinds else []
    bare = functools.cache(lambda: bare_scores(backbone, texts, opening))
    precision = 8 * backbone.vocabulary.element_size()
    store = Store(None if folder is None else Path(folder))
    store.clean()
    levels: list[Level] = []
    with Progress(quiet) as progress:
        progress.plan(settings.most_steps * len(counts) * len(set(methods)))
        for method in dict.fromkeys(methods):
            for count in counts:
                job = MemoryJob(method, count, tuple(texts), opening, settings)
                with progress.task(f"{method}, {counted(count, 'virtual token')}", total=settings.most_steps) as step:
                    records = measured(backbone, job, bare, store, step)
                bound = counting_bound(parameter_count(backbone, trained_as(method), count), precision, size)
                for kind in (kind for kind in KINDS if kind in kinds):
                    rows = tuple(record for record in records if record.kind == kind)
                    levels.append(Level(method, count, kind, rows, bound))
    return Capacity(backbone.name, opening, size, precision, settings, tuple(levels), seconds=time.monotonic() - began)


def _faults(
    methods: Sequence[str],
    tokens: Sequence[int],
    kinds: Sequence[str],
    sequences: int,
    longest: int,
    settings: MemorySettings,
) -> list[Fault]:
    """The faults of the call, whatever the model."""
    faults = name_faults("methods", methods, MEMORY_METHODS) + name_faults("kinds", kinds, KINDS)
    faults += size_faults("tokens", tokens)
    faults += least_faults({"sequences": sequences}, most=10_000) + least_faults({"longest": longest}, 2)
    faults += least_faults({"steps": settings.steps, "starts": settings.starts}) + least_faults(
        {"length": settings.length}, 2
    )
    faults += rate_faults("learning_rate", settings.learning_rate) + seed_faults(settings.seed)
    checks = [
        ("beta1", settings.beta1, 0 <= settings.beta1 < 1, "at least 0 and below 1"),
        ("beta2", settings.beta2, 0 <= settings.beta2 < 1, "at least 0 and below 1"),
        ("weight_decay", settings.weight_decay, 0 <= settings.weight_decay < math.inf, "a finite number, at least 0"),
        ("growth", settings.growth, 1 < settings.growth < math.inf, "a finite number above 1"),
    ]
    return faults + [Fault(name, str(value), expected) for name, value, fine, expected in checks if not fine]


def _faults_of(backbone: Backbone, most: int, vocabulary: int | None, settings: MemorySettings) -> list[Fault]:
    """The faults of the call for this model."""
    if backbone.task == "encoder":
        why = (
            "Memory is measured by the loss of the next token, and an encoder predicts none: what it memorises shows "
            "only through a head that is trained along, and then the head remembers too"
        )
        return [Fault("model", f"{backbone.name}, an encoder", "a causal language model", why)]
    faults = []
    least = settings.length or 2
    if backbone.max_positions - most < least:
        seen = f"{counted(most, 'virtual token')} in a context of {backbone.max_positions}"
        faults.append(Fault("tokens", seen, f"room for {least} tokens of text"))
    if vocabulary is not None and not 2 <= vocabulary <= len(backbone.vocabulary):
        faults.append(Fault("vocabulary", str(vocabulary), f"2 to {len(backbone.vocabulary)}"))
    return faults
