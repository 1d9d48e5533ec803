"""The single-head oracle under attack, and its speed beside that of the best gradient search, in one run.

    python benchmarks/limits/oracle_attack.py                          the full run (about an hour on two cores)
    python benchmarks/limits/oracle_attack.py --problems 40 --starts 2 a reduced one

Config in (the options), JSON out (benchmarks/results/limits_oracle.json). A speed is printed only beside the gap of the
certified floor and the errors that the attacks reached, and only when no attack got below a floor.
"""

import argparse
import contextlib
import json
import platform
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit, logsumexp, softmax
from torch import Tensor

from promptreach.certificate import Verdict
from promptreach.limits import memorisable
from promptreach.limits.oracle.forward import last_outputs
from promptreach.limits.oracle.single_head import head_floor
from promptreach.limits.oracle.statistics import head_statistics
from promptreach.prompt import SoftPrompt
from promptreach.weights import AttentionWeights

RESULT = Path(__file__).parents[1] / "results" / "limits_oracle.json"


@dataclass(frozen=True)
class Config:
    problems: int
    starts: int
    lengths: tuple[int, ...]
    steps: int
    speed_examples: int
    speed_tokens: int
    speed_hidden: int
    speed_starts: int
    speed_steps: int
    seed: int


def draw_problem(index: int, seed: int) -> tuple[AttentionWeights, list[Tensor], Tensor]:
    """Hidden 2 to 64, 2 to 40 examples; every third with weights of condition 1e6; every second one feasible."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + index)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    hidden = int(torch.randint(2, 65, (1,), generator=generator))
    count = int(torch.randint(2, 41, (1,), generator=generator))
    head_dim = max(2, hidden // int(torch.randint(1, 5, (1,), generator=generator)))

    def matrix(rows: int, columns: int) -> Tensor:
        drawn = normal(rows, columns) / columns**0.5
        if index % 3:
            return drawn
        left, values, right = torch.linalg.svd(drawn, full_matrices=False)
        return left * torch.logspace(0, -6, len(values), dtype=torch.float64) @ right

    weights = AttentionWeights(
        matrix(head_dim, hidden)[None], matrix(head_dim, hidden)[None], matrix(head_dim, hidden)[None]
    )
    last = normal(1, hidden)
    sequences = [torch.cat([normal(3 + k % 4, hidden), last]) for k in range(count)]
    if index % 2 == 0:
        return weights, sequences, last_outputs(weights, sequences, None, SoftPrompt(normal(1 + index % 7, hidden)))
    return weights, sequences, normal(count, head_dim) * last_outputs(weights, sequences).std()


def search(targets: Tensor, parameters: list[Tensor], outputs, steps: int, stop: float = 0.0):
    """(best root-mean-square error, seconds until it was at most `stop`, or None)."""
    for parameter in parameters:
        parameter.requires_grad_()
    optimiser = torch.optim.LBFGS(
        parameters, max_iter=steps, line_search_fn="strong_wolfe", tolerance_grad=1e-15, tolerance_change=1e-18
    )
    best, reached, start = float("inf"), None, time.perf_counter()

    class Reached(Exception):
        pass

    def closure() -> Tensor:
        nonlocal best, reached
        optimiser.zero_grad()
        loss = (outputs(parameters) - targets).square().mean()
        loss.backward()
        best = min(best, float(loss.detach()) ** 0.5)
        if best <= stop:
            reached = time.perf_counter() - start
            raise Reached
        return loss

    with contextlib.suppress(Reached):
        optimiser.step(closure)
    return best, reached


def forward(weights: AttentionWeights, sequences: list[Tensor], prefix: bool):
    """Outputs as a function of soft tokens, or of free keys and values, for one head without biases."""
    query = weights.query[0] @ sequences[0][-1] * weights.softmax_scale
    lse, means = [], []
    for sequence in sequences:
        scores = sequence @ (weights.key[0].mT @ query)
        lse.append(torch.logsumexp(scores, 0))
        means.append(torch.softmax(scores, 0) @ (sequence @ weights.value[0].mT))
    lses, mean = torch.stack(lse), torch.stack(means)

    def outputs(parameters: list[Tensor]) -> Tensor:
        keys, values = (
            parameters if prefix else (parameters[0] @ weights.key[0].mT, parameters[0] @ weights.value[0].mT)
        )
        scores = keys @ query
        share = torch.sigmoid(torch.logsumexp(scores, 0) - lses)[:, None]
        return (1 - share) * mean + share * (torch.softmax(scores, 0) @ values)

    return outputs


def least_error(
    weights: AttentionWeights,
    sequences: list[Tensor],
    targets: Tensor,
    length: int,
    prefix: bool,
    steps: int,
    seed: int,
) -> float:
    """The least root-mean-square error that one L-BFGS run from a random start sees, over soft tokens or a prefix.

    The gradient is written out: the library's algebra is not used, and twenty thousand runs take an hour, not a day.
    """
    key, value = weights.key[0].numpy(), weights.value[0].numpy()
    query = (weights.query[0] @ sequences[0][-1] * weights.softmax_scale).numpy()
    scores = [sequence.numpy() @ (key.T @ query) for sequence in sequences]
    lse = np.array([logsumexp(score) for score in scores])
    mean = np.stack([softmax(s) @ (x.numpy() @ value.T) for s, x in zip(scores, sequences, strict=True)])
    wanted = targets.numpy()
    shape = (2, length, len(query)) if prefix else (length, key.shape[1])
    best = float("inf")

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal best
        free = flat.reshape(shape)
        keys, values = free if prefix else (free @ key.T, free @ value.T)
        slots = keys @ query
        mixture = softmax(slots)
        share = expit(logsumexp(slots) - lse)[:, None]
        added = mixture @ values
        residual = (1 - share) * mean + share * added - wanted
        size = float((residual**2).mean())
        best = min(best, size**0.5)
        pull = 2 * residual / residual.size
        to_added = (share * pull).sum(0)
        to_mass = float(((pull * (added - mean)).sum(1, keepdims=True) * share * (1 - share)).sum())
        to_slots = mixture * (to_mass + (values - added) @ to_added)
        to_keys, to_values = np.outer(to_slots, query), np.outer(mixture, to_added)
        slope = np.stack([to_keys, to_values]) if prefix else to_keys @ key + to_values @ value
        return size, slope.ravel()

    start = np.random.default_rng(seed).standard_normal(shape).ravel()
    minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": steps, "ftol": 0.0, "gtol": 1e-15})
    return best


def attack(config: Config) -> dict[str, object]:
    """Every problem, every start: the least ratio of error to floor, and how the feasible half fared."""
    least, violations, gaps, missed, unproved = float("inf"), 0, [], 0, 0
    for index in range(config.problems):
        if index % 100 == 0:
            print(f"attack: problem {index} of {config.problems}, {violations} violations", flush=True)
        weights, sequences, targets = draw_problem(index, config.seed)
        result = memorisable(weights, sequences, targets, tol=1e-8)
        if index % 2 == 0:
            missed += result.verdict is not Verdict.POSSIBLE
            continue
        unproved += not result.floor.recheck()
        gaps.append((result.upper.value - result.floor.value) / result.upper.value)
        for start in range(config.starts):
            length, prefix = config.lengths[start % len(config.lengths)], start % 2 == 1
            error = least_error(
                weights, sequences, targets, length, prefix, config.steps, index * config.starts + start
            )
            least = min(least, error / result.floor.value if result.floor.value else float("inf"))
            violations += error < result.floor.value * (1 - 1e-9)
    ordered = sorted(gaps)
    return {
        "problems": config.problems,
        "violations": violations,
        "least_error_over_floor": least,
        "largest_gap": ordered[-1] if ordered else None,
        "median_gap": ordered[len(ordered) // 2] if ordered else None,
        "feasible_missed": missed,
        "not_rechecked": unproved,
    }


def speed(config: Config) -> dict[str, object]:
    """Seconds for the floor, and for gradient searches to come within 1 % of it, on one problem and one core.

    The problem: one head whose value and output sizes are the hidden size, sequences of `speed_tokens` tokens that end
    in the same one, targets that a prompt reaches up to noise. Searches of two kinds run beside it. *Through the
    layer*: prompt and content go through attention at every step, as in any training of a soft prompt or of a prefix;
    the content's keys and values are computed once, outside the clock. *On statistics*: the search is handed the masses
    and means that the oracle works with, which is half of the oracle's idea.
    """
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(config.seed)
    n, hidden = config.speed_examples, config.speed_hidden

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weights = AttentionWeights(*(normal(1, hidden, hidden) / hidden**0.5 for _ in range(3)))
    last = normal(1, hidden)
    sequences = [torch.cat([normal(config.speed_tokens - 1, hidden), last]) for _ in range(n)]
    outputs = last_outputs(weights, sequences, None, SoftPrompt(normal(4, hidden)))
    targets = outputs + 0.1 * outputs.std() * normal(n, hidden)
    statistics, statistics_seconds = _timed(lambda: head_statistics(weights, sequences))
    floor, floor_seconds = _timed(lambda: head_floor(statistics, targets))
    lower = floor.lower / targets.numel() ** 0.5
    layer, handed = through_layer(weights, sequences), forward(weights, sequences, True)
    searches: dict[str, list[tuple[float, float | None]]] = {}
    for start in range(config.speed_starts):
        length = config.lengths[start % len(config.lengths)]
        free = {"keys and values": [normal(length, hidden) for _ in range(2)], "soft tokens": [normal(length, hidden)]}
        for kind, run in (("L-BFGS", search), ("Adam", adam)):
            for what, parameters in free.items():
                copies = [parameter.clone() for parameter in parameters]
                found = run(targets, copies, layer, config.speed_steps, stop=1.01 * lower)
                searches.setdefault(f"{kind} through the layer, {what}", []).append(found)
        found = search(targets, free["keys and values"], handed, config.speed_steps, stop=1.01 * lower)
        searches.setdefault("L-BFGS on the statistics, keys and values", []).append(found)
        print(f"speed: start {start + 1} of {config.speed_starts}", flush=True)
    rivals = {name: _rival(found, lower, floor_seconds, statistics_seconds) for name, found in searches.items()}
    return {
        "examples, tokens, hidden": [n, config.speed_tokens, hidden],
        "floor_seconds_median_one_core": floor_seconds,
        "statistics_seconds_median_one_core": statistics_seconds,
        "gap": (floor.upper - floor.lower) / floor.upper,
        "searches": rivals,
    }


def through_layer(weights: AttentionWeights, sequences: list[Tensor]):
    """Outputs as a function of soft tokens or of free keys and values, attention over prompt and content each time."""
    content = torch.stack(sequences)
    keys, values = content @ weights.key[0].mT, content @ weights.value[0].mT
    query = (weights.query[0] @ sequences[0][-1]).expand(len(sequences), 1, -1)

    def outputs(parameters: list[Tensor]) -> Tensor:
        free = (
            parameters
            if len(parameters) == 2
            else [parameters[0] @ item[0].mT for item in (weights.key, weights.value)]
        )
        joined = [
            torch.cat([item.expand(len(sequences), -1, -1), own], dim=1)
            for item, own in zip(free, (keys, values), strict=True)
        ]
        return torch.nn.functional.scaled_dot_product_attention(query, *joined, scale=weights.softmax_scale)[:, 0]

    return outputs


def adam(targets: Tensor, parameters: list[Tensor], outputs, steps: int, stop: float):
    """As `search`, by Adam at the best of three learning rates (the seconds are those of the best one alone)."""
    found = []
    for rate in (0.3, 0.1, 0.03):
        own = [parameter.clone().requires_grad_() for parameter in parameters]
        optimiser, best, start = torch.optim.Adam(own, lr=rate), float("inf"), time.perf_counter()
        reached = None
        for _ in range(steps):
            optimiser.zero_grad()
            loss = (outputs(own) - targets).square().mean()
            loss.backward()
            best = min(best, float(loss.detach()) ** 0.5)
            if best <= stop:
                reached = time.perf_counter() - start
                break
            optimiser.step()
        found.append((best, reached))
    return min(found, key=lambda item: (item[1] is None, item[1] or item[0]))


def _timed(function):
    """(result, median seconds of nine calls)."""
    times = []
    for _ in range(9):
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return result, sorted(times)[4]


def _rival(found, lower: float, floor_seconds: float, statistics_seconds: float) -> dict[str, object]:
    came = [seconds for _, seconds in found if seconds is not None]
    fastest = min(came, default=None)
    return {
        "starts_within_1_percent": f"{len(came)} of {len(found)}",
        "best_error_over_floor": min(error for error, _ in found) / lower,
        "seconds_of_the_fastest": fastest,
        "ratio_to_floor": fastest and fastest / floor_seconds,
        "ratio_to_floor_and_statistics": fastest and fastest / (floor_seconds + statistics_seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=2000)
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--speed-examples", type=int, default=200)
    parser.add_argument("--speed-hidden", type=int, default=768)
    parser.add_argument("--speed-tokens", type=int, default=32)
    parser.add_argument("--speed-starts", type=int, default=7)
    parser.add_argument("--speed-steps", type=int, default=500)
    parser.add_argument("--parts", nargs="+", choices=["attack", "speed"], default=["attack", "speed"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = vars(parser.parse_args())
    out, parts = options.pop("out"), options.pop("parts")
    config = Config(**{**options, "lengths": tuple(options["lengths"])})
    environment = {
        "config": {**options, "lengths": list(config.lengths)},
        "torch": torch.__version__,
        "device": f"cpu, {platform.machine()}",
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
    }
    # Parts run on their own join those already on file: the speeds want a quiet machine, the attack does not.
    result = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    if "attack" in parts:
        runs = config.problems // 2 * config.starts
        print(f"{config.problems} problems, half of them feasible; {runs} L-BFGS runs of up to {config.steps} steps")
        result["attack"] = environment | attack(config)
        print(json.dumps(result["attack"], indent=2))
    attacked = result.get("attack", {})
    if "speed" in parts and attacked.get("violations") == 0 and attacked.get("not_rechecked") == 0:
        result["speed"] = environment | speed(config)
        print(json.dumps(result["speed"], indent=2))
    elif "speed" in parts:
        result["speed"] = "not measured: no attack on file that the floor survived"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
