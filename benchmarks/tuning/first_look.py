"""A first look at every task of the diagnosis suite, beside the verdict that its diagnosis came to.

    PYTHONPATH=benchmarks/diagnosis python benchmarks/tuning/first_look.py
        [--models NAME ...] [--work FOLDER] [--out JSON]

What a first look knows is measured as an audit does it: the rows and their contradictions, and the head alone or the
bare model. What it guesses (`promptreach.diagnosis.rules.likely`) is compared with the final verdict in
benchmarks/results/diagnosis.json, which training came to. A task of which somebody brought an attempt is asked about
the attempt, which no first look sees: those stand apart. The small GPTs are those of the suite, trained once in --work.
"""

import argparse
import functools
import json
import platform
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from backbones import MODELS
from tasks import TASKS, Task

from promptreach import __version__
from promptreach.diagnosis.experiment import Experiment
from promptreach.diagnosis.measures.memorise import prepare_same_rows
from promptreach.diagnosis.rules.likely import likely
from promptreach.diagnosis.steps import BARE_MODEL, DATA
from promptreach.hf import OpenModel
from promptreach.hf.models.load import opened_for
from promptreach.progress import Progress
from promptreach.training.engines.executor import InProcess
from promptreach.training.runs import RunStore
from promptreach.training.task.limits import Limits
from promptreach.training.task.task import prepare

RESULTS = Path("benchmarks/results")
OPEN = "open"


def looked_at(task: Task, model: OpenModel, seed: int) -> dict[str, Any]:
    """What a first look says of one task, and the processor seconds that it took."""
    began = time.process_time()
    data = task.rows(model, seed)
    options = task.options
    limits, tokens = options.get("limits") or Limits(), tuple(options.get("tokens", (4, 16, 64)))
    goal = options.get("goal", "generalise")
    make = prepare if goal == "generalise" else prepare_same_rows
    backbone = opened_for(data, model)
    experiment = Experiment(
        data=data,
        task=make(backbone, data, limits=limits, seed=seed, longest_prompt=max(tokens)),
        executor_of=lambda one: InProcess(one, RunStore(None), Progress(quiet=True)),
        tokens=tokens,
        steps=1,
        batch_size=options.get("batch_size", 32),
        seed=seed,
        goal=goal,
        limits=limits,
    )
    found = DATA.take(experiment), BARE_MODEL.take(experiment)
    numbers, judged = [one.numbers for one in found], len(experiment.task.held_out)
    guess = likely(*numbers, experiment.metric, judged, "attempt" in options)
    verdict = None if guess.verdict is None else guess.verdict.value
    seconds = round(time.process_time() - began, 2)
    return {"rule": guess.rule, "likely": verdict, "text": guess.text, "processor_seconds": seconds}


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By rule: how often it spoke, how often the final verdict was the guess, and what the final verdicts were."""
    found = {}
    for rule in sorted({row["rule"] for row in rows}):
        own = [row for row in rows if row["rule"] == rule]
        right = None if rule == OPEN else sum(row["likely"] == row["verdict"] for row in own)
        found[rule] = {"spoke": len(own), "right": right, "verdicts": dict(Counter(row["verdict"] for row in own))}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--work", type=Path, default=Path("work/diagnosis"))
    parser.add_argument("--out", type=Path, default=RESULTS / "first_look.json")
    args = parser.parse_args()
    final = json.loads((RESULTS / "diagnosis.json").read_text(encoding="utf-8"))["rows"]
    rows = json.loads(args.out.read_text(encoding="utf-8"))["rows"] if args.out.exists() else []
    done = {(row["task"], row["seed"]) for row in rows}
    open_model = functools.cache(lambda name: MODELS[name](args.work))
    for row in final:
        if row["model"] not in args.models or (row["task"], row["seed"]) in done:
            continue
        task = TASKS[row["task"]]
        found = looked_at(task, open_model(task.model), row["seed"])
        said = {"task": row["task"], "seed": row["seed"], "model": row["model"], "attempt": "attempt" in task.options}
        rows.append({**said, **found, "verdict": row["verdict"], "expected": row["expected"]})
        print(f"{row['task']}, seed {row['seed']}: {found['rule']}, {found['likely']}; {row['verdict']}", flush=True)
        without = [one for one in rows if not one["attempt"]]
        result = {
            "rules": summary(without),
            "with an attempt": summary([one for one in rows if one["attempt"]]),
            "environment": {
                "machine": platform.machine(),
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
                "promptreach": __version__,
            },
            "rows": rows,
        }
        args.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps({name: json.loads(args.out.read_text())[name] for name in ("rules", "with an attempt")}, indent=1))


if __name__ == "__main__":
    main()
