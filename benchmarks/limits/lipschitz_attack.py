"""Hill climbs against the certified Lipschitz bounds, and the bounds of real models with the time they take.

    python benchmarks/limits/lipschitz_attack.py [--cases N] [--minilm FOLDER] [--smollm2 FILE] [--near FOLDER]

Each model's radius is stated with its numbers: the largest token norm that one sentence gives in its stream.
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

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from helpers.lipschitz_cases import random_case, steepest
from promptreach import blocks
from promptreach.certificate import Evidence
from promptreach.hf import layer_weights, open_model
from promptreach.limits import local_attention_bound
from promptreach.limits.layers.lipschitz import lipschitz
from promptreach.weights import LayerWeights

SENTENCE = "The film was not very good, but the book it was made from is one of the best that I have read this year."
TOKENS = 32


def attack(cases: int, steps: int) -> dict:
    """`cases` random branches, a climb each; a violation is a Jacobian steeper than certified."""
    violations, ratios = 0, []
    for seed in range(cases):
        case = random_case(10_000 + seed)
        (bound,) = lipschitz([case.layer], case.radius, case.tokens, rotate=case.rotate, iterations=1)
        hidden, attention = case.layer.attention.hidden_size, seed % 4 != 3
        if attention:
            branch, radius, tokens = blocks.attention_branch(case.layer, case.rotate), case.radius, case.tokens
        else:
            branch, radius, tokens = blocks.feed_forward_branch(case.layer), bound.mlp_radius, 1
        upper = bound.attention.value if attention else bound.mlp.value
        found = steepest(branch, radius, tokens, hidden, seed, steps)
        violations += found > upper
        ratios.append(upper / found if found else math.inf)
    ordered = sorted(ratios)
    return {
        "cases": cases,
        "climb_steps": steps,
        "violations": violations,
        "median_upper_over_lower": statistics.median(ordered),
        "smallest_upper_over_lower": ordered[0],
        "ninth_decile_upper_over_lower": ordered[int(0.9 * cases)],
    }


def real_model(source: str) -> dict:
    """All layers on the ball that holds the streams of one sentence, random points below; then at those streams."""
    model = open_model(source)
    layers, states = layer_weights(model), streams(model)
    radius = 1.01 * max(float(state.norm(dim=1).max()) for state in states)
    start = time.perf_counter()
    bounds = lipschitz(layers, radius, TOKENS)
    seconds = time.perf_counter() - start
    at_states = lipschitz(layers, radius, TOKENS, states=states)
    return {
        "layers": len(bounds),
        "radius": radius,
        "tokens": TOKENS,
        "seconds": seconds,
        "certified_layers": sum(not bound.reasons for bound in bounds),
        "median_attention_upper_over_lower": _median(b.attention.value / b.attention_lower.value for b in bounds),
        "median_mlp_upper_over_lower": _median(b.mlp.value / b.mlp_lower.value for b in bounds),
        "median_attention_local_upper_over_lower": _median(
            b.attention_local.value / b.attention_lower.value for b in at_states
        ),
        "median_mlp_local_upper_over_lower": _median(b.mlp_local.value / b.mlp_lower.value for b in at_states),
        "median_attention_upper": _median(b.attention.value for b in bounds),
        "median_mlp_upper": _median(b.mlp.value for b in bounds),
        "violations": sum(
            b.attention_lower.value > b.attention.value or b.mlp_lower.value > b.mlp.value
            for b in [*bounds, *at_states]
        ),
    }


def near(source: str) -> dict:
    """Certified bounds on attention near the streams of one sentence, over the steepest direction there, at four radii.

    A radius is stated as a share of the Frobenius norm of what attention reads.
    """
    model = open_model(source)
    layers, found = layer_weights(model), {}
    read = [
        blocks.normed(blocks.norms_in_front(layer.to(torch.float64))[0], state.double())
        for layer, state in zip(layers, streams(model), strict=True)
    ]
    branches = [blocks.attention_branch(LayerWeights(layer.attention.to(torch.float64))) for layer in layers]
    steep = [
        blocks.jacobian_norm(branch, state, 6, torch.Generator().manual_seed(0))
        for branch, state in zip(branches, read, strict=True)
    ]
    for share in (0.0, 1e-4, 3e-4, 1e-3):
        bounds = [
            local_attention_bound(layer.attention, state, share * float(state.norm())).checked()
            for layer, state in zip(layers, read, strict=True)
        ]
        assert all(bound.evidence is Evidence.PROVED for bound in bounds)
        ratios = [bound.value / least for bound, least in zip(bounds, steep, strict=True)]
        found[f"{share:g}"] = {"median_upper_over_lower": _median(ratios), "largest": max(ratios)}
    return {"layers": len(layers), "tokens": len(read[0]), "steepest": steep, "within": found}


def streams(model) -> list[torch.Tensor]:
    """What enters each layer for one sentence, at most TOKENS tokens."""
    seen = []
    hooks = [
        layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].reshape(-1, model.hidden_size)))
        for layer in model.layers
    ]
    with torch.no_grad():
        model.hidden(model.batch([model.tokenizer(SENTENCE)["input_ids"][:TOKENS]]))
    for hook in hooks:
        hook.remove()
    return seen


def _median(values) -> float:
    return statistics.median(values)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--minilm")
    parser.add_argument("--smollm2")
    parser.add_argument("--near", help="a model without rotation: bounds near the streams of one sentence")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/limits_lipschitz.json"))
    args = parser.parse_args()
    environment = {"machine": platform.machine(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    # Parts run on their own join the parts already on file: the timed ones want a quiet machine, the attack does not.
    result = json.loads(args.out.read_text()) if args.out.exists() else {}
    if args.cases:
        result["attack"] = environment | attack(args.cases, args.steps)
        print(json.dumps(result["attack"]))
    if args.near:
        result["near"] = environment | near(args.near)
        print("near", json.dumps(result["near"]))
    for name in ("minilm", "smollm2"):
        if source := getattr(args, name):
            result[name] = environment | real_model(source)
            print(name, json.dumps(result[name]))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
