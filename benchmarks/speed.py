"""Whether what ran before has become slower: this tree beside an earlier commit of it, in turns, on the same machine.

    python benchmarks/speed.py [--before 58596f9] [--repeats 5] [--out benchmarks/results/speed.json]

For MiniLM and a random Llama of SmolLM2-135M's sizes (six of its layers, one thread): runs of 10 steps of 8 rows with
prompt, prefix and LoRA, their scores included; a forward pass behind a prompt that was precomputed, over the bare
model's; and almost-linear attention of one head. Runs are told per 1,000 positions through the first layer, of which
one that is trained on counts three times: other batches end a run at another step, so whole runs do not compare.
Every repeat is a fresh process for each tree; processor seconds, medians of the repeats, and their ratio. Times on a
machine that is shared scatter: `spread` says by how much.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "speed.json"
MOST = 1.05
STEPS, PASSES = 10, 9


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds of this process; on a shared machine the wall clock tells of others."""
    began = time.process_time()
    work()
    return time.process_time() - began


def measure() -> dict[str, float]:
    """The seconds of one process, of whatever tree is on its path."""
    sys.path.insert(0, str(ROOT / "tests"))
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from helpers.models import minilm_folder
    from promptreach.hf import open_model, precompute
    from promptreach.inference import attend
    from promptreach.prompt import SoftPrompt
    from promptreach.tuning import Limits, fit

    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(0)
    words = ["good", "bad", "film", "book", "was", "is", "very", "not", "a", "the", "and", "but"]
    texts = [" ".join(words[i] for i in torch.randint(12, (24,), generator=draw)) for _ in range(120)]
    rows = [{"text": text, "label": str(text.split()[0] < "c")} for text in texts]
    encoder = open_model(minilm_folder())
    tokenizer = encoder.tokenizer
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    sizes = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 6}
    heads = {"num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": len(tokenizer)}
    torch.manual_seed(0)
    decoder = open_model(LlamaForCausalLM(LlamaConfig(**sizes, **heads)), tokenizer=tokenizer)
    found = {}
    positions = [0]

    def count(layer: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        positions[0] += given[0].shape[0] * given[0].shape[1] * (3 if torch.is_grad_enabled() else 1)

    for model in (encoder, decoder):
        first = next(part for part in model.release().modules() if isinstance(part, torch.nn.ModuleList))[0]
        first.register_forward_pre_hook(count)
    for name, model in (("MiniLM", encoder), ("Llama", decoder)):
        for method in ("prompt", "prefix", "lora"):
            options: dict[str, Any] = {"learning_rate": 1e-3, "steps": STEPS, "batch_size": 8, "quiet": True}
            limits = Limits(60, 16, 16, 32)
            positions[0] = 0
            taken = seconds(
                lambda model=model, method=method, options=options, limits=limits: fit(
                    model, rows, method, limits=limits, **options
                )
            )
            found[f"{name}, {method}"] = 1000 * taken / positions[0]
    ids = torch.randint(len(tokenizer), (4, 64), generator=draw)
    cache = precompute(decoder, SoftPrompt(decoder.vocabulary[:16].clone()))
    with torch.no_grad():
        module = decoder.release()
        turns = [(seconds(lambda: module(ids)), seconds(lambda: module(**cache.inputs(ids)))) for _ in range(PASSES)]
    bare, behind = (statistics.median(times) for times in zip(*turns, strict=True))
    found |= {"bare": bare, "precomputed": behind, "precomputed over bare": behind / bare}
    query, key, value = (0.3 * torch.randn(1, 4096, 32, generator=draw) for _ in range(3))
    found["attend"] = seconds(lambda: attend(query, key, value, tol=1e-2))
    return found


def in_tree(source: Path) -> dict[str, float]:
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    call = [sys.executable, __file__, "--measure"]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def compared(before: str, repeats: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", before, "src"], cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        runs: dict[str, list[dict[str, float]]] = {"before": [], "now": []}
        for _ in range(repeats):
            runs["before"].append(in_tree(Path(folder) / "src"))
            runs["now"].append(in_tree(ROOT / "src"))
            print(json.dumps({tree: some[-1] for tree, some in runs.items()}), file=sys.stderr, flush=True)
    rows: dict[str, Any] = {}
    for name in runs["now"][0]:
        times = {tree: [run[name] for run in some] for tree, some in runs.items()}
        middle = {tree: statistics.median(some) for tree, some in times.items()}
        spread = max((max(some) - min(some)) / middle[tree] for tree, some in times.items())
        rows[name] = {**middle, "ratio": middle["now"] / middle["before"], "spread": spread}
    return {"before": before, "repeats": repeats, "unit": "processor seconds", "aim": MOST, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default="58596f9", help="the commit that is the measure")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure()))
        return
    found = compared(given.before, given.repeats)
    given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
