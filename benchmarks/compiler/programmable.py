"""The `programmable` transformer on random Lipschitz functions: measured error, certificate, tol; tightness; speed.

    python benchmarks/compiler/programmable.py                            everything (about a quarter of an hour)
    python benchmarks/compiler/programmable.py --functions 5 --sizes 1,1 1,2 --parts errors

Config in (the options), JSON out (benchmarks/results/compiler_programmable.json). One backbone a setting plays all the
functions by prompt alone. Every setting is written when it is done, and one that is on file with the same options is
not run again, so a stopped run goes on where it was. Times are printed beside the errors they were bought with.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from functools import partial
from pathlib import Path

import torch

from promptreach.compiler import TargetFunction, build_backbone, plan_backbone
from promptreach.compiler.gallery import gallery_function, random_function
from promptreach.compiler.verify import measure
from promptreach.files import write_atomically

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from helpers.compiler_attack import attack

SIZES = ("1,1", "1,2", "2,1", "1,3", "2,2")
TOLS = (0.1, 0.03, 0.003)
FINEST = {"1,1": 0.003, "1,2": 0.003}
PARTS = ("errors", "speed", "multilinear", "float32")


def errors(dim: int, tokens: int, tol: float, functions: int, points: int, dtype=torch.float64) -> dict:
    """All functions on one backbone: is measured <= certificate <= tol, and by how much?"""
    backbone = build_backbone(dim, tokens, 1.0, tol, dtype=dtype)
    rows, climbs = [], []
    compiling = evaluating = 0.0
    for seed in range(functions):
        target = random_function(dim, tokens, 1.0, seed)
        start = time.perf_counter()
        prompt = backbone.prompt_for(target)
        compiling += time.perf_counter() - start
        start = time.perf_counter()
        seen = measure(backbone, prompt, target, points, seed=10_000 + seed)
        evaluating += time.perf_counter() - start
        sup = backbone.sup_certificate(prompt)
        worst, _ = attack(backbone, prompt, target, starts=100, rounds=30, seed=seed)
        rows.append((seen.error.value, prompt.certificate.value))
        climbs.append((max(worst, seen.largest), sup.value))
    plan, ratios = backbone.plan, [certified / measured for measured, certified in rows]
    return {
        "functions": functions,
        "points": points,
        "measured_above_certificate": sum(measured > certified for measured, certified in rows),
        "certificate_above_tol": sum(certified > tol for _, certified in rows),
        "attacked_above_sup_certificate": sum(found > bound for found, bound in climbs),
        "largest_measured": max(measured for measured, _ in rows),
        "largest_certificate": max(certified for _, certified in rows),
        "median_certificate_over_measured": statistics.median(ratios),
        "largest_certificate_over_measured": max(ratios),
        "median_sup_certificate_over_attacked": statistics.median(bound / found for found, bound in climbs),
        "recheck": prompt.certificate.recheck() and sup.recheck(),
        "cells": plan.cells,
        "slots": plan.slots,
        "hidden_size": plan.hidden_size,
        "numbers_that_depend_on_f": plan.table_entries,
        "over_the_table": plan.table_entries / (tokens * dim * plan.cells ** (dim * tokens)),
        "compared": [[row.what, row.paper, row.paper_log10, row.achieved_log10] for row in plan.compared],
        "seconds_per_prompt": compiling / functions,
        "seconds_per_measurement": evaluating / functions,
    }


def speed(inputs: int = 10_000) -> dict:
    """(1, 2) at tol 0.03: seconds to compile a prompt and to evaluate inputs, the best of five."""
    backbone = build_backbone(1, 2, 1.0, 0.03)
    target = random_function(1, 2, 1.0, 0)
    plain = TargetFunction(lambda x: target.function(torch.from_numpy(x)[None])[0].numpy(), 1, 2, 1.0, array="numpy")
    x = torch.rand(inputs, 2, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    compiled, evaluated = [], []
    for _ in range(5):
        start = time.perf_counter()
        prompt = backbone.prompt_for(plain)
        compiled.append(time.perf_counter() - start)
        start = time.perf_counter()
        backbone(x, prompt)
        evaluated.append(time.perf_counter() - start)
    seen = measure(backbone, prompt, target, 20_000)
    return {
        "seconds_to_compile_one_input_a_call": min(compiled),
        "inputs": inputs,
        "seconds_to_evaluate": min(evaluated),
        "measured": seen.error.value,
        "certificate": prompt.certificate.value,
        "threads": torch.get_num_threads(),
    }


def multilinear(dim: int, tokens: int, tol: float, functions: int, points: int) -> dict:
    """Table entries of the constant and the multilinear variant on functions with bounded second derivatives."""
    # One slot for each node of all tokens together: with 14,000 of them evaluation takes minutes a function.
    functions, points = (functions, points) if dim * tokens < 4 else (min(functions, 3), min(points, 5000))
    constant = plan_backbone(dim, tokens, 1.0, tol, memory=2**62)
    target = gallery_function("smooth", dim, tokens, 1.0)
    backbone = build_backbone(dim, tokens, 1.0, tol, "multilinear", curvature=target.curvature)
    rows = []
    for seed in range(functions):
        target = gallery_function("smooth", dim, tokens, 1.0, seed)
        prompt = backbone.prompt_for(target)
        rows.append(
            (measure(backbone, prompt, target, points, seed=10_000 + seed).error.value, prompt.certificate.value)
        )
    entries = backbone.plan.table_entries
    return {
        "functions": functions,
        "points": points,
        "curvature": target.curvature,
        "measured_above_certificate": sum(measured > certified for measured, certified in rows),
        "certificate_above_tol": sum(certified > tol for _, certified in rows),
        "largest_measured": max(measured for measured, _ in rows),
        "largest_certificate": max(certified for _, certified in rows),
        "median_certificate_over_measured": statistics.median(certified / measured for measured, certified in rows),
        "table_entries": entries,
        "table_entries_of_the_constant_variant": constant.table_entries,
        "ratio": entries / constant.table_entries,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--functions", type=int, default=50)
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="dim,tokens")
    parser.add_argument("--tols", nargs="+", type=float, default=TOLS)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/compiler_programmable.json"))
    args = parser.parse_args()
    result = json.loads(args.out.read_text()) if args.out.exists() else {}
    result["environment"] = {"machine": platform.machine(), "torch": torch.__version__}
    options = {"functions": args.functions, "points": args.points}

    def keep(name: str, run) -> None:
        if result.get(name, {}).get("options") == options:
            print(f"{name}: on file")
            return
        start = time.perf_counter()
        found = run()
        result[name] = found | {"options": options, "seconds": time.perf_counter() - start}
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(args.out, json.dumps(result, indent=2) + "\n")
        print(name, json.dumps(result[name]))

    for size in args.sizes:
        dim, tokens = map(int, size.split(","))
        for tol in (tol for tol in args.tols if tol >= FINEST.get(size, 0.03)):
            name, run = f"dim {dim}, tokens {tokens}, tol {tol}", partial(errors, dim, tokens, tol, **options)
            if "errors" in args.parts:
                keep(name, run)
            if "float32" in args.parts and tol >= 0.03:
                keep(f"{name}, float32", partial(run, dtype=torch.float32))
        if "multilinear" in args.parts:
            run = partial(multilinear, dim, tokens, 0.01, **options)
            keep(f"multilinear, dim {dim}, tokens {tokens}, tol 0.01", run)
    if "speed" in args.parts:
        keep("speed", speed)


if __name__ == "__main__":
    main()
