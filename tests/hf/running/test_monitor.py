"""Seeded failures are warned of early, healthy trainings are not warned of, and watching changes nothing."""

import logging

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments

from helpers.watched import LENGTH, VOCABULARY, batches, language_model, prefixed, prompted, trained
from promptreach.errors import InputError
from promptreach.hf import SoftPromptMonitor

STEPS = 50


def keys(monitor: SoftPromptMonitor) -> set[str]:
    return {warned.key for warned in monitor.warned}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_healthy_prompt_is_not_warned_of(family: str, seed: int) -> None:
    monitor = trained(prompted(language_model(family)), batches(seed=seed), 0.03)
    assert monitor.warned == []
    assert monitor.readings[-1].loss < monitor.readings[0].loss


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_healthy_prefix_is_not_warned_of(family: str, seed: int) -> None:
    monitor = trained(prefixed(language_model(family)), batches(seed=seed), 0.03)
    assert monitor.warned == []
    assert monitor.readings[-1].loss < monitor.readings[0].loss


def test_a_rate_a_hundred_times_too_small() -> None:
    assert_early(trained(prompted(language_model()), batches(), 0.0003 / 3), "barely_moves")


def test_a_start_at_twenty_times_the_norm() -> None:
    model = prompted(language_model())
    model.prompt_encoder["default"].embedding.weight.data *= 20
    assert_early(trained(model, batches(), 0.03), "far_start")


def test_a_frozen_prompt() -> None:
    model = prompted(language_model())
    model.prompt_encoder.requires_grad_(False)
    assert_early(trained(model, batches(), 0.03), "frozen")


def test_a_prompt_that_the_optimiser_does_not_hold() -> None:
    model = prompted(language_model())
    optimizer = torch.optim.AdamW(list(model.base_model.parameters()))
    monitor = SoftPromptMonitor()
    with monitor.watch(model, optimizer, STEPS):
        pass
    assert keys(monitor) == {"frozen"}


@pytest.mark.parametrize("make", [prompted, prefixed])
def test_padding_between_prompt_and_text(make) -> None:
    assert_early(trained(make(language_model()), batches(padding="left"), 0.03), "padding")


def test_a_prompt_cut_off_by_truncation() -> None:
    """A loop of one's own that joins the prompt and then keeps the last positions."""
    base = language_model().requires_grad_(False)
    prompt = torch.nn.Parameter(base.get_input_embeddings().weight[3:7].detach().clone())

    class Truncating(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.prompt = prompt
            self.base = base

        def forward(self, input_ids, attention_mask, labels):
            texts = self.base.get_input_embeddings()(input_ids)
            joined = torch.cat([self.prompt.expand(len(texts), -1, -1), texts], dim=1)[:, -LENGTH:]
            return self.base(inputs_embeds=joined, attention_mask=attention_mask, labels=labels)

        def get_input_embeddings(self):
            return self.base.get_input_embeddings()

    monitor = trained(Truncating(), batches(), 0.03, monitor=SoftPromptMonitor(5, prompt=prompt))
    assert_early(monitor, "no_gradient")


def test_a_completion_cut_off_by_truncation() -> None:
    whole = batches()

    def cut():
        return {name: tensor[:, : LENGTH - 2] for name, tensor in whole().items()}

    assert_early(trained(prompted(language_model()), cut, 0.03), "unlabelled")


def test_a_prompt_in_half_precision_that_no_longer_moves() -> None:
    model = prompted(language_model())
    weight = model.prompt_encoder["default"].embedding.weight
    weight.data = (weight.data * 8).to(torch.bfloat16)
    assert_early(trained(model, batches(), 0.0005), "rounding")


def test_a_layer_through_which_nothing_reaches_the_answer() -> None:
    model = prefixed(language_model())
    model.get_base_model().transformer.h[1].attn.c_proj.weight.data.zero_()
    assert_early(trained(model, batches(), 0.03), "dead_layers")


def assert_early(monitor: SoftPromptMonitor, key: str) -> None:
    early = {warned.key for warned in monitor.warned if warned.step <= 0.2 * STEPS}
    assert key in early, monitor.warned


@pytest.mark.parametrize("make", [prompted, prefixed])
def test_watching_changes_no_number(make) -> None:
    watched, alone = make(language_model()), make(language_model())
    trained(watched, batches(), 0.03, steps=8, monitor=SoftPromptMonitor(1))
    optimizer = torch.optim.AdamW([p for p in alone.parameters() if p.requires_grad], lr=0.03, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / 5, (8 - step) / 3))
    batch = batches()
    alone.train()
    torch.manual_seed(0)
    for _ in range(8):
        alone(**batch()).loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    for mine, other in zip(watched.prompt_encoder.parameters(), alone.prompt_encoder.parameters(), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("attached", [True, False])
def test_trainers_receive_numbers_and_warnings(attached: bool, tmp_path, caplog: pytest.LogCaptureFixture) -> None:
    batch = batches(rows=1)
    rows = [{name: tensor[0] for name, tensor in batch().items()} for _ in range(16)]
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=8,
        per_device_train_batch_size=4,
        learning_rate=1e-7,
        logging_steps=2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
    )
    monitor = SoftPromptMonitor(2)
    trainer = Trainer(
        prompted(language_model()), arguments, train_dataset=rows, callbacks=[] if attached else [monitor]
    )
    if attached:
        monitor.attach(trainer)
    with caplog.at_level(logging.WARNING, "promptreach"):
        trainer.train()
    assert [reading.step for reading in monitor.readings] == [0, 1, 2, 4, 6]
    assert keys(monitor) == {"barely_moves"}
    assert "move the prompt by at most" in caplog.text
    assert "move the prompt by at most" in monitor.summary()


def test_the_vocabulary_is_what_the_prompt_is_compared_with() -> None:
    first = trained(prompted(language_model()), batches(), 0.03, steps=6).readings[0]
    assert first.vocabulary_cosine == pytest.approx(1.0)
    assert first.prompt_norm == pytest.approx(first.vocabulary_norm, rel=0.5)
    assert 0 < first.attention_share < 1
    assert first.most_frequent_label == pytest.approx(0.5, abs=0.13)
    assert VOCABULARY == 48


def test_what_has_no_soft_prompt_is_refused() -> None:
    model = get_peft_model(language_model(), LoraConfig(task_type="CAUSAL_LM"))
    with (
        pytest.raises(InputError, match="LORA"),
        SoftPromptMonitor().watch(model, torch.optim.SGD(model.parameters()), 1),
    ):
        pass
    with pytest.raises(InputError, match="interval"):
        SoftPromptMonitor(0)
