"""Texts from a command line, and the end of a completion."""

from pathlib import Path

import pytest
import torch

from helpers.tasks import END, completer
from promptreach.commands.predict import predict_texts, seconds_of, texts_of
from promptreach.commands.reading import read_folder
from promptreach.errors import InputError
from promptreach.hf import save_adapter
from promptreach.prompt import SoftPrompt


def test_a_text_is_itself_and_a_file_its_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    assert texts_of("a cat") == ["a cat"]
    assert texts_of("x" * 5000) == ["x" * 5000]
    assert texts_of(str(tmp_path / "a.txt")) == ["one", "two"]
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\xff")
    for wrong in (str(tmp_path / "b.txt"), "  "):
        with pytest.raises(InputError):
            texts_of(wrong)


def test_a_second_text_is_a_line_for_each_or_a_whole_file_for_one(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    assert seconds_of(str(tmp_path / "a.txt"), 1, "context") == ["one\n\ntwo"]
    assert seconds_of(str(tmp_path / "a.txt"), 2, "context") == ["one", "two"]
    assert seconds_of("a cat", 2, "context") == ["a cat"]
    (tmp_path / "empty.txt").write_text("\n \n")
    for texts in (1, 2):
        with pytest.raises(InputError, match="no text"):
            seconds_of(str(tmp_path / "empty.txt"), texts, "context")
    with pytest.raises(InputError, match="context: no text"):
        seconds_of(" ", 1, "context")


def test_a_completion_stops_at_the_end_token_and_at_the_end_of_the_context(tmp_path: Path) -> None:
    model = completer()
    save_adapter(tmp_path / "a", model, SoftPrompt(torch.ones(3, 32)))
    reader = read_folder(tmp_path / "a", model)
    starts = [[token] for token in range(4, 30)]
    written = reader.written(starts, 100)
    assert all(END not in ids for ids in written)
    assert all(len(ids) <= 64 - 3 - 1 for ids in written)
    for start, ids in zip(starts, written, strict=True):
        one_more = reader.written([[*start, *ids]], 1)[0]
        assert one_more == [] or len(ids) == 64 - 3 - 1
    assert reader.written(starts[:2], 100) == written[:2]


def test_a_cut_text_is_counted(tmp_path: Path) -> None:
    model = completer()
    save_adapter(tmp_path / "a", model, SoftPrompt(torch.ones(3, 32)))
    found = predict_texts(model, tmp_path / "a", ["a cat", "the dog " * 10], max_length=8, max_new_tokens=1)
    assert "1 of them cut at 8 tokens" in found.sample


@pytest.mark.parametrize("options", [("good", "bad", ""), ("good", " ")])
def test_a_blank_option_is_no_answer(options: tuple[str, ...], tmp_path: Path) -> None:
    model = completer()
    save_adapter(tmp_path / "a", model, SoftPrompt(torch.ones(3, 32)))
    with pytest.raises(InputError, match="options: a blank one"):
        predict_texts(model, tmp_path / "a", ["a cat"], options=options)


def test_another_base_stands_below_the_answers(tmp_path: Path) -> None:
    model = completer()
    folder = save_adapter(tmp_path / "a", model, SoftPrompt(torch.ones(3, 32)), base="somebody/other-7b")
    (note,) = predict_texts(model, folder, ["a cat"], max_new_tokens=1).blocks[1:]
    assert "names another base model, somebody/other-7b" in str(note)
