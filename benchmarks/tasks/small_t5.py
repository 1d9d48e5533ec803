"""A small T5 trained here on texts whose words are hidden, so that an encoder-decoder stands among the models.

Its vocabulary and its training are those of the given texts alone: it has seen words, and no task.
"""

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import WordPiece
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

WORDS_READ = 24
"""Of a text in training."""
_HIDDEN = ("<extra_id_0>", "<extra_id_1>")
_SPECIAL = ("<pad>", "</s>", "<unk>", *_HIDDEN)


def small_t5(texts: Sequence[str], folder: Path, steps: int = 600, seed: int = 0) -> Path:
    """The folder of the model, trained once and kept there."""
    if (folder / "model.safetensors").exists():
        return folder
    tokenizer = tokenizer_of(texts)
    torch.manual_seed(seed)
    sizes = {"d_model": 128, "d_kv": 32, "d_ff": 256, "num_layers": 3, "num_heads": 4, "vocab_size": len(tokenizer)}
    config = T5Config(**sizes, dropout_rate=0.0, decoder_start_token_id=0)
    model = T5ForConditionalGeneration(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    draw = random.Random(seed)
    for _ in range(steps):
        read, written = zip(*(hidden(draw.choice(texts), draw) for _ in range(32)), strict=True)
        inputs, labels = (tokenizer(list(part), padding=True, return_tensors="pt") for part in (read, written))
        targets = labels.input_ids.masked_fill(labels.input_ids == 0, -100)
        model(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, labels=targets).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step(), schedule.step(), optimiser.zero_grad()
    tokenizer.save_pretrained(folder)
    model.eval().save_pretrained(folder)
    return folder


def tokenizer_of(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Pieces of lower-case words; the end behind every text, as T5 has it."""
    plain = Tokenizer(WordPiece(unk_token="<unk>"))
    plain.normalizer = normalizers.BertNormalizer(lowercase=True)
    plain.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    plain.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=4000, special_tokens=list(_SPECIAL)))
    plain.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", plain.token_to_id("</s>"))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>", pad_token="<pad>", eos_token="</s>")


def hidden(text: str, draw: random.Random) -> tuple[str, str]:
    """A text with two or three of its words behind a mark, and what stood there."""
    words = text.split()[:WORDS_READ]
    length = min(len(words) - 1, draw.randint(2, 3))
    start = draw.randrange(max(1, len(words) - length))
    read = [*words[:start], _HIDDEN[0], *words[start + length :]]
    return " ".join(read), " ".join([_HIDDEN[0], *words[start : start + length], _HIDDEN[1]])
