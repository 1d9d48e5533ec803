"""What a seed is worth on five tasks: the winners of each trained with three seeds, rows and settings as they are.

    python benchmarks/diagnosis/seeds.py [--tasks NAME ...] [--seeds 3] [--work FOLDER] [--out JSON]

Resumable: a task that is in the result stays, and finished trainings stay in --work, which the suite may share.
"""

import argparse
import functools
import json
from pathlib import Path
from typing import Any

from backbones import MODELS
from tasks import TASKS, Task

from promptreach.hf import OpenModel
from promptreach.tuning import diagnose

CHOSEN = ("planted-max", "lookup-two-c", "count-last", "pair-two-before", "crippled-head")
"""Tasks that training decides, of five kinds and four models; count-last and crippled-head classify."""


def measured(task: Task, model: OpenModel, seeds: int, work: Path) -> dict[str, Any]:
    """The scores by run and seed, and the largest difference between two seeds of one run."""
    found = diagnose(
        model, task.rows(model, 0), seeds=seeds, folder=work / "runs" / task.name, quiet=True, **task.options
    )
    numbers = found.findings["seeds"]
    unit = "accuracy" if found.findings["training"]["metric"] == "accuracy" else "nats"
    kept = {name: [round(score, 4) for score in scores] for name, scores in numbers["scores"].items()}
    return {"verdict": str(found.verdict), "unit": unit, "worth": round(numbers["worth"], 4), "scores": kept}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(CHOSEN), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("work/diagnosis"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/diagnosis_seeds.json"))
    args = parser.parse_args()
    result = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else {}
    open_model = functools.cache(lambda name: MODELS[name](args.work))
    for name in args.tasks:
        if name in result:
            continue
        task = TASKS[name]
        result[name] = measured(task, open_model(task.model), args.seeds, args.work)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {result[name]['worth']} {result[name]['unit']}, {result[name]['verdict']}", flush=True)


if __name__ == "__main__":
    main()
