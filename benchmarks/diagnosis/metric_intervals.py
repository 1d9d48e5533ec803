"""How often the 90 % interval of a paired difference holds the true one, for every metric of labels and of texts.

    python benchmarks/diagnosis/metric_intervals.py                    2,000 tables a metric
    python benchmarks/diagnosis/metric_intervals.py --tables 100       a reduced run
    python benchmarks/diagnosis/metric_intervals.py --metrics exact_match token_f1 rouge_l chrf \
        --out benchmarks/results/text_metric_intervals.json            those of written answers

Two methods answer the same rows, each wrong on a share of its own, half of it on the same rows; labels are two or
three, one of them rare; of a written answer that is wrong a part is right all the same. The true difference is that of
a table of two million rows.

Config in (the options), JSON out (benchmarks/results/metric_intervals.json): per metric the share of tables whose
interval holds the truth, and their mean width.
"""

import argparse
import json
import platform
from pathlib import Path

import torch

from promptreach import __version__
from promptreach.diagnosis.measures.comparison import paired
from promptreach.diagnosis.measures.metrics import BINARY, LABEL_METRICS, score
from promptreach.training.task.objective import Outcomes
from promptreach.training.task.text_metrics import TEXT_METRICS

TRUTH_ROWS = 2_000_000
RARE = 0.2
"""The share of rows of the last label."""


def table(seed: int, rows: int, classes: int) -> tuple[Outcomes, Outcomes]:
    """The outcomes of two methods on the same rows."""
    generator = torch.Generator().manual_seed(seed)
    shares = torch.full((classes,), (1 - RARE) / (classes - 1))
    shares[-1] = RARE
    true = torch.multinomial(shares, rows, replacement=True, generator=generator)
    shared = torch.randn(rows, generator=generator)
    found = []
    for shift in (1.6, 1.2):
        own = torch.randn(rows, generator=generator)
        # A logit of being right: half of its noise is the row's, the other half the method's.
        logit = shift + (shared + own) / 2**0.5
        other = (true + 1 + torch.randint(classes - 1, (rows,), generator=generator)) % classes
        given = torch.where(logit > 0, true, other)
        ones = torch.ones(rows)
        scores = logit * (2 * true - 1) if classes == 2 else None
        found.append(Outcomes(ones, ones, (given == true).float(), given.float(), true.float(), scores))
    return found[0], found[1]


def written(seed: int, rows: int, metric: str) -> tuple[Outcomes, Outcomes]:
    """The written answers of two methods on the same rows, as the numbers that a metric adds up."""
    generator = torch.Generator().manual_seed(seed)
    wanted = torch.randint(5, 40, (rows,), generator=generator).double()
    shared = torch.randn(rows, generator=generator)
    found = []
    for shift in (0.9, 0.5):
        logit = shift + (shared + torch.randn(rows, generator=generator)) / 2**0.5
        share = torch.where(logit > 0, 1.0, 0.8 * torch.rand(rows, generator=generator)).double()
        judged = share[:, None]
        if metric == "exact_match":
            judged = (share == 1.0).double()[:, None]
        if metric == "chrf":
            given = torch.where(share == 1.0, wanted, (wanted * (0.5 + torch.rand(rows, generator=generator))).ceil())
            orders = torch.arange(6).double()
            counts = [(size[:, None] - orders).clamp(min=0) for size in (given, wanted)]
            counts[0] = torch.where(counts[1] > 0, counts[0], 0.0)
            both = (share[:, None] ** (1 + orders) * torch.minimum(*counts)).floor()
            judged = torch.stack([*counts, both], -1).flatten(1)
        ones = torch.ones(rows)
        found.append(Outcomes(ones, ones, ones, judged=judged))
    return found[0], found[1]


def drawn(seed: int, rows: int, metric: str) -> tuple[Outcomes, Outcomes]:
    """The table of a metric."""
    if metric in TEXT_METRICS:
        return written(seed, rows, metric)
    return table(seed, rows, 2 if metric in BINARY else 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--metrics", nargs="+", default=list(LABEL_METRICS), choices=(*LABEL_METRICS, *TEXT_METRICS))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/metric_intervals.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for metric in args.metrics:
        classes = 0 if metric in TEXT_METRICS else 2 if metric in BINARY else 3
        whole = drawn(10**6, TRUTH_ROWS, metric)
        truth = score(metric, whole[0]) - score(metric, whole[1])
        intervals = [paired(*drawn(seed, args.rows, metric), metric) for seed in range(args.tables)]
        covered = sum(one.low <= truth <= one.high for one in intervals) / len(intervals)
        width = sum(one.high - one.low for one in intervals) / len(intervals)
        found[metric] = {"classes": classes, "truth": truth, "covered": covered, "mean_width": width}
        print(f"{metric:18} covered {covered:.3f} of {len(intervals):,}, width {width:.3f}", flush=True)
    about = {"version": __version__, "torch": torch.__version__, "python": platform.python_version()}
    result = {"config": {"tables": args.tables, "rows": args.rows}, **about, "metrics": found}
    args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
