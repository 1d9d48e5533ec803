"""The tokenizer beside an adapter: used where the model has rows for its tokens, refused by name where it has not."""

from pathlib import Path

import pytest
import torch

from helpers.models import VOCABULARY, tiny_model
from promptreach.errors import AdapterError
from promptreach.hf import OpenModel, load_adapter, save_adapter
from promptreach.hf.adapters.tokenizer import added_tokens, reading_as
from promptreach.prompt import SoftPrompt

KNOWN = 29  # tokens of the tiny tokenizer


def with_tokens(folder: Path, model: OpenModel, *tokens: str, padding: str = "") -> Path:
    """An adapter's folder, with the model's tokenizer and these tokens more beside it."""
    saved = save_adapter(folder, model, SoftPrompt(torch.randn(3, 32)))
    tokenizer = tiny_model(model.family).tokenizer
    tokenizer.add_tokens(list(tokens))
    if padding:
        tokenizer.add_special_tokens({"pad_token": padding})
    tokenizer.save_pretrained(saved)
    return saved


@pytest.mark.parametrize("tokens", [("<q>",), ("<q>", "<a>", "<x>"), tuple(f"<{i}>" for i in range(9))])
def test_tokens_that_have_rows_are_read_as_they_were(tmp_path: Path, tokens: tuple[str, ...]) -> None:
    model = tiny_model("llama")
    folder = with_tokens(tmp_path / "a", model, *tokens)
    assert added_tokens(folder, model) == tokens
    with pytest.raises(AdapterError, match=f"{len(tokens)} tokens .<q>" if len(tokens) < 9 else "and 4 more"):
        load_adapter(folder, model)
    reading = reading_as(folder, model)
    assert reading.tokenize(["<q> cat"])[0][0] == (KNOWN if "<q>" in tokens else 1)
    assert isinstance(load_adapter(folder, reading), SoftPrompt)
    assert model.tokenize(["<q> cat"])[0][0] == 1  # the model that was given is as it was


def test_tokens_without_a_row_are_refused_by_name(tmp_path: Path) -> None:
    model = tiny_model("llama")
    folder = with_tokens(tmp_path / "a", model, *(f"<{i}>" for i in range(VOCABULARY - KNOWN + 1)))
    with pytest.raises(AdapterError, match=f"1 tokens .<{VOCABULARY - KNOWN}>. that .* of {VOCABULARY} rows"):
        reading_as(folder, model)


def test_another_padding_token_is_no_other_tokenizer(tmp_path: Path) -> None:
    model = tiny_model("llama")
    folder = with_tokens(tmp_path / "a", model, padding="<|pad|>")
    assert reading_as(folder, model) is model
    assert isinstance(load_adapter(folder, model), SoftPrompt)


def test_no_tokenizer_beside_it(tmp_path: Path) -> None:
    model = tiny_model("llama")
    folder = save_adapter(tmp_path / "a", model, SoftPrompt(torch.randn(3, 32)))
    assert added_tokens(folder, model) == ()


def test_a_damaged_tokenizer_is_named(tmp_path: Path) -> None:
    model = tiny_model("llama")
    folder = with_tokens(tmp_path / "a", model, "<q>")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(AdapterError, match="its tokenizer cannot be read"):
        load_adapter(folder, model)
