"""A tiny model whose tokenizer opens texts, ends answers and has a chat template, and one that encodes pairs."""

from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from helpers.models import tiny_module
from promptreach.hf import OpenModel

WORDS = ("1", "2", "3", "4", "5", "6", "+", "?", "sum", "user", "assistant", "system", ":", "a", "b", "c", "d")
BARE = "{% for m in messages %}<|turn|>{{ m.role }} : {{ m.content }}{% endfor %}"
ASKING = "{% if add_generation_prompt %}<|turn|>assistant : {% endif %}"
TEMPLATE = "{{ bos_token }}" + BARE.replace("{% endfor %}", "<|end|>\n{% endfor %}") + ASKING
"""A template as most are: it opens the text, and ends every turn."""
STRICT = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turns here') }}{% endif %}" + TEMPLATE


def chat_model(template: str | None = TEMPLATE, opens: bool = True) -> OpenModel:
    """A decoder; `opens` says whether its tokenizer puts <s> in front of every text."""
    special = ["[PAD]", "[UNK]", "<s>", "</s>", "<|turn|>", "<|end|>"]
    words = {word: index for index, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if opens:
        ends = [("<s>", words["<s>"])]
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=ends)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<|turn|>", "<|end|>"],
    )
    wrapped.chat_template = template
    return OpenModel(tiny_module("llama"), wrapped, name="tiny-chat")


def pair_model() -> OpenModel:
    """An encoder whose tokenizer writes [CLS] one [SEP] two [SEP]."""
    words = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(name, words[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=ends
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )
    return OpenModel(tiny_module("bert"), wrapped, name="tiny-pairs")
