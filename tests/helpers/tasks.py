"""Small tasks with a known rule, and what the tests here share to train on them."""

import functools
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from helpers.models import WORDS, tiny_model
from promptreach.data import Completions, LabelledTexts, TaskData
from promptreach.hf import OpenModel
from promptreach.progress import Progress, Step
from promptreach.prompt import Prefix
from promptreach.training.task.task import Task, prepare
from promptreach.tuning import METHODS, RunConfig

FAMILIES = ("bert", "gpt2", "llama")
SOFT = ("prompt", "prefix", "lora")
TRAINED = (*SOFT, "unipelt", "full")
END = 3  # [SEP], which `completer` takes as its end token


@functools.cache
def model_of(family: str) -> OpenModel:
    """One model a family for all tests: that nothing changes it is itself tested."""
    return tiny_model(family)


@functools.cache
def completer(family: str = "gpt2") -> OpenModel:
    """A causal model whose tokenizer has an end token."""
    model = tiny_model(family)
    model.tokenizer.eos_token = "[SEP]"
    return model


def sentences(count: int, seed: int = 0, words: int = 5) -> list[str]:
    """Different texts of random words."""
    draw = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(draw.choices(WORDS, k=draw.randint(2, words)))] = None
    return list(found)


def labelled(count: int = 60, classes: int = 2, seed: int = 0) -> LabelledTexts:
    """Texts labelled by how many of their words stand in the first half of `WORDS`: nothing a frozen model computes."""
    texts = sentences(count, seed)
    half = set(WORDS[: len(WORDS) // 2])
    labels = [sum(word in half for word in text.split()) % classes for text in texts]
    return LabelledTexts(tuple(texts), tuple(labels), tuple(f"class {i}" for i in range(classes)))


def completions(count: int = 40, seed: int = 0) -> Completions:
    """The completion repeats the prompt's first word."""
    prompts = sentences(count, seed)
    return Completions(tuple(prompts), tuple(prompt.split()[0] for prompt in prompts))


@functools.cache
def task_of(family: str, kind: str = "classification") -> Task:
    """A task with room for 8 virtual tokens."""
    if kind == "classification":
        return prepare(model_of(family), labelled(), longest_prompt=8)
    return prepare(completer(family), completions(), longest_prompt=8)


def config_of(method: str, **changes: Any) -> RunConfig:
    """Settings of a short run."""
    settings: dict[str, Any] = {
        "method": method,
        "tokens": 4 if METHODS[method].uses_tokens else 0,
        "rank": 2 if "rank" in METHODS[method].sizes else 0,
        "bottleneck": 3 if "bottleneck" in METHODS[method].sizes else 0,
        "init": METHODS[method].inits[0],
        "learning_rate": 0.01,
        "steps": 0 if method == "head" else 6,
        "batch_size": 16,
        **changes,
    }
    return RunConfig(**settings)


def no_step(advance: int = 1, note: str = "") -> None:
    """Progress that nobody watches."""


class Counted(Progress):
    """Progress that counts: `tasks` holds each one's description and steps."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.tasks: list[tuple[str, int]] = []

    @contextmanager
    def task(self, description: str, total: int | None = None) -> Iterator[Step]:
        done = 0

        def step(advance: int = 1, note: str = "") -> None:
            nonlocal done
            done += advance

        yield step
        self.tasks.append((description, done))


def other_data(kind: str) -> TaskData:
    """Other rows of the same kind of task."""
    return labelled(seed=1) if kind == "classification" else completions(seed=1)


def prefix_like(model: OpenModel, length: int, seed: int = 1) -> Prefix:
    """A random prefix that fits a model."""
    shape = (2, model.num_layers, model.num_kv_heads, length, model.head_dim)
    return Prefix(*torch.randn(shape, generator=torch.Generator().manual_seed(seed)).unbind())
