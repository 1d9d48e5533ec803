"""The frozen models of the suite: a small GPT trained here, with one to three layers, and two real ones from packages.

The small GPT reads letters and answers with one token. What to answer stands in front of the letters as a marker
(`<last>`, `<max>`, ...), perhaps repeated. Trained on a mixture of these, it has skills that a prompt can elicit, and
without a prompt it can only guess which one is asked for. What it was never trained on, it cannot do: counting, picking
letters from the middle, or a table of random answers. Two slots of a prefix hold such a table of 16 letters; of 50 they
hold a part, and that is how many letters there are.
"""

import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from promptreach.claims import packaged
from promptreach.hf import OpenModel

LETTERS = "abcdefghijklmnopqrstuvwxyzαβγδεζηθικλμνξοπρστυφχψω"
VALUES = LETTERS.upper()
SKILLS: dict[str, Callable[[str], str]] = {
    "last": lambda word: word[-1],
    "first": lambda word: word[0],
    "max": max,
    "min": min,
    "next": lambda word: LETTERS[(LETTERS.index(word[-1]) + 1) % len(LETTERS)],
    "upper": lambda word: word[-1].upper(),
}
"""What a marker asks for: a function of the letters."""
MARKERS = tuple(f"<{skill}>" for skill in SKILLS)
WORDS = ("[PAD]", "[UNK]", *MARKERS, *LETTERS, *VALUES)
IDS = {word: index for index, word in enumerate(WORDS)}
REPEATS = 8
"""How often a marker is repeated at most, so that the skills stand at any length of prompt."""
BATCH = 128


NARROW = ("last", "next")
"""Skills for which the last letter needs nothing but itself and a marker."""


def small_gpt(
    work: Path,
    layers: int = 3,
    steps: int = 1500,
    seed: int = 0,
    skills: Sequence[str] = tuple(SKILLS),
    context: int = 128,
) -> OpenModel:
    """The small GPT, trained once and kept in `work`."""
    kind = "narrow" if skills == NARROW else "long" if context > 128 else "small"
    folder = work / f"{kind}-gpt-{layers}-{steps}-{seed}"
    if not (folder / "model.safetensors").exists():
        train_small_gpt(layers, steps, seed, skills, context).save_pretrained(folder)
    name = f"{kind} GPT of {layers} layer{'s' * (layers > 1)}, trained here"
    return OpenModel(GPT2LMHeadModel.from_pretrained(folder), tokenizer(), name=name)


def one_layer_gpt(work: Path) -> OpenModel:
    """One layer of it, in which no prompt and no prefix changes how much content attends to which content.

    In more layers they can: a prefix of 8 slots, trained long, makes three layers pick letters and count.
    """
    return small_gpt(work, layers=1)


def narrow_gpt(work: Path, layers: int, seed: int = 0) -> OpenModel:
    """The same without a skill that looks at any letter but the last."""
    return small_gpt(work, layers, steps=800, seed=seed, skills=NARROW)


def long_gpt(work: Path) -> OpenModel:
    """The same with room for prompts of 256 tokens; every position that content then has was trained."""
    return small_gpt(work, steps=3000, context=544)


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, nothing around a text, no end token: a completion is one token."""
    plain = Tokenizer(WordLevel(IDS, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="[UNK]", pad_token="[PAD]")


def train_small_gpt(layers: int, steps: int, seed: int, skills: Sequence[str], context: int) -> GPT2LMHeadModel:
    """Train on the mixture, the positions shifted at random by up to half of the context; about a minute on one core
    for 1,500 steps."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=len(WORDS),
        n_positions=context,
        n_embd=64,
        n_layer=layers,
        n_head=4,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = GPT2LMHeadModel(config)
    draw = random.Random(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        inputs, places, answers = lesson(draw, skills)
        positions = torch.arange(inputs.shape[1]) + draw.randrange(context // 2)
        hidden = model.transformer(inputs, position_ids=positions[None]).last_hidden_state
        examples, at = places
        loss = cross_entropy(model.lm_head(hidden[examples, at]), answers)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return model.eval()


def lesson(
    draw: random.Random, skills: Sequence[str]
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
    """A batch: token ids (right-padded), the places that are asked at, and the answers there.

    Every letter from the fourth on is asked at: what stands up to there is a word of its own.
    """
    rows, examples, at, answers = [], [], [], []
    for index in range(BATCH):
        word = "".join(draw.choices(LETTERS, k=draw.randint(4, 8)))
        skill = draw.choice(skills)
        front = [f"<{skill}>"] * draw.randint(0, REPEATS)
        rows.append([IDS[token] for token in (*front, *word)])
        for end in range(4, len(word) + 1):
            examples.append(index)
            at.append(len(front) + end - 1)
            answers.append(IDS[SKILLS[skill](word[:end])])
    longest = max(map(len, rows))
    inputs = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    return inputs, (torch.tensor(examples), torch.tensor(at)), torch.tensor(answers)


def minilm(work: Path) -> OpenModel:
    """all-MiniLM-L6-v2, a sentence encoder of 22 million parameters."""
    return packaged.minilm()


def smollm2(work: Path) -> OpenModel:
    """The first 4 of SmolLM2-135M's 30 layers, without an end token: a completion is the word that is asked for."""
    model = packaged.smollm2(num_layers=4)
    model.tokenizer.eos_token = None
    return model


MODELS: dict[str, Callable[[Path], OpenModel]] = {
    "small_gpt": small_gpt,
    "one_layer_gpt": one_layer_gpt,
    "two_layer_gpt": partial(small_gpt, layers=2),
    "narrow_two": partial(narrow_gpt, layers=2),
    "narrow_three": partial(narrow_gpt, layers=3),
    "other_one": partial(small_gpt, layers=1, seed=1),
    "other_two": partial(small_gpt, layers=2, seed=1),
    "other_three": partial(small_gpt, layers=3, seed=1),
    "other_narrow_two": partial(narrow_gpt, layers=2, seed=1),
    "other_narrow_three": partial(narrow_gpt, layers=3, seed=1),
    "minilm": minilm,
    "smollm2": smollm2,
}
