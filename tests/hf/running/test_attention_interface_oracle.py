"""Whole models on our attention against transformers' own implementations, and what a model may choose for itself."""

from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.models import ENCODERS, FAMILIES, tiny_model, tiny_module
from helpers.tolerances import assert_close
from promptreach.backbone import Prepended
from promptreach.certificate import Evidence
from promptreach.errors import InputError, UnsupportedModelError
from promptreach.hf import OpenModel, attention_reports, open_model, precompute, use_attention
from promptreach.hf.running.attention_interface import NAME, attention, mask
from promptreach.prompt import Prefix, SoftPrompt

SEQUENCES = [[4, 5, 6, 7, 8, 9, 10, 11], [12, 13], [4, 9, 4]]


def states(model: OpenModel, joined: Prepended | None = None) -> Tensor:
    batch = model.batch(SEQUENCES)
    with torch.no_grad():
        return model.hidden(batch, joined)[batch.mask]


def joined_of(model: OpenModel, kind: str) -> Prepended | None:
    generator = torch.Generator().manual_seed(0)
    if kind == "prompt":
        return Prepended(prompt=torch.randn(3, model.hidden_size, generator=generator))
    if kind == "prefix":
        shape = (model.num_layers, model.num_kv_heads, 3, model.head_dim)
        return Prepended(None, *(torch.randn(shape, generator=generator) for _ in range(2)))
    return None


@pytest.mark.parametrize("theirs", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["bare", "prompt", "prefix"])
@pytest.mark.parametrize("family", FAMILIES)
def test_states_are_those_of_transformers(family: str, kind: str, theirs: str) -> None:
    model = tiny_model(family)
    model.model.set_attn_implementation(theirs)
    expected = states(model, joined_of(model, kind))
    use_attention(model, method="exact")
    with attention_reports() as reports:
        actual = states(model, joined_of(model, kind))
    assert_close(actual, expected, "reordered states")
    # A sliding window is spelled out and needs no report.
    assert len(reports) == (0 if family == "mistral" else model.num_layers)


@pytest.mark.parametrize("family", ["gpt2", "llama", "mistral"])  # absolute, rotary, and a sliding window
def test_generate_with_a_cache_and_with_a_precomputed_prompt(family: str) -> None:
    model = tiny_model(family)
    cache = precompute(model, SoftPrompt(torch.randn(6, 32, generator=torch.Generator().manual_seed(1))))
    ids = torch.tensor([[4, 5, 6, 7], [9, 8, 7, 6]])

    def written() -> list[Tensor]:
        options: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
        bare = model.release().generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
        return [bare, model.release().generate(**cache.inputs(ids), **options)]

    expected = written()
    use_attention(model, method="exact")
    for ours, theirs in zip(written(), expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_name_alone_is_exact(family: str) -> None:
    expected = states(tiny_model(family))
    model = OpenModel(tiny_module(family, attn_implementation=NAME))
    assert model.model.config._attn_implementation == NAME
    assert_close(states(model), expected, "reordered states")


def test_two_models_choose_for_themselves() -> None:
    loose, exact = tiny_model("bert"), tiny_model("bert")
    use_attention(loose, tol=0.5, relative_to="deviation")
    use_attention(exact, method="exact")
    with attention_reports() as reports:
        states(exact)
        states(loose)
    assert [report.method for report in reports[:2]] == ["exact", "exact"]
    assert all(report.plan == () for report in reports[:2])
    assert loose.model.config.promptreach_attention["tol"] == 0.5
    assert exact.model.config.promptreach_attention["method"] == "exact"
    assert all(report.error.evidence in (Evidence.PROVED, Evidence.MEASURED) for report in reports)


def test_the_choice_is_saved_and_undone(tmp_path: Any) -> None:
    model = tiny_model("llama")
    expected = states(model)
    use_attention(model, method="exact", tol=0.25)
    model.release().save_pretrained(tmp_path)
    again = open_model(tmp_path, tokenizer=model.tokenizer)
    assert again.model.config.promptreach_attention["tol"] == 0.25
    model.model.set_attn_implementation("sdpa")
    with attention_reports() as reports:
        assert torch.equal(states(model), expected)
    assert reports == []


def test_reports_are_kept_only_inside_the_block() -> None:
    model = tiny_model("bert")
    use_attention(model, method="exact")
    with attention_reports() as reports:
        states(model)
    assert len(reports) == 2
    states(model)
    assert len(reports) == 2


def test_a_prefix_can_be_trained_through_it() -> None:
    model = tiny_model("llama")
    batch = model.batch(SEQUENCES)
    gradients = []
    for name in ("sdpa", NAME):
        model.model.set_attn_implementation(name)
        prompt = torch.randn(3, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
        model.hidden(batch, Prepended(prompt=prompt))[batch.mask].square().sum().backward()
        assert prompt.grad is not None
        gradients.append(prompt.grad)
    assert float((gradients[0] - gradients[1]).norm() / gradients[0].norm()) < 1e-4


def test_long_masks_are_not_spelled_out() -> None:
    padding = torch.ones(2, 4096, dtype=torch.bool)
    assert mask(2, 4096, 4096, attention_mask=padding).shape == (2, 4096)
    assert mask(2, 1, 4096, q_offset=4095).shape == (2, 4096)
    # A static cache has room behind the queries, which a padding mask cannot say.
    assert mask(1, 4, 64, q_offset=8).shape == (1, 1, 4, 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"method": "nearly"}, "method"), ({"tol": 0.0}, "tol"), ({"relative_to": "luck"}, "relative_to")],
)
def test_a_wrong_choice_is_refused_and_changes_nothing(options: dict[str, Any], message: str) -> None:
    model = tiny_model("bert")
    before = model.model.config._attn_implementation
    with pytest.raises(InputError, match=message):
        use_attention(model, **options)
    assert model.model.config._attn_implementation == before


def test_what_it_cannot_do_is_refused() -> None:
    model = tiny_model(ENCODERS[0])
    layer = model.layers[0].attention.self
    parts = [torch.zeros(1, 4, 3, 8)] * 3
    with pytest.raises(InputError, match="dropout"):
        attention(layer, *parts, None, dropout=0.1)
    with pytest.raises(UnsupportedModelError, match="softcap"):
        attention(layer, *parts, None, softcap=30.0)


def test_the_parity_helper_can_fail() -> None:
    model = tiny_model("bert")
    prefix = joined_of(model, "prefix")
    assert isinstance(Prefix(prefix.prefix_keys, prefix.prefix_values), Prefix)
    with pytest.raises(AssertionError):
        assert_close(states(model, prefix), states(model), "reordered states")
