"""Texts to fit a shorter prefix on: pieces of the user's own, or what the model itself writes behind the prefix."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import GenerationConfig

from promptreach.errors import Fault, InputError, raise_if_any
from promptreach.formats import read_text
from promptreach.hf.models.model import OpenModel
from promptreach.hf.running.cache import PromptCache

PIECE = 128
"""Tokens a piece: long enough that most queries see much content beside the prefix, short enough to have many."""
PIECES = 16
"""Pieces that a shorter prefix is fitted and measured on."""
TEXTS_LIMIT = 256 * 2**20
"""Bytes of the largest file of text that is read."""
LEAST = 2
"""Tokens in the shortest piece worth keeping: one to read, one to predict."""


def read_texts(paths: Sequence[Path]) -> list[str]:
    """The texts of these files.

    Raises:
        InputError: naming every file that is missing, empty or not UTF-8 text.
    """
    texts: list[str] = []
    faults: list[Fault] = []
    for path in paths:
        try:
            texts.append(read_text(path, TEXTS_LIMIT))
        except InputError as error:
            faults += error.faults
        else:
            if not texts[-1].strip():
                faults.append(Fault(str(path), "an empty file", "some text"))
    raise_if_any(faults)
    return texts


def pieces_of(model: OpenModel, texts: Sequence[str], room: int, count: int = PIECES) -> list[list[int]]:
    """The first `count` pieces of at most `PIECE` tokens from the texts, in their order, without special tokens.

    Args:
        room: the longest piece that still fits behind the prefix.

    Raises:
        InputError: when there is no room, or fewer than two pieces: one to fit on, one to measure on.
    """
    size = min(PIECE, room)
    raise_if_any(_room_faults(room))
    ids = model.tokenize(texts, special_tokens=False)
    pieces = [text[start : start + size] for text in ids for start in range(0, len(text), size)]
    kept = [piece for piece in pieces if len(piece) >= LEAST][:count]
    if len(kept) < 2:
        seen = f"{sum(map(len, ids))} tokens"
        raise_if_any([Fault("text", seen, f"more than {size}", "give more text; some thousand tokens are good")])
    return kept


def written_by(cache: PromptCache, room: int, seed: int, count: int = PIECES) -> list[list[int]]:
    """The model's own text behind the prompt: `count` pieces of `PIECE` tokens, each from a random first token.

    Sampled from the model's own distribution over all tokens but those that end a text, so that a fit on them matches
    what it would do: whatever its generation_config says of penalties or cut tails does not count. torch's global
    generator is left as it was.

    Raises:
        InputError: when there is no room for a piece behind the prompt.
    """
    size = min(PIECE, room)
    raise_if_any(_room_faults(room))
    vocabulary = len(cache.model.vocabulary)
    module = cache.model.release()
    theirs = module.generation_config
    plain = GenerationConfig(
        max_new_tokens=size - 1,
        min_new_tokens=size - 1,  # an early end would leave pieces of no use
        eos_token_id=theirs.eos_token_id,
        pad_token_id=vocabulary,  # nothing is padded; a token that occurs would be taken for padding on the right
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
    )
    first = torch.randint(vocabulary, (count, 1), generator=torch.Generator().manual_seed(seed))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        try:
            module.generation_config = plain  # passed as an argument, what it leaves open would be filled with theirs
            ids = module.generate(**cache.inputs(first.to(cache.model.vocabulary.device)))
        finally:
            module.generation_config = theirs
    written: list[list[int]] = ids.tolist()
    return written


def _room_faults(room: int) -> list[Fault]:
    if room >= LEAST:
        return []
    remedy = "shorten the prompt by cutting it first, or use a model with a longer context"
    return [Fault("prompt", f"room for {max(room, 0)} tokens behind it", f"at least {LEAST}", remedy)]
