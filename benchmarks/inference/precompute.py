"""Time to the first token with a precomputed prompt, beside the bare model and PEFT's own path, on SmolLM2-135M.

    python benchmarks/inference/precompute.py                       the full run (a few minutes on two cores)
    python benchmarks/inference/precompute.py --batches 1 --repeats 3 --kinds first

Config in (the options), JSON out (benchmarks/results/inference_precompute.json). Before any speed: the logits agree
with PEFT's within 1e-5 relative and every next-token choice is the same, or nothing is timed. Roads take turns within
each repeat, and medians are compared within one run.

Kinds of call: *first*, one forward pass with logits for the last position only, as generation does it; *generate*,
transformers' and PEFT's `generate` for one new token; *forward*, one pass with logits everywhere. Roads: *bare*, the
model without a prompt, which no prompt can beat; *peft*; *ours*; *copied*, transformers' DynamicCache filled with a
copy of the same keys and values per call.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from torch import Tensor
from transformers import DynamicCache

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from helpers.models import smollm2_file
from promptreach.hf import OpenModel, PromptCache, open_model, precompute, save_adapter
from promptreach.prompt import SoftPrompt

RESULT = Path(__file__).parents[1] / "results" / "inference_precompute.json"
KINDS = ("first", "generate", "forward")
LOGITS, OVER_BARE, UNDER_PEFT = 1e-5, 1.1, {1: 2.7, 8: 3.2}

Roads = dict[str, Callable[[], Tensor]]


def roads(kind: str, module: Any, theirs: Any, cache: PromptCache, ids: Tensor) -> Roads:
    """What is timed, by road."""

    def run(model: Any, **inputs: Any) -> Tensor:
        if kind == "generate":
            return model.generate(**inputs, max_new_tokens=1, min_new_tokens=1, do_sample=False, pad_token_id=0)
        return model(**inputs, logits_to_keep=1 if kind == "first" else 0).logits

    def copied() -> Tensor:
        inputs = cache.inputs(ids)
        pairs = zip(cache.prefix.keys, cache.prefix.values, strict=True)
        inputs["past_key_values"] = DynamicCache(
            [tuple(part[None].repeat(len(ids), 1, 1, 1) for part in pair) for pair in pairs]
        )
        return run(module, **inputs)

    ones = torch.ones_like(ids)
    return {
        "bare": lambda: run(module, input_ids=ids, attention_mask=ones, use_cache=True),
        "peft": lambda: run(theirs, input_ids=ids, attention_mask=ones, use_cache=True),
        "ours": lambda: run(module, **cache.inputs(ids)),
        "copied": copied,
    }


def gate(module: Any, theirs: Any, cache: PromptCache, ids: Tensor) -> dict[str, Any]:
    """How far our logits are from PEFT's at the content's positions."""
    expected = theirs(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, -ids.shape[1] :]
    actual = module(**cache.inputs(ids)).logits
    return {
        "relative_error": float((actual - expected).norm() / expected.norm()),
        "largest_error": float((actual - expected).abs().max() / expected.abs().max()),
        "same_choices": bool((actual.argmax(-1) == expected.argmax(-1)).all()),
    }


def timed(ways: Roads, repeats: int) -> dict[str, float]:
    """Median seconds by road, the roads taking turns; one round before the clock starts."""
    seconds: dict[str, list[float]] = {road: [] for road in ways}
    for repeat in range(repeats + 1):
        for road, call in ways.items():
            start = time.perf_counter()
            call()
            if repeat:
                seconds[road].append(time.perf_counter() - start)
    return {road: statistics.median(values) for road, values in seconds.items()}


@torch.no_grad()
def measure(model: OpenModel, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(arguments.seed)
    vocabulary = len(model.vocabulary)
    rows = torch.randint(vocabulary, (arguments.prompt,), generator=generator)
    noise = torch.randn(arguments.prompt, model.hidden_size, generator=generator)
    prompt = SoftPrompt(model.vocabulary[rows] + 0.01 * noise)
    with tempfile.TemporaryDirectory() as folder:
        save_adapter(Path(folder) / "adapter", model, prompt)
        theirs = peft.PeftModel.from_pretrained(model.release(), str(Path(folder) / "adapter")).eval()
    start = time.perf_counter()
    cache = precompute(model, prompt)
    once = time.perf_counter() - start
    results = []
    for batch in arguments.batches:
        ids = torch.randint(vocabulary, (batch, arguments.tokens), generator=generator)
        agreement = gate(model.release(), theirs, cache, ids)
        if agreement["relative_error"] > LOGITS or not agreement["same_choices"]:
            raise SystemExit(f"batch {batch}: logits differ from PEFT's, no speed is printed: {agreement}")
        for kind in arguments.kinds:
            seconds = timed(roads(kind, model.release(), theirs, cache, ids), arguments.repeats)
            result = {
                "batch": batch,
                "kind": kind,
                **agreement,
                "seconds": seconds,
                "precompute_seconds_once": once,
                "over_bare": seconds["ours"] / seconds["bare"],
                "peft_over_ours": seconds["peft"] / seconds["ours"],
                "peft_over_bare": seconds["peft"] / seconds["bare"],
                "within_limit": seconds["ours"] <= OVER_BARE * seconds["bare"],
                "target": UNDER_PEFT.get(batch),
            }
            results.append(result)
            print(
                f"batch {batch}, {kind}: {result['over_bare']:.3f} x bare, PEFT {result['peft_over_ours']:.2f} x ours "
                f"(limit {result['peft_over_bare']:.2f}); logits within {agreement['relative_error']:.1e}",
                flush=True,
            )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None, help="folder or hub id; default SmolLM2-135M from its package")
    parser.add_argument("--prompt", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(arguments.threads)
    results = measure(open_model(arguments.model or smollm2_file()), arguments)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    record = {
        "config": {key: value.name if isinstance(value, Path) else value for key, value in vars(arguments).items()},
        "environment": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
            "machine": platform.machine(),
            "commit": commit,
        },
        "results": results,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
