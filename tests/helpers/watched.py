"""Tiny trainings of a soft prompt in a plain loop, for a monitor to look at: healthy ones and hopeless ones."""

from collections.abc import Callable

import torch
from peft import PeftModel, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from promptreach.hf import SoftPromptMonitor

VOCABULARY, LENGTH = 48, 8


def language_model(family: str = "gpt2") -> PreTrainedModel:
    """A tiny decoder with random weights."""
    torch.manual_seed(0)
    if family == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.2)
        )
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=48,
            max_position_embeddings=64,
            initializer_range=0.2,
        )
    )


def prompted(base: PreTrainedModel, tokens: int = 4) -> PeftModel:
    """A prompt that starts from rows of the vocabulary."""
    model = get_peft_model(base, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=tokens))
    weight = model.prompt_encoder["default"].embedding.weight
    weight.data = base.get_input_embeddings().weight[3 : 3 + tokens].detach().clone()
    return model


def prefixed(base: PreTrainedModel, tokens: int = 4) -> PeftModel:
    """A prefix with random slots of a size that the model's own have."""
    model = get_peft_model(base, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=tokens))
    weight = model.prompt_encoder["default"].embedding.weight
    weight.data = 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    return model


def batches(rows: int = 8, seed: int = 0, padding: str = "right") -> Callable[[], dict[str, torch.Tensor]]:
    """Rows whose label is a fixed answer for each of two kinds of text; a third of them is padded."""
    generator = torch.Generator().manual_seed(seed)

    def batch() -> dict[str, torch.Tensor]:
        ids = torch.randint(3, VOCABULARY, (rows, LENGTH), generator=generator)
        mask = torch.ones_like(ids)
        labels = torch.full_like(ids, -100)
        for row in range(rows):
            cut = 3 if row % 3 == 0 else 0
            kept = slice(cut, None) if padding == "left" else slice(0, LENGTH - cut)
            mask[row] = 0
            mask[row, kept] = 1
            last = LENGTH - 1 if padding == "left" else LENGTH - 1 - cut
            ids[row, last] = labels[row, last] = 4 + row % 2
        return {"input_ids": ids * mask, "attention_mask": mask, "labels": labels}

    return batch


def trained(
    model: torch.nn.Module,
    batch: Callable[[], dict[str, torch.Tensor]],
    learning_rate: float,
    steps: int = 50,
    monitor: SoftPromptMonitor | None = None,
    warmup: int = 5,
) -> SoftPromptMonitor:
    """The monitor after a training with AdamW, a short warm-up and a linear decay."""
    monitor = monitor or SoftPromptMonitor(interval=5)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters or list(model.parameters()), lr=learning_rate, weight_decay=0.0)

    def share(step: int) -> float:
        return min((step + 1) / warmup, (steps - step) / (steps - warmup))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    model.train()
    torch.manual_seed(0)  # of dropout
    with monitor.watch(model, optimizer, steps):
        for _ in range(steps):
            loss = model(**batch()).loss
            if loss.requires_grad:
                loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    return monitor
