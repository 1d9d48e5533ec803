"""A head in the form of transformers' own: PEFT's Auto class gives our logits; where it cannot, the reason is said."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification, AutoPeftModelForTokenClassification
from torch import Tensor

from helpers.families import small_module
from helpers.models import tiny_tokenizer
from helpers.tolerances import assert_close
from promptreach.hf import OpenModel, attach, load_adapter, save_adapter
from promptreach.hf.adapters.classifier import load_classifier
from promptreach.hf.adapters.folders import to_peft
from promptreach.hf.adapters.own_heads import HeadedAdapter, OwnHead, TrainedHead, own_head
from promptreach.hf.models.load import open_model
from promptreach.prompt import Adapter, LowRankUpdate, Prefix, SoftPrompt
from promptreach.training.task.readout import LinearHead

DRAW = torch.Generator().manual_seed(0)
ROWS = [torch.randint(3, 90, (length,), generator=DRAW).tolist() for length in (7, 4, 11, 5)]
HELD = [
    *(("bert", "first", kind) for kind in ("prefix", "lora")),
    *(("gpt2", "last", kind) for kind in ("prompt", "prefix", "lora")),
    *((family, "first", "lora") for family in ("roberta", "distilbert", "electra", "deberta-v2", "albert")),
    *((family, "each", "lora") for family in ("bert", "llama")),
    ("eurobert", "mean", "lora"),
]
REASONS = [
    ("bert", "first", "prompt", "[CLS], which the prompt moves back"),
    ("bert", "mean", "lora", "the mean of the states"),
    ("bert", "each", "prompt", "tags would move"),
    ("modernbert", "first", "lora", "more in it than a linear map"),
    ("llama", "last", "prompt", "has a bias"),
]


def drawn(model: OpenModel, kind: str) -> Adapter:
    """A random adapter that fits."""
    if kind == "prompt":
        return SoftPrompt(torch.randn(3, model.embedding_size, generator=DRAW))
    if kind == "prefix":
        shape = (2, model.num_layers, model.num_kv_heads, 3, model.head_dim)
        return Prefix(*torch.randn(shape, generator=DRAW).unbind())
    with model.low_rank(2, 4.0, 0) as attached:
        state = {name: 0.1 * torch.randn(part.shape, generator=DRAW) for name, part in attached.state().items()}
    return LowRankUpdate(2, 4.0, state)


def ours(model: OpenModel, adapter: Adapter, head: TrainedHead) -> Tensor:
    size = model.hidden_size
    linear = LinearHead(head.pooling, torch.zeros(size), torch.ones(size), head.weight, head.bias)  # type: ignore[arg-type]
    batch = model.batch(ROWS)
    with torch.no_grad(), attach(model, adapter) as joined:
        return linear(model.hidden(batch, joined), batch.mask) * head.scale[1] + head.scale[0]


def tried(model: OpenModel, pooling: str, kind: str, **changes: Any) -> tuple[OwnHead | str, Adapter, Tensor]:
    adapter = drawn(model, kind)
    weight, bias = torch.randn(3, model.hidden_size, generator=DRAW), torch.randn(3, generator=DRAW)
    head = TrainedHead(**{"weight": weight, "bias": bias, "pooling": pooling, **changes})
    expected = ours(model, adapter, head)
    return own_head(HeadedAdapter(model, *to_peft(adapter, model), head, ROWS, expected)), adapter, expected


@pytest.mark.parametrize(("family", "pooling", "kind"), HELD)
def test_pefts_auto_class_gives_our_logits(family: str, pooling: str, kind: str, tmp_path: Path) -> None:
    small_module(family).save_pretrained(tmp_path / "model")
    tiny_tokenizer("bert").save_pretrained(tmp_path / "model")
    model = open_model(tmp_path / "model")
    before = {name: part.clone() for name, part in model.release().state_dict().items()}
    own, adapter, expected = tried(model, pooling, kind)
    assert isinstance(own, OwnHead), own
    assert own.difference < 1e-4
    after = model.release().state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(part, after[name]) for name, part in before.items())
    folder = save_adapter(tmp_path / "own", model, adapter, own=own)
    assert json.loads((folder / "adapter_config.json").read_text())["task_type"] == own.task
    auto = AutoPeftModelForTokenClassification if pooling == "each" else AutoPeftModelForSequenceClassification
    loaded = auto.from_pretrained(str(folder), num_labels=3)
    with torch.no_grad():
        theirs = [loaded(input_ids=torch.tensor([ids])).logits[0] for ids in ROWS]
    for row, (answer, ids) in enumerate(zip(theirs, ROWS, strict=True)):
        assert_close(answer, expected[row, : len(ids)] if pooling == "each" else expected[row], "classifier logits")
    again = load_adapter(folder, model)
    assert type(again) is type(adapter)
    if pooling != "each" and family != "eurobert":
        classifier = load_classifier(folder, model)
        assert classifier is not None
        assert_close(classifier(ROWS), expected, "classifier logits")


@pytest.mark.parametrize(("family", "pooling", "kind", "words"), REASONS)
def test_where_it_cannot_hold_the_reason_is_said(family: str, pooling: str, kind: str, words: str) -> None:
    own, *_ = tried(OpenModel(small_module(family)), pooling, kind)
    assert isinstance(own, str)
    assert words in own


def test_a_bias_has_its_place_behind_a_layer_norm_and_is_not_missed_where_it_is_zero() -> None:
    for family, changes in (("gpt2", {}), ("llama", {"bias": torch.zeros(3)})):
        own, *_ = tried(OpenModel(small_module(family)), "last", "prefix", **changes)
        assert isinstance(own, OwnHead), own
        assert own.batches


def test_behind_a_prompt_no_padding_is_seen() -> None:
    own, *_ = tried(OpenModel(small_module("gpt2")), "last", "prompt")
    assert isinstance(own, OwnHead)
    assert not own.batches


def test_a_number_is_told_in_its_own_unit() -> None:
    changes = {"weight": torch.randn(1, 32, generator=DRAW), "bias": torch.ones(1), "scale": (50.0, 7.0)}
    own, *_ = tried(OpenModel(small_module("bert")), "first", "lora", **changes)
    assert isinstance(own, OwnHead)


def test_a_comparison_that_fails_is_no_classifier() -> None:
    model = OpenModel(small_module("bert"))
    adapter = drawn(model, "lora")
    head = TrainedHead(torch.randn(3, 32, generator=DRAW), torch.ones(3), "first")
    wrong = ours(model, adapter, head) + 0.01
    own = own_head(HeadedAdapter(model, *to_peft(adapter, model), head, ROWS, wrong))
    assert isinstance(own, str)
    assert "other logits than ours" in own
