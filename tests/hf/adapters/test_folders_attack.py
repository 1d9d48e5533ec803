"""Adapter folders that are damaged, foreign or hostile are refused with the reason, and nothing half is written."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.models import tiny_model
from promptreach.errors import AdapterError, OutputError
from promptreach.hf import OpenModel, load_adapter, load_readout, save_adapter
from promptreach.hf.adapters.folders import CONFIG, READOUT, READOUT_INFO, WEIGHTS
from promptreach.prompt import LowRankUpdate, Prefix, SoftPrompt

MODEL = tiny_model("llama")


def prompt(length: int = 3, hidden: int = 32) -> SoftPrompt:
    return SoftPrompt(torch.randn(length, hidden))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_adapter(tmp_path / "adapter", MODEL, prompt())


def change(folder: Path, **fields: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **fields}))


def assert_refused(folder: Path, *messages: str, model: OpenModel = MODEL) -> None:
    with pytest.raises(AdapterError) as error:
        load_adapter(folder, model)
    assert len(error.value.faults) == len(messages)
    for message in messages:
        assert message in str(error.value)


def test_nothing_there(tmp_path: Path) -> None:
    assert_refused(tmp_path / "nowhere", "no such folder")


def test_every_file_fault_at_once(folder: Path) -> None:
    (folder / CONFIG).write_text("{")
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1])
    assert_refused(folder, "not JSON", "as its header says")


@pytest.mark.parametrize("kept", [0, 4, 20])
def test_a_truncated_header(folder: Path, kept: int) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:kept])
    assert_refused(folder, "end inside the header")


def test_a_header_of_rubbish(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((3).to_bytes(8, "little") + b"[0]")
    assert_refused(folder, "not safetensors'")


def test_a_pickle_is_never_opened(folder: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (pytest.fail, ("the pickle was opened",))

    (folder / WEIGHTS).unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Hostile()))
    assert_refused(folder, "pickled weights")


def test_an_unknown_kind_names_the_known_ones(folder: Path) -> None:
    change(folder, peft_type="IA3")
    assert_refused(folder, "one of PROMPT_TUNING, P_TUNING, CPT, PREFIX_TUNING, CARTRIDGE, LORA")


FINITE, EMPTY = (
    torch.zeros(3, 32),
    "(0, 32), which is empty; expected a matrix of (virtual tokens, size). A sharded run",
)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"other": torch.zeros(2, 32)}, "no prompt_embeddings; what is there: other (2, 32)"),
        ({"prompt_embeddings": torch.full((2, 32), torch.nan)}, "64 of 64 entries that are NaN or infinite"),
        ({"prompt_embeddings": torch.empty(0)}, "shape (0,), which is empty"),
        ({"prompt_embeddings": torch.empty(0, 32)}, EMPTY),
        ({"prompt_embeddings": torch.zeros(3, 2, 16)}, "of shape (3, 2, 16); expected a matrix"),
        ({"prompt_embeddings": FINITE.to(torch.int8)}, "prompt_embeddings of int8, whose scale"),
        ({"prompt_encoder.default.embedding.weight": FINITE}, "is the training form of the same thing"),
        ({"base_model.prompt_embeddings": FINITE}, "rename it to prompt_embeddings"),
        ({}, "no tensor at all"),
    ],
)
def test_no_usable_prompt(folder: Path, tensors: dict[str, torch.Tensor], message: str) -> None:
    save_file(tensors, folder / WEIGHTS)
    assert_refused(folder, message)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float64])
def test_every_floating_type_is_read(folder: Path, dtype: torch.dtype) -> None:
    save_file({"prompt_embeddings": torch.ones(3, 32).to(dtype)}, folder / WEIGHTS)
    read = load_adapter(folder, MODEL)
    assert isinstance(read, SoftPrompt)
    assert torch.equal(read.embeddings.double(), torch.ones(3, 32).double())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_virtual_tokens": 20}, "num_virtual_tokens 20, where prompt_embeddings has 3 rows"),
        ({"token_dim": 768}, "token_dim 768, where prompt_embeddings has 32 columns"),
        ({"num_layers": 12}, "num_layers 12; expected 2"),
        ({"num_transformer_submodules": 2, "task_type": "SEQ_2_SEQ_LM"}, "num_transformer_submodules 2 (2 x 3"),
    ],
)
@pytest.mark.parametrize("kind", ["PROMPT_TUNING", "P_TUNING"])
def test_a_prompt_that_contradicts_its_config(folder: Path, fields: dict[str, Any], message: str, kind: str) -> None:
    change(folder, peft_type=kind, **fields)
    assert_refused(folder, message)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_virtual_tokens": 2}, "num_virtual_tokens 2, where prompt_embeddings has 4 rows"),
        ({"token_dim": 8}, "2 x 2 layers x token_dim 8, where prompt_embeddings has 64 columns"),
        ({"num_transformer_submodules": 2}, "(2 x 4 virtual tokens in 4 rows)"),
    ],
)
def test_a_prefix_whose_sizes_differ(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    prefix = save_adapter(tmp_path / "a", MODEL, Prefix(*torch.randn(2, 2, 2, 4, 8)))
    change(prefix, **fields)
    assert_refused(prefix, message)


@pytest.mark.parametrize(
    ("part", "tensor", "message"),
    [
        ("lora_A.weight", torch.empty(0), "A sharded run saved it"),
        ("lora_A.default.weight", torch.zeros(2, 32), "the training form of the same thing"),
        ("lora_A.weight", torch.zeros(2, 32, dtype=torch.int8), "of int8, whose scale"),
    ],
)
def test_lora_matrices_that_are_none(tmp_path: Path, part: str, tensor: torch.Tensor, message: str) -> None:
    with MODEL.low_rank(2, 4.0, 0) as update:
        lora = save_adapter(tmp_path / "a", MODEL, LowRankUpdate(2, 4.0, update.state()))
    tensors = load_file(lora / WEIGHTS)
    key = next(iter(tensors))
    path = key.partition(".lora_")[0]
    save_file(
        {**{k: t for k, t in tensors.items() if not k.startswith(path)}, f"{path}.{part}": tensor}, lora / WEIGHTS
    )
    with pytest.raises(AdapterError, match=message):
        load_adapter(lora, MODEL)


def test_a_prompt_of_another_model(folder: Path) -> None:
    assert_refused(folder, "expected 48", model=tiny_model("llama", hidden_size=48))


def test_a_prompt_longer_than_the_context(tmp_path: Path) -> None:
    wide = tiny_model("llama", max_position_embeddings=128)
    save_adapter(tmp_path / "short", wide, prompt(63))
    load_adapter(tmp_path / "short", MODEL)
    save_adapter(tmp_path / "long", wide, prompt(64))
    assert_refused(tmp_path / "long", "fewer than the 64 positions")


@pytest.mark.parametrize("other", [{"num_hidden_layers": 3}, {"num_key_value_heads": 1}])
def test_a_prefix_of_another_model(tmp_path: Path, other: dict[str, int]) -> None:
    stranger = tiny_model("llama", **other)
    folder = save_adapter(tmp_path / "a", stranger, stranger.cache_of([4, 5]))
    assert_refused(folder, "(layers, kv heads, head size)")


def test_a_prefix_that_contradicts_its_config(tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "a", MODEL, MODEL.cache_of([4, 5]))
    change(folder, num_layers=5)
    assert_refused(folder, "5 layers")


def test_lora_of_another_model(tmp_path: Path) -> None:
    with MODEL.low_rank(2, 4.0, 0) as update:
        adapter = LowRankUpdate(2, 4.0, update.state())
    folder = save_adapter(tmp_path / "a", MODEL, adapter)
    assert_refused(folder, *["an update of"] * 4, model=tiny_model("bert"))
    # Half the width: A of both projections, and B of both, in two layers.
    narrow = tiny_model("llama", hidden_size=16)
    assert_refused(folder, *["lora_A.weight: (2, 32)", "lora_B.weight: (32, 2)"] * 4, model=narrow)


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    with MODEL.low_rank(2, 4.0, 0) as update:
        return save_adapter(tmp_path / "a", MODEL, LowRankUpdate(2, 4.0, update.state()))


def test_lora_without_matrices(lora: Path) -> None:
    whole = load_file(lora / WEIGHTS)
    save_file({"base_model.model.classifier.weight": torch.zeros(1)}, lora / WEIGHTS)
    change(lora, r="2")
    assert_refused(lora, "no LoRA matrices", "r '2'")
    change(lora, r=2)
    save_file({key: tensor / 0 if "lora_B" in key else tensor for key, tensor in whole.items()}, lora / WEIGHTS)
    assert_refused(lora, *["NaN"] * 4)


def test_lora_matrices_that_are_not_of_their_rank_or_belong_to_no_matrix(lora: Path) -> None:
    whole = load_file(lora / WEIGHTS)
    change(lora, r=3)
    assert_refused(lora, *["at rank 3"] * 8)
    change(lora, r=2)
    attention = "base_model.model.model.layers.0.self_attn"
    del whole[f"{attention}.q_proj.lora_B.weight"]
    whole[f"{attention}.q_proj.lora_diag"] = torch.ones(2)
    whole[f"{attention}.v_proj.lora_A.weight"] = torch.ones(32)
    whole[f"{attention}.lora_A.weight"] = torch.ones(2, 32)
    whole["base_model.model.model.layers.0.input_layernorm.lora_A.weight"] = torch.ones(2, 32)
    save_file(whole, lora / WEIGHTS)
    messages = ["lora_B.weight: missing", "lora_diag: (2,)", "lora_A.weight: (32,)", *["a weight matrix"] * 2]
    assert_refused(lora, *messages)


def test_settings_that_make_more_of_lora_than_a_low_rank_update_are_told_at_once(lora: Path) -> None:
    change(
        lora,
        bias="all",
        lora_bias=True,
        alora_invocation_tokens=[5],
        layer_replication=[[0, 1]],
        trainable_token_indices=[3],
        target_parameters=["mlp.weight"],
        of_a_later_release={"form": "unknown"},
        init_lora_weights="pissa_niter_4",
        rank_pattern=[1],
        lora_alpha=None,
    )
    names = ["bias 'all'", "lora_bias", "alora", "replication", "indices", "target_parameters", "later_release"]
    assert_refused(lora, *names, "path_initial_model_for_weight_conversion", "rank_pattern", "lora_alpha None")


def test_half_a_readout(folder: Path) -> None:
    (folder / READOUT_INFO).write_text("[]")
    with pytest.raises(AdapterError) as error:
        load_readout(folder)
    assert len(error.value.faults) == 2
    assert READOUT in str(error.value)


def test_what_does_not_fit_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="expected 32"):
        save_adapter(tmp_path / "a", MODEL, prompt(hidden=31))
    assert not any(tmp_path.iterdir())


def test_other_peoples_files_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError):
        save_adapter(tmp_path, MODEL, prompt())
    with pytest.raises(OutputError):
        save_adapter(tmp_path / "thesis.tex", MODEL, prompt())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_failure_while_writing_keeps_the_old_adapter(folder: Path) -> None:
    with pytest.raises(TypeError):
        save_adapter(folder, MODEL, MODEL.cache_of([4]), readout=({}, {"not JSON": object()}))
    assert isinstance(load_adapter(folder, MODEL), SoftPrompt)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_prefix_values_of_another_size(tmp_path: Path) -> None:
    keys = torch.zeros(2, 2, 3, 8)
    with pytest.raises(AdapterError, match="head size"):
        save_adapter(tmp_path / "a", MODEL, Prefix(keys, torch.zeros(2, 2, 3, 4)))
