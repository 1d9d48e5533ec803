"""Checks that the suite's tasks are what they are said to be, without the diagnosis.

    python benchmarks/diagnosis/truth.py [--tasks NAME ...] [--seed 0] [--work FOLDER] [--out JSON]

Tasks marked `plain` are trained by `plain.py`, with torch, transformers and PEFT alone; the others by `fit`.

Per task: what the hidden prompt scores on held-out rows, what the trainings named in `Task.truth` reach (long ones,
each at the best of its learning rates), what the attempt reaches, and the best that any function of the input can
score. `holds` then says whether the construction stands. Resumable; finished trainings stay in --work.
"""

import argparse
import copy
import functools
import json
from collections import Counter, defaultdict
from pathlib import Path

import plain
from backbones import MODELS
from tasks import TASKS, Task

from promptreach.backbone import Prepended
from promptreach.data import TaskData
from promptreach.hf import OpenModel
from promptreach.tuning import fit, prepare
from rows import prompt_of

CLEAR = 0.1
"""Accuracy by which the difference that makes a task what it is must show."""


def measured(task: Task, model: OpenModel, seed: int, work: Path) -> dict[str, float]:
    """Held-out accuracies by name."""
    data = task.rows(model, seed)
    found = {"possible": possible(data), "majority": max(Counter(data.answers).values()) / len(data)}
    options = {key: task.options[key] for key in ("limits", "batch_size") if key in task.options}
    if task.hidden:
        ready = prepare(model, data, limits=task.options["limits"], seed=seed, longest_prompt=len(task.hidden))
        hidden = Prepended(prompt=prompt_of(model, task.hidden))
        found["hidden prompt"] = ready.evaluate("held_out", ready.objective(), hidden).accuracy

    if task.plain:
        rows = _token_rows(model, data)
        train, judged = rows[: -plain.JUDGED], rows[-plain.JUDGED :]
        found["head"] = plain.untrained(model.release(), judged)[0]
        for method, size, steps in task.truth:
            fresh = copy.deepcopy(model.release())
            found[f"{method} {size}"] = plain.trained(fresh, train, judged, method, size, steps, seed)[0]
        return found

    def trained(method: str, size: int, **more: object) -> float:
        sizes = {"lora": {"rank": size}, "head": {}}.get(method, {"tokens": size})
        run = fit(model, data, method, seed=seed, folder=work / "truth", quiet=True, **sizes, **options, **more)
        assert run.held_out is not None
        return run.held_out.accuracy

    for method, size, steps in task.truth:
        found[f"{method} {size}".removesuffix(" 0")] = trained(method, size, **({"steps": steps} if steps else {}))
    attempt = task.options.get("attempt")
    if attempt is not None:
        settings = {key: getattr(attempt, key) for key in ("learning_rate", "init", "steps", "pooling")}
        found["attempt"] = trained(attempt.method, attempt.tokens, **settings)
    return found


def _token_rows(model: OpenModel, data: TaskData) -> list[tuple[list[int], int]]:
    """Token ids and the one token that answers them."""
    return [
        (list(ids), answer)
        for ids, (answer,) in zip(
            model.tokenize(data.inputs), model.tokenize(data.answers, special_tokens=False), strict=True
        )
    ]


def possible(data: TaskData) -> float:
    """The best share of rows that any function of the input gets right."""
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for text, answer in zip(data.inputs, data.answers, strict=True):
        groups[text][answer] += 1
    return sum(max(counts.values()) for counts in groups.values()) / len(data)


def holds(task: Task, found: dict[str, float]) -> bool:
    """Whether the numbers are those of the task's kind."""
    prompts = {name: value for name, value in found.items() if name.startswith(("prompt", "prefix"))}
    best = max(prompts.values(), default=0.0)
    if task.kind == "contradicted":
        return found["possible"] - found["majority"] < 0.04
    if task.kind in ("shuffled", "few"):
        return True  # labels drawn without the inputs, and the number of rows, need no measurement
    if task.kind in ("lookup", "table"):
        own = "attempt" in task.options
        few = found["prefix 1"] if own else max(found["prompt 4"], found["prefix 2"])
        held = found["prefix 8"] - few >= CLEAR and few - found["head"] >= CLEAR
        return held and (own or (found["lora 16"] - few >= CLEAR) is ("FITS" not in task.expected))
    if task.kind in ("new attention", "pairwise"):
        return found["lora 8"] - max(best, found["head"]) >= CLEAR
    known = found.get("hidden prompt", 1.0) > 0.9
    if task.kind == "crippled":
        return known and best > 0.9 and best - found["attempt"] >= CLEAR
    return known and best > 0.9 and best - found["head"] >= CLEAR


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS), metavar="NAME")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("work/diagnosis"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/diagnosis_truth.json"))
    args = parser.parse_args()
    result = json.loads(args.out.read_text()) if args.out.exists() else {}
    open_model = functools.cache(lambda name: MODELS[name](args.work))
    for name in args.tasks:
        if name in result:
            continue
        task = TASKS[name]
        found = measured(task, open_model(task.model), args.seed, args.work)
        result[name] = {
            "kind": task.kind,
            "expected": task.expected,
            "why": task.why,
            "seed": args.seed,
            "accuracy": {key: round(value, 4) for key, value in found.items()},
            "holds": holds(task, found),
        }
        ordered = {known: result[known] for known in TASKS if known in result}
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(ordered, indent=1) + "\n")
        print(f"{name}: {'holds' if result[name]['holds'] else 'DOES NOT HOLD'} {result[name]['accuracy']}", flush=True)


if __name__ == "__main__":
    main()
