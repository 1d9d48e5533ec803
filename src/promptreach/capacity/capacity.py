"""How much text a prompt holds: the front door."""

import functools
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from promptreach.backbone import Backbone
from promptreach.capacity.counting import counting_bound
from promptreach.capacity.forms import FORMS
from promptreach.capacity.memorise import MemorySettings
from promptreach.capacity.points import Memory, PointStore, Question, bare_scores, measured
from promptreach.capacity.result import Capacity, Level
from promptreach.capacity.texts import KINDS, Kind, natural_texts, opening_token, random_texts
from promptreach.errors import Fault, raise_if_any
from promptreach.files import check_output
from promptreach.hf.models.load import as_backbone
from promptreach.progress import Progress
from promptreach.training.arguments import name_faults, size_faults


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
        methods: ``"prompt"``, virtual tokens at the input; ``"prefix"``, keys and values of their own at every layer.
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
    raise_if_any(_faults_of(backbone, counts[-1], vocabulary, settings))
    longest = min(settings.length or longest, backbone.max_positions - counts[-1])
    opening = opening_token(backbone)
    drawn, size = random_texts(backbone, vocabulary, sequences, longest, settings.seed)
    texts = natural_texts(backbone, text, sequences, longest, settings.length or 2) if "natural" in kinds else []
    texts += drawn if "random" in kinds else []
    bare = functools.cache(lambda: bare_scores(backbone, texts, opening))
    precision = 8 * backbone.vocabulary.element_size()
    store = PointStore(None if folder is None else Path(folder))
    levels: list[Level] = []
    with Progress(quiet) as progress:
        progress.plan(settings.most_steps * len(counts) * len(set(methods)))
        for method in dict.fromkeys(methods):
            for count in counts:
                question = Question(method, count, tuple(texts), opening, settings)
                with progress.task(f"{method}, {count} virtual tokens", total=settings.most_steps) as step:
                    rows = measured(backbone, question, bare, store, step)
                bound = counting_bound(count * FORMS[method].entries(backbone), precision, size)
                levels += [Level(method, count, kind, _of_kind(rows, kind), bound) for kind in KINDS if kind in kinds]
    return Capacity(backbone.name, opening, size, precision, settings, tuple(levels), seconds=time.monotonic() - began)


def _of_kind(rows: Sequence[Memory], kind: Kind) -> tuple[Memory, ...]:
    return tuple(row for row in rows if row.kind == kind)


def _faults(
    methods: Sequence[str],
    tokens: Sequence[int],
    kinds: Sequence[str],
    sequences: int,
    longest: int,
    settings: MemorySettings,
) -> list[Fault]:
    """What is wrong with the call, whatever the model."""
    faults = name_faults("methods", methods, tuple(FORMS)) + name_faults("kinds", kinds, KINDS)
    faults += size_faults("tokens", tokens)
    for name, value, least in (
        ("sequences", sequences, 1),
        ("longest", longest, 2),
        ("steps", settings.steps, 1),
        ("length", 2 if settings.length is None else settings.length, 2),
    ):
        faults += [Fault(name, str(value), f"at least {least}")] if value < least else []
    if not 0 < settings.learning_rate < math.inf:
        faults.append(Fault("learning_rate", str(settings.learning_rate), "a positive number"))
    for name in ("beta1", "beta2"):
        if not 0 <= getattr(settings, name) < 1:
            faults.append(Fault(name, str(getattr(settings, name)), "at least 0 and below 1"))
    if not 0 <= settings.weight_decay < math.inf:
        faults.append(Fault("weight_decay", str(settings.weight_decay), "a finite number, at least 0"))
    if not 1 < settings.growth < math.inf:
        faults.append(Fault("growth", str(settings.growth), "a finite number above 1"))
    return faults


def _faults_of(backbone: Backbone, most: int, vocabulary: int | None, settings: MemorySettings) -> list[Fault]:
    """What is wrong with the call for this model."""
    if backbone.task == "encoder":
        why = (
            "Memory is measured by the loss of the next token, and an encoder predicts none: what it memorises shows "
            "only through a head that is trained along, and then the head remembers too"
        )
        return [Fault("model", f"{backbone.name}, an encoder", "a causal language model", why)]
    faults = []
    least = settings.length or 2
    if backbone.max_positions - most < least:
        seen = f"{most} virtual tokens in a context of {backbone.max_positions}"
        faults.append(Fault("tokens", seen, f"room for {least} tokens of text"))
    if vocabulary is not None and not 2 <= vocabulary <= len(backbone.vocabulary):
        faults.append(Fault("vocabulary", str(vocabulary), f"2 to {len(backbone.vocabulary)}"))
    return faults
