"""Captured queries, keys, values and masks give the output that the model's own attention gives."""

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from helpers.models import FAMILIES, minilm_folder, tiny_model
from helpers.tolerances import assert_close
from promptreach.backbone import Prepended, TokenBatch
from promptreach.errors import InputError
from promptreach.hf import LayerCapture, OpenModel, capture, open_model, visit
from promptreach.prompt import join_mask

SEQUENCES = [[4, 5, 6, 7, 8, 9, 10, 11], [12, 13], [14, 15, 16, 17, 18]]


def joined_for(model: OpenModel, kind: str, length: int = 3) -> Prepended:
    generator = torch.Generator().manual_seed(7)
    if kind == "prompt":
        return Prepended(prompt=torch.randn(length, model.hidden_size, generator=generator))
    if kind == "prefix":
        shape = (model.num_layers, model.num_kv_heads, length, model.head_dim)
        keys, values = (torch.randn(shape, generator=generator) for _ in range(2))
        return Prepended(prefix_keys=keys, prefix_values=values)
    return Prepended()


def rebuilt(layer: LayerCapture) -> Float[Tensor, "batch q concatenated"]:
    """softmax(scale q k^T under the mask) v, written out, in the layout of the output projection's input."""
    group = layer.query.shape[1] // layer.key.shape[1]
    key, value = (part.repeat_interleave(group, dim=1) for part in (layer.key, layer.value))
    scores = (layer.query @ key.transpose(2, 3) * layer.scale).masked_fill(~layer.mask, -torch.inf)
    return (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)


def own_outputs(model: OpenModel, batch: TokenBatch, joined: Prepended) -> list[Tensor]:
    """What reaches each layer's output projection in a plain forward pass, without our attention function."""
    seen: list[Tensor] = []
    hooks = [
        layer.get_submodule(model.row.output).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        for layer in model.layers
    ]
    with torch.no_grad():
        model.hidden(batch, joined)
    for hook in hooks:
        hook.remove()
    return seen


def check(model: OpenModel, batch: TokenBatch, joined: Prepended, quantity: str) -> None:
    own = own_outputs(model, batch, joined)
    layers = capture(model, batch, joined)
    assert len(layers) == len(own) == model.num_layers
    # A query at padding, past the window, sees nothing: what it gives is nobody's.
    asked = batch.mask if joined.prompt is None else join_mask(batch.mask, joined.length)
    for layer, expected in zip(layers, own, strict=True):
        assert layer.prompt_length == joined.length
        assert_close(rebuilt(layer)[asked], expected[asked], quantity)
        assert_close(layer.output.transpose(1, 2).flatten(2)[asked], expected[asked], quantity)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["nothing", "prompt", "prefix"])
@pytest.mark.parametrize("family", FAMILIES)
def test_rebuilt_attention_is_the_models_own(family: str, kind: str, implementation: str) -> None:
    model = tiny_model(family)
    model.model.set_attn_implementation(implementation)
    check(model, model.batch(SEQUENCES), joined_for(model, kind), "captured attention")
    assert model.model.config._attn_implementation == implementation


def test_a_wrong_scale_or_mask_is_noticed() -> None:
    model = tiny_model("mistral")
    batch = model.batch(SEQUENCES)
    own = own_outputs(model, batch, Prepended())[1][batch.mask]
    layer = capture(model, batch, layers=[1])[0]
    wrong = [
        {"scale": layer.scale * 1.01},
        {"mask": torch.ones_like(layer.mask)},
        {"key": layer.key.flip(1)},
    ]
    for change in wrong:
        with pytest.raises(AssertionError):
            assert_close(rebuilt(LayerCapture(**{**vars(layer), **change}))[batch.mask], own, "captured attention")


def test_masks_say_causality_padding_and_window() -> None:
    model = tiny_model("mistral")
    mask = capture(model, model.batch(SEQUENCES), layers=[0])[0].mask[:, 0]
    position = torch.arange(8)
    distance = position[:, None] - position
    assert torch.equal(mask[0], (distance >= 0) & (distance < 5))
    assert not mask[1, :, 2:].any()


def test_sliding_layers_of_qwen_differ_from_full_ones() -> None:
    model = tiny_model("qwen2", use_sliding_window=True, sliding_window=3, max_window_layers=1)
    batch = model.batch(SEQUENCES)
    full, sliding = (layer.mask[0, 0] for layer in capture(model, batch))
    assert full[7, 0]
    assert not sliding[7, 4]
    assert sliding[7, 5]
    check(model, batch, Prepended(), "captured attention")


def test_a_scale_that_falls_with_depth_is_captured() -> None:
    model = tiny_model("gpt2", scale_attn_by_inverse_layer_idx=True)
    batch = model.batch(SEQUENCES)
    first, second = capture(model, batch)
    assert second.scale == first.scale / 2
    check(model, batch, Prepended(), "captured attention")


def test_layers_are_chosen_and_reduced_in_order() -> None:
    model = tiny_model("llama")
    batch = model.batch(SEQUENCES)
    assert capture(model, batch, reduce=lambda layer: layer.layer) == [0, 1]
    assert [layer.layer for layer in capture(model, batch, layers=[1])] == [1]
    with pytest.raises(InputError, match="0 to 1"):
        capture(model, batch, layers=[0, 2])


def test_the_models_attention_is_restored_when_the_visitor_fails() -> None:
    model = tiny_model("bert")
    batch = model.batch(SEQUENCES)
    before = model.hidden(batch)

    def fail(layer: LayerCapture) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        visit(model, batch, fail)
    assert model.model.config._attn_implementation == "sdpa"
    assert torch.equal(model.hidden(batch), before)


def test_a_real_encoder() -> None:
    model = open_model(minilm_folder())
    batch = model.batch(model.tokenize(["A film that nobody will forget.", "Bad."]))
    for kind in ("nothing", "prompt", "prefix"):
        check(model, batch, joined_for(model, kind), "real captured attention")


def test_a_real_decoders_first_layers(smollm2: OpenModel) -> None:
    model = smollm2
    assert (model.num_layers, model.num_heads, model.num_kv_heads, model.hidden_size) == (2, 9, 3, 576)
    batch = model.batch(model.tokenize(["The capital of France is", "Once"]))
    for kind in ("nothing", "prompt", "prefix"):
        check(model, batch, joined_for(model, kind), "real captured attention")
