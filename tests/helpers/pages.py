"""What the code of pages and notebooks finds in its folder, and budgets under which it takes seconds."""

import csv
import itertools
import json
from pathlib import Path

import torch

from helpers.models import tiny_model
from helpers.tasks import sentences
from promptreach.audit.settings import Settings
from promptreach.hf import open_model, save_adapter
from promptreach.prompt import SoftPrompt
from promptreach.tuning import Limits

SMALL = Settings("quick", 0, Limits(64, 24, 48, 16), (2, 4), 2, 8, 8, 4)
"""The quick budget, shrunk until a tiny model takes seconds."""


def write_material(folder: Path) -> None:
    """An encoder, a causal model, an adapter of each, reviews and pairs, under the names that pages use."""
    draw = torch.Generator().manual_seed(0)
    for name, family, adapter in (
        ("a-model-folder", "bert", "my-failed-prompt"),
        ("a-causal-model", "llama", "my-prompt"),
    ):
        model = tiny_model(family, max_position_embeddings=128, num_hidden_layers=1)
        model.tokenizer.eos_token = "[SEP]" if family == "llama" else None  # written answers end
        model.model.save_pretrained(folder / name)
        model.tokenizer.save_pretrained(folder / name)
        prompt = SoftPrompt(torch.randn(4, model.hidden_size, generator=draw))
        save_adapter(folder / adapter, open_model(folder / name), prompt)  # whose base can be found again
    pairs = [{"prompt": text, "completion": text.split()[0]} for text in sentences(60)]
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in pairs), encoding="utf-8")
    words = [("the", "a"), ("cat", "dog", "film", "book"), ("was", "is"), ("very", "not"), ("good", "bad", "awful")]
    texts = [" ".join(text) for text in itertools.product(*words)]
    with (folder / "reviews.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([text, "rotten" if "bad" in text or "awful" in text else "fresh"] for text in texts)
