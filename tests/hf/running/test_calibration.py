"""What a shorter prefix is fitted on: pieces of text in order, or the model's own writing."""

from pathlib import Path

import pytest
import torch

from helpers.models import tiny_model
from promptreach.errors import AdapterError, InputError
from promptreach.hf import precompute, save_adapter
from promptreach.hf.adapters.folders import base_model_of, load_prompt
from promptreach.hf.running.calibration import pieces_of, read_texts, written_by
from promptreach.prompt import LowRankUpdate, SoftPrompt

MODEL = tiny_model("llama")
PROMPT = SoftPrompt(torch.randn(5, 32, generator=torch.Generator().manual_seed(0)))


def test_pieces_are_the_text_in_order() -> None:
    text = "the cat sat on the mat and the dog ran under the tree"
    ids = MODEL.tokenize([text], special_tokens=False)[0]
    pieces = pieces_of(MODEL, [text], room=4)
    assert [token for piece in pieces for token in piece] == ids[: sum(map(len, pieces))]
    assert [len(piece) for piece in pieces] == [4, 4, 4]  # the last token alone predicts nothing
    assert pieces_of(MODEL, [text], room=4, count=2) == pieces[:2]


def test_the_model_writes_the_same_for_a_seed_and_leaves_the_global_generator() -> None:
    cache = precompute(MODEL, PROMPT)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    written = written_by(cache, room=7, seed=1, count=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [len(piece) for piece in written] == [7, 7, 7]
    assert written == written_by(cache, room=7, seed=1, count=3)
    assert written != written_by(cache, room=7, seed=2, count=3)


def test_what_the_model_writes_is_its_own_whatever_its_generation_config_says() -> None:
    model = tiny_model("llama")
    before = written_by(precompute(model, PROMPT), room=20, seed=1)
    theirs = model.release().generation_config
    theirs.update(repetition_penalty=5.0, no_repeat_ngram_size=1, suppress_tokens=[4, 5, 6], min_p=0.5)
    assert written_by(precompute(model, PROMPT), room=20, seed=1) == before
    assert model.release().generation_config is theirs
    theirs.eos_token_id = 7
    assert not any(7 in piece[1:] for piece in written_by(precompute(model, PROMPT), room=20, seed=1))


def test_no_room_and_too_little_text() -> None:
    with pytest.raises(InputError, match="room for 0 tokens"):
        written_by(precompute(MODEL, PROMPT), room=-3, seed=0)
    with pytest.raises(InputError, match="room for 1 tokens"):
        pieces_of(MODEL, ["the cat sat"], room=1)
    with pytest.raises(InputError, match="Give more text"):
        pieces_of(MODEL, ["the cat sat"], room=50)


def test_every_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("the cat", encoding="utf-8")
    (tmp_path / "empty.txt").write_text(" \n", encoding="utf-8")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert read_texts([tmp_path / "good.txt"]) == ["the cat"]
    with pytest.raises(InputError) as caught:
        read_texts([tmp_path / name for name in ("good.txt", "empty.txt", "binary", "missing")])
    assert [Path(fault.where).name for fault in caught.value.faults] == ["empty.txt", "binary", "missing"]


def test_what_a_folder_says_of_its_model(tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "a", MODEL, PROMPT)
    assert base_model_of(folder) == MODEL.name
    assert isinstance(load_prompt(folder, MODEL), SoftPrompt)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(AdapterError, match="--model"):
        base_model_of(folder)
    with pytest.raises(AdapterError, match="no such folder"):
        base_model_of(tmp_path / "nowhere")
    with MODEL.low_rank(2, 4.0, seed=0) as update:
        lora = LowRankUpdate(2, 4.0, update.state())
    with pytest.raises(AdapterError, match="a LoRA update"):
        load_prompt(save_adapter(tmp_path / "lora", MODEL, lora), MODEL)
