"""Attention inside paper B's norm criterion: speed beside certified and true error, growth, memory, certificates.

    python benchmarks/inference/criterion.py                          the full run (about an hour on two cores)
    python benchmarks/inference/criterion.py --parts speed --repeats 3
    python benchmarks/inference/criterion.py --problems 500 --length 16384 --growth 8192 16384

Config in (the options), JSON out (benchmarks/results/inference_criterion.json). Parts that are run replace what the
file holds of them; the others stay. Queries, keys and values are standard normal, queries and keys times 1/4, float32;
in `directions` queries and keys of head size 64 share one to three directions, but for 1e-5, and scores reach 2 to 12
nats. Certificates are attacked first: no speed is printed on a violation. Seconds are medians, planning, fitting and
certifying included. Beside every error stands that of the trivial answer, the mean of the values: an easy case must
look easy.
"""

import argparse
import json
import math
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from helpers.attention_problems import draw, true_error
from promptreach.fast_attention.measure import range_error, value_range
from promptreach.inference import ToleranceNotReachedError, attend

RESULT = Path(__file__).parents[1] / "results" / "inference_criterion.json"
PARTS = ("certificates", "speed", "directions", "baselines", "growth", "memory")
TARGETS = ((8, 1e-3, 50.0), (16, 1e-3, 20.0), (8, 1e-4, 20.0))
"""Head size, certified range error, and how many times faster than exact attention it has to be."""


def inputs(length: int, head_size: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (torch.randn(length, head_size, generator=generator) for _ in range(3))
    return query / 4, key / 4, value


def timed(run: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Median seconds and the last result."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result


def fused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return scaled_dot_product_attention(query[None, None], key[None, None], value[None, None])[0, 0]


def certificates(options: argparse.Namespace) -> dict[str, Any]:
    """Random and adversarial problems: violations, refusals, and how far above the truth the certificate is."""
    violations, refused, ratios, causal_ratios, kinds = [], 0, [], [], {}
    for index in range(options.problems):
        problem = draw(index, seed=options.seed + 1)
        try:
            output, report = attend(
                problem.query,
                problem.key,
                problem.value,
                problem.tol,
                "polynomial",
                problem.causal,
                mask=problem.mask,
                workspace=2**22,
            )
        except ToleranceNotReachedError:
            refused += 1
            continue
        error = true_error(problem.problem, output)
        kinds[problem.kind] = kinds.get(problem.kind, 0) + 1
        if error > report.error.value:
            violations.append(index)
        if error:
            (causal_ratios if problem.causal else ratios).append(report.error.value / error)
        if index % 1000 == 999:
            print(f"{index + 1} problems, {len(violations)} violations, {refused} refused", flush=True)
    ordered = sorted(ratios)
    return {
        "problems": options.problems,
        "answered": sum(kinds.values()),
        "answered_by_kind": kinds,
        "refused_because_out_of_reach": refused,
        "violations": violations,
        "certified_over_true_median": statistics.median(ordered) if ordered else None,
        "certified_over_true_quartiles": statistics.quantiles(ordered, n=4) if len(ordered) > 1 else None,
        "certified_over_true_median_causal": statistics.median(causal_ratios) if causal_ratios else None,
        "note": "causal problems this short are nearly all exact inside a chunk: that ratio is of the rounding bound",
    }


def speed(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    exact: dict[int, tuple[float, Tensor]] = {}
    for head_size, tol, wanted in TARGETS:
        query, key, value = inputs(options.length, head_size, options.seed)
        if head_size not in exact:
            exact[head_size] = timed(lambda q=query, k=key, v=value: fused(q, k, v), options.repeats)
        exact_seconds, reference = exact[head_size]
        spread = value_range(value)
        trivial = range_error(value.mean(dim=0).expand_as(reference), reference, spread)
        for method in ("polynomial", "auto"):
            attend(query[:2048], key[:2048], value[:2048], tol, method)
            seconds, (output, report) = timed(partial(attend, query, key, value, tol, method), 2 * options.repeats + 1)
            rows.append(
                {
                    "head_size": head_size,
                    "length": options.length,
                    "method": method,
                    "ran": report.method,
                    "tolerance": tol,
                    "certified_range_error": report.error.value,
                    "evidence": report.error.evidence.value,
                    "true_range_error": range_error(output, reference, spread),
                    "range_error_of_the_mean_value": trivial,
                    "seconds": seconds,
                    "exact_seconds": exact_seconds,
                    "times_faster": exact_seconds / seconds,
                    "wanted_times_faster": wanted,
                    "reasons": list(report.reasons),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    return rows


def few_directions(length: int, rank: int, size: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Head size 64; queries and keys fill a cube of `rank` directions, and scores reach `size` nats with scale 1."""
    generator = torch.Generator().manual_seed(seed)
    lift = torch.linalg.qr(torch.randn(64, rank, generator=generator)).Q
    parts = (torch.rand(length, rank, generator=generator) * 2 - 1 for _ in range(2))
    query, key = (size**0.5 * part / part.norm(dim=1).max() @ lift.mT for part in parts)
    noise = (1e-5 * torch.randn(length, 64, generator=generator) for _ in range(2))
    return query + next(noise), key + next(noise), torch.randn(length, 64, generator=generator)


def directions(options: argparse.Namespace) -> list[dict[str, Any]]:
    """What `auto` takes where queries and keys have few directions in common, whatever the size of their scores."""
    rows: list[dict[str, Any]] = []
    for rank in (1, 2, 3):
        for size in (2.0, 4.0, 8.0, 12.0):
            query, key, value = few_directions(options.length, rank, size, options.seed)
            exact_seconds, reference = timed(partial(fused, 8 * query, key, value), 1)
            seconds, (output, report) = timed(partial(attend, query, key, value, 1e-3, scale=1.0), options.repeats)
            spread = value_range(value)
            rows.append(
                {
                    "directions": rank,
                    "score_nats": size,
                    "length": options.length,
                    "ran": report.method,
                    "features": report.rank,
                    "tolerance": 1e-3,
                    "certified_range_error": report.error.value,
                    "evidence": report.error.evidence.value,
                    "true_range_error": range_error(output, reference, spread),
                    "range_error_of_the_mean_value": range_error(
                        value.mean(dim=0).expand_as(reference), reference, spread
                    ),
                    "seconds": seconds,
                    "exact_seconds": exact_seconds,
                    "times_faster": exact_seconds / seconds,
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    return rows


def performer(head_size: int, features: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    from performer_pytorch import FastAttention

    layer = FastAttention(head_size, nb_features=features)
    return lambda q, k, v: layer(q[None, None], k[None, None], v[None, None])[0, 0]


def nystrom(head_size: int, landmarks: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The layer with its projections set so that it attends with the queries, keys and values it is given."""
    from nystrom_attention import NystromAttention

    layer = NystromAttention(3 * head_size, dim_head=head_size, heads=1, num_landmarks=landmarks, residual=False)
    layer.to_qkv.weight.data = torch.eye(3 * head_size)
    layer.to_out[0].weight.data = torch.eye(3 * head_size)[:, :head_size].contiguous()
    layer.to_out[0].bias.data.zero_()
    layer.eval()
    return lambda q, k, v: layer(torch.cat([q, k, v], dim=1)[None])[0, :, : q.shape[1]]


def baselines(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Other fast attentions on the same inputs; the time is that of a call, without any tuning."""
    rows = []
    for head_size in (8, 16):
        query, key, value = inputs(options.length, head_size, options.seed)
        exact_seconds, reference = timed(lambda q=query, k=key, v=value: fused(q, k, v), 1)
        spread = value_range(value)
        for name, build in (("performer-pytorch", performer), ("nystrom-attention", nystrom)):
            for size in (64, 256):
                row: dict[str, Any] = {"name": name, "head_size": head_size, "size": size}
                torch.manual_seed(options.seed)
                try:
                    layer = build(head_size, size)
                except ImportError as missing:
                    rows.append({**row, "skipped": f"not installed: {missing}"})
                    continue
                with torch.no_grad():
                    seconds, output = timed(lambda run=layer, q=query, k=key, v=value: run(q, k, v), options.repeats)
                row["true_range_error"] = range_error(output, reference, spread)
                row["certified_range_error"] = "none"
                row |= {"seconds": seconds, "times_faster": exact_seconds / seconds}
                rows.append(row)
                print(json.dumps(row), flush=True)
    return rows


def growth(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Seconds against length at head size 8, and the exponent that fits them."""
    rows = []
    for method, tol in (("polynomial", 1e-3), ("polynomial", 1e-4), ("landmark", 1e-2)):
        seconds, errors = [], []
        for length in options.growth:
            query, key, value = inputs(length, 8, options.seed)
            try:
                taken, (_, report) = timed(
                    lambda q=query, k=key, v=value, t=tol, m=method: attend(q, k, v, t, m), options.repeats
                )
            except ToleranceNotReachedError as failure:
                errors.append(str(failure))
                break
            seconds.append(taken)
            errors.append(report.error.value)
        complete = len(seconds) == len(options.growth)
        rows.append(
            {
                "method": method,
                "tolerance": tol,
                "lengths": list(options.growth),
                "seconds": seconds,
                "errors": errors,
                "exponent": slope(options.growth, seconds) if complete and len(seconds) > 1 else None,
                "wanted_exponent": 1.15,
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def slope(lengths: list[int], seconds: list[float]) -> float:
    """The least-squares slope of log seconds against log length."""
    x, y = ([math.log(item) for item in part] for part in (lengths, seconds))
    return statistics.linear_regression(x, y).slope


MEMORY = """
import json, resource, sys, torch
sys.path.insert(0, {folder!r})
from criterion import inputs
from promptreach.inference import attend
import time
query, key, value = inputs({length}, 64, 0)
start = time.perf_counter()
output, report = attend(query, key, value, 1e-2, "polynomial")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps(dict(length={length}, head_size=64, method="polynomial", tolerance=1e-2, peak_gib=peak,
                      wanted_gib=4.0, seconds=time.perf_counter() - start,
                      certified_range_error=report.error.value, reasons=list(report.reasons))))
"""


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """The peak memory of a process that attends over a million tokens at head size 64, inputs and output included."""
    code = MEMORY.format(folder=str(Path(__file__).parent), length=options.million)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    print(json.dumps(result), flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--problems", type=int, default=20_000)
    parser.add_argument("--length", type=int, default=65_536)
    parser.add_argument("--growth", type=int, nargs="+", default=[16_384, 32_768, 65_536, 131_072, 262_144])
    parser.add_argument("--million", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    gate = argparse.Namespace(**{**vars(options), "problems": min(options.problems, 200)})
    if "certificates" not in options.parts and certificates(gate)["violations"]:
        raise SystemExit("a certificate was violated: no speed is measured")
    for part in PARTS:
        if part not in options.parts:
            continue
        results[part] = {"config": {**vars(options), "out": options.out.name}, "results": globals()[part](options)}
        results[part]["environment"] = {
            "torch": torch.__version__,
            "device": f"cpu, {platform.machine()}, {torch.get_num_threads()} threads",
            "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        if part == "certificates":
            print(json.dumps(results[part]["results"], indent=2))
            if results[part]["results"]["violations"]:
                raise SystemExit("a certificate was violated: no speed is measured")


if __name__ == "__main__":
    main()
