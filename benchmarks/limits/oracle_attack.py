"""The single-head oracle under attack, and its speed beside that of the best gradient search, in one run.

    python benchmarks/limits/oracle_attack.py                          the full run (hours on two cores)
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

import torch
from torch import Tensor

from promptreach.certificate import Verdict
from promptreach.limits import memorisable
from promptreach.limits.single_head import head_floor
from promptreach.limits.statistics import HeadStatistics
from promptreach.limits.witness import last_outputs
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
    speed_hidden: int
    speed_starts: int
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
    log_mass, means = [], []
    for sequence in sequences:
        scores = sequence @ (weights.key[0].mT @ query)
        log_mass.append(torch.logsumexp(scores, 0))
        means.append(torch.softmax(scores, 0) @ (sequence @ weights.value[0].mT))
    log_masses, mean = torch.stack(log_mass), torch.stack(means)

    def outputs(parameters: list[Tensor]) -> Tensor:
        keys, values = (
            parameters if prefix else (parameters[0] @ weights.key[0].mT, parameters[0] @ weights.value[0].mT)
        )
        scores = keys @ query
        share = torch.sigmoid(torch.logsumexp(scores, 0) - log_masses)[:, None]
        return (1 - share) * mean + share * (torch.softmax(scores, 0) @ values)

    return outputs


def attack(config: Config) -> dict[str, object]:
    """Every problem, every start: the least ratio of error to floor, and how the feasible half fared."""
    least, violations, gaps, missed, unproved = float("inf"), 0, [], 0, 0
    for index in range(config.problems):
        weights, sequences, targets = draw_problem(index, config.seed)
        result = memorisable(weights, sequences, targets, tol=1e-8)
        if index % 2 == 0:
            missed += result.verdict is not Verdict.POSSIBLE
            continue
        unproved += not result.floor.recheck()
        gaps.append((result.upper.value - result.floor.value) / result.upper.value)
        generator = torch.Generator().manual_seed(index)
        for start in range(config.starts):
            length, prefix = config.lengths[start % len(config.lengths)], start % 2 == 1
            shapes = [weights.head_dim] * 2 if prefix else [weights.hidden_size]
            parameters = [torch.randn(length, size, generator=generator, dtype=torch.float64) for size in shapes]
            error, _ = search(targets, parameters, forward(weights, sequences, prefix), config.steps)
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
    """Seconds for the floor, and for the fastest of several gradient searches to come within 1 % of it."""
    generator = torch.Generator().manual_seed(config.seed)
    n, hidden = config.speed_examples, config.speed_hidden
    log_mass = 3 + torch.randn(n, generator=generator, dtype=torch.float64)
    mean = torch.randn(n, hidden, generator=generator, dtype=torch.float64)
    query = torch.randn(hidden, generator=generator, dtype=torch.float64)
    share = torch.sigmoid(3.0 - log_mass)[:, None]
    centre = torch.randn(hidden, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, hidden, generator=generator, dtype=torch.float64)
    targets = (1 - share) * mean + share * centre + 0.1 * noise
    none = torch.zeros(n, dtype=torch.float64)
    statistics = HeadStatistics(log_mass, mean, none, none, query=query)
    torch.set_num_threads(1)
    times = []
    for _ in range(9):
        start = time.perf_counter()
        floor = head_floor(statistics, targets)
        times.append(time.perf_counter() - start)
    lower = floor.lower / targets.numel() ** 0.5

    def outputs(parameters: list[Tensor]) -> Tensor:
        keys, values = parameters
        scores = keys @ query * hidden**-0.5
        mixed = torch.sigmoid(torch.logsumexp(scores, 0) - log_mass)[:, None]
        return (1 - mixed) * mean + mixed * (torch.softmax(scores, 0) @ values)

    reached = []
    for start in range(config.speed_starts):
        length = config.lengths[start % len(config.lengths)]
        parameters = [torch.randn(length, hidden, generator=generator, dtype=torch.float64) for _ in range(2)]
        reached.append(search(targets, parameters, outputs, 500, stop=1.01 * lower)[1])
    came = [seconds for seconds in reached if seconds is not None]
    median = sorted(times)[len(times) // 2]
    return {
        "floor_seconds_median_one_core": median,
        "floor_seconds_best_one_core": min(times),
        "gap": (floor.upper - floor.lower) / floor.upper,
        "gradient_seconds_fastest": min(came) if came else None,
        "gradient_starts_that_came_within_1_percent": f"{len(came)} of {len(reached)}",
        "ratio": min(came) / median if came else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=2000)
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--speed-examples", type=int, default=200)
    parser.add_argument("--speed-hidden", type=int, default=768)
    parser.add_argument("--speed-starts", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = vars(parser.parse_args())
    out = options.pop("out")
    config = Config(**{**options, "lengths": tuple(options["lengths"])})
    runs = config.problems // 2 * config.starts
    print(f"{config.problems} problems, half of them feasible; {runs} L-BFGS runs of up to {config.steps} steps")
    attacked = attack(config)
    print(json.dumps(attacked, indent=2))
    sound = not attacked["violations"] and not attacked["not_rechecked"]
    result = {
        "config": {**options, "lengths": list(config.lengths)},
        "torch": torch.__version__,
        "device": f"cpu, {platform.machine()}",
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
        "attack": attacked,
        "speed": speed(config) if sound else "not measured: the floor did not hold",
    }
    print(json.dumps(result["speed"], indent=2))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
