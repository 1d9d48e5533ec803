"""How often the 90 % interval of a paired difference holds the true one, for every metric.

    python benchmarks/diagnosis/metric_intervals.py                    2,000 tables a metric
    python benchmarks/diagnosis/metric_intervals.py --tables 100       a reduced run
    python benchmarks/diagnosis/metric_intervals.py --kinds number     one kind of task; the others stay as they were
    python benchmarks/diagnosis/metric_intervals.py --kinds completions \
        --out benchmarks/results/text_metric_intervals.json            those of written answers

Two methods answer the same rows, each wrong on a share of its own, half of it on the same rows; labels are two or
three, one of them rare, or four of which any may be on a row; of a written answer that is wrong a part is right all the
same; entities are counted by text. Numbers are rounded to quarters and guessed with two errors that are alike by half.
The true difference is that of a table of two million rows.

Config in (the options), JSON out (benchmarks/results/metric_intervals.json): per metric the share of tables whose
interval holds the truth, and their mean width.
"""

import argparse
import json
import platform
from dataclasses import replace
from pathlib import Path

import torch

from promptreach import __version__
from promptreach.diagnosis.measures.comparison import paired
from promptreach.training.task.kinds.registry import KINDS
from promptreach.training.task.metric_names import BINARY, TEXT_METRICS
from promptreach.training.task.metrics import score
from promptreach.training.task.objective import Outcomes

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


def sets(seed: int, rows: int) -> tuple[Outcomes, Outcomes]:
    """Four labels, each on a share of the rows of its own, told by two methods."""
    generator = torch.Generator().manual_seed(seed)
    true = (torch.rand(rows, 4, generator=generator) < torch.tensor([0.5, 0.3, 0.2, 0.1])).float()
    shared, ones, found = torch.randn(rows, 4, generator=generator), torch.ones(rows), []
    for shift in (1.6, 1.2):
        own = torch.randn(rows, 4, generator=generator)
        given = torch.where(shift + (shared + own) / 2**0.5 > 0, true, 1 - true)
        found.append(Outcomes(ones, ones, (given == true).all(1).float(), given, true))
    return found[0], found[1]


def numbers(seed: int, rows: int) -> tuple[Outcomes, Outcomes]:
    """Numbers from 0 to 5, and two guesses at them."""
    generator = torch.Generator().manual_seed(seed)
    true = (5 * torch.rand(rows, generator=generator) * 4).round() / 4
    shared, ones, found = torch.randn(rows, generator=generator), torch.ones(rows), []
    for error in (0.8, 1.0):
        own = torch.randn(rows, generator=generator)
        given = true + error * (shared + own) / 2**0.5
        found.append(Outcomes(ones, ones, ones * torch.nan, given, true))
    return found[0], found[1]


def entities(seed: int, rows: int) -> tuple[Outcomes, Outcomes]:
    """Texts of up to six entities, each of which two methods find or miss, and up to two that they make up."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.randint(0, 7, (rows,), generator=generator)
    there, shared = torch.arange(6) < true[:, None], torch.randn(rows, 1, generator=generator)
    ones, found = torch.ones(rows), []
    for shift in (1.4, 1.0):
        hits = (shift + (shared + torch.randn(rows, 6, generator=generator)) / 2**0.5 > 0) & there
        told = hits.sum(1) + torch.randint(0, 3, (rows,), generator=generator)
        found.append(Outcomes(ones, ones, ones, parts=torch.stack([hits.sum(1), told, true], 1).float()))
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


def exact(outcomes: Outcomes) -> Outcomes:
    """The same answers, right where they share all their words with the true one."""
    assert outcomes.judged is not None
    return replace(outcomes, right=(outcomes.judged[:, 0] == 1.0).float())


def drawn(kind: str, metric: str, seed: int, rows: int) -> tuple[Outcomes, Outcomes]:
    """The outcomes of two methods on rows of that kind."""
    if kind == "completions":
        return written(seed, rows, metric)
    if kind == "labels":
        return table(seed, rows, 2 if metric in BINARY else 3)
    if kind == "span":
        first, second = written(seed, rows, "token_f1")
        return exact(first), exact(second)
    made = {"several_labels": sets, "number": numbers, "tags": entities}
    return made[kind](seed, rows)


CASES = [(kind.name, metric) for kind in KINDS.values() for metric in kind.metrics if kind.name != "tags"]
CASES += [("tags", "entity_f1"), *(("completions", metric) for metric in TEXT_METRICS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--kinds", nargs="+", default=[*KINDS, "completions"], choices=[*KINDS, "completions"])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/metric_intervals.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = json.loads(args.out.read_text(encoding="utf-8"))["metrics"] if args.out.exists() else {}
    for kind, metric in CASES:
        if kind not in args.kinds:
            continue
        whole = drawn(kind, metric, 10**6, TRUTH_ROWS)
        truth = score(metric, whole[0]) - score(metric, whole[1])
        intervals = [paired(*drawn(kind, metric, seed, args.rows), metric) for seed in range(args.tables)]
        covered = sum(one.low <= truth <= one.high for one in intervals) / len(intervals)
        width = sum(one.high - one.low for one in intervals) / len(intervals)
        name = metric if kind in ("labels", "completions") else f"{kind}: {metric}"
        found[name] = {"truth": truth, "covered": covered, "mean_width": width}
        print(f"{name:26} covered {covered:.3f} of {len(intervals):,}, width {width:.3f}", flush=True)
    about = {"version": __version__, "torch": torch.__version__, "python": platform.python_version()}
    result = {"config": {"tables": args.tables, "rows": args.rows}, **about, "metrics": found}
    args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
