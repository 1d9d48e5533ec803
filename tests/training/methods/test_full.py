"""Full fine-tuning: every weight trains, a state holds what changed, and the very tensors that were there come back."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModel

from helpers.models import tiny_model, tiny_module
from helpers.single_run import train
from helpers.tasks import FAMILIES, config_of, labelled, no_step, task_of
from promptreach.errors import InputError
from promptreach.hf import OpenModel
from promptreach.training.methods.full import unfrozen
from promptreach.training.runs import applied
from promptreach.tuning import RunStore, prepare


def copies(module: nn.Module) -> dict[str, tuple[int, Tensor]]:
    """Every weight's place in memory, and what stands there."""
    return {name: (part.data_ptr(), part.detach().clone()) for name, part in module.named_parameters()}


def assert_restored(module: nn.Module, before: dict[str, tuple[int, Tensor]]) -> None:
    """The same memory holds the same bits, and nothing is left to train."""
    after = dict(module.named_parameters())
    assert list(after) == list(before)
    for name, (place, then) in before.items():
        assert after[name].data_ptr() == place, name
        assert after[name].dtype == then.dtype, name
        assert torch.equal(after[name], then), name
        assert after[name].grad is None, name
        assert not after[name].requires_grad, name


@pytest.mark.parametrize("damage", ["moved", "changed", "gradient", "trainable"])
def test_the_check_sees_every_difference(damage: str) -> None:
    module = nn.Linear(3, 2).requires_grad_(False)
    before = copies(module)
    assert_restored(module, before)
    if damage == "moved":
        module.weight.data = module.weight.data.clone()
    elif damage == "changed":
        module.weight.data[0, 0] += 1e-6
    elif damage == "gradient":
        module.weight.grad = torch.zeros(2, 3)
    else:
        module.bias.requires_grad_()
    with pytest.raises(AssertionError):
        assert_restored(module, before)


@pytest.mark.parametrize("family", FAMILIES)
def test_training_restores_every_weight(family: str) -> None:
    task = task_of(family)
    # Judged on what it trains on, the run does not return to its start.
    task = replace(task, encoded={**task.encoded, "validation": task.encoded["train"]})
    module = task.backbone.release()
    before = copies(module)
    run = train(task, config_of("full", learning_rate=1e-3), RunStore(None), no_step)
    assert run.parameters == sum(part.numel() for part in module.parameters())
    assert_restored(module, before)
    with applied(task.backbone, run):
        assert not all(torch.equal(part, before[name][1]) for name, part in module.named_parameters())
    assert_restored(module, before)


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_failure_in_the_middle_of_training_restores_every_weight(
    failure: type[BaseException], dtype: torch.dtype
) -> None:
    """Raised after two steps, when moved weights, gradients and moments are all there."""
    model = OpenModel(tiny_module("llama").to(dtype))
    before = copies(model.model)

    def fail() -> None:
        with unfrozen(model) as weights:
            optimiser = torch.optim.Adam(weights.parameters(), lr=0.1)
            for _ in range(2):
                model.hidden(model.batch([[4, 5, 6]])).square().sum().backward()
                optimiser.step()
            name, embedding = next(iter(model.model.named_parameters()))
            assert not torch.equal(embedding, before[name][1])
            assert embedding.grad is not None
            raise failure

    with pytest.raises(failure):
        fail()
    assert_restored(model.model, before)


def test_a_failure_before_the_first_step_restores_every_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Halfway through making copies, as when memory runs out."""
    model = tiny_model("bert")
    before = copies(model.model)
    real, calls = torch.promote_types, 0

    def fails(*types: torch.dtype) -> torch.dtype:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise MemoryError
        return real(*types)

    _ = model.fingerprint
    with monkeypatch.context() as patch:
        patch.setattr(torch, "promote_types", fails)
        with pytest.raises(MemoryError), unfrozen(model):
            pass
    assert_restored(model.model, before)


def test_a_state_holds_changed_rows_alone() -> None:
    model = tiny_model("gpt2")
    batch = model.batch([[4, 5, 6], [5, 7]])
    with unfrozen(model) as weights:
        assert all(tensor.numel() == 0 for tensor in weights.state().values())
        model.hidden(batch).square().sum().backward()
        torch.optim.Adam(weights.parameters(), lr=0.01).step()
        state = weights.state()
        # Token 0 pads; a vocabulary row that is not in the batch has no gradient, and neither has a place behind it.
        assert state["rows/transformer.wte.weight"].tolist() == [0, 4, 5, 6, 7]
        assert state["rows/transformer.wpe.weight"].tolist() == [0, 1, 2]
        tuned = copies(model.model)
        torch.optim.Adam(weights.parameters(), lr=0.3).step()
        weights.load(state)
        assert all(torch.equal(part, tuned[name][1]) for name, part in model.model.named_parameters())
        weights.load({name: tensor[:0] for name, tensor in state.items()})
        assert all(tensor.numel() == 0 for tensor in weights.state().values())


def test_tied_weights_stay_tied() -> None:
    model = tiny_model("llama", tie_word_embeddings=True)
    ends = model.model.get_input_embeddings(), model.model.get_output_embeddings()
    assert ends[0].weight is ends[1].weight
    with unfrozen(model) as weights:
        assert len(weights.parameters()) == len(set(map(id, weights.parameters())))
        model.vocabulary_logits(model.hidden(model.batch([[4, 5]]))).square().sum().backward()
        torch.optim.SGD(weights.parameters(), lr=0.1).step()
        assert ends[0].weight is ends[1].weight
    assert ends[0].weight is ends[1].weight


def test_the_fingerprint_is_taken_of_the_weights_that_come_back() -> None:
    model = tiny_model("bert")
    with unfrozen(model) as weights:
        weights.parameters()[0].data.add_(1.0)
        assert model.fingerprint == tiny_model("bert").fingerprint


@pytest.mark.parametrize("inner", ["lora", "full"])
def test_it_does_not_take_an_update_for_a_weight(inner: str) -> None:
    model = tiny_model("llama")
    outer = model.low_rank(2, 4.0, 0) if inner == "lora" else unfrozen(model)
    with outer, pytest.raises(InputError, match="something trainable attached"), unfrozen(model):
        pass


def test_a_tuned_model_can_be_saved(tmp_path: Path) -> None:
    """Inside `applied`, transformers writes the tuned weights, and reads them back."""
    task = prepare(tiny_model("bert"), labelled(), longest_prompt=8)  # saving leaves a name in the model's config
    run = train(task, config_of("full", learning_rate=1e-2, head_learning_rate=0.0), RunStore(None), no_step)
    batch = task.backbone.batch(task.encoded["held_out"].sequences)
    with applied(task.backbone, run) as joined, torch.no_grad():
        task.backbone.release().save_pretrained(tmp_path)
        expected = task.backbone.hidden(batch, joined)
    loaded = OpenModel(AutoModel.from_pretrained(tmp_path, add_pooling_layer=False))
    with torch.no_grad():
        assert torch.equal(loaded.hidden(batch)[batch.mask], expected[batch.mask])
        assert not torch.equal(task.backbone.hidden(batch)[batch.mask], expected[batch.mask])
