"""The finding of ``inspect``: norms against plain formulas, and whether an adapter changes anything."""

from pathlib import Path

import pytest
import torch

from helpers.command_line import saved_model
from helpers.pairs import pair_module, pair_tokenizer
from helpers.tasks import labelled, prefix_like
from promptreach.commands.fit import fit_adapter
from promptreach.commands.inspect import inspect_adapter
from promptreach.hf import OpenModel, open_model, save_adapter
from promptreach.prompt import LowRankUpdate, SoftPrompt


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> OpenModel:
    """A model that an adapter's config can name."""
    return saved_model(tmp_path_factory.mktemp("inspect") / "model")


def test_a_prompt_of_vocabulary_rows_was_never_trained(model: OpenModel, tmp_path: Path) -> None:
    rows = model.vocabulary[[3, 7, 7]].clone()
    save_adapter(tmp_path / "a", model, SoftPrompt(rows))
    values = inspect_adapter(tmp_path / "a").values
    assert values["vocabulary_rows"] == 3
    assert values["norm"] == pytest.approx(float(rows.norm(dim=1).median()))
    rows[0, 0] += 1e-3
    save_adapter(tmp_path / "b", model, SoftPrompt(rows))
    assert inspect_adapter(tmp_path / "b").values["vocabulary_rows"] == 2


def test_an_update_is_as_large_as_its_product(model: OpenModel, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    with model.low_rank(2, 6.0, seed=0) as attached:
        state = {key: torch.randn(tensor.shape, generator=generator) for key, tensor in attached.state().items()}
    save_adapter(tmp_path / "a", model, LowRankUpdate(2, 6.0, state))
    found = inspect_adapter(tmp_path / "a")
    table = next(block for block in found.blocks if block.kind == "table" and "updates" in block.title)
    path, _, size, share = table.rows[0]
    a, b = (state[f"base_model.model.{path}.lora_{part}.weight"] for part in "AB")
    assert size == pytest.approx(3 * float((b @ a).norm()), rel=1e-5)
    assert share == pytest.approx(size / float(model.model.get_submodule(path).weight.norm()), rel=1e-5)
    assert (found.values["zero_updates"], found.values["changes_nothing"]) == (0, False)
    assert found.values["effect"] > 0


def test_an_update_of_zeros_moves_nothing(model: OpenModel, tmp_path: Path) -> None:
    with model.low_rank(2, 6.0, seed=0) as attached:
        save_adapter(tmp_path / "a", model, LowRankUpdate(2, 6.0, attached.state()))
    found = inspect_adapter(tmp_path / "a")
    assert (found.values["changes_nothing"], found.values["effect"]) == (True, 0.0)
    assert "it changes nothing" in found.summary


def test_a_prefix_stands_beside_what_text_leaves(model: OpenModel, tmp_path: Path) -> None:
    prefix = prefix_like(model, 4)
    save_adapter(tmp_path / "a", model, prefix)
    values = inspect_adapter(tmp_path / "a").values
    assert values["keys"] == [pytest.approx(float(layer.norm(dim=-1).median())) for layer in prefix.keys]
    assert set(values["servers"]) >= {"vLLM", "SGLang"}
    assert {entry["served"] for entry in values["servers"].values()} == {"no"}


def test_another_base_than_the_one_given_is_told(model: OpenModel, tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "a", model, SoftPrompt(torch.ones(2, 32)), base="somebody/other-7b")
    found = inspect_adapter(folder, model=model.name)
    assert any("names another base model, somebody/other-7b" in str(block) for block in found.blocks)
    assert not any("another base" in str(block) for block in inspect_adapter(tmp_path / "a").blocks)


@pytest.mark.parametrize("method", ["prompt", "prefix"])
def test_a_folder_for_an_encoder_decoders_encoder_is_sound(method: str, tmp_path: Path) -> None:
    for part in (pair_module("t5"), pair_tokenizer()):
        part.save_pretrained(tmp_path / "model")
    model = open_model(tmp_path / "model")
    fit_adapter(model, labelled(), tmp_path / "a", method=method, tokens=2, learning_rate=0.1, steps=2, quiet=True)
    values = inspect_adapter(tmp_path / "a", model=str(tmp_path / "model")).values
    assert (values["faults"], values["agrees"]) == ([], True)
