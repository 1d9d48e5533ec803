"""The file that vLLM reads: one plain tensor, loadable without trusting it, and the embeddings PEFT would have used."""

from pathlib import Path

import pytest
import torch

from helpers.models import tiny_model
from promptreach.errors import AdapterError, InputError
from promptreach.hf import save_prompt_embeds
from promptreach.hf.running.exports import EMBEDS_DTYPES
from promptreach.prompt import SoftPrompt

MODEL = tiny_model("llama")
PROMPT = SoftPrompt(torch.randn(3, 32, generator=torch.Generator().manual_seed(0)))


def test_the_file_is_one_tensor_that_needs_no_trust(tmp_path: Path) -> None:
    path = save_prompt_embeds(tmp_path / "prompt.pt", MODEL, PROMPT)
    with torch.sparse.check_sparse_tensor_invariants():  # as the server opens it
        loaded = torch.load(path, weights_only=True, map_location="cpu")
    assert torch.equal(loaded, PROMPT.embeddings)


def test_the_model_answers_to_the_file_as_to_prompt_and_text(tmp_path: Path) -> None:
    tokens = [5, 6, 7]
    path = save_prompt_embeds(tmp_path / "prompt.pt", MODEL, PROMPT, tokens)
    embeddings = torch.load(path, weights_only=True)
    assert embeddings.shape == (6, 32)
    batch = MODEL.batch([tokens])
    with torch.no_grad():
        served = MODEL.release()(inputs_embeds=embeddings[None]).logits[:, 3:]
        joined = PROMPT.join(MODEL.vocabulary[batch.input_ids])
        expected = MODEL.release()(inputs_embeds=joined).logits[:, 3:]
    assert torch.equal(served, expected)


@pytest.mark.parametrize("dtype", EMBEDS_DTYPES)
def test_the_dtype_is_the_servers(tmp_path: Path, dtype: torch.dtype) -> None:
    path = save_prompt_embeds(tmp_path / "prompt.pt", MODEL, PROMPT, dtype=dtype)
    assert torch.load(path, weights_only=True).dtype == dtype


def test_bad_input_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    target = tmp_path / "prompt.pt"
    with pytest.raises(AdapterError, match="expected 32"):
        save_prompt_embeds(target, MODEL, SoftPrompt(torch.zeros(3, 31)))
    with pytest.raises(InputError) as caught:
        save_prompt_embeds(target, MODEL, PROMPT, [5, 400, -1], dtype=torch.float64)
    assert [fault.where for fault in caught.value.faults] == ["token_ids", "dtype"]
    with pytest.raises(InputError, match="an encoder"):
        save_prompt_embeds(target, tiny_model("bert"), PROMPT)
    assert not any(tmp_path.iterdir())
