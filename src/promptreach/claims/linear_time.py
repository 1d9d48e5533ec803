"""B5: almost-linear attention inside the criterion: time against length, with the error beside it."""

import math
from functools import partial

import torch
from torch import Tensor

from promptreach.certificate import Evidence
from promptreach.claims.claim import Claim, ClaimVerdict, Hypothesis, Outcome, Setting
from promptreach.claims.experiments import timed
from promptreach.fast_attention.attend import attend
from promptreach.fast_attention.measure import range_error, value_range
from promptreach.report.findings import Cell, Curve, Series, Table, Text

HEAD_DIM, TOL = 8, 1e-3
SUBQUADRATIC = 1.5
"""An exponent of time against length, below which growth is not quadratic, timing noise included."""


def run(setting: Setting) -> Outcome:
    """Certified polynomial attention and exact attention at growing lengths, queries and keys a quarter of normal."""
    lengths = setting.pick((4096, 8192, 16384), (8192, 16384, 32768, 65536, 131072))
    repeats = 3  # the median of fewer would be at the mercy of one hiccup
    rows: list[list[Cell]] = []
    fast, exact, kept = [], [], True
    for length in setting.followed(lengths, "lengths"):
        query, key, value = inside_criterion(length, setting.seed)
        seconds, (output, report) = timed(partial(attend, query, key, value, TOL, "polynomial"), repeats)
        slow, (truth, _) = timed(partial(attend, query, key, value, TOL, "exact"), repeats)
        error = range_error(output, truth, value_range(value))
        trivial = range_error(value.mean(dim=0).expand_as(truth), truth, value_range(value))
        kept &= error <= report.error.value <= TOL
        fast.append(seconds)
        exact.append(slow)
        rows.append([length, seconds, slow, slow / seconds, error, report.error.value, trivial])
    exponents = [_exponent(lengths, times) for times in (fast, exact)]
    return Outcome(
        verdict=ClaimVerdict.HOLDS,
        because=f"Inside the criterion time grows like n^{exponents[0]:.2f} over these lengths, at which fixed costs "
        f"still weigh (exact attention: n^{exponents[1]:.2f}), at a certified range error of at most {TOL:g}; at "
        f"n = {lengths[-1]:,} it is {rows[-1][3]:.0f} times faster. The case is easy: answering the mean of the values "
        f"everywhere errs by {rows[-1][6]:.2g} of their range.",
        evidence=Evidence.MEASURED,
        conditions={
            "every error within its certificate and every certificate within the tolerance": kept,
            f"an exponent below {SUBQUADRATIC}": exponents[0] < SUBQUADRATIC,
        },
        hypotheses=(
            Hypothesis.checked(
                "entries of queries and keys small next to sqrt(log n)",
                f"normal entries times 1/4; sqrt(log n) is {math.log(lengths[-1]) ** 0.5:.1f}",
            ),
            Hypothesis.checked("head size of the order of log n", f"{HEAD_DIM}"),
            Hypothesis.declared(
                "n to infinity with unspecified constants", "an exponent over a few lengths is fitted instead"
            ),
        ),
        numbers={
            "lengths": list(lengths),
            "seconds": fast,
            "exact_seconds": exact,
            "exponent": exponents[0],
            "exact_exponent": exponents[1],
            "errors": [row[4] for row in rows],
            "certified": [row[5] for row in rows],
            "trivial": [row[6] for row in rows],
        },
        figure=Curve(
            title="Time against length, inside the criterion",
            x_label="tokens",
            y_label="seconds",
            log_x=True,
            log_y=True,
            series=[
                Series(name="exact attention", x=list(lengths), y=exact),
                Series(name=f"polynomial, certified to {TOL:g}", x=list(lengths), y=fast),
            ],
            note=f"Head size {HEAD_DIM}; medians of {repeats}; planning and certifying included.",
        ),
        blocks=(
            Table(
                title="Length by length",
                columns=[
                    "tokens",
                    "seconds",
                    "exact",
                    "times faster",
                    "range error",
                    "certified",
                    "mean of the values",
                ],
                rows=rows,
            ),
            Text(text="The full benchmark with memory and baselines: benchmarks/inference/criterion.py."),
        ),
    )


def inside_criterion(length: int, seed: int, size: float = 0.25) -> tuple[Tensor, Tensor, Tensor]:
    """Normal queries, keys and values, queries and keys times `size`."""
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (torch.randn(length, HEAD_DIM, generator=generator) for _ in range(3))
    return size * query, size * key, value


def _exponent(lengths: tuple[int, ...], seconds: list[float]) -> float:
    """The slope of log time over log length, by least squares."""
    x, y = (torch.tensor(values, dtype=torch.float64).log() for values in (lengths, seconds))
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / (x * x).sum())


CLAIM = Claim(
    key="B5",
    title="Almost-linear inference inside the criterion",
    source="Hu et al. 2025, Theorem 3.2",
    statement="When the entries of queries and keys stay below sqrt(log n), prompt inference is approximated to any "
    "polynomially small error in almost linear time.",
    run=run,
)
