"""Readings are what a direct count gives."""

import pytest
import torch

from helpers.watched import batches, language_model
from promptreach.monitoring.readings import (
    PromptReading,
    answer_reading,
    batch_reading,
    prompt_reading,
    vocabulary_rows,
)


def test_batches_tell_of_padding_and_labels() -> None:
    batch = batches(rows=6, padding="left")()
    assert batch_reading(batch, 4) == {"padded_behind_prompt": pytest.approx(1 / 3), "labelled_rows": 1.0}
    assert batch_reading({"labels": torch.tensor([[-100, 1], [-100, -100]])}, 4) == {"labelled_rows": 0.5}
    assert batch_reading({}, 4) == {}


def test_answers_are_counted_where_there_are_labels() -> None:
    logits = torch.nn.functional.one_hot(torch.tensor([[9, 5, 5, 0], [9, 5, 6, 0]]), 10).float()
    outputs = type("Outputs", (), {"loss": torch.tensor(0.5), "logits": logits})
    labels = torch.tensor([[-100, 1, 2], [-100, 1, -100]])
    found = answer_reading(outputs, labels, causal=True)
    assert found == {"loss": 0.5, "most_frequent_answer": 1.0, "most_frequent_label": pytest.approx(2 / 3)}
    of_texts = type("Outputs", (), {"loss": None, "logits": torch.eye(3)})
    assert answer_reading(of_texts, torch.tensor([0, 0, 1]), causal=False)["most_frequent_label"] == pytest.approx(
        2 / 3
    )
    assert answer_reading(of_texts, torch.tensor([0.0, 1.0, 2.0]), causal=False) == {}


def test_norms_and_cosines() -> None:
    vocabulary = torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    found = prompt_reading(torch.tensor([[1.0, 1.0]]), vocabulary)
    assert found["prompt_norm"] == pytest.approx(2**0.5)
    assert found["vocabulary_norm"] == 2.0
    assert found["vocabulary_cosine"] == pytest.approx(2**-0.5)


def test_vocabulary_rows_are_what_the_embedding_gives() -> None:
    embedding = language_model().get_input_embeddings()
    assert torch.equal(vocabulary_rows(embedding, 2), embedding.weight[[0, -1]])


def test_logs_hold_single_numbers() -> None:
    assert PromptReading(3, loss=1.0, layer_shares=(0.1,)).logs() == {"soft_prompt/loss": 1.0}
