"""Quantised models: run and trained through as they are, told apart, and refused by name where weights are read."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from helpers.models import tiny_model, tiny_module, tiny_tokenizer
from helpers.quantised import PACKERS, WIDE, fp8_folder, packed_folder, packer, quantised
from helpers.reach import SEQUENCES, answer, relative, step
from helpers.tolerances import TOLERANCES
from promptreach.backbone import Prepended
from promptreach.errors import InputError, MissingExtraError, ModelError, UnsupportedModelError
from promptreach.hf import OpenModel, attach, layer_weights, open_model, precompute, save_adapter
from promptreach.hf.running.reach import reach_of_model
from promptreach.stored import entries_of, fingerprint_of, keep_differentiable, stored_bytes
from promptreach.tuning import fit

TIGHT = TOLERANCES["joined states", torch.float32][0]
WORDS = [[5, 12, 19, 26, 33, 30], [7, 24, 31]]


@pytest.fixture(scope="module", params=PACKERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed_folder(tmp_path_factory.mktemp("packed"), request.param)


@pytest.fixture(scope="module")
def model(folder: Path) -> OpenModel:
    return open_model(folder)


@pytest.fixture(autouse=True)
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helpers.reach.SEQUENCES", WORDS)


def by_transformers(folder: Path, moved: bool = False) -> PreTrainedModel:
    """The same folder without us; its 4-bit kernels may move to where they round otherwise, and have no gradient."""
    own = AutoModelForCausalLM.from_pretrained(folder, device_map="cpu", dtype=torch.float32)
    if not moved:
        keep_differentiable(own)
    return own


def test_it_opens_as_it_is(folder: Path, model: OpenModel) -> None:
    own = by_transformers(folder)
    batch = model.batch(WORDS)
    with torch.no_grad():
        expected = own(input_ids=batch.input_ids, attention_mask=batch.mask.long()).logits
        found = model.vocabulary_logits(model.hidden(batch))
    assert relative(found[batch.mask], expected[batch.mask]) <= TIGHT
    settings = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert model.packing == settings["quant_method"]
    plain = tiny_model("llama", **WIDE)
    assert model.inner_entries(2) == plain.inner_entries(2)
    assert stored_bytes(model.model) < 0.8 * stored_bytes(plain.model)
    assert entries_of(model.model) == entries_of(plain.model) - 5 * 64  # vectors of norms are no matrices


@pytest.mark.parametrize("method", ["prompt", "prefix", "lora"])
def test_every_method_trains_through_it_and_peft_agrees(
    folder: Path, model: OpenModel, method: str, tmp_path: Path
) -> None:
    before = answer(model)
    moved, adapter = step(model, method)
    assert moved > 0
    assert torch.equal(answer(model), before)
    path = save_adapter(tmp_path / "adapter", model, adapter)
    wrapped = PeftModel.from_pretrained(by_transformers(folder), str(path)).eval()
    batch = model.batch(WORDS)
    with torch.no_grad():
        given = wrapped(input_ids=batch.input_ids, attention_mask=batch.mask.long()).logits
        expected = given[:, given.shape[1] - batch.mask.shape[1] :][batch.mask]
        if method == "lora":
            with attach(model, adapter) as joined:
                found = answer(model, joined)
        else:
            found = answer(model, Prepended.of(adapter))  # type: ignore[arg-type]
    assert relative(found, expected) <= TIGHT


def test_gradients_are_those_of_the_weights_it_stands_for(model: OpenModel) -> None:
    """A prompt's gradient through packed weights, against the unpacked matrix of each projection."""
    with torch.no_grad():
        matrices = {
            name: part(torch.eye(part.in_features)).T.clone()
            for name, part in model.model.named_modules()
            if name.endswith("_proj")
        }
    plain = tiny_module("llama", **WIDE)
    for name, matrix in matrices.items():
        plain.get_submodule(name).weight.data.copy_(matrix)
    for name, weight in plain.named_parameters():
        if not name.endswith("_proj.weight") and "lm_head" not in name:
            weight.data.copy_(model.model.get_parameter(name))
    batch, prompt = model.batch(WORDS), 0.5 * torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    found, expected = (_gradient(one, batch, prompt) for one in (model, OpenModel(plain, tiny_tokenizer("llama"))))
    # 8 bits of bitsandbytes round activations as well.
    room = 1e-4 if not any("8bit" in type(part).__name__ for part in model.model.modules()) else 0.1
    assert relative(found, expected) <= room


def _gradient(model: OpenModel, batch: Any, prompt: Tensor) -> Tensor:
    leaf = prompt.clone().requires_grad_()
    model.hidden(batch, Prepended(prompt=leaf))[batch.mask].sum().backward()
    assert leaf.grad is not None
    return leaf.grad


def test_the_fingerprint_is_the_weights(folder: Path, model: OpenModel, tmp_path: Path) -> None:
    assert open_model(folder).fingerprint == model.fingerprint
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    scale = next(name for name in weights if name.endswith(("_scale", ".scale", "absmax", "SCB")))
    with safe_open(folder / "model.safetensors", "pt") as file:
        about = file.metadata()
    save_file({**weights, scale: 2 * weights[scale]}, tmp_path / "model.safetensors", metadata=about)
    assert open_model(tmp_path).fingerprint != model.fingerprint
    assert fingerprint_of(model.model) == model.fingerprint


def test_what_reads_weights_says_so(model: OpenModel) -> None:
    with pytest.raises(UnsupportedModelError, match=f"quantised by {model.packing}"):
        layer_weights(model)
    for method in ("unipelt", "full"):
        assert model.packing in model.lacks(method)
    assert [model.lacks(method) for method in ("prompt", "prefix", "lora")] == ["", "", ""]
    ways = {way.name: way for way in reach_of_model(model).ways}
    assert not ways["limits"].works
    assert model.packing in ways["limits"].detail
    assert ways["LoRA"].works
    with pytest.raises(InputError, match=model.packing):
        fit(model, [{"text": f"{word} cat", "label": str(len(word) % 2)} for word in tiny_tokenizer().vocab], "full")


def test_a_prompt_is_computed_once(model: OpenModel) -> None:
    prompt = step(model, "prompt")[1]
    cache = precompute(model, prompt)
    assert cache.length == 3


def test_a_module_that_is_open_is_taken_as_it_is(folder: Path) -> None:
    own = by_transformers(folder, moved=True)
    with torch.no_grad():
        own(torch.tensor(WORDS[:1]))  # bitsandbytes repacks 4-bit weights here, in a form without gradients
    assert open_model(own, tokenizer=tiny_tokenizer("llama")).packing


def test_an_encoder(tmp_path: Path) -> None:
    model = open_model(packed_folder(tmp_path, "torchao", "bert"))
    moved = {method: step(model, method)[0] for method in ("prompt", "prefix", "lora")}
    assert min(moved.values()) > 0
    assert model.packing == "torchao"


def test_fp8_is_unpacked_where_no_kernel_is(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("on an accelerator it stays packed")
    model, plain = open_model(fp8_folder(tmp_path)), tiny_model("llama")
    assert model.packing == ""
    assert model.row is not None
    assert len(layer_weights(model)) == 2
    found, expected = answer(model).float(), answer(plain)
    assert 0 < relative(found, expected) < 0.2  # 4 bits of significand, twice two layers deep
    assert model.fingerprint != plain.fingerprint


def test_a_kernel_without_a_gradient_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = packed_folder(tmp_path, "torchao")
    own = torch.nn.functional.linear

    def halved(given: Tensor, *others: Any) -> Tensor:
        return own((given + given.detach()) / 2, *others)  # the right answer, half of its gradient

    monkeypatch.setattr(torch.nn.functional, "linear", halved)
    with pytest.raises(UnsupportedModelError, match="no gradient here"):
        open_model(folder)


def test_scales_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    packer("torchao")
    folder = packed_folder(tmp_path, "torchao")
    weights = load_file(folder / "model.safetensors")
    with safe_open(folder / "model.safetensors", "pt") as file:
        about = file.metadata()
    scale = next(name for name in weights if "scale" in name)
    weights[scale].view(-1)[0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata=about)
    with pytest.raises(ModelError, match="NaN or infinite"):
        open_model(folder)


def test_missing_kernels_and_unknown_schemes(tmp_path: Path) -> None:
    tiny_module("llama").save_pretrained(tmp_path)
    tiny_tokenizer("llama").save_pretrained(tmp_path)
    quantised(tmp_path, {"quant_method": "aqlm", "in_group_size": 8})
    with pytest.raises(MissingExtraError, match="pip install aqlm"):
        open_model(tmp_path)
    quantised(tmp_path, {"quant_method": "squeeze"})
    with pytest.raises(ModelError, match="quantised by squeeze"):
        open_model(tmp_path)


def test_sequences_of_this_file_have_rows() -> None:
    assert max(max(ids) for ids in WORDS) < 40 <= max(max(ids) for ids in SEQUENCES)
