"""Commands called as from a terminal, and the folders that they are given: a tiny model, an adapter of it, a text."""

from pathlib import Path

import torch
from typer.testing import CliRunner

from helpers.models import WORDS, tiny_model
from promptreach import cli
from promptreach.hf import OpenModel, open_model, save_adapter
from promptreach.prompt import SoftPrompt


def run(*arguments: object, columns: int = 200) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of one call."""
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], env={"COLUMNS": str(columns)})
    return result.exit_code, result.stdout, result.stderr


def saved_model(folder: Path, family: str = "llama") -> OpenModel:
    """A tiny model that lies in `folder`, opened from there."""
    model = tiny_model(family)
    model.release().save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return open_model(folder)


def saved_prompt(folder: Path, model: OpenModel, length: int = 9) -> SoftPrompt:
    """A random prompt that lies in `folder` as a PEFT adapter naming its model."""
    prompt = SoftPrompt(torch.randn(length, model.hidden_size, generator=torch.Generator().manual_seed(0)))
    save_adapter(folder, model, prompt)
    return prompt


def saved_text(path: Path, repeats: int) -> Path:
    """A file of words that a tiny model knows."""
    path.write_text(" ".join(WORDS * repeats), encoding="utf-8")
    return path
