"""A small T5 trained here on four skills, so that a prompt can steer it: what an audit says of it.

    python benchmarks/diagnosis/t5_skills.py [--steps 900] [--work out/t5] [--out benchmarks/results/t5_skills.json]

The model reads the name of a skill and a few words, and writes what the skill makes of them: the words again, in
reverse, the first one, or the last one. One row in nine has no name and wants the words again. The audit's rows have
none and want another skill: the bare model is wrong on most, and one virtual token that stands for a name is enough.
Seeds are fixed; the model takes minutes on one core and stays in WORK.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from helpers.models import WORDS
from promptreach import audit

RESULT = Path(__file__).parents[1] / "results" / "t5_skills.json"
SKILLS: dict[str, Callable[[list[str]], list[str]]] = {
    "again": lambda words: words,
    "reverse": lambda words: words[::-1],
    "first": lambda words: words[:1],
    "last": lambda words: words[-1:],
}
LEAST, MOST = 2, 4
AUDITED = ("reverse", "last")


def tokenizer_of() -> PreTrainedTokenizerFast:
    """One token a word; the end behind every text, as T5 has it."""
    words = {word: index for index, word in enumerate(["<pad>", "</s>", "<unk>", *SKILLS, *WORDS])}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", eos_token="</s>")


def row(draw: random.Random, skill: str | None = None) -> tuple[str, str]:
    """What is read and what is written; of a skill by name, or of any, now and then without its name."""
    words = draw.choices(WORDS, k=draw.randint(LEAST, MOST))
    if skill is not None:
        return " ".join(words), " ".join(SKILLS[skill](words))
    name = draw.choice([*SKILLS, *SKILLS, None])
    return " ".join([name, *words] if name else words), " ".join(SKILLS[name or "again"](words))


def trained(steps: int, folder: Path) -> dict[str, Any]:
    """Train the model and leave it in a folder; the share of answers that are wholly right, by skill."""
    tokenizer, draw = tokenizer_of(), random.Random(0)
    torch.manual_seed(0)
    sizes = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": len(tokenizer)}
    config = T5Config(**sizes, dropout_rate=0.0, decoder_start_token_id=0, relative_attention_num_buckets=8)
    model = T5ForConditionalGeneration(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    for _ in range(steps):
        read, written = zip(*(row(draw) for _ in range(64)), strict=True)
        inputs, labels = (tokenizer(list(texts), padding=True, return_tensors="pt") for texts in (read, written))
        targets = labels.input_ids.masked_fill(labels.input_ids == 0, -100)
        loss = model(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, labels=targets).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step(), schedule.step(), optimiser.zero_grad()
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {name: right(model, tokenizer, name) for name in SKILLS} | {"loss": loss.item()}


@torch.no_grad()
def right(model: T5ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, skill: str) -> float:
    draw = random.Random(1)
    pairs = [row(draw, skill) for _ in range(100)]
    inputs = tokenizer([f"{skill} {text}" for text, _ in pairs], padding=True, return_tensors="pt")
    given = model.generate(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, max_new_tokens=MOST + 1)
    texts = tokenizer.batch_decode(given, skip_special_tokens=True)
    return sum(text == answer for text, (_, answer) in zip(texts, pairs, strict=True)) / len(pairs)


def audited(folder: Path, skill: str, seed: int) -> dict[str, Any]:
    draw = random.Random(seed)
    rows = [dict(zip(("prompt", "completion"), row(draw, skill), strict=True)) for _ in range(500)]
    result = audit(folder, rows, budget="quick", tokens=[1, 4], steps=60, batch_size=16, max_length=16, seed=seed)
    table = next(
        block
        for finding in result.findings
        if finding.check == "training"
        for block in finding.blocks
        if type(block).__name__ == "Table"
    )
    methods = [dict(zip(table.columns, cells, strict=True)) for cells in table.rows]
    return {"verdict": str(result.verdict), "headline": result.headline, "methods": methods}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--work", type=Path, default=Path("out/t5"))
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    kept = given.work / "skills.json"
    if not kept.exists():
        skills = trained(given.steps, given.work)
        kept.write_text(json.dumps(skills))
    found: dict[str, Any] = {"steps": given.steps, "skills": json.loads(kept.read_text()), "audits": {}}
    for skill in AUDITED:
        for seed in given.seeds:
            found["audits"][f"{skill}, seed {seed}"] = audited(given.work, skill, seed)
            given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1), f"{time.process_time() - began:.0f} s of processor time", sep="\n")


if __name__ == "__main__":
    main()
