"""Adapter folders with several things wrong at once: each is named, whatever stands in front of it."""

import json
from pathlib import Path

import pytest
import torch
from peft import IA3Config
from safetensors.torch import load_file, save_file

from helpers.models import tiny_model
from helpers.tasks import prefix_like
from promptreach.errors import AdapterError
from promptreach.hf import OpenModel, save_adapter
from promptreach.hf.adapters.by_config import attached_by_config, save_by_config
from promptreach.hf.adapters.inspection import at_hand, inspect_folder, low_rank_pairs
from promptreach.prompt import LowRankUpdate, SoftPrompt


@pytest.fixture(scope="module")
def model() -> OpenModel:
    return tiny_model("llama")


def saved(folder: Path, model: OpenModel, kind: str) -> Path:
    """An adapter of one kind, sound in every way."""
    if kind == "lora":
        with model.low_rank(2, 4.0, seed=0) as attached:
            state = {key: torch.ones_like(tensor) for key, tensor in attached.state().items()}
        return save_adapter(folder, model, LowRankUpdate(2, 4.0, state))
    return save_adapter(folder, model, SoftPrompt(torch.ones(5, 32)) if kind == "prompt" else prefix_like(model, 3))


def change(folder: Path, settings: dict[str, object], **tensors: torch.Tensor) -> None:
    """Overwrite settings of the config and tensors of the weights."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    if tensors:
        weights = folder / "adapter_model.safetensors"
        save_file({**load_file(weights), **tensors}, weights)


@pytest.mark.parametrize("kind", ["prompt", "prefix", "lora"])
def test_a_sound_folder_has_no_fault_with_and_without_its_base(kind: str, model: OpenModel, tmp_path: Path) -> None:
    saved(tmp_path / "a", model, kind)
    alone, whole = inspect_folder(tmp_path / "a"), inspect_folder(tmp_path / "a", model)
    assert (alone.faults, whole.faults) == ((), ())
    assert (alone.kind, alone.adapter) == (kind, None)
    assert whole.adapter is not None
    assert whole.adapter.kind == kind


def test_numbers_sizes_settings_and_base_are_judged_apart(model: OpenModel, tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", model, "prompt")
    broken = torch.ones(5, 24)
    broken[2, 3] = torch.nan
    change(
        folder,
        {"num_virtual_tokens": 7, "lora_alpha": "big", "base_model_name_or_path": None},
        prompt_embeddings=broken,
    )
    text = "\n".join(map(str, inspect_folder(folder, model).faults))
    for seen in ("1 of 120 entries", "num_virtual_tokens 7", "token_dim 32", "lora_alpha", "no base", "of size 24"):
        assert seen in text
    alone = "\n".join(map(str, inspect_folder(folder).faults))
    assert "num_virtual_tokens 7" in alone
    assert "of size 24" not in alone


def test_a_prefix_for_another_model_with_another_length(model: OpenModel, tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", model, "prefix")
    change(folder, {"num_virtual_tokens": 4, "num_attention_heads": 1})
    text = "\n".join(map(str, inspect_folder(folder, model).faults))
    assert "num_virtual_tokens 4" in text
    assert "(layers, kv heads, head size)" in text


def test_a_rank_that_the_matrices_do_not_have(model: OpenModel, tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", model, "lora")
    change(folder, {"r": 3, "use_rslora": "yes"})
    text = "\n".join(map(str, inspect_folder(folder).faults))
    assert "r 3, where model.layers.0.self_attn.q_proj has rank 2" in text
    assert "use_rslora" in text


def test_an_update_of_zeros_is_told(model: OpenModel, tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", model, "lora")
    assert inspect_folder(folder).changes_nothing is False
    zeros = {key: 0 * tensor for key, tensor in load_file(folder / "adapter_model.safetensors").items() if "_B" in key}
    change(folder, {}, **zeros)
    found = inspect_folder(folder)
    assert found.changes_nothing is True
    assert len(low_rank_pairs(found.tensors)) == 4


def test_a_folder_without_weights_still_tells_what_it_was(model: OpenModel, tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", model, "prompt")
    (folder / "adapter_model.safetensors").write_bytes(b"nothing")
    found = inspect_folder(folder, model)
    assert (found.kind, len(found.faults) > 0, found.adapter) == ("prompt", True, None)


def test_an_unknown_kind_is_named_with_what_else_is_wrong(model: OpenModel, tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", model, "prompt")
    change(folder, {"peft_type": "NO_SUCH", "base_model_name_or_path": ""})
    assert len(inspect_folder(folder, model).faults) == 2


def test_a_place_without_an_adapter(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="no such folder"):
        inspect_folder(tmp_path / "nothing")


def test_what_is_at_hand(tmp_path: Path) -> None:
    assert at_hand(str(tmp_path))
    assert not at_hand("")
    assert not at_hand(str(tmp_path / "no"))
    assert not at_hand("nobody/has-this")


def test_whole_numbers_beside_another_methods_weights_are_no_fault(model: OpenModel, tmp_path: Path) -> None:
    config = IA3Config()
    with attached_by_config(model, config, seed=0) as method:
        folder = save_by_config(tmp_path / "a", model, config, method.state())
    places = {"places": torch.arange(3)}
    change(folder, {}, **places)
    assert not any("floating" in str(fault) for fault in inspect_folder(folder).faults)
    change(folder, {"peft_type": "OFT", "r": 0, "base_model_name_or_path": "b"}, lost=torch.tensor([torch.nan]))
    assert [fault.seen for fault in inspect_folder(folder).faults] == [
        "lost with 1 of 1 entries that are NaN or infinite"
    ]
