"""Long training with torch, transformers and PEFT alone: what a task's truth is shown by.

Nothing of promptreach is imported, so that a fault in its training cannot confirm itself. Rows are token ids with one
answer token each; a prompt starts from embeddings of the rows' own tokens, a prefix from the cache that they leave.
"""

import random
from collections.abc import Sequence

import torch
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

Rows = Sequence[tuple[Sequence[int], int]]
"""Token ids and the token that answers them."""
RATES = {"prompt": (0.03, 0.3), "prefix": (0.003, 0.03), "lora": (1e-3, 1e-2)}
"""Learning rates that are tried, each over the whole length; the best on validation rows counts."""
BATCH = 64
JUDGED = 300
"""Rows that are not trained on."""


def trained(
    model: PreTrainedModel, train: Rows, judged: Rows, method: str, size: int, steps: int, seed: int
) -> tuple[float, float]:
    """The accuracy and the loss (nats) on the judged rows of the best rate's best state, looked at ten times.

    Choosing the state on the judged rows flatters every method alike; what must fail fails in spite of it.
    """
    found = [_run(model, train, judged, method, size, steps, rate, seed) for rate in RATES[method]]
    return min(found, key=lambda pair: pair[1])


def untrained(model: PreTrainedModel, judged: Rows) -> tuple[float, float]:
    """The accuracy and the loss of the bare model."""
    return _scores(model, judged)


def _run(
    model: PreTrainedModel, train: Rows, judged: Rows, method: str, size: int, steps: int, rate: float, seed: int
) -> tuple[float, float]:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    joined = _joined(model, train, method, size, draw)
    parameters = [parameter for parameter in joined.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    looks = []
    for step in range(1, steps + 1):
        inputs, mask, answers = _batch(draw.sample(list(train), min(BATCH, len(train))))
        loss = cross_entropy(_logits(joined, inputs, mask), answers)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if step % max(1, steps // 10) == 0:
            looks.append(_scores(joined, judged))
    joined.unload() if method == "lora" else None
    return min(looks, key=lambda pair: pair[1])


def _joined(model: PreTrainedModel, train: Rows, method: str, size: int, draw: random.Random) -> torch.nn.Module:
    """The model with a fresh adapter, its own weights frozen."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    if method == "lora":
        config = LoraConfig(r=size, lora_alpha=2 * size, target_modules=["c_attn"], fan_in_fan_out=True)
        return get_peft_model(model, config)
    kind = PromptTuningConfig if method == "prompt" else PrefixTuningConfig
    joined = get_peft_model(model, kind(task_type="CAUSAL_LM", num_virtual_tokens=size))
    table = joined.prompt_encoder["default"].embedding.weight
    used = [token for ids, _ in draw.sample(list(train), min(len(train), size)) for token in ids][:size]
    used = [used[index % len(used)] for index in range(size)]
    with torch.no_grad():
        if method == "prompt":
            table.copy_(model.get_input_embeddings().weight[used])
        else:
            cache = model(torch.tensor([used]), use_cache=True).past_key_values
            parts = [part for layer in cache.layers for part in (layer.keys, layer.values)]
            # PEFT reads a row as (layer, keys and values, head, entry).
            stacked = torch.stack([part[0] for part in parts])
            table.copy_(stacked.permute(2, 0, 1, 3).reshape(size, -1))
    return joined


def _batch(rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
    longest = max(len(ids) for ids, _ in rows)
    inputs = torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids, _ in rows])
    mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in rows])
    return inputs, mask, torch.tensor([answer for _, answer in rows])


def _logits(model: torch.nn.Module, inputs: Tensor, mask: Tensor) -> Tensor:
    """At the last token of every row, whatever stands in front."""
    logits: Tensor = model(input_ids=inputs, attention_mask=mask).logits[:, -inputs.shape[1] :]
    return logits[torch.arange(len(inputs)), mask.sum(1) - 1]


def _scores(model: torch.nn.Module, rows: Rows) -> tuple[float, float]:
    inputs, mask, answers = _batch(rows)
    with torch.no_grad():
        logits = _logits(model, inputs, mask)
    return float((logits.argmax(-1) == answers).double().mean()), float(cross_entropy(logits, answers))
