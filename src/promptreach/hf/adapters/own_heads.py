"""A trained linear head in the form that transformers' own classifiers have, so that PEFT loads it with the adapter.

Decoders have one matrix on the last token, encoders one behind a dense layer (BERT's pooler, RoBERTa's and DistilBERT's
heads) that reads the first. A linear map goes through such a layer exactly: of z and -z every activation in use gives
two values whose difference is a multiple of z (ReLU, GELU and SiLU: z itself; tanh: 2z, as long as z is tiny, which a
power of two sees to and another takes back).

Whether all of this holds for one adapter on one model, PEFT's ways of joining included, nobody has to believe: the
classifier is put together on the model at hand and its logits are compared with ours, row by row and in a batch.
"""

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, PreTrainedModel

from promptreach.hf.adapters._lora import Unchanged
from promptreach.hf.models.load import is_part, quietly
from promptreach.hf.models.model import OpenModel
from promptreach.hf.models.sizes import field, text_config

CLASSES = {"SEQ_CLS": AutoModelForSequenceClassification, "TOKEN_CLS": AutoModelForTokenClassification}
"""The class of a classifier by PEFT's name of its task."""
_TINY = 2.0**-24
"""How far inputs of a dense layer's activation are shrunk: tanh(z) is z to float32 below 2^-12."""
_REFUSALS = (ValueError, RuntimeError, TypeError, IndexError, AttributeError, KeyError)
"""What a model raises that cannot be run the way that PEFT runs it."""
_NO_PLACE = (
    "The head has a bias, for which transformers' class of this family has no place (fit --no-head-bias has none)."
)
_GAINS = (1.0, 2.0)
"""The multiples of z that an activation leaves of z and -z."""
_AGREE = 1e-4
"""The largest difference of logits that counts as rounding, relative to the largest of them or to 1."""


@dataclass(frozen=True, eq=False)
class TrainedHead:
    """A linear head with what its outputs are for.

    Attributes:
        weight, bias: (outputs, hidden) and (outputs), on the last hidden states.
        pooling: where it reads: ``"mean"``, ``"first"``, ``"last"`` or ``"each"``.
        kind: what it tells, one of ``"labels"``, ``"several_labels"``, ``"number"``, ``"tags"`` and ``"span"``.
        scale: the mean and the standard deviation that its one output is a multiple of.
        pairs: whether it reads two texts a row.
    """

    weight: Tensor
    bias: Tensor
    pooling: str
    kind: str = "labels"
    scale: tuple[float, float] = (0.0, 1.0)
    pairs: bool = False

    @property
    def unscaled(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the outputs in the unit of what they tell."""
        mean, deviation = self.scale
        return self.weight.float() * deviation, self.bias.float() * deviation + mean


@dataclass(frozen=True, eq=False)
class HeadedAdapter:
    """A trained adapter under a trained head, with rows to compare on.

    Attributes:
        model: the base; it is left as it was.
        config, state: of the adapter, as PEFT's folder holds them.
        head: the trained one.
        sequences: a few rows as tokens.
        expected: our outputs for them in the unit of what they tell, (rows, outputs), or (rows, tokens, outputs).
    """

    model: OpenModel
    config: PeftConfig
    state: Mapping[str, Tensor]
    head: TrainedHead
    sequences: Sequence[Sequence[int]]
    expected: Tensor

    @property
    def is_prompt(self) -> bool:
        """Whether virtual tokens stand in front of the content."""
        return self.config.is_prompt_learning and "PREFIX" not in str(self.config.peft_type)


@dataclass(frozen=True, eq=False)
class OwnHead:
    """A classifier's folder, as PEFT has it.

    Attributes:
        task: PEFT's name, ``"SEQ_CLS"`` or ``"TOKEN_CLS"``.
        config: of the adapter, with the modules that are saved along.
        tensors: of the adapter and the head, by PEFT's keys.
        rows: on how many rows its logits were compared with ours.
        difference: the largest one there was, row by row.
        batches: whether it also holds for rows that are padded to one length.
        padding: the padding token that the base's config lacks and a batch needs; None where it has one.
    """

    task: str
    config: PeftConfig
    tensors: Mapping[str, Tensor]
    rows: int
    difference: float
    batches: bool
    padding: int | None = None


def own_head(trained: HeadedAdapter) -> OwnHead | str:
    """The classifier that PEFT and transformers load from a folder, or why there is none, as a sentence."""
    model, head = trained.model, trained.head
    if reason := _why_not(model, head):
        return reason
    task = "TOKEN_CLS" if head.pooling == "each" else "SEQ_CLS"
    with Unchanged(model.release()), warnings.catch_warnings(), torch.random.fork_rng(devices=[]), quietly():
        warnings.simplefilter("ignore")
        try:
            classifier = _classifier(model, CLASSES[task], len(head.bias))
        except _REFUSALS:
            named = {"TOKEN_CLS": "the tags of words", "SEQ_CLS": "the labels of texts"}[task]
            return f"transformers has no class on this part of {model.family} that answers with {named}."
        try:
            return _tried(trained, classifier, task)
        except _REFUSALS as error:
            said = str(error).strip().partition("\n")[0][:120] or type(error).__name__
            return _explained(trained, f"PEFT cannot run it on {type(classifier).__name__} ({said}).")


def _why_not(model: OpenModel, head: TrainedHead) -> str:
    """The reason that needs no trial; empty where there is none."""
    options = model.origin.options if model.origin else {}
    if head.kind == "span":
        return "The head answers with a stretch of a context, which transformers' classes cut out by other rules."
    if model.origin is not None and model.origin.source.endswith(".gguf"):
        return "The base is a GGUF file, which PEFT's Auto classes do not open."
    if options.get("num_layers"):
        return "The base was opened short, which PEFT's Auto classes do not do."
    if is_part(model):
        return "The base is the part of a larger model that reads text, and PEFT's Auto classes open all of it."
    if head.pairs and "token_type_ids" in getattr(model.tokenizer, "model_input_names", ()):
        return "Two texts are read without token types here, and with them by transformers' pipeline."
    return ""


def _explained(trained: HeadedAdapter, seen: str) -> str:
    """The reason why a trial failed, as far as it is known, or what was seen."""
    where = {"encoder": "the first position", "causal": "the last token"}[trained.model.task]
    if trained.head.pooling == "mean":
        return f"The head reads the mean of the states, where transformers' class reads {where}."
    if trained.is_prompt and trained.head.pooling == "first":
        return "The head reads [CLS], which the prompt moves back, where transformers' class reads the first position."
    if trained.is_prompt and trained.head.pooling == "each":
        return "PEFT gives the prompt's own positions out along with the words', so that tags would move."
    return seen


def _classifier(model: OpenModel, auto: Any, outputs: int) -> PreTrainedModel:
    """transformers' classifier with the model at hand as its body, its own parts without weights."""
    config = copy.deepcopy(model.model.config)
    config.num_labels = outputs
    if (padding := _lacking_padding(model)) is not None:
        text_config(config).pad_token_id = padding
    with torch.device("meta"):
        classifier: PreTrainedModel = auto.from_config(config)
    empty = getattr(classifier, classifier.base_model_prefix)
    if type(empty) is not type(model.body):
        raise TypeError(f"its body is a {type(empty).__name__}")
    for name, part in empty.named_children():
        if name.startswith("pooler"):  # its own, so that nothing is written into the model's; ALBERT has it in two
            setattr(model.body, name, part)
    setattr(classifier, classifier.base_model_prefix, model.body)
    return classifier.eval()


def _lacking_padding(model: OpenModel) -> int | None:
    """The tokenizer's padding token where a decoder's config names none: its last token is then found without one."""
    own = field(text_config(model.model.config), "pad_token_id")
    return None if model.both_ways or own is not None else getattr(model.tokenizer, "pad_token_id", None)


def _parts(classifier: PreTrainedModel, body: PreTrainedModel) -> list[str]:
    """The paths of the modules with weights between the last hidden states and the logits, first to last."""
    prefix = classifier.base_model_prefix
    inside = {id(part) for part in body.modules()}
    pooler = getattr(body, "pooler", None)
    found = [f"{prefix}.pooler.{name}".rstrip(".") for name, _ in _weighted(pooler)] if pooler is not None else []
    return found + [name for name, part in _weighted(classifier) if id(part) not in inside]


def _weighted(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, part) for name, part in module.named_modules() if part._parameters]


def _tried(trained: HeadedAdapter, classifier: PreTrainedModel, task: str) -> OwnHead | str:
    """The first way to lay the head into the classifier's that gives our logits, or why none does."""
    model, head, rows = trained.model, trained.head, range(len(trained.sequences))
    paths = _parts(classifier, model.body)
    parts = [classifier.get_submodule(path) for path in paths]
    if not 1 <= len(parts) <= 2 or not all(isinstance(part, nn.Linear) for part in parts):
        return f"The head of {type(classifier).__name__} has more in it than a linear map goes through unchanged."
    if len(parts) == 2 and 2 * len(head.bias) > parts[0].out_features:
        return f"The head has more outputs than fit through the dense layer of {type(classifier).__name__}."
    laid, reason = _bias_laid(model, parts, head)
    if reason:
        return reason
    like = next(model.body.parameters())
    for part in parts:
        part.to_empty(device=like.device).to(model.model.dtype)
    wrapper = _wrapped(trained, classifier, task, paths)
    found: list[float] = []
    for gain in _GAINS[: len(parts)]:
        _lay(wrapper, paths, *laid, gain)
        with torch.no_grad():
            single = _difference(trained, wrapper, [[row] for row in rows])
            if single <= _AGREE:
                together = _padded_difference(trained, wrapper)
                padding = None if together > _AGREE else _lacking_padding(model)
                return OwnHead(task, *_saved(wrapper), len(rows), single, together <= _AGREE, padding)
        found.append(single)
    seen = f"PEFT on {type(classifier).__name__} gives other logits than ours, by {min(found):.2g} of their size."
    return _explained(trained, seen)


def _saved(wrapper: PeftModel) -> tuple[PeftConfig, dict[str, Tensor]]:
    """The config and the tensors of a PEFT model, as a folder holds them."""
    tensors = get_peft_model_state_dict(wrapper, save_embedding_layers=False)
    config = copy.deepcopy(wrapper.peft_config["default"])
    config.inference_mode, config.modules_to_save = True, sorted(set(config.modules_to_save))
    return config, {name: part.detach().float().cpu().clone() for name, part in tensors.items()}


def _bias_laid(model: OpenModel, parts: Sequence[nn.Module], head: TrainedHead) -> tuple[tuple[Tensor, Tensor], str]:
    """Weight and bias of the outputs, the bias inside the weight where the classifier has no place for it."""
    weight, bias = (part.cpu() for part in head.unscaled)
    if any(part.bias is not None for part in parts) or not bool(bias.any()):
        return (weight, bias), ""
    constant = _constant_direction(model)
    if constant is None:
        return (weight, bias), _NO_PLACE
    return (weight + bias[:, None] * constant.to(weight), torch.zeros_like(bias)), ""


def _constant_direction(model: OpenModel) -> Tensor | None:
    """A vector whose product with every last hidden state is 1: a LayerNorm takes the mean out before it scales.

    None where the last norm is none, or leaves no constant that rounding would spare.
    """
    size = model.hidden_size
    with torch.no_grad():
        states = model.hidden(model.batch([list(range(min(8, len(model.vocabulary))))]))[0].double().cpu()
    for norm in [part for part in model.body.modules() if isinstance(part, nn.LayerNorm)][::-1]:
        if norm.bias is None or norm.weight.shape != (size,) or not bool((norm.weight != 0).all()):
            continue
        inverse = 1.0 / norm.weight.detach().double().cpu()
        product = float(inverse @ norm.bias.detach().double().cpu())
        if product and float((states @ (inverse / product) - 1.0).abs().max()) <= _AGREE:
            return (inverse / product).float()
    return None


def _wrapped(trained: HeadedAdapter, classifier: PreTrainedModel, task: str, paths: Sequence[str]) -> PeftModel:
    """PEFT's model of it, with the adapter's tensors in it."""
    own, state = copy.deepcopy(trained.config), trained.state
    own.task_type, own.inference_mode = task, False
    prefix = classifier.base_model_prefix
    tops = {path.split(".")[1 if path.startswith(f"{prefix}.") else 0] for path in paths}
    own.modules_to_save = sorted(tops - {"classifier", "score"}) or None
    wrapper = get_peft_model(classifier, own).eval()
    root = "base_model.model."
    # PEFT finds targets by the ends of their paths, and tensors by the whole: a classifier's body lies deeper.
    deeper = root if any(name.startswith(f"{root}{prefix}.") for name in state) else f"{root}{prefix}."
    led = {
        f"{deeper}{name.removeprefix(root)}" if name.startswith(root) else name: tensor
        for name, tensor in state.items()
    }
    placed = get_peft_model_state_dict(wrapper, save_embedding_layers=False)
    set_peft_model_state_dict(wrapper, {**placed, **led})
    return wrapper


def _lay(wrapper: PeftModel, paths: Sequence[str], weight: Tensor, bias: Tensor, gain: float) -> None:
    """Put a linear map into the one matrix of a classifier's head, or through its two."""
    base = wrapper.get_base_model()
    parts = [_trained_copy(base, path) for path in paths]
    with torch.no_grad():
        for part in parts:
            part.weight.zero_()
            if part.bias is not None:
                part.bias.zero_()
        last, count = parts[-1], len(bias)
        if len(parts) == 1:
            last.weight.copy_(weight)
        else:
            first = parts[0]
            first.weight[:count].copy_(weight * _TINY)
            first.weight[count : 2 * count].copy_(-weight * _TINY)
            eye = torch.eye(count) / (gain * _TINY)
            last.weight[:, : 2 * count].copy_(torch.cat([eye, -eye], dim=1))
        if last.bias is not None:
            last.bias.copy_(bias)
        elif len(parts) == 2:
            parts[0].bias[: 2 * count].copy_(torch.cat([bias, -bias]) * _TINY)


def _trained_copy(base: nn.Module, path: str) -> nn.Linear:
    """The copy of a module that PEFT runs and saves, whichever part of the path it wrapped."""
    part = base
    for name in path.split("."):
        part = getattr(part, name)
        saved = getattr(part, "modules_to_save", None)
        part = saved["default"] if isinstance(saved, nn.ModuleDict) else part
    assert isinstance(part, nn.Linear)
    return part


def _difference(trained: HeadedAdapter, wrapper: PeftModel, batches: Sequence[Sequence[int]]) -> float:
    """The largest difference of logits over the largest logit, or 1; infinite for another number of them."""
    model, expected = trained.model, trained.expected
    worst, size = 0.0, max(1.0, float(expected.abs().max()))
    typed = "token_type_ids" in getattr(model.tokenizer, "model_input_names", ())
    for rows in batches:
        batch = model.batch([trained.sequences[row] for row in rows])
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.mask.long()}
        if typed:  # as a pipeline hands them over
            inputs["token_type_ids"] = torch.zeros_like(batch.input_ids)
        answer, ours = wrapper(**inputs).logits.float().cpu(), expected[list(rows)]
        if ours.dim() == 3 and answer.shape[:2] == batch.mask.shape:
            answer, ours = answer[batch.mask.cpu()], ours[:, : answer.shape[1]][batch.mask.cpu()]
        if answer.shape != ours.shape or not bool(answer.isfinite().all()):
            return float("inf")
        worst = max(worst, float((answer - ours).abs().max()))
    return worst / size


def _padded_difference(trained: HeadedAdapter, wrapper: PeftModel) -> float:
    """The same of all rows padded to one length; infinite where they cannot be."""
    try:
        return _difference(trained, wrapper, [list(range(len(trained.sequences)))])
    except _REFUSALS:
        return float("inf")
