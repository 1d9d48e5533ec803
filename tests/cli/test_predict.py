"""``promptreach predict`` on tiny models: completions as transformers writes them, labels, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from helpers.command_line import run, saved_model
from promptreach.hf import open_model, save_adapter
from promptreach.prompt import SoftPrompt


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that writes and a prompt for it, and an encoder with a prompt without a head."""
    base = tmp_path_factory.mktemp("predict")
    prompt = SoftPrompt(torch.randn(3, 32, generator=torch.Generator().manual_seed(0)))
    save_adapter(base / "text", saved_model(base / "llama"), prompt)
    save_adapter(base / "bare", saved_model(base / "bert", "bert"), prompt)
    return base


def test_completions_are_those_of_peft_and_transformers(folder: Path, tmp_path: Path) -> None:
    texts = ["a cat sat on", "the dog", "good"]
    (tmp_path / "texts.txt").write_text("\n\n".join(texts))
    status, out, _ = run(
        "predict", folder / "llama", folder / "text", tmp_path / "texts.txt", "--json", "--max-new-tokens", 5
    )
    assert status == 0
    answers = json.loads(out)["values"]["answers"]
    base = AutoModelForCausalLM.from_pretrained(folder / "llama")
    tokenizer = open_model(folder / "llama").tokenizer
    peft = PeftModel.from_pretrained(base, str(folder / "text"))
    for text, answer in zip(texts, answers, strict=True):
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        written = peft.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=5, pad_token_id=0
        )
        expected = tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)
        assert (answer["text"], answer["completion"]) == (text, expected)


def test_a_text_on_the_command_line(folder: Path) -> None:
    status, out, _ = run("predict", folder / "llama", folder / "text", "a cat", "--max-new-tokens", 2)
    assert status == 0
    assert "1 completion" in out
    status, out, _ = run("predict", folder / "llama", folder / "text", "a cat", "the dog", "--max-new-tokens", 2)
    assert (status, "2 completions" in out) == (0, True)


def test_what_cannot_be_answered_is_refused(folder: Path, tmp_path: Path) -> None:
    status, _, err = run("predict", folder / "bert", folder / "bare", "a cat", "--max-length", 2)
    assert (status, "without a head" in err, "max_length" in err) == (2, True, True)
    (tmp_path / "rows.csv").write_text("text\na")
    status, _, err = run("predict", folder / "llama", folder / "text", tmp_path / "rows.csv")
    assert (status, "a table" in err) == (2, True)
    (tmp_path / "empty.txt").write_text("\n \n")
    assert run("predict", folder / "llama", folder / "text", tmp_path / "empty.txt")[0] == 2
    assert run("predict", folder / "llama", tmp_path / "no", "a cat")[0] == 2
