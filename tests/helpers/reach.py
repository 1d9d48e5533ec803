"""What works on a model, measured: one training step of each method, PEFT's numbers beside ours, captures, caches.

Deviations are relative to the largest entry of what is expected.
"""

import copy
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from promptreach.backbone import Prepended, TokenBatch
from promptreach.errors import PromptreachError
from promptreach.hf import OpenModel, attach, capture, layer_weights, open_model, precompute, save_adapter
from promptreach.prompt import Adapter, Prefix, SoftPrompt
from promptreach.training.methods.initial import initial_prefix, initial_prompt
from promptreach.training.methods.methods import METHODS, Shape

METHODS_MEASURED = ("prompt", "prefix", "lora")
LENGTH = 3
SEQUENCES = [[5, 12, 19, 26, 33, 40], [47, 54, 61]]
WRITTEN = [2, 1]
"""How many tokens of each an encoder-decoder writes; for other models it makes no difference."""


def relative(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).abs().max() / expected.abs().max().clamp(min=1e-30))


def answer(model: OpenModel, joined: Prepended | None = None) -> Tensor:
    """Logits, or hidden states of an encoder, at the content of the batch."""
    batch = model.batch(SEQUENCES, WRITTEN)
    hidden = model.hidden(batch, joined)
    found = hidden if model.task == "encoder" else model.vocabulary_logits(hidden)
    return found[asked_of(model, batch)]


def asked_of(model: OpenModel, batch: TokenBatch) -> Tensor:
    """The content; of an encoder-decoder the positions that predict what is written."""
    if model.task != "seq2seq":
        return batch.mask
    ends = batch.mask.sum(1, keepdim=True)
    places, written = torch.arange(batch.mask.shape[1]), torch.tensor(WRITTEN)[:, None]
    return (places >= ends - written - 1) & (places < ends - 1)


def step(model: OpenModel, method: str) -> tuple[float, Adapter]:
    """How far one step of a method moves what it trains, and the adapter after it."""
    init = next((init for init in METHODS[method].inits if not model.lacks(method, init)), METHODS[method].inits[0])
    shape = Shape(tokens=LENGTH, rank=2, init=init)
    with METHODS[method].attach(model, shape, SEQUENCES) as trainable:
        before = {name: tensor.detach().clone() for name, tensor in trainable.parameters.items()}
        answer(model, trainable.joined_for(2, 0)).square().mean().backward()
        with torch.no_grad():
            for tensor in trainable.parameters.values():
                if tensor.grad is not None:
                    tensor -= 0.1 * tensor.grad / tensor.grad.abs().max().clamp(min=1e-12)
        moved = max(
            float((tensor.detach() - before[name]).abs().max()) for name, tensor in trainable.parameters.items()
        )
        adapter = METHODS[method].adapter(trainable.state(), shape)
    assert adapter is not None
    return moved, adapter


@torch.no_grad()
def with_peft(model: OpenModel, module: PreTrainedModel, adapter: Adapter) -> Tensor | None:
    """What a `PeftModel` makes of the saved folder; None where PEFT cannot run it."""
    batch = model.batch(SEQUENCES)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = save_adapter(Path(folder) / "adapter", model, adapter)
        try:
            wrapped = PeftModel.from_pretrained(module, str(path)).eval()
            if model.task == "seq2seq":
                return torch.cat(
                    [logits_of_pair(wrapped, ids, count) for ids, count in zip(SEQUENCES, WRITTEN, strict=True)]
                )
            output = wrapped(input_ids=batch.input_ids, attention_mask=batch.mask.long())
        except Exception:  # whatever PEFT stumbles over
            return None
    found: Tensor = output.logits if model.task == "causal" else output.last_hidden_state
    return found[:, found.shape[1] - batch.mask.shape[1] :][batch.mask]


def logits_of_pair(module: Any, ids: list[int], count: int) -> Tensor:
    """An encoder-decoder's logits of the last `count` tokens, from itself or a `PeftModel`, one text and no padding."""
    read, labels = torch.tensor([ids[:-count]]), torch.tensor([ids[-count:]])
    logits: Tensor = module(input_ids=read, attention_mask=torch.ones_like(read), labels=labels).logits
    return logits[0]


def method_row(model: OpenModel, module: PreTrainedModel, method: str) -> dict[str, Any]:
    """One method: whether it trains, and how far from PEFT it is."""
    if reason := model.lacks(method):
        return {"works": False, "reason": reason}
    moved, adapter = step(model, method)
    with torch.no_grad(), attach(model, adapter) as joined:
        own = answer(model, joined)
    bare = answer(model)
    theirs = with_peft(model, copy.deepcopy(module), adapter)
    return {
        "works": moved > 0 and relative(own, bare) > 0,
        "moves": relative(own, bare),
        "peft": None if theirs is None else relative(own, theirs),
    }


@torch.no_grad()
def capture_row(model: OpenModel) -> dict[str, Any]:
    """Captures: the error of attention written out, and whether looking on changes a bit."""
    batch = model.batch(SEQUENCES, WRITTEN)
    joined = joined_of(model)
    bare = model.hidden(batch, joined)
    kept: list[Tensor] = []
    try:
        layers = capture(model, batch, joined)
    except PromptreachError as error:
        return {"works": False, "reason": getattr(error, "reason", str(error))}
    for layer in layers:
        if model.task == "seq2seq":
            kept.append(torch.tensor(layer.rebuilt_error(torch.ones(len(SEQUENCES), layer.query.shape[2]) > 0)))
            continue
        asked = batch.mask if layer.query.shape[2] == batch.mask.shape[1] else _behind(batch, layer.query.shape[2])
        kept.append(torch.tensor(layer.rebuilt_error(asked)))
    again: list[Tensor] = []
    original = model.hidden

    def remembered(*args: Any, **options: Any) -> Tensor:
        again.append(original(*args, **options))
        return again[-1]

    model.hidden = remembered  # type: ignore[method-assign]
    try:
        capture(model, batch, joined)
    finally:
        del model.hidden
    return {
        "works": float(max(kept)) < 1e-4,
        "error": float(max(kept)),
        "calls": len(layers),
        "bit_equal": bool(torch.equal(again[0], bare)),
        "beside_scores": list(layers[0].beside_scores),
    }


def joined_of(model: OpenModel) -> Prepended:
    if not model.lacks("prompt"):
        return Prepended.of(initial_prompt(model, LENGTH, "vocabulary", SEQUENCES, 0))
    if not model.lacks("prefix"):
        return Prepended.of(initial_prefix(model, LENGTH, "random", SEQUENCES, 0))
    return Prepended()


def _behind(batch: TokenBatch, queries: int) -> Tensor:
    front = torch.ones(len(batch.mask), queries - batch.mask.shape[1], dtype=torch.bool)
    return torch.cat([front, batch.mask], dim=1)


@torch.no_grad()
def precompute_row(model: OpenModel) -> dict[str, Any]:
    """A prompt's keys and values computed once, against the prompt in front of every text."""
    if model.lacks("prompt"):
        return {"works": False, "reason": model.lacks("prompt")}
    prompt = SoftPrompt(model.vocabulary[torch.tensor([7, 14, 21])].clone())
    try:
        cache = precompute(model, prompt)
    except PromptreachError as error:
        fault = getattr(error, "faults", [None])[0]
        return {"works": False, "reason": str(error) if fault is None else fault.remedy or fault.seen}
    assert isinstance(cache.prefix, Prefix)
    error_ = relative(answer(model, Prepended.of(cache.prefix)), answer(model, Prepended.of(prompt)))
    return {"works": error_ < 1e-4, "error": error_}


def limits_row(model: OpenModel) -> dict[str, Any]:
    try:
        layer_weights(model)
    except PromptreachError as error:
        return {"works": False, "reason": getattr(error, "reason", str(error))}
    return {"works": True}


def reach_of(module: PreTrainedModel, name: str) -> dict[str, Any]:
    """Everything about one model."""
    model = open_model(module)
    model.name = name
    row: dict[str, Any] = {"task": model.task, "looks": "both ways" if model.both_ways else "back"}
    row["prefix_by"] = model.traits.prefix_by
    for method in METHODS_MEASURED:
        row[method] = method_row(model, module, method)
    return {**row, "capture": capture_row(model), "precompute": precompute_row(model), "limits": limits_row(model)}
