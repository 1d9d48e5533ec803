"""Chats and pairs as the tokenizer itself writes them."""

import pytest

from helpers.chat_models import TEMPLATE, chat_model, pair_model
from helpers.models import tiny_module
from promptreach.errors import InputError
from promptreach.hf import OpenModel
from promptreach.hf.models.texts import chat_template_of, is_opening, own_opening, tokenized_pairs, written

TURNS = [{"role": "user", "content": "1 + 1 ?"}, {"role": "assistant", "content": "2"}]


def test_the_template_is_the_tokenizers_own() -> None:
    model = chat_model()
    assert chat_template_of(model) == TEMPLATE
    assert chat_template_of(chat_model(None)) == ""
    asked = written(model, TURNS[:1], TEMPLATE, asks=True)
    assert asked == "<s><|turn|>user : 1 + 1 ?<|end|>\n<|turn|>assistant : "
    assert written(model, TURNS, TEMPLATE, asks=False).startswith(asked)


def test_only_what_a_tokenizer_puts_in_front_by_itself_is_its_opening() -> None:
    assert own_opening(chat_model()) == "<s>"
    assert own_opening(chat_model(opens=False)) == ""
    assert own_opening(pair_model()) == "[CLS]"


def test_the_opening_token_is_told_from_words() -> None:
    model = chat_model(opens=False)
    assert is_opening(model, model.tokenizer.bos_token_id)
    assert not is_opening(model, model.tokenizer.convert_tokens_to_ids("a"))


def test_pairs_are_what_the_tokenizer_makes_of_them_and_the_longer_text_is_cut() -> None:
    model = pair_model()
    firsts, seconds = ["a b", "a b c d"], ["c", "1 2"]
    whole, lengths = tokenized_pairs(model, firsts, seconds, 64)
    assert whole == model.tokenizer(firsts, seconds)["input_ids"]
    assert lengths == [6, 9]
    cut, lengths = tokenized_pairs(model, firsts, seconds, 7)
    assert (cut[0], lengths) == (whole[0], [6, 9])
    assert model.tokenizer.decode(cut[1]) == "[CLS] a b [SEP] 1 2 [SEP]"


def test_pairs_need_a_tokenizer() -> None:
    with pytest.raises(InputError, match="a tokenizer that encodes two texts"):
        tokenized_pairs(OpenModel(tiny_module("bert"), None, name="bare"), ["a"], ["b"], 9)
