"""UniPELT's laws: a closed gate is off, an open one is the plain thing, and nothing stays behind."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from helpers.models import DECODERS, ENCODERS, FAMILIES, VOCABULARY, tiny_model, tiny_module
from helpers.tolerances import assert_close
from promptreach.backbone import Attachment, Prepended
from promptreach.errors import AdapterError, InputError
from promptreach.hf import OpenModel
from promptreach.hf.adapters.unipelt import AttachedUnipelt, log_mean_gate
from promptreach.prompt import Prefix

MODELS = {family: tiny_model(family) for family in FAMILIES}
SEQUENCES = [[4, 5, 6, 7, 8, 9, 10, 11], [12, 13]]
TOKENS = st.integers(4, VOCABULARY - 1)
SHUT, OPEN = -1e4, 1e4
each_family = pytest.mark.parametrize("family", FAMILIES)


def prefix_of(model: OpenModel, length: int = 3) -> Prefix:
    shape = (2, model.num_layers, model.num_kv_heads, length, model.head_dim)
    return Prefix(*torch.randn(shape, generator=torch.Generator().manual_seed(1)).unbind())


def randomised(unipelt: AttachedUnipelt, **biases: float) -> None:
    """Every tensor drawn at random; the gates of a named part (slots, updates, bottleneck) stand at its bias."""
    generator = torch.Generator().manual_seed(2)
    state = {}
    for name, tensor in sorted(unipelt.state().items()):
        state[name] = 0.3 * torch.randn(tensor.shape, generator=generator)
        part = next((part for part in biases if f".{part}." in name), None)
        if part and "gate" in name:
            state[name] = torch.full_like(tensor, biases[part] if name.endswith("bias") else 0.0)
    unipelt.load(state)


def states_of(model: OpenModel, rows: list[list[int]] = SEQUENCES) -> Tensor:
    batch = model.batch(rows)
    with torch.no_grad():
        return model.hidden(batch)[batch.mask]


@each_family
def test_closed_gates_are_off(family: str) -> None:
    """Whatever slots, updates and adapters hold, the model computes what it computes alone; open, each is felt."""
    model = MODELS[family]
    bare = states_of(model)
    closed = {"slots": SHUT, "updates": SHUT, "bottleneck": SHUT}
    with model.unipelt(prefix_of(model), 2, 3, 0) as unipelt:
        randomised(unipelt, **closed)
        assert_close(states_of(model), bare, "reordered states")
        for part in closed:
            randomised(unipelt, **closed | {part: 0.0})
            with pytest.raises(AssertionError):
                assert_close(states_of(model), bare, "reordered states")


def test_scaling_keys_and_values_would_not_be_off() -> None:
    """Why the gate scales the softmax mass: m slots with zero keys and values shrink a head by Z / (Z + m)."""
    model = MODELS["llama"]
    bare = states_of(model)
    with model.unipelt(prefix_of(model), 2, 3, 0) as unipelt:
        randomised(unipelt, slots=OPEN, updates=SHUT, bottleneck=SHUT)
        zeroed = {
            name: torch.zeros_like(tensor) if ".keys" in name or ".values" in name else tensor
            for name, tensor in unipelt.state().items()
        }
        unipelt.load(zeroed)
        assert (states_of(model) - bare).abs().max() > 0.01


@each_family
def test_the_slots_at_an_open_gate_are_transformers_own_prefix(family: str) -> None:
    """The oracle is a cache whose content keeps the positions that it has without one."""
    # Mistral's window counts the places of a cache; slots take none here.
    model = tiny_model(family, sliding_window=None) if family == "mistral" else MODELS[family]
    batch, prefix = model.batch(SEQUENCES), prefix_of(model)
    inputs = model.inputs(batch, Prepended(prefix_keys=prefix.keys, prefix_values=prefix.values))
    first = 2 if family == "roberta" else 0
    positions = torch.arange(first, first + batch.input_ids.shape[1])[None]
    with torch.no_grad():
        expected = model.model.base_model(**inputs, position_ids=positions).last_hidden_state[batch.mask]
    with model.unipelt(prefix, 2, 3, 0) as unipelt:
        start = unipelt.state()
        unipelt.load(
            {
                name: torch.full_like(tensor, OPEN) if name.endswith("slots.gate.bias") else tensor
                for name, tensor in start.items()
            }
        )
        assert_close(states_of(model), expected, "reordered states")
        unipelt.load(start)  # at one half
        with pytest.raises(AssertionError):
            assert_close(states_of(model), expected, "reordered states")


@settings(max_examples=15)
@given(family=st.sampled_from(FAMILIES), copies=st.integers(1, 4))
def test_a_gate_counts_slots(family: str, copies: int) -> None:
    """A gate of 1/c on c copies of every slot is the open gate on one: the gate scales the slots' share, no less."""
    model = MODELS[family]
    once = prefix_of(model)
    seen = []
    for prefix, gate in (
        (once, OPEN),
        (
            Prefix(once.keys.repeat(1, 1, copies, 1), once.values.repeat(1, 1, copies, 1)),
            math.log(1 / (copies - 1)) if copies > 1 else OPEN,
        ),
    ):
        with model.unipelt(prefix, 2, 3, 0) as unipelt:
            state = unipelt.state()
            for name in state:
                if name.endswith("slots.gate.bias"):
                    state[name] = torch.tensor(gate)
            unipelt.load(state)
            seen.append(states_of(model))
    assert_close(seen[1], seen[0], "reordered states")


@settings(max_examples=15)
@given(
    family=st.sampled_from(FAMILIES),
    rows=st.lists(st.lists(TOKENS, min_size=1, max_size=8), min_size=1, max_size=4),
)
def test_padding_and_company_change_nothing(family: str, rows: list[list[int]]) -> None:
    model = MODELS[family]
    with model.unipelt(prefix_of(model), 2, 3, 0) as unipelt:
        randomised(unipelt)
        with torch.no_grad():
            together = model.hidden(model.batch(rows))
        for row, states in zip(rows, together, strict=True):
            assert_close(states_of(model, [row]), states[: len(row)], "reordered states")


@settings(max_examples=15)
@given(family=st.sampled_from(DECODERS), ids=st.lists(TOKENS, min_size=2, max_size=12), data=st.data())
def test_a_causal_gate_sees_nothing_that_comes_later(family: str, ids: list[int], data: st.DataObject) -> None:
    model = MODELS[family]
    cut = data.draw(st.integers(1, len(ids) - 1))
    with model.unipelt(prefix_of(model), 2, 3, 0) as unipelt:
        randomised(unipelt)
        assert_close(states_of(model, [ids])[:cut], states_of(model, [ids[:cut]]), "reordered states")


@pytest.mark.parametrize("family", ENCODERS)
def test_an_encoders_gate_is_one_number_an_example(family: str) -> None:
    logits = torch.tensor([[0.0, 1.0, 5.0], [2.0, -1.0, 3.0]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    means = log_mean_gate(logits, mask, causal=not MODELS[family].row.encoder).exp()
    expected = torch.tensor([[logits[0, :2].sigmoid().mean()], [logits[1].sigmoid().mean()]])
    torch.testing.assert_close(means, expected)


@settings(max_examples=50)
@given(
    logits=st.lists(st.floats(-30, 30), min_size=1, max_size=6),
    padding=st.integers(0, 3),
    causal=st.booleans(),
)
def test_the_mean_gate_is_the_mean_of_the_gates(logits: list[float], padding: int, causal: bool) -> None:
    given_logits = torch.tensor([logits + [7.0] * padding], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True] * len(logits) + [False] * padding])
    found = log_mean_gate(given_logits, mask, causal)
    gates = [1 / (1 + math.exp(-logit)) for logit in logits]
    expected = [sum(gates[: i + 1]) / (i + 1) for i in range(len(gates))] if causal else [sum(gates) / len(gates)]
    torch.testing.assert_close(found[0, : len(expected)].exp(), torch.tensor(expected, dtype=torch.float64))
    found[0, : len(expected)].sum().backward()
    assert given_logits.grad is not None
    assert given_logits.grad.isfinite().all()
    assert (given_logits.grad[0, len(logits) :] == 0).all()


@pytest.mark.parametrize("bias", [SHUT, 0.0, OPEN])
@each_family
def test_gradients_reach_every_tensor_and_stay_finite(family: str, bias: float) -> None:
    model = MODELS[family]
    batch = model.batch(SEQUENCES)
    with model.unipelt(prefix_of(model), 2, 8, 0) as unipelt:  # with few units, all may be dead for all inputs
        randomised(unipelt, slots=bias, updates=bias, bottleneck=bias)
        model.hidden(batch)[batch.mask].square().sum().backward()
        gradients = {name: part.grad for name, part in unipelt._whole.named_parameters()}
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())
        if bias == 0.0:
            assert all(gradient.any() for gradient in gradients.values() if gradient is not None)
            gates = [name for name in gradients if "gate" in name]
            assert len(gates) == 2 * model.num_layers * (3 if family == "gpt2" else 4)
    assert all(parameter.grad is None for parameter in model.model.parameters())


@each_family
def test_it_starts_beside_the_model_and_leaves_no_trace(family: str) -> None:
    model = tiny_model(family)
    bare, names = states_of(model), [name for name, _ in model.model.named_modules()]
    attention, keys = model.model.config._attn_implementation, set(vars(model.model))
    with model.unipelt(prefix_of(model), 2, 3, 0) as unipelt:
        assert isinstance(unipelt, Attachment)
        assert list(model.model.state_dict()) == list(tiny_module(family).state_dict())
        state = unipelt.state()
        assert all(not state[name].any() for name in state if name.endswith((".second", ".up", ".up_bias")))
        shut = {name: torch.full_like(part, SHUT) for name, part in state.items() if "gate.bias" in name}
        unipelt.load(state | shut)
        assert_close(states_of(model), bare, "reordered states")
    assert [name for name, _ in model.model.named_modules()] == names
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.model.modules())
    assert model.model.config._attn_implementation == attention
    assert set(vars(model.model)) == keys
    assert torch.equal(states_of(model), bare)
    assert model.fingerprint == tiny_model(family).fingerprint


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_it_is_taken_off_when_the_block_fails(failure: type[BaseException]) -> None:
    model = tiny_model("llama")
    bare = states_of(model)

    def fail() -> None:
        with model.unipelt(prefix_of(model), 2, 3, 0):
            states_of(model)
            raise failure

    with pytest.raises(failure):
        fail()
    assert torch.equal(states_of(model), bare)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.model.modules())


def test_a_failure_while_it_is_put_on_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("bert")
    bare = states_of(model)
    last = model.layers[-1].get_submodule(model.row.down)
    monkeypatch.setattr(last, "register_forward_hook", lambda hook: 1 / 0)
    with pytest.raises(ZeroDivisionError), model.unipelt(prefix_of(model), 2, 3, 0):
        pass
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.model.modules())
    assert torch.equal(states_of(model), bare)


def test_it_depends_on_its_seed_alone() -> None:
    model = MODELS["bert"]
    states = []
    for seed, noise in ((5, 0), (5, 1), (6, 0)):
        torch.manual_seed(noise)
        with model.unipelt(prefix_of(model), 2, 3, seed) as unipelt:
            states.append(unipelt.state())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["0.updates.0.first"], states[2]["0.updates.0.first"])


def test_in_half_precision_its_own_tensors_stay_exact() -> None:
    model = OpenModel(tiny_module("llama").to(torch.bfloat16))
    with model.unipelt(prefix_of(model), 2, 3, 0) as unipelt:
        assert {parameter.dtype for parameter in unipelt.parameters()} == {torch.float32}
        hidden = model.hidden(model.batch(SEQUENCES))
        assert hidden.dtype == torch.bfloat16
        hidden.float().sum().backward()
        assert all(parameter.grad is not None for parameter in unipelt.parameters())


def test_a_state_of_another_size_is_refused() -> None:
    model = MODELS["gpt2"]
    with model.unipelt(prefix_of(model), 2, 3, 0) as unipelt:
        state = unipelt.state()
    with model.unipelt(prefix_of(model), 1, 3, 0) as unipelt, pytest.raises(AdapterError) as caught:
        unipelt.load({**state, "stranger": torch.zeros(1)})
    assert {fault.where for fault in caught.value.faults} == {
        "stranger",
        *(f"{layer}.updates.0.{part}" for layer in range(2) for part in ("first", "second")),
    }


def test_what_would_bypass_the_gates_is_refused() -> None:
    """A cache, a second UniPELT, and chunks that would each have a mean of their own."""
    model = tiny_model("bert")
    batch, prefix = model.batch(SEQUENCES), prefix_of(model)
    with model.unipelt(prefix, 2, 3, 0):
        with pytest.raises(InputError, match="a prefix or a cache; expected whole sequences"):
            model.hidden(batch, Prepended(prefix_keys=prefix.keys, prefix_values=prefix.values))
        with pytest.raises(InputError, match="has UniPELT attached"), model.unipelt(prefix, 2, 3, 0):
            pass
        states_of(model)  # still on
    chunked = tiny_model("bert", chunk_size_feed_forward=2)
    with pytest.raises(InputError, match="chunk_size_feed_forward=2"), chunked.unipelt(prefix, 2, 3, 0):
        pass
