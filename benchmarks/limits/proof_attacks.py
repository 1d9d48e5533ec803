"""Attacks on every number that the oracle and the counting room call PROVED, in the regimes where proofs have broken.

    python benchmarks/limits/proof_attacks.py --seconds 900     as many problems as fit, of every kind in turn
    python benchmarks/limits/proof_attacks.py --seconds 20      a reduced run

Drawn are captured heads (log masses up to 600 nats apart, sizes from 1e-150 to 1e29, offsets up to 1e12,
projections that lose directions), layers (one to four heads, shared keys and values, several query groups, norms with
biases, queries that are 0 in front of a norm or behind it), prompt lengths, token bounds, and floors of data. Each
certificate is made again by its second path; then prompts are searched for that err less, in extended precision on
statistics formed there, or in fractions. No tolerance anywhere: one prompt below a floor is a violation.

Config in (the options), JSON out (benchmarks/results/limits_proofs.json): per kind the certificates, the prompts or
functions tried, violations, certificates that were not confirmed, and the least ratio of what was reached to the floor.
"""

import argparse
import json
import math
import platform
import subprocess
import time
from collections import defaultdict
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from promptreach.certificate import Certificate, Evidence
from promptreach.diagnosis.measures.floors import best_accuracy, loss_floor
from promptreach.limits import memorisable, memorisable_statistics, prompt_length
from promptreach.limits.counting.tokens import token_lower_bound
from promptreach.limits.oracle.statistics import group_by_query, query_is_zero
from promptreach.limits.oracle.wide_statistics import wide_statistics
from promptreach.weights import AttentionWeights, NormWeights

RESULT = Path(__file__).parents[1] / "results" / "limits_proofs.json"
WIDE = np.longdouble


class Attack:
    """What one attack found: the certificate, errors reached (in the certificate's unit) and how many were tried."""

    def __init__(self, certificate: Certificate, reached, tried: int) -> None:
        self.certificate, self.reached, self.tried = certificate, reached, tried


def captured(pick: np.random.Generator) -> Attack:
    """One captured head at one query: the best value sum in closed form at hundreds of masses."""
    n, width, out = pick.integers(1, 7), pick.integers(1, 5), pick.integers(1, 6)
    lse = pick.choice([0.0, 1.0, 20.0, 100.0, 250.0, 400.0, 599.0]) * pick.random(n) + 30 * pick.normal()
    mean, size = pick.normal(size=(n, width)), 10.0 ** pick.uniform(-150, 29)
    mean = mean * 10.0 ** (pick.choice([0, 0, 8]) * pick.uniform(-1, 1, size=(n, 1)))
    output = None
    if pick.random() < 0.6:
        output = pick.normal(size=(out, width)) * 10.0 ** (pick.choice([0, 0, 12]) * -pick.random(width))
        output[:, 0] *= pick.choice([1.0, 1.0, 0.0])
    sides = out if output is not None else width
    targets = pick.normal(size=(n, sides)) + pick.choice([0.0, 0.0, 1e3, 1e8, 1e12])
    if output is None:
        mean = mean + pick.choice([0.0, 1.0]) * targets.mean()
    if pick.random() < 0.5:  # nearly within reach
        share = 1 / (1 + np.exp(lse - pick.choice(lse)))[:, None]
        inside = (1 - share) * mean + share * pick.normal(size=width)
        inside = inside if output is None else inside @ output.T
        targets = inside + pick.choice([0.0, 1e-12, 1e-6, 1e-2]) * pick.normal(size=targets.shape)
    query = pick.normal(size=3) * pick.choice([1.0, 1.0, 0.0, 1e-30])
    drawn = [torch.from_numpy(np.asarray(item)) for item in (query, lse, mean * size, targets * size)]
    drawn[3] = drawn[3].clamp(-1e30, 1e30)
    drawn[2] = drawn[2].clamp(-1e30, 1e30)
    project = None if output is None else torch.from_numpy(output)
    found = memorisable_statistics(*drawn, output=project)
    least, tried = best_of_head(*(item.numpy().astype(WIDE) for item in drawn[1:]), output, not drawn[0].any())
    return Attack(found.floor, least / WIDE(targets.size) ** 0.5, tried)


def best_of_head(lse, mean, targets, output, whole_slots: bool):
    """The least norm of residuals that some prompt of one head reaches, and the number of prompts tried."""
    through = mean if output is None else mean @ output.T.astype(WIDE)
    lift = None if output is None else np.linalg.pinv(output).astype(WIDE)
    best, tried = np.inf, 0
    if whole_slots:
        counts = np.unique(np.round(np.exp(np.linspace(0, max(1.0, min(40.0, lse.max() + 5)), 300))))
        best, points, rounds = np.sqrt(((through - targets) ** 2).sum()), np.log(counts.astype(WIDE)), 1
    else:
        points, rounds = np.linspace(lse.min() - 40, lse.max() + 40, 500, dtype=WIDE), 4
    for _ in range(rounds):
        share = 1 / (1 + np.exp(lse - points[:, None]))[..., None]
        kept = 1 / (1 + np.exp(points[:, None] - lse))[..., None]
        top = share.max(axis=1, keepdims=True)
        missing = targets - kept * through
        value = ((share / top) * missing).sum(1, keepdims=True) / ((share / top) ** 2).sum(1, keepdims=True) / top
        if lift is not None:
            value = (value @ lift.T) @ output.T.astype(WIDE)
        errors = np.sqrt(((share * value - missing) ** 2).sum(axis=(1, 2)))
        errors = np.where(np.isfinite(errors), errors, np.inf)
        best, tried = min(best, errors.min()), tried + len(points)
        step, middle = (points[1] - points[0] if len(points) > 1 else 1), points[errors.argmin()]
        points = np.linspace(middle - 2 * step, middle + 2 * step, 100, dtype=WIDE)
    return best, tried


def layer(pick: np.random.Generator) -> Attack:
    """A layer with one to four heads and one to three query groups; each group is attacked on its own."""
    heads = int(pick.choice([1, 1, 2, 3, 4]))
    shared = int(pick.choice([k for k in range(1, heads + 1) if heads % k == 0]))
    hidden, size, width = int(pick.integers(2, 6)), int(pick.integers(1, 4)), int(pick.integers(1, 4))
    scale = 10.0 ** pick.uniform(-20, 20) if pick.random() < 0.3 else 1.0
    strength = pick.choice([0.3, 1.0, 4.0])

    def normal(*shape: int):
        return torch.from_numpy(pick.normal(size=shape))

    def norm():
        kind, bias = pick.choice(["rms", "layer"]), normal(size) * float(pick.choice([0.0, 1.0]))
        return NormWeights(str(kind), normal(size) * float(pick.choice([1.0, 1.0, 0.0])), bias, eps=1e-6)

    out = int(pick.integers(1, 5))
    weights = AttentionWeights(
        strength * normal(heads, size, hidden) * float(pick.choice([1.0, 1.0, 1.0, 0.0])),
        strength * normal(shared, size, hidden),
        scale * normal(shared, width, hidden),
        output=normal(out, heads * width) if pick.random() < 0.7 else None,
        scale=float(pick.choice([1.0, 0.5, 0.0])) if pick.random() < 0.3 else None,
        query_bias=normal(heads, size) if pick.random() < 0.2 else None,
        key_bias=normal(shared, size) if pick.random() < 0.3 else None,
        value_bias=scale * normal(shared, width) if pick.random() < 0.3 else None,
        query_norm=norm() if pick.random() < 0.4 else None,
        key_norm=norm() if pick.random() < 0.3 else None,
    )
    lasts = [normal(1, hidden) for _ in range(pick.integers(1, 4))]
    count = int(pick.integers(1, 7))
    sequences = [torch.cat([normal(int(pick.integers(0, 4)), hidden), lasts[k % len(lasts)]]) for k in range(count)]
    offset = float(pick.choice([0.0, 0.0, 1e6]))
    targets = scale * (normal(count, weights.output_size) * float(pick.choice([1.0, 1e-3])) + offset)
    found = memorisable(weights, sequences, targets)
    least, tried = WIDE(0), 0
    for members in group_by_query(sequences):
        mine, wanted = [sequences[k] for k in members], targets[members].numpy().astype(WIDE)
        statistics = [wide_statistics(weights, mine, head) for head in range(heads)]
        zero = [query_is_zero(weights, mine[0][-1], head) for head in range(heads)]
        if heads == 1:
            output = None if weights.output is None else weights.output.numpy()
            error, more = best_of_head(*statistics[0], wanted, output, zero[0])
        else:
            error, more = best_of_heads(statistics, zero, weights.output, wanted, pick)
        least, tried = least + error**2, tried + more
    return Attack(found.floor, np.sqrt(least) / WIDE(targets.numel()) ** 0.5, tried)


def best_of_heads(statistics, zero, output, wanted, pick: np.random.Generator):
    """The same for several heads, from random masses and then ever closer to the best of them."""
    width = statistics[0][1].shape[1]
    whole = np.eye(len(statistics) * width) if output is None else output.numpy()
    slices = [whole[:, h * width : (h + 1) * width].astype(WIDE) for h in range(len(statistics))]
    best, middle, tried = np.inf, None, 0
    for spread in (20.0, 8.0, 2.0, 0.5, 0.1, 0.02):
        for _ in range(25):
            start = [lse.mean() for lse, _ in statistics] if middle is None else middle
            masses = [float(item + spread * pick.normal()) for item in start]
            masses = [
                math.log(max(1, round(math.exp(min(a, 20))))) if z else a for a, z in zip(masses, zero, strict=True)
            ]
            fixed, columns = -wanted, []
            for (lse, mean), part, a in zip(statistics, slices, masses, strict=True):
                share = (1 / (1 + np.exp(lse - WIDE(a))))[:, None]
                fixed = fixed + (1 - share) * (mean @ part.T)
                columns.append((share[:, :, None] * part).reshape(-1, width))
            design, rest = np.concatenate(columns, axis=1), fixed.ravel()
            sizes = np.maximum(np.sqrt((design**2).sum(0)), WIDE(1e-4000))
            design = design / sizes
            for _ in range(3):  # refined: the residual in extended precision, the solution in float64
                top = max(np.abs(rest).max(), WIDE(1e-4000))
                solved = np.linalg.lstsq(design.astype(np.float64), (rest / top).astype(np.float64), rcond=1e-13)[0]
                rest = rest - design @ (solved.astype(WIDE) * top)
            error, tried = np.sqrt((rest**2).sum()), tried + 1
            if error < best:
                best, middle = error, masses
    return best, tried


def lengths(pick: np.random.Generator) -> Attack:
    """Necessary may not exceed sufficient: both are of one problem at one precision."""
    numbers = {"dim": int(pick.integers(1, 5)), "tokens": int(pick.integers(1, 5))}
    found = prompt_length(
        **numbers,
        lipschitz=float(10.0 ** pick.uniform(-3, 3)) * float(pick.choice([0.0, 1.0, 1.0])),
        tol=float(10.0 ** pick.uniform(-9, 1)),
        alpha=float(pick.choice([1.0, 1.5, 2.0, math.inf])),
        precision=float(pick.choice([1.0, 1.5, 2.0, 7.3, 16.0, 32.0])),
        hidden_size=int(pick.choice([1, 2, 3, 64])),
    )
    if not found.sufficient.recheck():
        return Attack(found.sufficient, 0.0, 1)
    return Attack(found.necessary, WIDE(found.sufficient.value), 1)


def tokens(pick: np.random.Generator) -> Attack | None:
    """Vectors certified independent have full rank in fractions, however nearly dependent or small they are."""
    n, dim = int(pick.integers(1, 4)), int(pick.integers(2, 8))
    vectors = pick.normal(size=(2 * n, dim)) * 10.0 ** pick.uniform(-150, 29, size=(2 * n, 1))
    if n > 1 and pick.random() < 0.7:
        vectors[-1] = vectors[0] * pick.normal() + pick.choice([0.0, 1e-15, 1e-12, 1e-9, 1e-3]) * vectors[-1]
    outputs, targets = (torch.from_numpy(item.copy()).clamp(-1e30, 1e30) for item in (vectors[:n], vectors[n:]))
    found = token_lower_bound(outputs, targets).certified
    if found.evidence is Evidence.UNKNOWN:
        return Attack(found, None, 0) if found.checker else None
    rows = [[Fraction(entry) for entry in row] for row in torch.cat([outputs, targets]).tolist()]
    return Attack(found, found.value if _rank(rows) == 2 * n else found.value - 1, 1)


def _rank(rows: list[list[Fraction]]) -> int:
    rank = 0
    for column in range(len(rows[0])):
        pivot = next((k for k in range(rank, len(rows)) if rows[k][column]), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        for k in range(rank + 1, len(rows)):
            factor = rows[k][column] / rows[rank][column]
            rows[k] = [a - factor * b for a, b in zip(rows[k], rows[rank], strict=True)]
        rank += 1
    return rank


def data(pick: np.random.Generator) -> Attack:
    """No distribution has a smaller mean loss than the floor of the data, and none is right more often."""
    conflicts = [pick.integers(1, 40, size=pick.integers(2, 5)).tolist() for _ in range(pick.integers(0, 5))]
    rows = sum(map(sum, conflicts)) + int(pick.integers(1, 50))
    answers = [(0,)] * rows
    if pick.random() < 0.5:
        best = best_accuracy([sorted(group, reverse=True) for group in conflicts], answers)
        right = Fraction(rows - sum(sum(group) - max(group) for group in conflicts), rows)
        # An upper bound: what is reached may not lie above it.
        return Attack(best, best.value if right <= Fraction(best.value) else best.value / 2, 1)
    losses = []
    for spread in [0.0] + [10.0**-k for k in range(1, 9)] * 3:
        total = WIDE(0)
        for group in conflicts:
            share = np.array(group, dtype=WIDE) * np.exp(spread * pick.normal(size=len(group)))
            total -= (np.array(group, dtype=WIDE) * np.log(share / share.sum())).sum()
        losses.append(total / rows)
    return Attack(loss_floor(conflicts, answers), min(losses) * (1 + WIDE(2) ** -58), len(losses))


KINDS = {"captured": captured, "layer": layer, "lengths": lengths, "tokens": tokens, "data": data}
SHARES = {"captured": 0.45, "layer": 0.45, "lengths": 0.04, "tokens": 0.03, "data": 0.03}


def run(seconds: float, seed: int) -> dict[str, dict[str, object]]:
    """Every kind for its share of the time."""
    results = {}
    for number, (kind, draw) in enumerate(KINDS.items()):
        counts: dict[str, int] = defaultdict(int)
        least, failures, index, end = math.inf, [], 0, time.monotonic() + seconds * SHARES[kind]
        while time.monotonic() < end:
            attack = draw(np.random.default_rng([seed, number, index]))
            index += 1
            if attack is None:
                continue
            floor = attack.certificate
            counts["certificates"] += 1
            counts["tried"] += attack.tried
            confirmed = floor.evidence is Evidence.PROVED and floor.recheck()
            counts["not_confirmed"] += not confirmed
            counts["above_zero"] += floor.value > 0
            broken = confirmed and attack.reached < floor.value
            counts["violations"] += bool(broken)
            if broken or not confirmed:
                failures.append(index - 1)
            if floor.value > 0 and attack.reached is not None:
                least = min(least, float(attack.reached / WIDE(floor.value)))
        results[kind] = dict(counts) | {"least_reached_over_bound": least, "drawn_again": failures[:20]}
        print(kind, json.dumps(results[kind]), flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kinds = run(options.seconds, options.seed)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    totals = {
        name: sum(kind.get(name, 0) for kind in kinds.values()) for name in ("certificates", "tried", "violations")
    }
    config = {"seconds": options.seconds, "seed": options.seed}
    record = {"config": config, "torch": torch.__version__, "device": f"cpu, {platform.machine()}", "commit": commit}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record | {"totals": totals, "kinds": kinds}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
