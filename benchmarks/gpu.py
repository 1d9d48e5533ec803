"""What a machine with a GPU is asked, in under eight minutes; not yet run on one.

    python benchmarks/gpu.py            on a GPU; benchmarks/results/gpu.json
    python benchmarks/gpu.py --tiny     a rehearsal on any machine: everything runs, small, and nothing is written

Three parts: the suite's tests that need an accelerator, the demo, and steps of prompt, prefix and LoRA on a random
Llama of a billion parameters in bfloat16, with and without gradient checkpointing, beside the same steps by PEFT and
the Trainer of transformers: seconds a step and peak memory, medians of three measurements that take turns.
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
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from helpers.models import WORDS, tiny_tokenizer
from promptreach import audit
from promptreach.audit.step_cost import step_cost
from promptreach.hf import OpenModel, open_model
from promptreach.tables import read_task
from promptreach.training.methods.methods import METHODS
from promptreach.training.runs import RunConfig
from promptreach.training.task.limits import Limits
from promptreach.training.task.task import Task, prepare

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "gpu.json"
TOKENS, RANK = 16, 8
REPEATS = 3
BILLION = {
    **{"vocab_size": 32_000, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16},
    **{"num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 2048},
}
TINY = {
    **{"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256},
}


def model_of(tiny: bool, device: str, checkpointing: bool) -> OpenModel:
    """The random Llama, opened; its words are those of the tests' tokenizer."""
    torch.manual_seed(0)
    dtype = torch.float32 if tiny else torch.bfloat16
    with torch.device(device):
        module = LlamaForCausalLM._from_config(LlamaConfig(**(TINY if tiny else BILLION)), dtype=dtype)
    tokenizer = tiny_tokenizer("llama")
    tokenizer.eos_token = "[SEP]"
    return open_model(module, tokenizer=tokenizer, task="causal", gradient_checkpointing=checkpointing)


def rows(count: int, words: int) -> list[dict[str, str]]:
    """Completions that repeat their prompt's first words."""
    draw = torch.Generator().manual_seed(1)
    chosen = [[WORDS[i] for i in torch.randint(len(WORDS), (words,), generator=draw)] for _ in range(count)]
    return [{"prompt": " ".join(text), "completion": " ".join(text[:4])} for text in chosen]


def task_on(model: OpenModel, tiny: bool) -> Task:
    """Rows of 20 tokens in a rehearsal, of 260 else."""
    data = rows(40 if tiny else 200, 16 if tiny else 255)
    return prepare(model, read_task(data), limits=Limits(100, 20, 20, 300), longest_prompt=TOKENS)


def config_of(method: str, batch: int) -> RunConfig:
    sizes = {"tokens": TOKENS, "rank": RANK, "bottleneck": 0}
    own = {name: size if name in METHODS[method].sizes else 0 for name, size in sizes.items()}
    return RunConfig(
        method=method, init=METHODS[method].inits[0], learning_rate=1e-3, steps=10, batch_size=batch, **own
    )


class Peak:
    """The most memory that was taken on the accelerator in a block; 0 on a CPU."""

    def __enter__(self) -> "Peak":
        self.bytes = 0
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        return self

    def __exit__(self, *error: object) -> None:
        if torch.cuda.is_available():
            self.bytes = torch.cuda.max_memory_allocated()


def peer_step(task: Task, method: str, batch: int, steps: int, checkpointing: bool) -> float:
    """Seconds a step of PEFT and the Trainer, on the same rows and the same module."""
    kinds = {
        "prompt": peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=TOKENS),
        "prefix": peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=TOKENS),
        "lora": peft.LoraConfig(
            task_type="CAUSAL_LM", r=RANK, lora_alpha=2 * RANK, target_modules=["q_proj", "v_proj"]
        ),
    }
    data = task.encoded["train"]
    examples = [
        {"input_ids": list(ids), "attention_mask": [1] * len(ids), "labels": list(ids)} for ids in data.sequences
    ]
    longest = max(len(one["input_ids"]) for one in examples)

    def padded(some: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        fill = {"input_ids": 0, "attention_mask": 0, "labels": -100}
        return {
            name: torch.tensor([one[name] + [value] * (longest - len(one[name])) for one in some])
            for name, value in fill.items()
        }

    wrapped = peft.get_peft_model(task.backbone.release(), kinds[method])
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=steps,
            per_device_train_batch_size=batch,
            gradient_checkpointing=checkpointing,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            logging_strategy="no",
            use_cpu=not torch.accelerator.is_available(),
        )
        trainer = Trainer(wrapped, arguments, train_dataset=examples, data_collator=padded)  # type: ignore[arg-type]
        began = time.perf_counter()
        trainer.train()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return (time.perf_counter() - began) / steps


def measured(tiny: bool, device: str) -> list[dict[str, Any]]:
    """One record a method, with and without checkpointing."""
    batch, steps, seconds = (4, 2, 0.05) if tiny else (8, 10, 3.0)
    found = []
    for checkpointing in (False, True):
        for method in ("prompt", "prefix", "lora"):
            ours, peers, peaks = [], [], {"ours": 0, "peer": 0}
            for _ in range(1 if tiny else REPEATS):
                task = task_on(model_of(tiny, device, checkpointing), tiny)
                with Peak() as peak:
                    ours.append(step_cost(task, config_of(method, batch), seconds).seconds)
                peaks["ours"] = max(peaks["ours"], peak.bytes)
                if method == "prefix" and checkpointing:
                    continue  # PEFT refuses the two together
                with Peak() as peak:
                    peers.append(peer_step(task, method, batch, steps, checkpointing))
                peaks["peer"] = max(peaks["peer"], peak.bytes)
            one, other = statistics.median(ours), statistics.median(peers) if peers else None
            record = {"method": method, "checkpointing": checkpointing, "seconds_a_step": one}
            record |= {"peft_trainer_seconds_a_step": other, "ratio": other and one / other, "peak_bytes": peaks}
            print(json.dumps(record), file=sys.stderr, flush=True)
            found.append(record)
    return found


def run(command: list[str], limit: float) -> dict[str, Any]:
    """What came of a command, and how long it took."""
    began = time.perf_counter()
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=limit)
        end = {"exit": done.returncode, "last_lines": (done.stdout or done.stderr).strip().splitlines()[-3:]}
    except subprocess.TimeoutExpired:
        end = {"exit": None, "last_lines": [f"stopped after {limit:.0f} s"]}
    return {**end, "seconds": time.perf_counter() - began}


def others(tiny: bool) -> dict[str, Any]:
    """The suite's tests for accelerators, and the demo; of a rehearsal a small audit in this process."""
    if tiny:
        verdict = audit(
            model_of(True, "cpu", False), rows(60, 8), methods=["prompt", "lora"], steps=2, tokens=4, budget="quick"
        ).verdict
        return {"audit": str(verdict)}
    marks = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    demo = [sys.executable, "examples/demo.py"]
    with tempfile.TemporaryDirectory() as folder:
        return {"marks": run(marks, 120), "demo": run([*demo, f"{folder}/demo"], 150)}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a rehearsal on any machine; nothing is written")
    given = parser.parse_args(arguments)
    if not given.tiny and not torch.cuda.is_available():
        sys.exit("no GPU here: benchmarks/gpu.py --tiny rehearses it")
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    device = "cpu" if given.tiny else "cuda"
    began = time.perf_counter()
    found = {
        "rehearsal": given.tiny,
        "machine": platform.processor() if given.tiny else torch.cuda.get_device_name(),
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
        "steps": measured(given.tiny, device),
        **others(given.tiny),
    }
    found["seconds"] = time.perf_counter() - began
    if not given.tiny:
        RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    return found


if __name__ == "__main__":
    main()
