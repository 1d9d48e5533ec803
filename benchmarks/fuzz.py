"""Mutated inputs of every format, for as long as one lets it: does each end in a named error or in a result?

    OMP_NUM_THREADS=1 PYTHONPATH=tests python benchmarks/fuzz.py
        [--inputs 100000] [--hours H] [--seed 0] [--out JSON]

The inputs and what they may end in are those of ``tests/helpers/fuzzing.py``; the suite tries some hundreds of them.
What is wrong is written to ``tests/fuzz/seeds``, one file each kind of end, so that the suite tries it from then on.
The result is written every thousand inputs: per format how many were tried, how they ended, and the slowest.
"""

import argparse
import hashlib
import json
import re
import resource
import tempfile
import time
from collections import Counter
from itertools import islice
from pathlib import Path

from helpers.fuzzing import TARGETS, Fuzzer, Outcome, as_seed, numbers

SEEDS = Path(__file__).parents[1] / "tests" / "fuzz" / "seeds"
ADDRESS_SPACE = 24 * 2**30
"""Bytes that this process may map: a bomb ends in an error and not in the machine."""


def kind_of(outcome: Outcome) -> str:
    """The end without what differs between two inputs of one fault."""
    end = re.sub(r"""[0-9]+|`.*`|"[^"]*"|'[^']*'""", "#", outcome.end)
    return f"{outcome.target} {outcome.file} {end[:80]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--hours", type=float, default=1e9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/fuzz.json"))
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    began, ends, slowest, wrong = time.monotonic(), {name: Counter() for name in TARGETS}, Counter(), {}

    def write() -> None:
        tried = sum(found.total() for found in ends.values())
        result = {
            "inputs": tried,
            "wrong": sum(found["wrong"] for found in ends.values()),
            "kinds_of_wrong_ends": sorted(wrong),
            "seed": args.seed,
            "seconds": round(time.monotonic() - began),
            "formats": {name: {**found, "slowest_seconds": round(slowest[name], 3)} for name, found in ends.items()},
        }
        args.out.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
        print(tried, result["wrong"], flush=True)

    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(Path(folder))
        for index, (name, number) in enumerate(islice(numbers(args.seed), args.inputs), start=1):
            outcome = fuzzer.one(name, number)
            ends[name]["wrong" if outcome.is_wrong else outcome.end] += 1
            slowest[name] = max(slowest[name], outcome.seconds)
            if outcome.is_wrong and kind_of(outcome) not in wrong:
                wrong[kind_of(outcome)] = number
                SEEDS.mkdir(exist_ok=True)
                digest = hashlib.sha256(kind_of(outcome).encode()).hexdigest()[:8]
                (SEEDS / f"{name}-{digest}.json").write_text(as_seed(outcome) + "\n")
                print(name, outcome.file, number, outcome.end, flush=True)
            if index % 1000 == 0 or index == args.inputs:
                write()
            if time.monotonic() - began > 3600 * args.hours:
                break
        write()


if __name__ == "__main__":
    main()
