"""Opening: what works, and every way in which it must fail before work starts, with a reason and a remedy."""

import json
import pickle
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from helpers.families import small_module
from helpers.model_folders import write_composite, write_gguf
from helpers.models import FAMILIES, WORDS, minilm_folder, tiny_module, tiny_tokenizer
from promptreach.errors import InputError, MissingExtraError, ModelError, UnsupportedModelError
from promptreach.hf import layer_weights, open_model
from promptreach.tuning import fit


def saved(folder: Path, family: str = "bert", **overrides: Any) -> Path:
    tiny_module(family, **overrides).save_pretrained(folder)
    tiny_tokenizer(family).save_pretrained(folder)
    return folder


def assert_refused(source: Any, *messages: str, **options: Any) -> None:
    with pytest.raises(ModelError) as error:
        open_model(source, **options)
    assert len(error.value.faults) == len(messages), str(error.value)
    for fault, message in zip(error.value.faults, messages, strict=True):
        assert message in str(fault)


def test_a_call_that_cannot_be_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    absent = "mps" if torch.cuda.is_available() else "cuda"
    for device in (absent, "nonsense", "meta"):
        with pytest.raises(InputError, match=f"device: '{device}'"):
            open_model(tmp_path / "nowhere", device=device)
    wrapped = get_peft_model(tiny_module("bert"), LoraConfig(target_modules=["query"]))
    with pytest.raises(InputError, match="adapter=") as refused:
        open_model(wrapped, device="nonsense")
    assert len(refused.value.faults) == 2


def test_files_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(tmp_path)

    def denied(self: Path, *args: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", denied)
    monkeypatch.setattr(Path, "open", denied)
    assert_refused(folder, "config.json: it cannot be read (Permission denied)", "model.safetensors: it cannot be")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_opens_as_what_was_saved(family: str, tmp_path: Path) -> None:
    module = tiny_module(family)
    model = open_model(saved(tmp_path, family))
    assert model.family == family
    assert model.task == ("encoder" if family in ("bert", "roberta") else "causal")
    assert model.name == str(tmp_path)
    assert not model.model.training
    assert not any(parameter.requires_grad for parameter in model.model.parameters())
    weights = module.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.model.state_dict().items())
    if family == "qwen2":
        return  # transformers takes its own pre-tokenizer for this type, whatever the folder holds
    assert model.tokenize(["the cat"]) == open_model(module, tokenizer=tiny_tokenizer(family)).tokenize(["the cat"])


def test_first_layers_dtype_and_task(tmp_path: Path) -> None:
    whole = open_model(saved(tmp_path, "qwen2"))
    model = open_model(str(tmp_path), num_layers=1, dtype=torch.float64, task="encoder")
    assert (model.num_layers, len(model.layers), model.task) == (1, 1, "encoder")
    assert model.vocabulary.dtype == torch.float64
    assert torch.equal(model.vocabulary.float(), whole.vocabulary)
    assert model.fingerprint != whole.fingerprint
    assert_refused(tmp_path, "expected 1 to 2", num_layers=3)
    assert_refused(tmp_path, "expected 1 to 2", num_layers=0)
    assert torch.equal(open_model(tmp_path, device_map="auto").vocabulary, whole.vocabulary)


def test_an_encoder_is_not_causal(tmp_path: Path) -> None:
    for source in (saved(tmp_path, "bert"), tiny_module("bert")):
        with pytest.raises(InputError, match="every token sees every other"):
            open_model(source, task="causal")


def test_shards(tmp_path: Path) -> None:
    module = tiny_module("llama")
    module.save_pretrained(tmp_path, max_shard_size="20KB")
    tiny_tokenizer("llama").save_pretrained(tmp_path)
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert torch.equal(open_model(tmp_path).vocabulary, module.get_input_embeddings().weight)
    shards[1].write_bytes(shards[1].read_bytes()[:-3])
    shards[0].unlink()
    assert_refused(tmp_path, "the shard that model.safetensors.index.json names", "as its header says")
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    assert_refused(tmp_path, "no weight_map")


def test_a_trained_head_is_told_by_the_config(tmp_path: Path) -> None:
    tiny_module("llama").model.save_pretrained(tmp_path)
    assert open_model(tmp_path, tokenizer=tiny_tokenizer()).task == "encoder"


def test_opening_is_silent_and_leaves_logging_as_it_was(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path)
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    capfd.readouterr()
    open_model(tmp_path)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


@pytest.mark.parametrize("source", ["./nothing", "/nothing/here", "model.gguf", Path("nothing"), "not a name!"])
def test_nothing_there(source: str | Path) -> None:
    assert_refused(source, "nothing there")


def test_a_hub_id_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert_refused("someone/some-model", "not on this machine")


def test_a_hub_id_that_was_downloaded_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--some-model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    saved(repository / "snapshots" / ("0" * 40))
    model = open_model("someone/some-model")
    assert (model.name, model.family) == ("someone/some-model", "bert")


def test_an_adapter_is_not_a_model(tmp_path: Path) -> None:
    (saved(tmp_path) / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/else"}')
    assert_refused(tmp_path, "Open its base model")


def test_an_empty_folder_lists_everything_missing(tmp_path: Path) -> None:
    assert_refused(tmp_path, "config.json: no such file", "no weights", "no tokenizer")


def test_a_folder_without_config(tmp_path: Path) -> None:
    (saved(tmp_path) / "config.json").unlink()
    assert_refused(tmp_path, "config.json: no such file")


def test_a_truncated_file(tmp_path: Path) -> None:
    weights = saved(tmp_path) / "model.safetensors"
    whole = weights.read_bytes()
    for kept, message in ((len(whole) - 1, "as its header says"), (50, "inside the header"), (0, "inside the header")):
        weights.write_bytes(whole[:kept])
        assert_refused(tmp_path, message)
    weights.write_bytes(whole + b"\0")
    assert_refused(tmp_path, "as its header says")


def test_pickled_weights_are_never_opened(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (pytest.fail, ("the pickle was opened",))

    (saved(tmp_path) / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Hostile()))
    assert_refused(tmp_path, "pickled weights")


def test_code_that_comes_with_a_model_is_not_run(tmp_path: Path) -> None:
    config = json.loads((saved(tmp_path) / "config.json").read_text())
    (tmp_path / "evil.py").write_text("raise SystemExit('the model ran code')")
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises((ModelError, UnsupportedModelError)):
        open_model(tmp_path)


def test_missing_and_misshapen_weights_are_all_named(tmp_path: Path) -> None:
    weights = saved(tmp_path) / "model.safetensors"
    tensors = load_file(weights)
    del tensors["encoder.layer.1.output.dense.bias"]
    tensors["embeddings.word_embeddings.weight"] = torch.zeros(7, 32)
    save_file(tensors, weights, metadata={"format": "pt"})
    assert_refused(tmp_path, "no weight 'encoder.layer.1.output.dense.bias'", "of shape (7, 32)")


def test_an_architecture_without_a_row_opens(tmp_path: Path) -> None:
    small_module("smollm3").save_pretrained(tmp_path)
    tiny_tokenizer("llama").save_pretrained(tmp_path)
    model = open_model(tmp_path)
    assert (model.family, model.task, model.row, model.lacks("prefix")) == ("smollm3", "causal", None, "")
    with pytest.raises(UnsupportedModelError, match="smollm3"):
        layer_weights(model)


def test_a_pooler_that_was_not_saved_is_not_missed(tmp_path: Path) -> None:
    module = small_module("xlm-roberta", add_pooling_layer=True)
    weights = {key: tensor for key, tensor in module.state_dict().items() if "pooler" not in key}
    module.save_pretrained(tmp_path, state_dict=weights)
    tiny_tokenizer("bert").save_pretrained(tmp_path)
    assert open_model(tmp_path).task == "encoder"


@pytest.mark.parametrize(("kind", "text"), [("gemma3", "gemma3_text"), ("mistral3", "mistral")])
def test_a_composite_opens_as_its_text_model(tmp_path: Path, kind: str, text: str) -> None:
    whole = write_composite(tmp_path, kind, text)
    model = open_model(tmp_path)
    assert (model.family, model.task) == (text, "causal")
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(model.model(input_ids=ids).logits, whole(input_ids=ids).logits)
    weights = load_file(tmp_path / "model.safetensors")
    part = next(key for key in weights if "vision" not in key and "layers.0." in key)
    save_file({key: tensor for key, tensor in weights.items() if key != part}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="no weight"):
        open_model(tmp_path)


def test_relative_positions(tmp_path: Path) -> None:
    saved(tmp_path, "bert", position_embedding_type="relative_key")
    with pytest.raises(UnsupportedModelError, match="position_embedding_type"):
        open_model(tmp_path)


def test_layers_of_an_open_model_stay() -> None:
    with pytest.raises(InputError, match="num_layers"):
        open_model(tiny_module("bert"), num_layers=1)


def test_a_real_encoder_opens() -> None:
    model = open_model(minilm_folder())
    assert (model.family, model.task, model.num_layers, model.hidden_size, model.max_positions) == (
        *("bert", "encoder", 6, 384, 512),
    )


def test_a_gguf_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    capfd.readouterr()
    model = open_model(path)
    assert capfd.readouterr() == ("", "")
    assert (model.family, model.num_layers, model.num_kv_heads) == ("llama", 2, 2)
    assert torch.isfinite(model.hidden(model.batch([[4, 5]]))).all()
    assert open_model(path, num_layers=1).num_layers == 1
    model.release().save_pretrained(tmp_path / "plain")
    assert open_model(tmp_path / "plain", tokenizer=model.tokenizer).fingerprint == model.fingerprint


@pytest.mark.parametrize("share", [0.999, 0.5, 0.02])
def test_a_truncated_gguf_file(tmp_path: Path, share: float) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert_refused(path, "cannot be read")


def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"PK\3\4 something else")
    assert_refused(tmp_path / "model.gguf", "starts with b'PK")


def test_gguf_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    monkeypatch.setattr("promptreach.model_files.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "gguf>=0.17"'):
        open_model(path)


@pytest.mark.parametrize("tied", [True, False])
def test_resized_embeddings(tmp_path: Path, tied: bool) -> None:
    module = tiny_module("llama", tie_word_embeddings=tied)
    module.resize_token_embeddings(70)
    module.save_pretrained(tmp_path)
    tiny_tokenizer("llama").save_pretrained(tmp_path)
    model = open_model(tmp_path)
    assert len(model.vocabulary) == 70
    with torch.no_grad():
        found = model.vocabulary_logits(model.hidden(model.batch([[5, 69, 7]])))
        assert torch.equal(found, module(torch.tensor([[5, 69, 7]])).logits)


def test_a_forward_without_embeddings_has_no_prompt_and_everything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    module = small_module("smollm3")
    own = type(module.model).forward

    def forward(self: Any, input_ids: Any = None, attention_mask: Any = None, **options: Any) -> Any:
        return own(self, input_ids=input_ids, attention_mask=attention_mask, **options)

    monkeypatch.setattr(type(module.model), "forward", forward)
    model = open_model(module, tokenizer=tiny_tokenizer("llama"))
    assert "takes token ids and no embeddings" in model.lacks("prompt")
    assert [model.lacks(method) for method in ("prefix", "lora")] == ["", ""]
    with pytest.raises(InputError, match="no embeddings"):
        fit(model, [{"text": f"{a} {b}", "label": a < b} for a in WORDS[:6] for b in WORDS[:6]], "prompt")
