"""Laws of an opened model: what joining, caching, attaching and fingerprinting may and may not change."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.models import DECODERS, FAMILIES, VOCABULARY, tiny_model, tiny_module
from helpers.tolerances import assert_close
from promptreach.backbone import Attachment, Backbone, Prepended
from promptreach.errors import AdapterError, InputError
from promptreach.hf import OpenModel

SEQUENCES = [[4, 5, 6, 7, 8, 9], [10, 11]]
TOKENS = st.integers(4, VOCABULARY - 1)
MODELS = {family: tiny_model(family) for family in FAMILIES}


def random_prefix(model: OpenModel, length: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (model.num_layers, model.num_kv_heads, length, model.head_dim)
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(1)).unbind()


@pytest.mark.parametrize("family", FAMILIES)
def test_fulfils_the_protocol(family: str) -> None:
    model = MODELS[family]
    assert isinstance(model, Backbone)
    assert model.family == family
    assert model.max_positions == 64
    assert model.vocabulary.shape == (VOCABULARY, 32)
    with model.low_rank(1, 1.0, 0) as update:
        assert isinstance(update, Attachment)


@settings(max_examples=15)
@given(
    family=st.sampled_from(FAMILIES),
    rows=st.lists(st.lists(TOKENS, min_size=1, max_size=8), min_size=1, max_size=4),
)
def test_padding_and_company_change_nothing(family: str, rows: list[list[int]]) -> None:
    model = MODELS[family]
    together = model.hidden(model.batch(rows))
    for row, states in zip(rows, together, strict=True):
        assert_close(model.hidden(model.batch([row]))[0], states[: len(row)], "reordered states")


@settings(max_examples=15)
@given(
    family=st.sampled_from(DECODERS),
    ids=st.lists(TOKENS, min_size=2, max_size=12),
    data=st.data(),
)
def test_a_causal_cache_stands_for_its_tokens(family: str, ids: list[int], data: st.DataObject) -> None:
    model = MODELS[family]
    cut = data.draw(st.integers(1, len(ids) - 1))
    prefix = model.cache_of(ids[:cut])
    continued = model.hidden(model.batch([ids[cut:]]), Prepended(prefix_keys=prefix.keys, prefix_values=prefix.values))
    assert_close(continued, model.hidden(model.batch([ids]))[:, cut:], "reordered states")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_of_real_embeddings_stands_for_its_tokens(family: str) -> None:
    model = MODELS[family]
    whole = model.hidden(model.batch([[4, 5, 6, 7, 8]]))
    prompt = model.vocabulary[[4, 5]]
    assert_close(model.hidden(model.batch([[6, 7, 8]]), Prepended(prompt=prompt)), whole[:, 2:], "reordered states")


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_what_is_joined_and_nothing_else(family: str) -> None:
    model = MODELS[family]
    keys, values = (part.requires_grad_() for part in random_prefix(model))
    prompt = torch.randn(2, 32, generator=torch.Generator().manual_seed(2)).requires_grad_()
    for joined in (Prepended(prompt=prompt), Prepended(prefix_keys=keys, prefix_values=values)):
        model.hidden(model.batch(SEQUENCES), joined).pow(2).mean().backward()
    for tensor in (prompt, keys, values):
        assert tensor.grad is not None
        assert (tensor.grad.flatten(1).abs().amax(-1) > 0).all()
    assert all(parameter.grad is None for parameter in model.model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_low_rank_leaves_no_trace(family: str) -> None:
    model = tiny_model(family)
    batch = model.batch(SEQUENCES)
    before, state, attributes = model.hidden(batch), model.model.state_dict(), set(vars(model.model))
    random_state = torch.random.get_rng_state()
    with model.low_rank(2, 4.0, seed=3) as update:
        assert torch.equal(model.hidden(batch), before)
        for parameter in update.parameters():
            torch.nn.init.constant_(parameter, 0.1)
        assert not torch.allclose(model.hidden(batch), before)
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert torch.equal(model.hidden(batch), before)
    assert set(vars(model.model)) == attributes
    after = model.model.state_dict()
    assert after.keys() == state.keys()
    assert all(torch.equal(after[key], state[key]) for key in state)


def test_low_rank_is_taken_off_when_the_block_fails() -> None:
    model = tiny_model("llama")
    names = [name for name, _ in model.model.named_modules()]
    with pytest.raises(KeyboardInterrupt), model.low_rank(2, 4.0, seed=0):
        raise KeyboardInterrupt
    assert [name for name, _ in model.model.named_modules()] == names


def test_low_rank_depends_on_its_seed_alone() -> None:
    model = tiny_model("bert")
    states = []
    for seed, noise in ((5, 0), (5, 1), (6, 0)):
        torch.manual_seed(noise)
        with model.low_rank(2, 4.0, seed) as update:
            states.append(update.state())
    key = next(key for key in states[0] if "lora_A" in key)
    assert torch.equal(states[0][key], states[1][key])
    assert not torch.equal(states[0][key], states[2][key])


def test_low_rank_state_round_trip_and_its_faults() -> None:
    model = tiny_model("llama")
    batch = model.batch(SEQUENCES)
    with model.low_rank(2, 4.0, 0) as update:
        with torch.no_grad():
            for parameter in update.parameters():
                parameter.normal_(generator=torch.Generator().manual_seed(0))
        state, expected = update.state(), model.hidden(batch)
        assert not any(tensor.requires_grad for tensor in state.values())
    with model.low_rank(2, 4.0, 1) as update:
        update.load(state)
        assert torch.equal(model.hidden(batch), expected)
        first = next(iter(state))
        with pytest.raises(AdapterError) as error:
            update.load({"stranger": torch.zeros(1), **{key: tensor for key, tensor in state.items() if key != first}})
        assert len(error.value.faults) == 2
        with pytest.raises(InputError, match="attached"), model.low_rank(2, 4.0, 0):
            pass


def test_the_fingerprint_follows_every_weight_and_the_config() -> None:
    model = tiny_model("llama")
    again = OpenModel(tiny_module("llama"))
    assert again.fingerprint == model.fingerprint
    assert tiny_model("llama", seed=1).fingerprint != model.fingerprint
    assert tiny_model("llama", rms_norm_eps=1e-3).fingerprint != model.fingerprint
    for name in ("model.layers.1.mlp.up_proj.weight", "model.norm.weight"):
        changed = tiny_module("llama")
        with torch.no_grad():
            flat = changed.get_parameter(name).view(-1)
            flat[[3, 17]] = flat[[17, 3]]
        assert OpenModel(changed).fingerprint != model.fingerprint


def test_the_fingerprint_is_taken_of_the_bare_model() -> None:
    model, other = tiny_model("bert"), tiny_model("bert")
    with model.low_rank(1, 1.0, 0):
        assert model.fingerprint == other.fingerprint


def test_tokenizing_keeps_long_texts_whole_and_is_silent(recwarn: pytest.WarningsRecorder) -> None:
    model = MODELS["bert"]
    ids = model.tokenize(["the cat " * 100, ""])
    assert [len(row) for row in ids] == [202, 2]
    assert model.tokenize(["the cat"], special_tokens=False) == [ids[0][1:3]]
    assert model.tokenize([]) == []
    assert not recwarn.list


def test_batches_pad_on_the_right_with_the_padding_id() -> None:
    batch = MODELS["roberta"].batch([[4, 5, 6], [7]])
    assert batch.input_ids.tolist() == [[4, 5, 6], [7, 1, 1]]
    assert batch.mask.tolist() == [[True, True, True], [True, False, False]]
    assert MODELS["gpt2"].batch([[4, 5], [6]]).input_ids.tolist() == [[4, 5], [6, 0]]


def test_bad_batches_name_every_row() -> None:
    with pytest.raises(InputError) as error:
        MODELS["bert"].batch([[], [4], []])
    assert [fault.where for fault in error.value.faults] == ["sequence 0", "sequence 2"]
    with pytest.raises(InputError, match="at least one"):
        MODELS["bert"].batch([])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_position_is_usable_and_the_next_refused(family: str) -> None:
    model = MODELS[family]
    batch = model.batch([[4] * 62])
    prompt = torch.zeros(3, 32)
    assert model.hidden(batch, Prepended(prompt=prompt[:2])).shape == (1, 62, 32)
    with pytest.raises(InputError, match="65 positions, 3 of them joined"):
        model.hidden(batch, Prepended(prompt=prompt))


def test_what_does_not_fit_is_refused() -> None:
    model = MODELS["llama"]
    batch = model.batch(SEQUENCES)
    keys, values = random_prefix(model)
    for joined, message in (
        (Prepended(prompt=torch.zeros(2, 31)), r"\(prompt, 32\)"),
        (Prepended(prefix_keys=keys), "half a prefix"),
        (Prepended(prompt=torch.zeros(2, 32), prefix_keys=keys, prefix_values=values), "one whole thing"),
        (Prepended(prefix_keys=keys[:1], prefix_values=values[:1]), r"\(2, 2, prompt, 8\)"),
    ):
        with pytest.raises(InputError, match=message):
            model.hidden(batch, joined)


def test_logits_are_the_models_own() -> None:
    model = MODELS["qwen3"]
    batch = model.batch([[4, 5, 6]])
    assert torch.equal(model.vocabulary_logits(model.hidden(batch)), model.model(batch.input_ids).logits)
    with pytest.raises(InputError, match="encoder"):
        MODELS["bert"].vocabulary_logits(torch.zeros(1, 32))


def test_a_bare_decoder_is_opened_as_an_encoder() -> None:
    causal = tiny_module("llama")
    bare = causal.model
    assert OpenModel(bare, task="encoder").task == "encoder"
    with pytest.raises(InputError, match="no head"):
        OpenModel(bare, task="causal")
