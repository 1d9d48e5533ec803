"""Models spread by a device map: the same numbers, and everything joined lies where it is needed.

One machine without a second card can test the hooks that move tensors (all of them to the CPU), and where things are
put when a layer lies elsewhere (on the device `meta`, which computes shapes only). That numbers agree across two real
cards is not tested.
"""

from contextlib import ExitStack
from pathlib import Path

import accelerate
import pytest
import torch

from helpers.models import tiny_model
from promptreach.backbone import Prepended
from promptreach.errors import InputError, ModelError
from promptreach.hf import OpenModel, open_model

FAMILIES = ("bert", "gpt2", "llama")
SEQUENCES = [[5, 6, 7, 8], [9, 10]]


def joined_of(model: OpenModel, kind: str) -> Prepended:
    """Something trainable to join, the same for every model of a family."""
    draw = torch.Generator().manual_seed(0)
    if kind == "prompt":
        return Prepended(prompt=torch.randn(3, model.hidden_size, generator=draw).requires_grad_())
    shape = (2, model.num_layers, model.num_kv_heads, 3, model.head_dim)
    keys, values = torch.randn(shape, generator=draw)
    return Prepended(prefix_keys=keys.requires_grad_(), prefix_values=values.requires_grad_())


def computed(model: OpenModel, kind: str) -> list[torch.Tensor]:
    """The hidden states with something of that kind attached, and the gradients of what can be trained."""
    with ExitStack() as stack:
        if kind in ("prompt", "prefix"):
            joined = joined_of(model, kind)
            own = [part for part in vars(joined).values() if part is not None]
        else:
            joined = Prepended()
            own = stack.enter_context(model.low_rank(2, 4.0, seed=0)).parameters()
        hidden = model.hidden(model.batch(SEQUENCES), joined)
        return [hidden.detach(), *torch.autograd.grad(hidden.square().sum(), own)]


def assert_same(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    assert len(found) == len(expected) > 1
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def hooked(family: str) -> OpenModel:
    """A model whose every module moves its inputs to its own device first, as under a map over several."""
    model = tiny_model(family)
    modules = dict.fromkeys((name for name, _ in model.model.named_children()), "cpu")
    accelerate.dispatch_model(model.model, modules, main_device="cpu", force_hooks=True)
    assert hasattr(model.layers[1], "_hf_hook")
    return model


@pytest.mark.parametrize("kind", ["prompt", "prefix", "lora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_hooks_that_move_tensors_change_no_number(family: str, kind: str) -> None:
    assert_same(computed(hooked(family), kind), computed(tiny_model(family), kind))
    assert hooked(family).fingerprint == tiny_model(family).fingerprint


def test_the_comparison_sees_a_difference() -> None:
    with pytest.raises(AssertionError):
        assert_same(computed(tiny_model("llama"), "prompt"), computed(tiny_model("llama", seed=1), "prompt"))


@pytest.mark.parametrize("where", [{"": "cpu"}, "auto", "cpu"])
def test_an_opened_map_gives_the_same_model(where: str | dict[str, str], tmp_path: Path) -> None:
    model = save(tmp_path, "gpt2")
    opened = open_model(tmp_path, device_map=where)
    assert opened.fingerprint == model.fingerprint
    assert_same(computed(opened, "prompt"), computed(model, "prompt"))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_what_is_joined_lies_where_its_layer_lies(family: str) -> None:
    model = tiny_model(family)
    _ = model.fingerprint
    model.layers[1].to("meta")
    given = model.inputs(model.batch(SEQUENCES), joined_of(model, "prefix"))
    assert [layer.keys.device.type for layer in given["past_key_values"].layers] == ["cpu", "meta"]
    assert [layer.values.device.type for layer in given["past_key_values"].layers] == ["cpu", "meta"]
    with model.low_rank(2, 4.0, seed=0) as update:
        places = [parameter.device.type for parameter in update.parameters()]
    assert places == ["cpu"] * (len(places) // 2) + ["meta"] * (len(places) // 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_inputs_and_a_prompt_lie_where_the_embedding_lies(family: str) -> None:
    model = tiny_model(family)
    assert model.fingerprint  # taken while the weights can be read: checks of types look at every property
    model.model.get_input_embeddings().to("meta")
    batch = model.batch(SEQUENCES)
    assert batch.input_ids.is_meta
    assert batch.mask.is_meta
    given = model.inputs(batch, joined_of(model, "prompt"))
    assert given["inputs_embeds"].is_meta
    assert given["attention_mask"].is_meta


def test_offloaded_weights_are_refused(tmp_path: Path) -> None:
    save(tmp_path, "gpt2")
    parts = ("transformer.wte", "transformer.wpe", "transformer.drop", "transformer.h.0", "transformer.ln_f", "lm_head")
    with pytest.raises(ModelError, match=r"weights that no device has room for, such as 'transformer\.h\.1\."):
        open_model(tmp_path, device_map=dict.fromkeys(parts, "cpu") | {"transformer.h.1": "disk"})


@pytest.mark.parametrize("where", ["nonsense", "cuda:97", ""])
def test_a_map_that_is_none_is_refused_before_weights_are_read(tmp_path: Path, where: str) -> None:
    with pytest.raises(InputError, match=r"device_map: .*'balanced_low_0'.*a device of this machine"):
        open_model(tmp_path, device_map=where)


def save(folder: Path, family: str) -> OpenModel:
    model = tiny_model(family)
    model.model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return model
