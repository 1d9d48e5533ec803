"""Attacks on what norms, layers, fast attention, the compiler and counting call PROVED, at both ends of every size.

    python benchmarks/inference/proof_attacks.py --seconds 600     as many problems as fit, of every kind in turn
    python benchmarks/inference/proof_attacks.py --seconds 20      a reduced run

Drawn are matrices with entries from 1e-100 to 1e100 and all spreads between; layers of small and large weights, and
inverses of outputs from 1e-310 to 1e100 whose exact inputs are known as fractions; attention with values from 2^-1060
to 2^190, another size in each coordinate, offsets up to 1e9 times the range, queries and keys from 1e-160 to 1e60, both
units of error, causal or not, one to three heads; compiled functions of every construction at thousands of inputs; and
prompts of up to 2^106 bits. Exact values are fractions where that is possible, else in extended precision. No tolerance
anywhere: one value beyond a bound is a violation. Each certificate is made again by its second path, and has to be
refused by it once its claim, side, evidence, assumptions or theorem were changed.

Config in (the options), JSON out (benchmarks/results/inference_proofs.json): per kind the certificates, the problems
that were refused beforehand, violations, certificates that were not confirmed, changed ones that passed, and the
largest ratio of what was reached to the bound.
"""

import argparse
import contextlib
import dataclasses
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
from torch import Tensor

from promptreach import blocks
from promptreach.capacity.counting import counting_bound
from promptreach.certificate import Assumption, Certificate, Evidence, Side
from promptreach.compiler.build import CONSTRUCTIONS, build_backbone
from promptreach.compiler.target import TargetFunction
from promptreach.errors import InputError, NotContractingError, PromptreachError
from promptreach.inference import ToleranceNotReachedError, attend
from promptreach.limits.layers.invert import injective_consequence, invert
from promptreach.limits.layers.lipschitz import lipschitz
from promptreach.norms import frobenius, max_norm, product_upper, spectral_lower, spectral_upper
from promptreach.weights import AttentionWeights, FeedForwardWeights, LayerWeights

RESULT = Path(__file__).parents[1] / "results" / "inference_proofs.json"
WIDE = np.longdouble

Found = tuple[Certificate, float | Fraction | None]
"""A certificate, and how far an attack came in its unit: for UPPER what may not lie above, for LOWER not below."""


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def _fractions(vector: Tensor) -> list[Fraction]:
    return [Fraction(entry) for entry in vector.tolist()]


def _root(value: Fraction, up: bool) -> Fraction:
    """The square root of a fraction, to 2^-60 of it, from the side asked for."""
    shift = max(0, 160 - value.numerator.bit_length() + value.denominator.bit_length())
    shift += shift % 2
    root = math.isqrt((value.numerator << shift) // value.denominator)
    return Fraction(root + up, 1 << (shift // 2))


def matrices(pick: np.random.Generator) -> list[Found]:
    """Norms against exact fractions: the steepest direction that float64 finds, and random ones."""
    rows, columns = pick.integers(1, 6, size=2)
    spread = pick.choice([0, 2, 40, 90]) * pick.uniform(-1, 1, (rows, columns))
    array = pick.normal(size=(rows, columns)) * 10.0**spread
    if pick.random() < 0.2:
        array = np.outer(array[:, 0], pick.normal(size=columns)) + pick.choice([0, 1e-15]) * array
    largest = np.abs(array).max()
    matrix = _tensor(array / (largest or 1.0) * 10.0 ** pick.uniform(-99, 99))
    exact = [_fractions(row) for row in matrix]
    squares = sum((entry * entry for row in exact for entry in row), Fraction(0))

    def stretch(vector: Tensor) -> Fraction:
        factors = _fractions(vector)
        size = sum((entry * entry for entry in factors), Fraction(0))
        image = [sum((a * b for a, b in zip(row, factors, strict=True)), Fraction(0)) for row in exact]
        return sum((entry * entry for entry in image), Fraction(0)) / size if size else Fraction(0)

    tried = [torch.linalg.svd(matrix / matrix.abs().max())[2][0], _tensor(pick.normal(size=columns))]
    steepest, lower = max(map(stretch, tried)), spectral_lower(matrix)
    right = _tensor(pick.normal(size=(columns, 2)) * 10.0 ** pick.uniform(-9, 9))
    found: list[Found] = [
        (frobenius(matrix), _root(squares, up=False)),
        (spectral_upper(matrix), _root(steepest, up=False)),
        (lower, _root(stretch(lower.witness["vector"]), up=True)),
        (max_norm(matrix), max(abs(entry) for row in exact for entry in row)),
    ]
    with contextlib.suppress(InputError):  # the product may leave the range of the account
        found.append((product_upper(matrix, right), None))
    return found


def _layer(pick: np.random.Generator, causal: bool, scale: float) -> LayerWeights:
    hidden, heads = int(pick.integers(2, 4)), int(pick.integers(1, 3))
    shapes = [(heads, 2, hidden)] * 3 + [(hidden, 2 * heads)]
    query, key, value, output = (_tensor(scale * pick.normal(size=shape)) for shape in shapes)
    up, down = _tensor(scale * pick.normal(size=(5, hidden))), _tensor(scale * pick.normal(size=(hidden, 5)))
    activation = str(pick.choice(["relu", "gelu", "silu"]))
    gate = _tensor(scale * pick.normal(size=(5, hidden))) if pick.random() < 0.3 else None
    network = FeedForwardWeights(up, down, activation, gate=gate)  # type: ignore[arg-type]
    return LayerWeights(AttentionWeights(query, key, value, output, causal=causal), network)


def layers(pick: np.random.Generator) -> list[Found]:
    """Lipschitz bounds against the steepest directions at points of the ball."""
    layer = _layer(pick, bool(pick.random() < 0.5), 10.0 ** pick.uniform(-12, 0.5))
    radius, tokens = 10.0 ** pick.uniform(-3, 2), int(pick.integers(1, 5))
    (bound,) = lipschitz([layer], radius, tokens, iterations=3, seed=int(pick.integers(2**31)))
    found: list[Found] = [(bound.attention, bound.attention_lower.value), (bound.mlp, bound.mlp_lower.value)]
    first, second = (0.9 * radius * _tensor(pick.normal(size=(tokens, layer.attention.hidden_size))) for _ in range(2))
    first, second = (x * (0.99 * radius / x.norm(dim=1, keepdim=True).clamp_min(radius)) for x in (first, second))
    branch, apart = blocks.attention_branch(layer), float((first - second).norm())
    slope = float((branch(first) - branch(second)).norm()) / apart if apart else 0.0
    return [*found, (bound.attention, slope), (bound.total, None)]


def inverses(pick: np.random.Generator) -> list[Found]:
    """Inverses of one linear branch, whose exact solution is a fraction, and of small layers; injective stacks."""
    size = 10.0 ** pick.uniform(-310, 90)
    weights = _tensor(pick.uniform(-0.35, 0.35, size=(2, 2)))
    zero, eye = torch.zeros(1, 1, 2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    linear = LayerWeights(AttentionWeights(zero, zero, weights[None], eye, scale=1.0, causal=True))
    outputs = size * _tensor(pick.normal(size=(1, 2)))
    inverse = invert([linear], outputs, tol=max(1e-12 * size, 5e-324))
    (a, b), (c, d) = (_fractions(row) for row in weights)
    a, d = 1 + a, 1 + d
    first, second = _fractions(outputs[0])
    solution = [(d * first - b * second) / (a * d - b * c), (a * second - c * first) / (a * d - b * c)]
    squares = sum((Fraction(x) - y) ** 2 for x, y in zip(inverse.inputs[0].tolist(), solution, strict=True))
    found: list[Found] = [(inverse.error, _root(squares, up=False) if squares else Fraction(0))]
    layer = _layer(pick, True, 0.12)
    kept = injective_consequence([layer], 1.0, 4)
    if kept.evidence is Evidence.PROVED:
        one, other = (0.3 * _tensor(pick.normal(size=(3, layer.attention.hidden_size))).clamp(-1, 1) for _ in range(2))
        outs = [blocks.between(layer, x, None) for x in (one, other)]
        outs = [x + blocks.feed_forward_branch(layer)(x) for x in outs]
        found.append((kept, float((outs[0] - outs[1]).norm() / (one - other).norm())))
    return found


def _exact(query: np.ndarray, key: np.ndarray, value: np.ndarray, seen: np.ndarray) -> np.ndarray:
    scores = query.astype(WIDE) @ key.astype(WIDE).T / np.sqrt(WIDE(query.shape[1]))
    shares = np.where(seen, np.exp(scores - np.where(seen, scores, -np.inf).max(axis=1, keepdims=True)), 0)
    return shares @ value.astype(WIDE) / shares.sum(axis=1, keepdims=True)


def attention(pick: np.random.Generator) -> list[Found]:
    """Polynomial attention against softmax in extended precision, on values brought back to ordinary sizes."""
    heads, n, q, dim, width = int(pick.integers(1, 4)), *(int(x) for x in pick.integers((2, 1, 1, 1), (25, 9, 3, 3)))
    causal, unit = bool(pick.random() < 0.3), str(pick.choice(["range", "deviation"]))
    q = min(q, n)
    dtype = np.float32 if pick.random() < 0.2 else np.float64
    limit = (-130, 100) if dtype is np.float32 else (-1060, 190)
    power = pick.integers(*limit, size=1).repeat(width)
    if pick.random() < 0.4:
        power = pick.integers(*limit, size=width)
    tilt = 10.0 ** pick.uniform(*((-30, 30) if dtype is np.float32 else (-150, 59)))
    query = (0.6 * pick.normal(size=(heads, q, dim)) * tilt).astype(dtype)
    key = (0.6 * pick.normal(size=(heads, n, dim)) / tilt + pick.choice([0, 3]) / tilt).astype(dtype)
    offset = pick.choice([0.0, 0.0, 1e3, 1e6 if dtype is np.float32 else 1e9])
    plain = (pick.normal(size=(heads, n, width)) + offset).astype(dtype)
    value = np.ldexp(plain, power).astype(dtype)
    normal = np.ldexp(value.astype(WIDE), -power)  # what rounding to subnormals has left
    tol = 10.0 ** pick.uniform(-5, -1)
    try:
        output, report = attend(
            *(_tensor(x) for x in (query, key, value)), tol, "polynomial", causal, relative_to=unit, workspace=2**22
        )
    except ToleranceNotReachedError:
        return []
    seen = np.arange(n) <= (np.arange(q) + n - q)[:, None] if causal else np.ones((q, n), dtype=bool)
    found = np.ldexp(output.numpy().astype(WIDE), -power)
    worst = WIDE(0)
    for head in range(heads):
        exact = _exact(query[head], key[head], normal[head] - normal[head][0], seen)
        error = np.abs(found[head] - normal[head][0] - exact)
        spread = normal[head].max(axis=0) - normal[head].min(axis=0)
        if unit == "range":
            worst = max(worst, (error[:, spread > 0] / spread[spread > 0]).max(initial=WIDE(0)))
            continue
        sizes = np.ldexp(WIDE(1), power - power.max())
        apart = np.sqrt((((exact - exact.mean(axis=0)) * sizes) ** 2).sum())
        missed = np.sqrt(((error * sizes) ** 2).sum())
        worst = max(worst, missed / apart if missed else WIDE(0))
    return [(report.error, Fraction(*worst.as_integer_ratio()) if np.isfinite(worst) else math.inf)]


def compiled(pick: np.random.Generator) -> list[Found]:
    """Compiled waves of the declared steepness at thousands of inputs outside the ramps."""
    name = str(pick.choice(list(CONSTRUCTIONS)))
    tokens = 1 if name in ("single_layer", "deep") else int(pick.integers(1, 3))
    constant, curvature = float(pick.uniform(0.2, 1.5)), float(pick.uniform(0.0, 3.0))
    options = {"curvature": curvature} if name == "multilinear" else {}
    tol = float(pick.uniform(0.3, 0.8))
    dtype = torch.float32 if pick.random() < 0.4 else torch.float64
    try:
        backbone = build_backbone(1, tokens, constant, tol, name, dtype=dtype, memory=2**28, **options)
    except PromptreachError:
        return []
    place, slope = float(pick.uniform(0, 1)), min(0.9, constant) * float(pick.choice([-1, 1]))

    def function(x: np.ndarray) -> np.ndarray:
        return 0.5 + slope * (x - 0.5 if name == "multilinear" else np.abs(x - place) - 0.5)

    target = TargetFunction(function, 1, tokens, constant, "wave", **({"curvature": 0.0} if options else {}))
    try:
        prompt = backbone.prompt_for(target)
    except InputError:
        return []
    x = _tensor(pick.uniform(size=(2000, tokens, 1)))
    with torch.no_grad():
        missed = torch.linalg.vector_norm(backbone(x, prompt).double() - target.at(x), dim=(1, 2))
    good = backbone.good(x)
    above = float(missed[good].max()) if bool(good.any()) else 0.0
    return [(backbone.sup_certificate(prompt, constant), above), (prompt.certificate, None)]


def counting(pick: np.random.Generator) -> list[Found]:
    """Bits and lengths of prompts, exactly."""
    entries, precision = (int(2.0 ** pick.uniform(0, 53)) for _ in range(2))
    vocabulary = max(2, int(2.0 ** pick.uniform(1, 20)))
    bound = counting_bound(entries, precision, vocabulary)
    held = entries * precision
    longest = Fraction(held) / Fraction(math.log2(vocabulary)) * (1 - Fraction(1, 2**50)) - 1
    return [(bound.bits, Fraction(held)), (bound.length, max(longest, Fraction(0)))]


KINDS = {
    "matrices": (matrices, 0.25),
    "layers": (layers, 0.15),
    "inverses": (inverses, 0.15),
    "attention": (attention, 0.3),
    "compiled": (compiled, 0.1),
    "counting": (counting, 0.05),
}


def changed(certificate: Certificate, pick: np.random.Generator) -> Certificate:
    """The certificate with one thing said otherwise."""
    other = Assumption("the moon is full", True)
    said = {
        "claim": f"{certificate.claim} Always.",
        "side": Side.EXACT if certificate.side is not Side.EXACT else Side.UPPER,
        "assumptions": (*certificate.assumptions, other),
        "theorem": "mixture-identity",
        "sample": "all there are",
        "confidence": 0.99,
    }
    name = str(pick.choice(list(said)))
    return dataclasses.replace(certificate, **{name: said[name]})


def run(seconds: float, seed: int) -> dict[str, dict[str, object]]:
    """Every kind for its share of the time."""
    results = {}
    for number, (kind, (draw, share)) in enumerate(KINDS.items()):
        counts: dict[str, int] = defaultdict(int)
        largest, failures, index, end = 0.0, [], 0, time.monotonic() + seconds * share
        while time.monotonic() < end:
            pick = np.random.default_rng([seed, number, index])
            try:
                found = draw(pick)
            except (InputError, NotContractingError):
                found = []
            counts["refused"] += not found
            for certificate, reached in found:
                counts["certificates"] += 1
                confirmed = certificate.evidence is Evidence.PROVED and certificate.recheck()
                passed = changed(certificate, pick).recheck()
                broken = False
                if reached is not None:
                    counts["attacked"] += 1
                    least, most = (reached, certificate.value)[:: -1 if certificate.side is Side.LOWER else 1]
                    broken = least > most
                    largest = max(largest, float(least) / float(most) if most and math.isfinite(least) else 0.0)
                counts["violations"] += broken
                counts["not_confirmed"] += not confirmed
                counts["changed_but_passed"] += passed
                if broken or passed or not confirmed:
                    failures.append(index)
            index += 1
        results[kind] = dict(counts) | {"draws": index, "largest_ratio": largest, "drawn_again": failures[:20]}
        print(kind, json.dumps(results[kind]), flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kinds = run(options.seconds, options.seed)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    names = ("certificates", "attacked", "violations", "not_confirmed", "changed_but_passed")
    totals = {name: sum(int(kind.get(name, 0)) for kind in kinds.values()) for name in names}  # type: ignore[call-overload]
    config = {"seconds": options.seconds, "seed": options.seed}
    record = {"config": config, "torch": torch.__version__, "device": f"cpu, {platform.machine()}", "commit": commit}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record | {"totals": totals, "kinds": kinds}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
