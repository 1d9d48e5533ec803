"""The door of attention: open for one block and one thread, and shut as it was."""

import threading
from typing import Any

import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from helpers.families import small_module
from helpers.models import tiny_model
from helpers.reach import SEQUENCES, joined_of, relative
from helpers.tolerances import TOLERANCES
from promptreach.hf import OpenModel, capture
from promptreach.hf.running.interface import through


def counting(calls: list[str]) -> Any:
    def passing(own: Any, name: str, module: Any, arguments: dict[str, Any]) -> Any:
        calls.append(name)
        return own(module, **arguments)

    return passing


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_the_door_shuts_as_it_was(implementation: str) -> None:
    model = tiny_model("llama")
    model.model.set_attn_implementation(implementation)
    before = dict(ALL_ATTENTION_FUNCTIONS)
    batch, calls = model.batch([[5, 12, 19]]), []
    bare = model.hidden(batch)
    with through(model.model, counting(calls)):
        assert torch.equal(model.hidden(batch), bare)
    assert calls == [implementation] * 2
    assert dict(ALL_ATTENTION_FUNCTIONS) == before

    def fail(*call: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), through(model.model, fail):
        model.hidden(batch)
    assert dict(ALL_ATTENTION_FUNCTIONS) == before


def test_another_thread_passes_by() -> None:
    model, calls = tiny_model("llama"), []
    batch = model.batch([[5, 12, 19]])
    with through(model.model, counting(calls)):
        other = threading.Thread(target=lambda: model.hidden(batch))
        other.start()
        other.join()
    assert calls == []


def test_inner_and_outer_both_see_every_call() -> None:
    model, outer, inner = tiny_model("bert"), [], []
    batch = model.batch([[5, 12, 19]])
    with through(model.model, counting(outer)), through(model.model, counting(inner)):
        model.hidden(batch)
    assert len(outer) == len(inner) == 2


@pytest.mark.parametrize("family", ["gpt_oss", "gemma2", "gemma3_text"])
def test_captures_are_the_eager_attention_of_the_model(family: str) -> None:
    module = small_module(family)
    model = OpenModel(module, name=family)
    batch, joined = model.batch(SEQUENCES), joined_of(model)
    own = capture(model, batch, joined)
    module.set_attn_implementation("eager")
    with torch.no_grad():
        output = model.run(batch, joined, output_attentions=True)
    seen = torch.cat([torch.ones(2, joined.length, dtype=torch.bool), batch.mask], dim=1)
    for layer, eager in zip(own, output.attentions, strict=True):
        written = layer.weights().transpose(1, 2)[seen]
        expected = eager[..., : layer.key.shape[2]].transpose(1, 2)[seen]
        assert relative(written, expected) <= TOLERANCES["captured attention", torch.float32][0]
