"""What a small model writes by heart: beside longer searches, read and in one pass, and by how varied the text is.

    python benchmarks/tuning/recall.py [--steps 2000] [--texts 3] [--starts 1 6] [--work FOLDER] [--out JSON]

`searches`: for a prompt, a prefix and a prompt that writes in one pass, the longest beginning of random texts that a
search of --steps recalls, the text growing token by token, beside the best of three searches with five times the steps
and other starts, each from so many starts side by side (at 1, 3 and 10 times the rate in turn); the share of tokens
that are right by teacher forcing, over a text too long to be recalled; the bits held and the counting bound. The model
is the diagnosis suite's small GPT, which is trained there.

`variety`: the least number of virtual tokens that recall a whole text of 32 tokens, by how many different tokens it is
drawn from, in a GPT of that shape that was never trained: what varied data ask of a model that knows nothing.

What was measured stays in --out, and a second call goes on.
"""

import argparse
import itertools
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

sys.path.insert(0, str(Path(__file__).parents[1] / "diagnosis"))
from backbones import small_gpt

from promptreach.capacity.counting import counting_bound
from promptreach.capacity.measure import bare_scores
from promptreach.capacity.memorise import BITS, MEMORY_METHODS, RECALL, MemoryJob, MemorySettings, memorise, trained_as
from promptreach.capacity.texts import MemoryText, opening_token, random_texts
from promptreach.hf import OpenModel
from promptreach.training.methods.budget import parameter_count

TOKENS = (1, 4)
LONGEST = 64
VARIETIES = (1, 2, 4, 8, 16, 32, 64)
TEXT, TRIED = 32, (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)
"""Tokens of a text of `variety`, and the numbers of virtual tokens that are tried for it, ascending."""
SPREAD = 0.2
"""Standard deviation of the weights that are drawn. At GPT-2's own 0.02, and with one table for input and output, an
untrained model says again what it reads, whatever the prompt."""


def no_step(advance: int = 1, note: str = "") -> None:
    """Progress that nobody watches."""


def recalled(
    model: OpenModel, method: str, tokens: int, texts: Sequence[MemoryText], settings: MemorySettings
) -> list[int]:
    """The tokens recalled of each text by one search."""
    opening = opening_token(model)
    job = MemoryJob(method, tokens, tuple(texts), opening, settings)
    return [one.recalled for one in memorise(model, job, bare_scores(model, texts, opening), RECALL, no_step)]


def searched(
    model: OpenModel, method: str, tokens: int, texts: Sequence[MemoryText], short: MemorySettings
) -> dict[str, Any]:
    """One form and number of virtual tokens: the search, longer ones beside it, and what too long a text shows."""
    found = recalled(model, method, tokens, texts, short)
    long = [replace(short, steps=5 * short.steps, seed=seed) for seed in range(3)]
    longer = [recalled(model, method, tokens, texts, settings) for settings in long]
    best = [max(one) for one in zip(*longer, strict=True)]
    opening = opening_token(model)
    job = MemoryJob(method, tokens, tuple(texts), opening, short)
    held = memorise(model, job, bare_scores(model, texts, opening), BITS, no_step)
    bound = counting_bound(parameter_count(model, trained_as(method), tokens), 32, len(model.vocabulary))
    return {
        "method": method,
        "tokens": tokens,
        "starts": short.starts,
        "recalled": found,
        "best_of_longer": best,
        "share_of_best": statistics.fmean(found) / max(1.0, statistics.fmean(best)),
        "teacher_forced": [one.hits / one.best_length for one in held],
        "over_tokens": [one.best_length for one in held],
        "bits": statistics.fmean(one.held for one in held),
        "bound_bits": bound.bits.value,
        "bound_tokens": bound.length.value,
    }


def least_tokens(model: OpenModel, variety: int, count: int, steps: int) -> list[int | None]:
    """For each text the least of the numbers tried that recalls it whole; None where none does."""
    texts, _ = random_texts(model, variety, count, TEXT, seed=variety)
    least: list[int | None] = [None] * count
    for tokens in TRIED:
        open_ones = [index for index, found in enumerate(least) if found is None]
        if not open_ones:
            break
        asked = [replace(texts[index]) for index in open_ones]
        for index, reached in zip(
            open_ones, recalled(model, "prompt", tokens, asked, MemorySettings(steps=steps)), strict=True
        ):
            least[index] = tokens if reached == TEXT else None
    return least


def untrained(model: OpenModel) -> OpenModel:
    """The same shape with weights as they are drawn, wide, and an output table of its own."""
    torch.manual_seed(0)
    own = model.release().config.to_dict()
    config = GPT2Config(**{**own, "initializer_range": SPREAD, "tie_word_embeddings": False})
    return OpenModel(GPT2LMHeadModel(config).eval(), model.tokenizer, name="small GPT, never trained")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--texts", type=int, default=3)
    parser.add_argument("--starts", nargs="+", type=int, default=[1, 6])
    parser.add_argument("--work", type=Path, default=Path("work/diagnosis"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/recall.json"))
    args = parser.parse_args()
    settings = {"steps": args.steps, "texts": args.texts, "torch": torch.__version__}
    kept = json.loads(args.out.read_text("utf-8")) if args.out.exists() else {}
    result = kept if kept.get("settings") == settings else {"settings": settings, "searches": [], "variety": {}}
    model = small_gpt(args.work)

    def write() -> None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

    texts, _ = random_texts(model, None, args.texts, LONGEST, seed=0)
    for starts, tokens, method in itertools.product(args.starts, TOKENS, MEMORY_METHODS):
        if any((row["method"], row["tokens"], row["starts"]) == (method, tokens, starts) for row in result["searches"]):
            continue
        short = MemorySettings(steps=args.steps, starts=starts)
        result["searches"].append(searched(model, method, tokens, texts, short))
        write()
        print(json.dumps(result["searches"][-1]), flush=True)
    for variety in VARIETIES:
        if str(variety) not in result["variety"]:
            result["variety"][str(variety)] = least_tokens(untrained(model), variety, args.texts, args.steps)
            write()
            print(variety, result["variety"][str(variety)], flush=True)


if __name__ == "__main__":
    main()
