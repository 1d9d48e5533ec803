"""Data that need a token an example under attack: soft tokens below their floor, fewer slots than needed.

    python benchmarks/limits/separation_attack.py                  20,000 attacks, some ten minutes on one core
    python benchmarks/limits/separation_attack.py --attacks 500    a reduced run

Each attack is one descent from a random start. On random heads whose values tell their tokens, with targets on lines
through the outputs, near them or anywhere, and directions that no key sees almost or at all, soft tokens try to get
below `soft_token_floor`; on the data of `rank_one_separation`, soft tokens and free slots (with the values of least
squares) fewer than the certified number try to fit exactly. Config in, JSON out (benchmarks/results/separation.json).
"""

import argparse
import json
import platform
import subprocess
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import numpy as np
import torch
from scipy.optimize import minimize

from promptreach.certificate import Evidence
from promptreach.limits import rank_one_separation, soft_token_floor
from promptreach.limits.oracle.pairs import NotCertifiedError
from promptreach.limits.oracle.statistics import head_statistics, scores_of
from promptreach.weights import AttentionWeights, LayerWeights

RESULT = Path(__file__).parents[1] / "results" / "separation.json"
EXACT = 1e-12
"""Errors below this share of the targets' size count as an exact fit."""


def head(pick: np.random.Generator, size: int) -> AttentionWeights:
    """One square head, half of them with biases and an output projection, of different temperatures."""

    def draw(*shape: int) -> torch.Tensor:
        return torch.from_numpy(pick.standard_normal(shape)) / shape[-1] ** 0.5

    full = pick.random() < 0.5
    return AttentionWeights(
        query=draw(1, size, size) * pick.choice([0.3, 1.0, 3.0]),
        key=draw(1, size, size),
        value=draw(1, size, size),
        output=draw(size + int(pick.integers(0, 3)), size) if full else None,
        query_bias=draw(1, size) if full else None,
        key_bias=draw(1, size) if full else None,
        value_bias=draw(1, size) if full else None,
    )


class Statistics:
    """What a head sees of each example, for attacks: outputs, log masses, slopes and offsets of scores, value map."""

    def __init__(self, weights: AttentionWeights, sequences: list[torch.Tensor]) -> None:
        found = [head_statistics(weights, [item]) for item in sequences]
        scores = [scores_of(weights, item[-1], 0) for item in sequences]
        output = np.eye(weights.output_size) if weights.output is None else weights.output.numpy()
        self.outputs = torch.cat([item.mean for item in found]).numpy() @ output.T
        self.masses = torch.cat([item.lse for item in found]).numpy()
        self.slopes = np.stack([item[1].centre.numpy() for item in scores])
        self.offsets = np.array([float(item[2].centre[0]) for item in scores])
        self.values = output @ weights.value[0].numpy()
        bias = 0.0 if weights.value_bias is None else weights.value_bias[0].numpy()
        self.shift = output @ (bias + np.zeros(weights.value.shape[1]))


def soft_attack(seen: Statistics, targets: np.ndarray, start: np.ndarray, steps: int = 80) -> float:
    """The least Frobenius error that one descent over soft tokens sees."""
    best = np.inf

    def error(flat: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal best
        tokens = flat.reshape(start.shape)
        scores = tokens @ seen.slopes.T + seen.offsets  # (tokens, n)
        top = np.maximum(scores.max(0), seen.masses)
        own, content = np.exp(scores - top), np.exp(seen.masses - top)
        shares = own / (own.sum(0) + content)
        values = tokens @ seen.values.T + seen.shift
        reached = shares.T @ values + (1 - shares.sum(0))[:, None] * seen.outputs
        residual = reached - targets
        loss = float((residual**2).sum())
        best = min(best, loss)
        back = 2 * residual
        pull = shares * (values @ back.T - (back * reached).sum(1))
        return loss, (pull @ seen.slopes + shares @ back @ seen.values).ravel()

    minimize(error, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": steps})
    return float(best**0.5)


def slot_attack(seen: Statistics, targets: np.ndarray, scores: np.ndarray) -> float:
    """The Frobenius error of free slots with these scores (tokens, n) and the best values."""
    top = np.maximum(scores.max(0), seen.masses)
    own, content = np.exp(scores - top), np.exp(seen.masses - top)
    shares = own / (own.sum(0) + content)
    wanted = targets - (1 - shares.sum(0))[:, None] * seen.outputs
    return float(np.linalg.norm(shares.T @ np.linalg.lstsq(shares.T, wanted, rcond=None)[0] - wanted))


def start_of(pick: np.random.Generator, tokens: int, seen: Statistics, changes: np.ndarray) -> np.ndarray:
    """Random soft tokens, or such that run away along the changes wanted, with scores that shrink in turn."""
    size = seen.slopes.shape[1]
    drawn = pick.standard_normal((tokens, size)) * pick.choice([0.3, 1.0, 3.0, 10.0])
    if pick.random() < 0.5:
        length = 10.0 ** pick.uniform(0, 5)
        along = np.linalg.lstsq(seen.values, changes.mean(0), rcond=None)[0]
        lower = np.linalg.lstsq(seen.slopes, seen.masses - seen.offsets - np.log(length), rcond=None)[0]
        drawn[0] = length * along / max(np.linalg.norm(along), 1e-9) + lower
    return drawn


def floors(pick: np.random.Generator, starts: int) -> tuple[float, float, bool, int]:
    """The best of the attacks on one random problem, its floor, whether that was confirmed, and missing tokens."""
    n, size = int(pick.integers(2, 6)), int(pick.integers(3, 9))
    weights = head(pick, size)
    sequences = [torch.from_numpy(pick.standard_normal((int(pick.integers(1, 4)), size))) for _ in range(n)]
    seen = Statistics(weights, sequences)
    direction = pick.standard_normal(seen.outputs.shape[1])
    if pick.random() < 0.3:  # a direction that the keys hardly see
        hidden = np.linalg.lstsq(seen.values, direction, rcond=None)[0]
        blind = hidden - np.linalg.lstsq(seen.slopes, seen.slopes @ hidden, rcond=None)[0]
        direction = seen.values @ (blind + pick.choice([0.0, 1e-3, 0.1]) * hidden)
    changes = np.abs(pick.standard_normal((n, 1))) * direction
    changes = changes + pick.choice([0.0, 0.0, 1e-9, 1e-3, 1.0]) * pick.standard_normal(changes.shape)
    targets, tokens = seen.outputs + changes, int(pick.integers(1, n))
    floor = soft_token_floor(weights, sequences, torch.from_numpy(targets), tokens)
    errors = [soft_attack(seen, targets, start_of(pick, tokens, seen, changes)) for _ in range(starts)]
    confirmed = floor.evidence is Evidence.PROVED and floor.recheck()
    return min(errors) / targets.size**0.5, floor.value, confirmed, n - tokens


def fits(pick: np.random.Generator, starts: int) -> list[float]:
    """The errors, over the targets' size, of fewer tokens and slots than one separation needs; of n last."""
    n = int(pick.integers(2, 5))
    size = n + int(pick.integers(1, 4))
    weights = head(pick, size)
    weights = AttentionWeights(weights.query, weights.key, weights.value)
    try:
        data = rank_one_separation(LayerWeights(weights), n, int(pick.integers(2**31)))
    except NotCertifiedError:
        return []
    seen, targets = Statistics(weights, data.sequences), data.targets.numpy()
    changes, whole = targets - seen.outputs, float(np.linalg.norm(targets))
    errors = [soft_attack(seen, targets, start_of(pick, n - 1, seen, changes)) for _ in range(starts)]
    for _ in range(starts):
        scores = seen.masses + pick.standard_normal((n - 1, n)) * pick.choice([0.3, 2.0, 5.0])
        errors.append(slot_attack(seen, targets, scores))
    return [error / whole for error in errors] + [data.prompt_error]


def run(attacks: int, starts: int, seed: int) -> dict[str, object]:
    """Problems of both kinds in turn until so many attacks are made."""
    made, problems, undercut, refused, exact, index = 0, 0, 0, 0, 0, 0
    above, nearest, own, started = defaultdict(list), [], [], time.monotonic()
    while made < attacks:
        pick = np.random.default_rng([seed, index])
        index += 1
        if index % 4:
            reached, floor, confirmed, missing = floors(pick, starts)
            undercut, refused = undercut + (reached < floor), refused + (not confirmed)
            above["one missing" if missing == 1 else "more missing"].append(reached / floor if floor else np.inf)
            made, problems = made + starts, problems + 1
        elif found := fits(pick, starts):
            exact += sum(error < EXACT for error in found[:-1])
            nearest.append(min(found[:-1]))
            own.append(found[-1])
            made, problems = made + 2 * starts, problems + 1
        if index % 50 == 0:
            print(f"{made} attacks, {undercut} below, {exact} exact, {time.monotonic() - started:.0f} s", flush=True)
    return {
        "problems": problems,
        "attacks": made,
        "below_a_floor": undercut,
        "not_confirmed": refused,
        "best_attack_over_floor": {
            kind: {
                "problems": len(ratios),
                "floor_of_0": sum(np.isinf(ratios)),
                "least": min(ratios),
                "median_where_above_0": median([ratio for ratio in ratios if np.isfinite(ratio)]),
            }
            for kind, ratios in sorted(above.items())
        },
        "separations": len(own),
        "exact_fits_with_fewer": exact,
        "nearest_with_fewer": min(nearest),
        "median_nearest_with_fewer": median(nearest),
        "largest_error_of_the_n_tokens": max(own),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attacks", type=int, default=20_000)
    parser.add_argument("--starts", type=int, default=40)
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
