"""What works on every family of text models that transformers can build: tiny random models, nothing downloaded.

    python benchmarks/families.py [NAME ...] [--out benchmarks/results/families.json]

Measured for each: whether a prompt, a prefix and LoRA train (one step), how far their answers are from a `PeftModel`
with the same saved folder, whether captured attention written out gives what the model's own attention gives, whether
looking on changes a bit, and whether a prompt computed once gives what the prompt in front gives.
"""

import argparse
import json
import platform
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from helpers.families import family_names, small_module
from helpers.reach import reach_of
from promptreach.errors import PromptreachError

RESULTS = Path(__file__).parent / "results" / "families.json"


def measured(names: list[str]) -> dict[str, Any]:
    """One record a family that builds; of one that does not, the kind of error."""
    families: dict[str, Any] = {}
    not_built: dict[str, str] = {}
    refused: dict[str, str] = {}
    for name in names:
        began = time.perf_counter()
        try:
            module = small_module(name)
        except Exception as error:  # a config that does not go with small sizes, or a missing package
            not_built[name] = str(error).strip().partition("\n")[0] or type(error).__name__
            continue
        try:
            families[name] = reach_of(module, name)
        except PromptreachError as error:
            refused[name] = str(error)
        print(f"{name}: {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)
    return {
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
        "families": families,
        "refused": refused,
        "not_built": not_built,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="families; none takes all")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    found = measured(given.names or list(family_names()))
    if given.names and given.out.exists():  # the others stay as they are
        before = json.loads(given.out.read_text(encoding="utf-8"))
        for part in ("families", "refused", "not_built"):
            kept = {name: row for name, row in before[part].items() if name not in given.names}
            found[part] = kept | found[part]
    given.out.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
