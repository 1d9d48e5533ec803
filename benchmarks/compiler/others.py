"""The papers' constructions `single_layer`, `deep` and `kernel`: errors, error against prompt length, separation.

    python benchmarks/compiler/others.py                                        everything (some minutes)
    python benchmarks/compiler/others.py --functions 3 --points 2000 --parts errors separation

Config in (the options), JSON out (benchmarks/results/compiler_others.json), from which the pictures are drawn. One
backbone a setting plays all the functions by prompt alone. Every setting is written when it is done, and one that is on
file with the same options is not run again.

    errors        measured <= certificate <= tol on fresh points, for every function; climbs against the sup certificate
    curves        prompt length, certificate and measured error over tol, (1,1) and (1,2), beside the papers' rates
    separation    ids of the contextual maps: proved by the papers, proved here, measured exactly, best possible
    boltzmann     the same for a generic rank-one softmax map, where floats fail
"""

import argparse
import json
import math
import platform
import statistics
import sys
import time
from pathlib import Path

import torch

from promptreach.compiler import PlanTooLargeError, build_backbone
from promptreach.compiler.gallery import random_function
from promptreach.compiler.papers.separation import paper_separation_log10
from promptreach.compiler.verify import measure
from promptreach.files import write_atomically

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from helpers.compiler_attack import attack
from helpers.separations import boltzmann_separation, possible_log10, rank_one_separation_log10

PARTS = ("errors", "curves", "separation", "boltzmann")
# dim, tokens, tol, construction, options: every size at which the plan of the construction accepts a useful tol.
SETTINGS = (
    (1, 1, 0.1, "single_layer", {}),
    (1, 1, 0.1, "single_layer", {"form": "narrow"}),
    (1, 1, 0.1, "single_layer", {"rank": 3}),
    (1, 1, 0.075, "single_layer", {}),
    (1, 2, 0.35, "single_layer", {}),
    (1, 2, 0.35, "single_layer", {"rank": 2}),
    (2, 1, 0.35, "single_layer", {}),
    (1, 3, 0.6, "single_layer", {}),
    (2, 2, 0.7, "single_layer", {}),
    (1, 1, 0.1, "deep", {}),
    (1, 1, 0.1, "deep", {"form": "wide"}),
    (1, 2, 0.35, "deep", {}),
    (2, 1, 0.35, "deep", {}),
    (1, 3, 0.6, "deep", {}),
    (2, 2, 0.71, "deep", {}),
    (1, 1, 0.1, "kernel", {}),
    (1, 1, 0.03, "kernel", {}),
    (1, 1, 0.003, "kernel", {}),
    (1, 2, 0.1, "kernel", {}),
    (1, 2, 0.03, "kernel", {}),
    (2, 1, 0.1, "kernel", {}),
    (1, 3, 0.1, "kernel", {}),
    (2, 2, 0.1, "kernel", {}),
)
CURVES = {
    "single_layer": {
        (1, 1): (0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.12, 0.1, 0.09, 0.08, 0.075),
        (1, 2): (0.7, 0.5, 0.42, 0.35),
    },
    "deep": {(1, 1): (0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.12, 0.1, 0.09), (1, 2): (0.7, 0.5, 0.42, 0.35)},
    "kernel": {(1, 1): (0.3, 0.1, 0.03, 0.01, 0.003, 0.001), (1, 2): (0.3, 0.2, 0.1, 0.05, 0.03, 0.02)},
    "programmable": {(1, 1): (0.3, 0.1, 0.03, 0.01, 0.003, 0.001), (1, 2): (0.3, 0.2, 0.1, 0.05, 0.03, 0.02)},
}


def errors(dim: int, tokens: int, tol: float, construction: str, options: dict, functions: int, points: int) -> dict:
    """All functions on one backbone: is measured <= certificate <= tol, and does a climb stay below the sup bound?"""
    backbone = build_backbone(dim, tokens, 1.0, tol, construction, **options)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    rows, climbs, seconds = [], [], 0.0
    for seed in range(functions):
        target = random_function(dim, tokens, 1.0, seed)
        prompt = backbone.prompt_for(target)
        start = time.perf_counter()
        seen = measure(backbone, prompt, target, points, seed=10_000 + seed)
        seconds += time.perf_counter() - start
        sup = backbone.sup_certificate(prompt)
        worst, _ = attack(backbone, prompt, target, starts=40, rounds=10, seed=seed)
        rows.append((seen.error.value, prompt.certificate.value))
        climbs.append((max(worst, seen.largest), sup.value))
    plan = backbone.plan
    return {
        "measured_above_certificate": sum(measured > certified for measured, certified in rows),
        "certificate_above_tol": sum(certified > tol for _, certified in rows),
        "attacked_above_sup_certificate": sum(found > bound for found, bound in climbs),
        "weights_changed": sum(not torch.equal(before[name], item) for name, item in backbone.state_dict().items()),
        "largest_measured": max(measured for measured, _ in rows),
        "largest_certificate": max(certified for _, certified in rows),
        "median_certificate_over_measured": statistics.median(certified / measured for measured, certified in rows),
        "largest_attacked": max(found for found, _ in climbs),
        "sup_certificate": climbs[0][1],
        "recheck": prompt.certificate.recheck() and sup.recheck(),
        "cells": plan.cells,
        "slots": plan.slots,
        "hidden_size": plan.hidden_size,
        "width": plan.width,
        "passes": len(plan.passes),
        "parameters": plan.parameters,
        "numbers_that_depend_on_f": plan.table_entries,
        "compared": [[row.what, row.paper, row.paper_log10, row.achieved_log10] for row in plan.compared],
        "seconds_per_measurement": seconds / functions,
    }


def curve(dim: int, tokens: int, construction: str, functions: int, points: int) -> dict:
    """Prompt length against certified and measured error, one backbone for each tol; refusals are kept, too."""
    rows = []
    for tol in CURVES[construction][dim, tokens]:
        try:
            backbone = build_backbone(dim, tokens, 1.0, tol, construction)
        except PlanTooLargeError as refusal:
            rows.append({"tol": tol, "refused": str(refusal)})
            continue
        seen = []
        for seed in range(functions):
            target = random_function(dim, tokens, 1.0, seed)
            prompt = backbone.prompt_for(target)
            seen.append(measure(backbone, prompt, target, points, seed=20_000 + seed))
        plan = backbone.plan
        rows.append(
            {
                "tol": tol,
                "slots": plan.slots,
                "numbers_that_depend_on_f": plan.table_entries,
                "width": plan.width,
                "parameters": plan.parameters,
                "certificate": prompt.certificate.value,
                "median_measured": statistics.median(item.error.value for item in seen),
                "largest_measured": max(item.error.value for item in seen),
                "violations": sum(not item.holds for item in seen),
                "compared": [[row.what, row.paper, row.paper_log10, row.achieved_log10] for row in plan.compared],
            }
        )
    return {"rows": rows}


def separation(dim: int, tokens: int, tol: float, construction: str, options: dict) -> dict:
    """Ids over all contexts: proved by the paper and here, measured exactly, and the best that one number can do."""
    backbone = build_backbone(dim, tokens, 1.0, tol, construction, **options)
    found = backbone.measured_separation()
    compared = {row.what: row for row in backbone.plan.compared}
    row = compared.get("separation of ids") or compared["largest id over least distance"]
    return {
        "ids": found.count,
        "least_distance_log10": found.apart_log10,
        "largest_id": found.largest,
        "relative_log10": found.apart_log10 - math.log10(found.largest),
        "best_possible_log10": possible_log10(found),
        "bits": found.bits,
        "paper": row.paper,
        "paper_what": row.what,
        "paper_log10": row.paper_log10,
        "proved_here_log10": row.achieved_log10 if construction == "single_layer" else 0.0,
    }


def boltzmann(vocabulary: int, length: int, sharpness: float) -> dict:
    """The generic map on sets of tokens 1..vocabulary, beside both papers' bounds for it."""
    found = boltzmann_separation(vocabulary, length, sharpness)
    sizes = {"smallest": 1.0, "largest": float(vocabulary), "apart": 1.0}
    return {
        "vocabulary": vocabulary,
        "length": length,
        "sharpness": sharpness,
        "sets": found.count,
        "least_distance_log10": found.apart_log10,
        "best_possible_log10": possible_log10(found),
        "bits": found.bits,
        "any_rank_log10": paper_separation_log10(vocabulary, length, 1, **sizes),
        "rank_one_log10": rank_one_separation_log10(vocabulary, length, 1, **sizes),
    }


def title(dim: int, tokens: int, tol: float, construction: str, options: dict) -> str:
    asked = "".join(f", {name} {value}" for name, value in options.items())
    return f"{construction}, dim {dim}, tokens {tokens}, tol {tol}{asked}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--functions", type=int, default=10)
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--constructions", nargs="+", default=["single_layer", "deep", "kernel", "programmable"])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/compiler_others.json"))
    args = parser.parse_args()
    result = json.loads(args.out.read_text()) if args.out.exists() else {}
    result["environment"] = {"machine": platform.machine(), "torch": torch.__version__}
    options = {"functions": args.functions, "points": args.points}

    def keep(name: str, run, used: dict) -> None:
        if result.get(name, {}).get("options") == used:
            print(f"{name}: on file")
            return
        start = time.perf_counter()
        found = run()
        result[name] = found | {"options": used, "seconds": time.perf_counter() - start}
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(args.out, json.dumps(result, indent=2) + "\n")
        print(name, json.dumps(result[name]), flush=True)

    for setting in (setting for setting in SETTINGS if setting[3] in args.constructions):
        if "errors" in args.parts:
            keep(f"errors: {title(*setting)}", lambda setting=setting: errors(*setting, **options), options)
        if "separation" in args.parts and setting[3] in ("single_layer", "deep"):
            keep(f"separation: {title(*setting)}", lambda setting=setting: separation(*setting), {})
    if "curves" in args.parts:
        few = {"functions": min(3, args.functions), "points": min(5000, args.points)}
        for construction in args.constructions:
            for dim, tokens in CURVES[construction]:
                name = f"curve: {construction}, dim {dim}, tokens {tokens}"
                keep(name, lambda c=construction, d=dim, t=tokens: curve(d, t, c, **few), few)
    if "boltzmann" in args.parts:
        for vocabulary in range(4, 13):
            for sharpness in (1.0, 4.0):
                size = (vocabulary, vocabulary // 2, sharpness)
                keep(f"boltzmann: {size}", lambda size=size: boltzmann(*size), {})


if __name__ == "__main__":
    main()
