"""What watching a training costs: processor seconds of a step that is read against one that is not, on two sizes.

    python benchmarks/tuning/monitor.py --out benchmarks/results/monitor.json

Watched and unwatched steps alternate in one process, so that other work on the machine meets both alike.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from promptreach.hf import SoftPromptMonitor

STEPS = 24
SIZES = {"6 layers of 384": (6, 384, 1536), "2 layers of 128": (2, 128, 512)}
CONFIGS = {"prompt": PromptTuningConfig, "prefix": PrefixTuningConfig}


def measured(layers: int, hidden: int, wide: int, method: str) -> dict[str, float]:
    """Median processor seconds of a plain step and of one that is read, and the share at the default interval."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=8,
        intermediate_size=wide,
    )
    model = get_peft_model(LlamaForCausalLM(config), CONFIGS[method](task_type="CAUSAL_LM", num_virtual_tokens=16))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    ids = torch.randint(0, 4096, (16, 64))
    times: dict[bool, list[float]] = {True: [], False: []}
    model.train()
    with SoftPromptMonitor(2).watch(model, optimizer, STEPS):
        for step in range(STEPS):
            start = time.process_time()
            model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if step > 3:
                times[step % 2 == 0].append(time.process_time() - start)
    plain, read = (statistics.median(times[kind]) for kind in (False, True))
    return {"step": plain, "step_that_is_read": read, "share_at_default_interval": (read - plain) / plain / 20}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    torch.set_num_threads(1)
    found = {f"{size}, {method}": measured(*shape, method) for size, shape in SIZES.items() for method in CONFIGS}
    record = {"steps": STEPS, "batch": "16 x 64 tokens, 16 virtual", "unit": "processor seconds", "runs": found}
    parser.parse_args().out.write_text(json.dumps(record, indent=1) + "\n")
