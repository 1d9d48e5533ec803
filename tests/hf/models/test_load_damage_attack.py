"""Model folders that are damaged or meant to harm: one named error each, in bounded time, nothing told of outside."""

import json
import shutil
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import saved_model
from promptreach.errors import InputError, ModelError, PromptreachError
from promptreach.hf import open_model


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {family: tmp_path_factory.mktemp(family) for family in ("bert", "llama", "gpt2")}
    for family, folder in folders.items():
        saved_model(folder, family)
    return folders


@pytest.fixture
def folder(whole: dict[str, Path], tmp_path: Path) -> Path:
    return shutil.copytree(whole["bert"], tmp_path / "m")


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def refused(folder: Path, kind: type[PromptreachError] = ModelError) -> str:
    """What the refusal says; it comes soon."""
    began = time.monotonic()
    with pytest.raises(kind) as caught:
        open_model(folder)
    assert time.monotonic() - began < 10
    return str(caught.value)


COUNTS = ["num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size", "intermediate_size"]


@pytest.mark.parametrize("value", [0, -1, 10**8, 10**30, "x", 1.5, True, [], {}], ids=repr)
@pytest.mark.parametrize("name", [*COUNTS, "max_position_embeddings"])
def test_counts_that_no_model_has_are_refused(name: str, value: object, folder: Path) -> None:
    edit(folder / "config.json", **{name: value})
    assert str(folder) in refused(folder)


@pytest.mark.parametrize("name", ["n_layer", "n_embd", "n_head", "n_positions", "vocab_size"])
@pytest.mark.parametrize("value", [0, 10**8, "x"])
def test_so_are_those_that_another_family_names_otherwise(
    name: str, value: object, whole: dict[str, Path], tmp_path: Path
) -> None:
    copied = shutil.copytree(whole["gpt2"], tmp_path / "m")
    edit(copied / "config.json", **{name: value})
    assert str(copied) in refused(copied)


@pytest.mark.parametrize(
    "change", [{"layer_norm_eps": "x"}, {"hidden_act": 5}, {"hidden_dropout_prob": "x"}, {"model_type": 5}], ids=repr
)
def test_settings_of_the_wrong_kind_are_refused(change: dict[str, Any], folder: Path) -> None:
    edit(folder / "config.json", **change)
    refused(folder, PromptreachError)


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("content", ["", "{", "[1]", "5", "null", f'{{"a": {DEEP}}}', "\0", "{" * 100_000])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_json_that_cannot_be_read_is_refused(name: str, content: str, folder: Path) -> None:
    (folder / name).write_text(content)
    if name == "config.json" or content not in ("null", "5", "[1]"):
        refused(folder)
    else:
        with pytest.raises(ModelError):
            open_model(folder)


def header(content: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(content) if length is None else length) + content


def place(*offsets: object) -> bytes:
    return json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": offsets}}).encode()


@pytest.mark.parametrize(
    "damage",
    [
        header(f'{{"a": {DEEP}}}'.encode()),
        header(b"{}", 2**63),
        header(b"{}", 2**40),
        header(place(0)),
        header(place("0", "4")),
        header(place(4, 0)),
        header(place(0, 2**62)),
        header(place(True, 4)),
        header(b"[]"),
        header(b'{"a": 5}'),
        b"",
    ],
)
def test_headers_of_weights_that_lie_are_refused(damage: bytes, folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(damage)
    assert "model.safetensors" in refused(folder)


@pytest.mark.parametrize(
    "weights",
    [{"x": 5}, {"x": 5, "y": "a"}, [1], {}, None, {"x": "../secret"}, {"x": "/etc/passwd"}, {"x": ".."}, {"x": "a\0b"}],
    ids=repr,
)
def test_an_index_that_leads_out_of_the_folder_tells_nothing_of_outside(weights: Any, folder: Path) -> None:
    (folder.parent / "secret").write_text("s3cr3t")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    said = refused(folder)
    assert "weight_map" in said
    assert "bytes" not in said
    assert "s3cr3t" not in said


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)+$"])
def test_a_tokenizer_that_explodes_is_one_line(
    pattern: str, whole: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copied = shutil.copytree(whole["llama"], tmp_path / "m")
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    edit(copied / "tokenizer.json", pre_tokenizer=split)
    opened = open_model(copied)
    capfd.readouterr()
    began = time.monotonic()
    with pytest.raises(InputError, match="tokenizer, text"):
        opened.tokenize(["a" * 30 + "b", "fine"] * 40)
    assert time.monotonic() - began < 15
    assert "panicked" not in capfd.readouterr().err


def test_many_texts_are_tokenized_as_one_by_one(whole: dict[str, Path]) -> None:
    opened = open_model(whole["bert"])
    texts = [f"the cat sat {index}" for index in range(150)]
    assert opened.tokenize(texts) == [opened.tokenize([text])[0] for text in texts]
