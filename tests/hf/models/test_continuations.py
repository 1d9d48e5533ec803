"""The tokens of a completion behind its prompt decode to exactly the two texts, with every kind of tokenizer."""

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from helpers.models import tiny_module, tiny_tokenizer
from promptreach.data import Completions
from promptreach.hf import OpenModel
from promptreach.training.task.encoding import encode

TEXTS = ["Review: a fine film.\nVerdict: fresh", "Sum: 12+30=42", "Sum: 7+5=12", "un do able", "undoable"] * 40
PAIRS = {
    "sums": ("Sum: 1+1=", "2"),
    "trailing": ("Review: film 1.\nVerdict: ", "fresh"),
    "leading": ("Review: a fine film.\nVerdict:", " fresh"),
    "inside a word": ("Sum: 7+5=1", "2"),
    "a word's end": ("undo", "able"),
    "line end": ("Sum: 12+30=\n", "42"),
}


def byte_bpe(append: bool = False) -> PreTrainedTokenizerFast:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    names = ["<pad>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=names, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(TEXTS, trainer)
    if append:
        made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="</s>")


def word_starts(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer that marks word starts, by its pre-tokenizer (Mistral) or by its normalizer (Llama 2)."""
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    if kind == "normalizer":
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=kind)
        made.decoder = decoders.Metaspace(prepend_scheme=kind)
    names = ["<unk>", "<s>", "</s>"]
    made.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=320, special_tokens=names, show_progress=False))
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


TOKENIZERS = {
    "bytes": byte_bpe(),
    "bytes, end appended": byte_bpe(append=True),
    "always": word_starts("always"),
    "first": word_starts("first"),
    "normalizer": word_starts("normalizer"),
}


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("pair", PAIRS)
def test_what_is_trained_is_exactly_the_two_texts(name: str, pair: str) -> None:
    tokenizer, (prompt, completion) = TOKENIZERS[name], PAIRS[pair]
    model = OpenModel(tiny_module("llama", vocab_size=len(tokenizer)), tokenizer)
    encoded = encode(model, Completions((prompt,), (completion,)), 100)
    (ids,), (length,) = encoded.sequences, encoded.answer_lengths or ()
    assert tokenizer.decode(ids, skip_special_tokens=True) == prompt + completion
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.eos_token_id not in ids[:-1]
    given = [index for index in tokenizer(prompt)["input_ids"] if index != tokenizer.eos_token_id]
    assert list(ids[:-length]) == given  # the prompt's tokens are those that the model is given later


def test_a_tokenizer_of_whole_words_takes_the_completion_alone() -> None:
    model = OpenModel(tiny_module("llama"), tiny_tokenizer("llama"))
    prompts, completions = model.tokenize_pairs(["the cat", "it was xyz"], ["sat", "good film"])
    assert prompts == model.tokenize(["the cat", "it was xyz"])
    assert completions == model.tokenize(["sat", "good film"], special_tokens=False)


def test_none() -> None:
    assert OpenModel(tiny_module("llama"), tiny_tokenizer("llama")).tokenize_pairs([], []) == ([], [])
