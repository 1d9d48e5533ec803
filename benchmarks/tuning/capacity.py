"""Bits and tokens that 1, 2, 4, 8 virtual tokens of SmolLM2-135M memorise, natural and random text.

    python benchmarks/tuning/capacity.py                                          the full run
    python benchmarks/tuning/capacity.py --layers 4 --tokens 1 --steps 100        a short cut
    python benchmarks/tuning/capacity.py --layers 4 --tokens 1 --steps 5000 --methods prompt --sequences 2 --longest 256
        --out benchmarks/results/capacity_published.json          one virtual token over the steps that were published
    python benchmarks/tuning/capacity.py --layers 4 --tokens 1 --lengths          growing text against fixed lengths
    python benchmarks/tuning/capacity.py --layers 4 --tokens 1 --rates 3e-3 3e-2  other learning rates too

A setting is the first `--layers` layers of the model (0 for all 30; `--whole-steps` for those, since they cost most), a
form (prompt, prefix) and the training of `promptreach.tuning.capacity`. Training is the published one (AdamW, rate
1e-2, betas 0.9 and 0.9, decay 0.01), except that texts grow and that steps are fewer unless --steps says 5000. With
fewer layers the bare model is a worse one, so that bits *removed* from natural text are more than were stored: compare
within a row of layers, and use bits stored of random text.

`--lengths` trains fixed lengths, as was published, with the same steps each, and sets their best numbers beside the
growing texts' two runs; `--rates` repeats the growing texts at other rates. Finished points stay in --work, and the
result is written after every setting, so that a second call goes on where the first was stopped.
"""

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from helpers.models import smollm2_file
from promptreach import __version__
from promptreach.hf import OpenModel, open_model
from promptreach.tuning import Capacity, MemorySettings, capacity

RESULT = Path(__file__).parents[1] / "results" / "capacity.json"
GRID = (8, 16, 24, 32, 48, 64, 96, 128)
"""Fixed lengths to compare with; more virtual tokens take as many times more."""


def measured(
    args: argparse.Namespace, model: OpenModel, method: str, settings: MemorySettings, tokens: list[int]
) -> Capacity:
    """One call of what is benchmarked."""
    return capacity(
        model,
        methods=(method,),
        tokens=tokens,
        kinds=args.kinds,
        sequences=args.sequences,
        longest=args.longest,
        settings=settings,
        folder=args.work,
        quiet=args.quiet,
    )


def row_of(layers: int, method: str, found: Capacity, seconds: float) -> dict[str, Any]:
    """One setting; the seconds are those of this call, in which finished points cost nothing."""
    return {"layers": layers, "method": method, "seconds": seconds, **found.to_dict(), "model": Path(found.model).name}


def compared(args: argparse.Namespace, model: OpenModel, method: str, settings: MemorySettings) -> dict[str, Any]:
    """The best of fixed lengths beside the growing text, level by level, with the optimiser steps of both."""
    rows = []
    for tokens in args.tokens:
        growing = measured(args, model, method, settings, [tokens])
        fixed = [
            measured(args, model, method, MemorySettings(**{**vars(settings), "length": length * tokens}), [tokens])
            for length in GRID
            if length * tokens <= args.longest
        ]
        for index, level in enumerate(growing.levels):
            others = [one.levels[index] for one in fixed]
            rows.append(
                {
                    "tokens": tokens,
                    "kind": level.kind,
                    "growing": {
                        "bits": level.bits.mean,
                        "recalled": level.mean("recalled"),
                        "steps": level.mean("steps"),
                    },
                    "fixed": {
                        "bits": max(one.bits.mean for one in others),
                        "recalled": max(one.mean("recalled") for one in others),
                        "steps": sum(one.mean("steps") for one in others),
                    },
                }
            )
    return {"method": method, "lengths": GRID, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", nargs="+", type=int, default=[4, 0], help="0 is the whole model")
    parser.add_argument("--methods", nargs="+", default=["prompt", "prefix"], choices=["prompt", "prefix"])
    parser.add_argument("--tokens", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--kinds", nargs="+", default=["natural", "random"], choices=["natural", "random"])
    parser.add_argument("--sequences", type=int, default=3)
    parser.add_argument("--longest", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=1000, help="5000 as published")
    parser.add_argument("--whole-steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lengths", action="store_true", help="fixed lengths beside growing texts")
    parser.add_argument("--rates", nargs="+", type=float, default=[])
    parser.add_argument("--work", type=Path, default=Path("work/capacity"))
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--quiet", action="store_true")
    args = parser.parse_args()
    result: dict[str, Any] = {
        "settings": {key: value for key, value in vars(args).items() if key not in ("work", "out", "quiet")},
        "environment": {
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "promptreach": __version__,
            "python": sys.version.split()[0],
        },
        "model": "SmolLM2-135M-Instruct",
        "capacity": [],
        "fixed_lengths": [],
        "rates": [],
    }
    for layers in args.layers:
        model = open_model(smollm2_file(), num_layers=layers or None)
        steps = args.steps if layers else args.whole_steps
        for method in args.methods:
            settings = MemorySettings(steps=steps, seed=args.seed)
            began = time.monotonic()
            found = measured(args, model, method, settings, args.tokens)
            result["capacity"].append(row_of(layers, method, found, time.monotonic() - began))
            written(args.out, result)
            for level in found.levels:
                print(
                    f"{layers or 'all'} layers, {method}, {level.tokens} tokens, {level.kind}: "
                    f"{level.bits.mean:.0f} bits, {level.mean('recalled_free'):.1f} recalled, "
                    f"{100 * level.share:.2f} % of the bound",
                    flush=True,
                )
            if args.lengths:
                result["fixed_lengths"].append({"layers": layers, **compared(args, model, method, settings)})
                written(args.out, result)
            for rate in args.rates:
                began = time.monotonic()
                other = measured(args, model, method, MemorySettings(steps, rate, seed=args.seed), args.tokens)
                result["rates"].append(row_of(layers, method, other, time.monotonic() - began))
                written(args.out, result)


def written(path: Path, result: dict[str, Any]) -> None:
    """The result so far."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
