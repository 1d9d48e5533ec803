"""Readings of a soft prompt in training: norms, gradients, movement, attention and answers at one step."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

_WORDS = 512
"""Vocabulary rows that a prompt is compared with."""


@dataclass(frozen=True)
class PromptReading:
    """What was seen at one step; None where it could not be.

    Attributes:
        step: optimiser steps that were done before this one.
        loss: of the batch, in the model's own unit (nats a token for language models).
        prompt_norm: median Euclidean norm of the virtual tokens.
        vocabulary_norm: the same of vocabulary rows, as the embedding module gives them.
        vocabulary_cosine: median over virtual tokens of the largest cosine to a vocabulary row.
        gradient_norm: Euclidean, of all the prompt's numbers, as the optimiser received it; None where there is none.
        layer_gradients: the same layer by layer, of a prefix.
        moved: length of the step over the norm of what moved, at the schedule's highest rate.
        entries_moved: share of the numbers with a gradient that differ after the step.
        attention_share: softmax weight of the prompt at the last position of a row, in [0, 1], mean over layers.
        layer_shares: the same layer by layer.
        padded_behind_prompt: share of the rows with padding between prompt and text.
        labelled_rows: share of the rows with at least one label.
        most_frequent_answer: share of the most frequent prediction among the labelled positions.
        most_frequent_label: the same of the labels.
    """

    step: int
    loss: float | None = None
    prompt_norm: float | None = None
    vocabulary_norm: float | None = None
    vocabulary_cosine: float | None = None
    gradient_norm: float | None = None
    layer_gradients: tuple[float, ...] = ()
    moved: float | None = None
    entries_moved: float | None = None
    attention_share: float | None = None
    layer_shares: tuple[float, ...] = ()
    padded_behind_prompt: float | None = None
    labelled_rows: float | None = None
    most_frequent_answer: float | None = None
    most_frequent_label: float | None = None

    def logs(self) -> dict[str, float]:
        """The single numbers by name, as trackers take them: ``soft_prompt/moved`` and so on."""
        named = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "step"}
        return {f"soft_prompt/{name}": value for name, value in named.items() if isinstance(value, float)}


def batch_reading(inputs: Mapping[str, Any], virtual_tokens: int) -> dict[str, float]:
    """What a batch shows before it is run: rows padded right behind the prompt, and rows with a label."""
    found = {}
    mask, labels = inputs.get("attention_mask"), inputs.get("labels")
    if isinstance(mask, Tensor) and mask.ndim == 2 and virtual_tokens:
        found["padded_behind_prompt"] = float((mask[:, 0] == 0).float().mean())
    if isinstance(labels, Tensor) and labels.ndim == 2:
        found["labelled_rows"] = float((labels != -100).any(dim=1).float().mean())
    return found


def answer_reading(outputs: Any, labels: Any, causal: bool) -> dict[str, float]:
    """How alike the answers are, beside how alike they should be; and the loss."""
    found = {}
    loss, logits = getattr(outputs, "loss", None), getattr(outputs, "logits", None)
    if isinstance(loss, Tensor) and loss.numel() == 1:
        found["loss"] = float(loss.detach())
    if not isinstance(labels, Tensor) or not isinstance(logits, Tensor):
        return found
    logits = logits.detach()
    if labels.ndim == 2 and logits.ndim == 3:
        logits = logits[:, -labels.shape[1] :]  # a prompt's own positions stand in front
        if causal:
            logits, labels = logits[:, :-1], labels[:, 1:]
    kept = labels != -100
    if labels.is_floating_point() or logits.ndim != labels.ndim + 1 or not bool(kept.any()):
        return found
    for name, given in (("most_frequent_answer", logits[kept].argmax(-1)), ("most_frequent_label", labels[kept])):
        found[name] = float(given.unique(return_counts=True)[1].max() / len(given))
    return found


def prompt_reading(virtual: Tensor, vocabulary: Tensor) -> dict[str, float]:
    """Norms of (m, hidden) virtual tokens beside those of (words, hidden) vocabulary rows, and their likeness."""
    virtual, vocabulary = virtual.detach().float(), vocabulary.detach().float()
    cosine = torch.nn.functional.normalize(virtual, dim=1) @ torch.nn.functional.normalize(vocabulary, dim=1).T
    return {
        "prompt_norm": float(virtual.norm(dim=1).median()),
        "vocabulary_norm": float(vocabulary.norm(dim=1).median()),
        "vocabulary_cosine": float(cosine.max(dim=1).values.median()),
    }


@torch.no_grad()
def vocabulary_rows(embedding: torch.nn.Module, words: int = _WORDS) -> Tensor:
    """(words, hidden): what the embedding module gives for token ids spread evenly over the vocabulary."""
    weight: Tensor = embedding.weight  # type: ignore[assignment]
    ids = torch.linspace(0, weight.shape[0] - 1, min(words, weight.shape[0]), device=weight.device).long()
    rows: Tensor = embedding(ids)
    return rows
