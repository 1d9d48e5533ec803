"""The memory that an audit's plan predicts, beside the most that its training took: fresh processes on a CPU.

    python benchmarks/memory.py [NAME ...] [--out benchmarks/results/memory.json]

Each case is a random model, rows of random words and one method. One process makes the plan (`dry_run=True`) and trains
nothing; another trains a run of a few steps on the same rows and tells its peak resident memory.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "memory.json"
CASES: dict[str, dict[str, Any]] = {
    "small, prompt": {"hidden": 256, "layers": 6, "words": 60, "batch": 32, "method": "prompt"},
    "small, lora": {"hidden": 256, "layers": 6, "words": 60, "batch": 32, "method": "lora"},
    "small, prompt, 4 slices": {"hidden": 256, "layers": 6, "words": 60, "batch": 32, "method": "prompt"},
    "medium, prompt": {"hidden": 512, "layers": 8, "words": 120, "batch": 32, "method": "prompt"},
    "medium, prefix": {"hidden": 512, "layers": 8, "words": 120, "batch": 32, "method": "prefix"},
    "medium, lora": {"hidden": 512, "layers": 8, "words": 120, "batch": 32, "method": "lora"},
    "medium, prompt, checkpointing": {"hidden": 512, "layers": 8, "words": 120, "batch": 32, "method": "prompt"},
    "medium, prompt, 4 slices": {"hidden": 512, "layers": 8, "words": 120, "batch": 32, "method": "prompt"},
}


def work(name: str, kind: str) -> int:
    """Bytes: predicted by the plan, or taken by the run."""
    sys.path.insert(0, str(ROOT / "tests"))
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from helpers.models import WORDS, tiny_tokenizer
    from promptreach import audit
    from promptreach.hf import open_model
    from promptreach.tuning import Limits, fit

    case = CASES[name]
    torch.manual_seed(0)
    sizes = {"hidden_size": case["hidden"], "intermediate_size": 4 * case["hidden"], "vocab_size": 64}
    heads = {"num_attention_heads": 8, "num_key_value_heads": 8, "num_hidden_layers": case["layers"]}
    module = LlamaForCausalLM(LlamaConfig(**sizes, **heads, max_position_embeddings=512))
    model = open_model(module, tokenizer=tiny_tokenizer("llama"), gradient_checkpointing="checkpointing" in name)
    draw = torch.Generator().manual_seed(1)
    texts = [[WORDS[i] for i in torch.randint(len(WORDS), (case["words"],), generator=draw)] for _ in range(240)]
    rows = [{"text": " ".join(text), "label": text[0] < "c"} for text in texts]
    slices = 4 if "slices" in name else 1
    if kind == "plan":
        options = {"tokens": 16, "steps": 3, "batch_size": case["batch"], "max_length": 128}
        plan = audit(model, rows, dry_run=True, methods=[case["method"]], accumulate=slices, **options)
        return plan.memory_bytes
    limits = Limits(144, 32, 64, 128)
    options = {"tokens": 16, "learning_rate": 1e-3, "steps": 3, "batch_size": case["batch"], "quiet": True}
    fit(model, rows, case["method"], limits=limits, accumulate=slices, **options)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def told(name: str, kind: str) -> int:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    call = [sys.executable, __file__, name, "--work", kind]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return int(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="cases; none takes all")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        print(work(given.names[0], given.work))
        return
    rows = json.loads(given.out.read_text()) if given.names and given.out.exists() else {}
    for name in given.names or CASES:
        predicted, taken = told(name, "plan"), told(name, "run")
        rows[name] = {"predicted": predicted, "taken": taken, "ratio": predicted / taken}
        print(name, json.dumps(rows[name]), file=sys.stderr, flush=True)
        given.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
