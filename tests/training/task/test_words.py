"""Words as tokens: first pieces, cuts, and words that share a token."""

from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import PreTrainedTokenizerFast

from helpers.models import tiny_model
from helpers.tasks import model_of
from promptreach.data import TaggedWords
from promptreach.hf import OpenModel
from promptreach.training.task.words import NO_TAG, words_as_tokens


def pieces() -> OpenModel:
    """A tiny BERT whose tokenizer cuts words into letters but for a few, with [CLS] and [SEP] around."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "cat", *"abcdt.", *(f"##{letter}" for letter in "abcdts")]
    words = {name: place for place, name in enumerate(names)}
    tokenizer = Tokenizer(WordPiece(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(name, words[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]")
    return OpenModel(tiny_model("bert").model, fast, name="pieces")


def test_the_first_piece_of_a_word_carries_its_tag() -> None:
    data = TaggedWords((("cats", "a", "b.c", "cat"),), ((0, 1, 1, 0),), ("A", "B"))
    found = words_as_tokens(pieces(), data, 16)
    # [CLS] cat ##s a b . c cat [SEP]
    assert found.truths[0].firsts == (1, 3, 4, 7)
    assert found.targets[0].tolist() == [NO_TAG, 0, NO_TAG, 1, 1, NO_TAG, NO_TAG, 0, NO_TAG]
    assert found.truths[0].tags == ("A", "B", "B", "A")


def test_words_behind_the_cut_keep_their_tags_and_have_no_token() -> None:
    data = TaggedWords((("cats", "a", "cat"), ("a",)), ((0, 1, 0), (1,)), ("A", "B"))
    found = words_as_tokens(pieces(), data, 4)
    assert found.truths[0].firsts == (1, None, None)
    assert found.sequences[0][-1] == 3, "an encoder's closing token stays"
    assert (found.truncated, found.truths[0].tags, found.truths[1].firsts) == (1, ("A", "B", "A"), (1,))
    assert found.targets[0].tolist() == [NO_TAG, 0, NO_TAG, NO_TAG]


def test_a_decoder_reads_words_without_tokens_around_them() -> None:
    data = TaggedWords((("cat", "ran"), ("dog",)), ((0, 1), (1,)), ("A", "B"))
    found = words_as_tokens(model_of("gpt2"), data, 8)
    assert [truth.firsts for truth in found.truths] == [(0, 1), (0,)]
    assert list(found.sequences) == [tuple(ids) for ids in model_of("gpt2").tokenize(["cat ran", "dog"])]
