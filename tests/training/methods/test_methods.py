"""What each method joins to a frozen model: what it changes, what it must not, and that it leaves nothing behind."""

import pytest
import torch
from torch import Tensor

from helpers.models import tiny_model
from helpers.tasks import FAMILIES, TRAINED, config_of, model_of, task_of
from promptreach.errors import InputError
from promptreach.hf import OpenModel
from promptreach.prompt import LowRankUpdate, Prefix, SoftPrompt
from promptreach.training.methods.methods import METHODS, method_named
from promptreach.training.task.readout import LinearHead
from promptreach.training.task.task import Task

each_family = pytest.mark.parametrize("family", FAMILIES)
each_method = pytest.mark.parametrize("method", TRAINED)


def outputs(model: OpenModel, task: Task, joined: object = None) -> Tensor:
    batch = model.batch(task.encoded["train"].sequences[:5])
    with torch.no_grad():
        return model.hidden(batch, joined)[batch.mask]


@each_family
def test_a_start_is_felt_where_it_has_virtual_tokens(family: str) -> None:
    task = task_of(family)
    model = model_of(family)
    bare = outputs(model, task)
    for method, spec in METHODS.items():
        with spec.attach(model, config_of(method), task.encoded["train"].sequences) as trainable:
            started = outputs(model, task, trainable.joined)
        if spec.uses_tokens:
            assert (started - bare).abs().max() > 0.01
        else:
            assert torch.equal(started, bare)
        assert trainable.joined.length == (4 if method in ("prompt", "prefix") else 0)


@each_family
def test_sizes_are_what_the_method_says(family: str) -> None:
    model = model_of(family)
    # LoRA of rank 2: queries and values; GPT-2 has them in one matrix with the keys.
    kv = model.num_kv_heads * model.head_dim
    lora = {"gpt2": 2 * (32 + 96), "bert": 2 * (32 + 32) * 2, "llama": 2 * (32 + 32) + 2 * (32 + kv)}[family]
    updates = 1 if family == "gpt2" else 2  # each with a gate, beside those of the slots and the adapter
    adapter = 2 * 32 * 3 + 32 + 3
    expected = {
        "prompt": 4 * 32,
        "prefix": 2 * 2 * 4 * kv,
        "lora": 2 * lora,
        "unipelt": 2 * (2 * 4 * kv + lora + adapter + (updates + 2) * 33),
        "head": 0,
        "full": sum(parameter.numel() for parameter in model.release().parameters()),
    }
    for method, spec in METHODS.items():
        with spec.attach(model, config_of(method), [[4, 5, 6]]) as trainable:
            assert trainable.size == expected[method]


@each_method
@each_family
def test_training_changes_the_methods_tensors_and_the_head_alone(family: str, method: str) -> None:
    task = task_of(family)
    model = model_of(family)
    module = model.release()
    before = {name: (tensor, tensor.detach().clone()) for name, tensor in module.state_dict(keep_vars=True).items()}
    spec = METHODS[method]
    sequences, labels = task.encoded["train"].sequences, task.encoded["train"].labels
    rows = list(range(8))
    with spec.attach(model, config_of(method), sequences) as trainable:
        objective = task.objective()
        own, head = list(trainable.parameters.values()), objective.head_parameters()
        start = [tensor.detach().clone() for tensor in (*own, *head)]
        trained_inside = [tensor for tensor in module.parameters() if tensor.requires_grad]
        assert {id(tensor) for tensor in trained_inside} <= {id(tensor) for tensor in own}
        optimiser = torch.optim.Adam([*own, *head], lr=0.1)
        for _ in range(2):  # LoRA's first factor has no gradient until the second has left zero
            optimiser.zero_grad()
            batch = model.batch([sequences[row] for row in rows])
            hidden = model.hidden(batch, trainable.joined)
            objective.outcomes(model, hidden, batch, task.encoded["train"], rows).loss.sum().backward()
            optimiser.step()
        moved = [not torch.equal(then, now) for then, now in zip(start, (*own, *head), strict=True)]
        # A classifier on hidden states leaves no gradient in an output layer of its own.
        assert moved.count(False) == (method == "full" and family == "llama")
        if method != "full":
            for tensor, then in before.values():
                assert torch.equal(tensor, then)
                assert tensor.grad is None
    assert all(tensor.grad is None and not tensor.requires_grad for tensor, _ in before.values())
    after = module.state_dict(keep_vars=True)
    assert list(after) == list(before)
    assert all(after[name] is tensor and torch.equal(tensor, then) for name, (tensor, then) in before.items())
    assert OpenModel(module, model.tokenizer).fingerprint == tiny_model(family).fingerprint
    assert labels is not None


@each_method
@each_family
def test_a_state_goes_out_and_in(family: str, method: str) -> None:
    task = task_of(family)
    model = model_of(family)
    with METHODS[method].attach(model, config_of(method), task.encoded["train"].sequences) as trainable:
        with torch.no_grad():
            for parameter in trainable.parameters.values():
                parameter.add_(0.1)
        saved = trainable.state()
        expected = outputs(model, task, trainable.joined)
        with torch.no_grad():
            for parameter in trainable.parameters.values():
                parameter.mul_(-2.0)
        assert not torch.equal(outputs(model, task, trainable.joined), expected)
        trainable.load(saved)
        assert torch.equal(outputs(model, task, trainable.joined), expected)
        assert all(torch.equal(tensor, saved[name]) for name, tensor in trainable.state().items())
        assert not any(tensor.requires_grad for tensor in saved.values())
    assert torch.equal(outputs(model, task), outputs(tiny_model(family), task))


@each_method
def test_a_failure_inside_leaves_the_model_as_it_was(method: str) -> None:
    model = model_of("llama")
    expected = outputs(model, task_of("llama"))

    def fail() -> None:
        with METHODS[method].attach(model, config_of(method), [[4, 5, 6]]) as trainable:
            for parameter in trainable.parameters.values():
                parameter.data.add_(1.0)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert torch.equal(outputs(model, task_of("llama")), expected)


def test_a_state_becomes_the_record_that_is_saved() -> None:
    model = model_of("llama")
    records = {}
    for method, spec in METHODS.items():
        shape = config_of(method)
        with spec.attach(model, shape, [[4, 5, 6]]) as trainable:
            records[method] = spec.adapter(trainable.state(), shape)
    prompt, prefix, lora = records["prompt"], records["prefix"], records["lora"]
    assert isinstance(prompt, SoftPrompt)
    assert (prompt.length, prompt.hidden_size) == (4, 32)
    assert isinstance(prefix, Prefix)
    assert prefix.keys.shape == (2, 2, 4, 8)
    assert isinstance(lora, LowRankUpdate)
    assert (lora.rank, lora.alpha, len(lora.state)) == (2, 4.0, 8)
    assert records["head"] is records["unipelt"] is records["full"] is None


def test_the_unit_is_the_size_of_the_start() -> None:
    model = model_of("bert")
    with METHODS["prompt"].attach(model, config_of("prompt", init="random", tokens=400), [[4]]) as trainable:
        assert abs(trainable.rate_scale - 1.0) < 0.03
    with METHODS["prefix"].attach(model, config_of("prefix"), [[4, 5, 6]]) as trainable:
        both = torch.stack([parameter.detach() for parameter in trainable.parameters.values()])
        assert trainable.rate_scale == pytest.approx(float(both.square().mean().sqrt()), rel=1e-6)
    for method in ("lora", "unipelt", "head", "full"):
        with METHODS[method].attach(model, config_of(method), [[4]]) as trainable:
            assert trainable.rate_scale == 1.0


@each_method
def test_a_model_in_half_precision_gets_float32_tensors(method: str) -> None:
    module = tiny_model("llama").release().to(torch.bfloat16)
    model = OpenModel(module, model_of("llama").tokenizer)
    batch = model.batch([[4, 5, 6]])
    with METHODS[method].attach(model, config_of(method), [[4, 5, 6]]) as trainable:
        assert {parameter.dtype for parameter in trainable.parameters.values()} == {torch.float32}
        hidden = model.hidden(batch, trainable.joined)
        assert hidden.dtype == (torch.float32 if method == "full" else torch.bfloat16)
        LinearHead("last", torch.zeros(32), torch.ones(32), torch.ones(2, 32), torch.zeros(2))(
            hidden, batch.mask
        ).sum().backward()
        assert any(parameter.grad is not None for parameter in trainable.parameters.values())


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    assert method_named("prefix") is METHODS["prefix"]
    with pytest.raises(
        InputError, match="method: 'adapter'; expected one of prompt, prefix, lora, unipelt, head, full"
    ):
        method_named("adapter")
