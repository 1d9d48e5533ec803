"""The suite's plain training finds what a tiny model can learn, and leaves the model as it was."""

import copy
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "benchmarks" / "diagnosis"))

import plain

from helpers.models import tiny_model


@pytest.mark.parametrize(("method", "size"), [("prompt", 3), ("prefix", 2), ("lora", 2)])
def test_an_answer_that_never_changes_is_learnt(method: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "RATES", {method: (0.1,)})
    model = tiny_model("gpt2").release()
    rows = [([5 + at % 7, 5 + at % 11, 6], 9) for at in range(40)]
    _, before = plain.untrained(model, rows[20:])
    _, after = plain.trained(copy.deepcopy(model), rows[:20], rows[20:], method, size, 20, 0)
    assert after < before - 0.5


def test_rows_are_read_at_their_last_token_whatever_their_length() -> None:
    model = tiny_model("gpt2").release()
    inputs, mask, _ = plain._batch([([5, 6], 9), ([5, 6, 7, 8], 9)])
    both = plain._logits(model, inputs, mask)
    with torch.no_grad():
        alone = model(torch.tensor([[5, 6]])).logits[0, -1]
    assert torch.allclose(both[0], alone, atol=1e-5)
