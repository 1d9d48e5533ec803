"""Work and bytes against a counter of multiplications, a mask, and files."""

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from helpers.audit_cases import FAMILIES, all_trained, random_adapter
from promptreach.audit.checks import inference_cost
from promptreach.audit.cost.times import running
from promptreach.audit.cost.work import BARE, DeploymentOption, ForwardWork, adapter_bytes, cache_bytes
from promptreach.hf import precompute, save_adapter


@pytest.mark.parametrize("family", FAMILIES)
def test_linear_work_is_what_a_counter_of_multiplications_sees(family: str) -> None:
    """Everything but attention: torch's own counter on the layers' matrix products, two operations a multiplication."""
    context = all_trained(family)
    model, work = context.model, ForwardWork.of(context.model)
    batch = model.batch([inference_cost.typical(context)[0]])
    length = batch.input_ids.shape[1]
    for kind in ("bare", "prompt", "prefix"):
        option = BARE if kind == "bare" else DeploymentOption(kind, random_adapter(family, kind))
        with FlopCounterMode(display=False) as counter, torch.no_grad(), running(model, option) as hidden:
            hidden(batch)
        counted = counter.get_flop_counts()["Global"]
        products = sum(count for name, count in counted.items() if str(name) in ("aten.mm", "aten.addmm"))
        queries = length + option.positions if option.runs_prompt else length
        attention = work.attention(queries, 0 if option.runs_prompt else option.positions)
        assert products == 2 * (work.of_option(option, length) - attention)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_attention_counts_the_pairs_that_a_mask_leaves(family: str) -> None:
    work = ForwardWork.of(all_trained(family).model)
    queries, cached = 5, 3
    mask = torch.ones(queries, cached + queries)
    if family == "llama":
        mask = mask.tril(cached)
    assert work.attention(queries, cached) == float(mask.sum()) * work.attention(1)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_bytes_are_those_of_the_tensors_and_of_the_file(family: str, tmp_path: Path) -> None:
    model = all_trained(family).model
    prompt = random_adapter(family, "prompt")
    prefix = precompute(model, prompt).prefix
    assert cache_bytes(model, 3) == prefix.keys.nbytes + prefix.values.nbytes
    written = save_adapter(tmp_path / "adapter", model, prompt) / "adapter_model.safetensors"
    assert adapter_bytes(model, prompt) == written.stat().st_size
