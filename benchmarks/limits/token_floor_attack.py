"""The floors of prompts with too few tokens under attack: prefixes with free keys, and the best values for these.

    python benchmarks/limits/token_floor_attack.py                  20,000 attacks, some ten minutes on one core
    python benchmarks/limits/token_floor_attack.py --attacks 500    a reduced run

Each attack is one descent over the keys of a prefix (the values are those of least squares) from a random start, on a
problem of one to three heads whose examples have queries of their own. Config in, JSON out
(benchmarks/results/token_floors.json): how often a floor was undercut, and how far above it the best of the attacks on
a problem came, by the number of tokens that are missing.
"""

import argparse
import json
import platform
import subprocess
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from scipy.optimize import minimize

from promptreach.certificate import Evidence
from promptreach.limits import token_floor

RESULT = Path(__file__).parents[1] / "results" / "token_floors.json"


@dataclass(frozen=True)
class Problem:
    """Heads at n examples: outputs without a prompt (heads, n, out), targets, queries, log masses, projections."""

    outputs: np.ndarray
    targets: np.ndarray
    queries: np.ndarray
    masses: np.ndarray
    projections: np.ndarray


def draw(pick: np.random.Generator) -> Problem:
    """One to three heads, 2 to 9 examples; a third with targets near the outputs, a third shared queries."""
    heads, n = int(pick.choice([1, 1, 2, 3])), int(pick.integers(2, 10))
    width, key_size = int(pick.integers(2, 9)), int(pick.integers(2, 7))
    out = int(pick.integers(2, 2 * heads * n + 6))
    projections = pick.standard_normal((heads, out, width)) / width**0.5
    outputs = np.einsum("how,hnw->hno", projections, pick.standard_normal((heads, n, width)))
    targets = pick.standard_normal((n, out))
    if pick.random() < 0.33:
        targets = outputs.sum(0) + 10.0 ** pick.uniform(-3, 0) * targets
    queries = pick.standard_normal((heads, n, key_size))
    if pick.random() < 0.33:
        queries = np.repeat(queries[:, :1], n, axis=1)
    return Problem(outputs, targets, queries, pick.standard_normal((heads, n)), projections)


def attack(problem: Problem, tokens: int, pick: np.random.Generator, steps: int = 120) -> float:
    """The least Frobenius error that one descent over the keys sees, each with its best values."""
    heads, _, size = problem.queries.shape
    best = np.inf

    def error(flat: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal best
        keys = flat.reshape(heads, tokens, size)
        scores = problem.queries @ keys.transpose(0, 2, 1)
        top = np.maximum(scores.max(2), problem.masses)[..., None]
        own, content = np.exp(scores - top), np.exp(problem.masses[..., None] - top)
        total = own.sum(2, keepdims=True) + content
        weights, kept = own / total, content / total
        wanted = problem.targets - (kept * problem.outputs).sum(0)
        design = np.concatenate([np.kron(weights[h], problem.projections[h]) for h in range(heads)], axis=1)
        values = np.linalg.lstsq(design, wanted.ravel(), rcond=None)[0]
        residual = (design @ values - wanted.ravel()).reshape(wanted.shape)
        values = values.reshape(heads, tokens, -1) @ problem.projections.transpose(0, 2, 1)
        loss = float((residual**2).sum())
        best = min(best, loss)
        pull = 2 * np.einsum("no,hto->hnt", residual, values)
        back = 2 * (residual * problem.outputs).sum(2, keepdims=True)
        slope = weights * (pull - (weights * pull).sum(2, keepdims=True) - kept * back)
        return loss, (slope.transpose(0, 2, 1) @ problem.queries).ravel()

    start = pick.standard_normal(heads * tokens * size) * pick.choice([0.3, 1.0, 3.0])
    minimize(error, start, jac=True, method="L-BFGS-B", options={"maxiter": steps})
    return best**0.5


def run(attacks: int, starts: int, seed: int) -> dict[str, object]:
    """Problems until so many attacks are made, several starts on each."""
    made, undercut, not_confirmed, above, index = 0, 0, 0, defaultdict(list), 0
    started = time.monotonic()
    while made < attacks:
        pick = np.random.default_rng([seed, index])
        index += 1
        problem = draw(pick)
        heads, n, _ = problem.outputs.shape
        most = (n - 1) // heads
        if not most:
            continue
        tokens = most if pick.random() < 0.5 else int(pick.integers(1, most + 1))
        floor = token_floor(torch.from_numpy(problem.outputs), torch.from_numpy(problem.targets), tokens)
        not_confirmed += floor.evidence is not Evidence.PROVED or not floor.recheck()
        size = problem.targets.size**0.5
        errors = [attack(problem, tokens, pick) / size for _ in range(starts)]
        made += starts
        undercut += sum(error < floor.value for error in errors)
        missing = n - tokens * heads
        kind = "heads" if heads > 1 else "independent" if 2 * n <= problem.outputs.shape[2] else "dependent"
        above[f"{kind}, {'1' if missing == 1 else 'more'} missing"].append(
            min(errors) / floor.value if floor.value else np.inf
        )
        if index % 500 == 0:
            print(f"{made} attacks, {undercut} below a floor, {time.monotonic() - started:.0f} s", flush=True)
    return {
        "problems": sum(map(len, above.values())),
        "attacks": made,
        "below_a_floor": undercut,
        "not_confirmed": not_confirmed,
        "best_attack_over_floor": {
            kind: {
                "problems": len(ratios),
                "floor_of_0": sum(np.isinf(ratios)),
                "least": min(ratios),
                "median": median(ratios) if np.isfinite(median(ratios)) else None,
            }
            for kind, ratios in sorted(above.items())
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attacks", type=int, default=20_000)
    parser.add_argument("--starts", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    found = run(options.attacks, options.starts, options.seed)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    config = {"attacks": options.attacks, "starts": options.starts, "seed": options.seed}
    record = {"config": config, "torch": torch.__version__, "device": f"cpu, {platform.machine()}", "commit": commit}
    options.out.write_text(json.dumps(record | found, indent=2, default=int) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2, default=int))


if __name__ == "__main__":
    main()
