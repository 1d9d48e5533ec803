"""A trained prompt or prefix, made shorter for its model: queries from text, the fit, the move, the loss it costs.

`promptreach.compression.shrink` knows queries and slots only. Here the queries come from running the model on texts
behind the full prefix, and the result is put where the content will now stand.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from promptreach.attention import Statistics, statistics
from promptreach.backbone import Prepended
from promptreach.certificate import Certificate, Evidence, Side
from promptreach.compression.shrink import Shrunk, shrink
from promptreach.errors import Fault, raise_if_any
from promptreach.hf.models.model import OpenModel
from promptreach.hf.running.cache import precompute, rerotated
from promptreach.hf.running.capture import LayerCapture, capture, require_plain
from promptreach.prompt import Prefix, SoftPrompt

BATCH = 4
"""The number of texts in one forward pass."""


@dataclass(frozen=True, eq=False)
class PrefixQueries:
    """The queries that texts behind a prefix put to it; arguments of `promptreach.compression.shrink`.

    Attributes:
        queries: (layer, heads, sample, head_dim), one text after the other.
        content: what each of them sees of its own text: lse (layer, heads, sample), mean (..., value_dim).
        scale: the factor on q.k.
    """

    queries: Float[Tensor, "layer heads sample head_dim"]
    content: Statistics
    scale: float


@dataclass(frozen=True, eq=False)
class Shortened:
    """A shorter prefix for its model and what it costs.

    Attributes:
        prefix: where the content that it leaves room for expects it.
        shrunk: the fit, with the error of every head.
        loss: of the held-out texts with the full prefix, in nats a token; MEASURED.
        shortened_loss: the same with the shorter one.
        bare_loss: the same without any prefix: what the full prefix is worth.
    """

    prefix: Prefix
    shrunk: Shrunk
    loss: Certificate
    shortened_loss: Certificate
    bare_loss: Certificate


def shorten(
    model: OpenModel,
    prompt: SoftPrompt | Prefix,
    tokens: int,
    texts: Sequence[Sequence[int]],
    held_out: Sequence[Sequence[int]],
    *,
    budgets: str = "equal",
    steps: int = 100,
    generator: torch.Generator | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Shortened:
    """A prefix of `tokens` slots in place of a prompt or a longer prefix, fitted on `texts`, measured on `held_out`.

    Args:
        texts, held_out: token ids, each text at least two tokens; none of the second may stand in the first.
        budgets, steps, generator, progress: as in `promptreach.compression.shrink`.

    Raises:
        InputError: for an encoder, a prompt that does not fit, or texts that are too short or too long.
        UnsupportedModelError: when the model's positions cannot be moved.
    """
    full = precompute(model, prompt).prefix
    raise_if_any(_text_faults(texts, "texts") + _text_faults(held_out, "held_out"))
    rerotated(full, model, 0)  # says now what it would say after the work
    asked = sample_queries(model, full, texts)
    shrunk = shrink(
        full,
        asked.queries,
        tokens,
        content=asked.content,
        scale=asked.scale,
        budgets=budgets,
        steps=steps,
        generator=generator,
        progress=progress,
    )
    short = rerotated(shrunk.prefix, model, shrunk.prefix.length - full.length)
    sample = f"{sum(map(len, held_out)) - len(held_out)} next tokens of {len(held_out)} held-out texts"
    losses = [
        Certificate(
            claim=f"the mean next-token loss in nats with {what} is value",
            value=text_loss(model, prefix, held_out),
            side=Side.EXACT,
            evidence=Evidence.MEASURED,
            sample=sample,
        )
        for what, prefix in (("the full prefix", full), ("the shorter prefix", short), ("no prefix", None))
    ]
    return Shortened(short, shrunk, *losses)


def sample_queries(model: OpenModel, prefix: Prefix, texts: Sequence[Sequence[int]]) -> PrefixQueries:
    """The queries of every layer and head at every token of the texts, read behind the prefix."""
    joined = Prepended.of(prefix)
    layers: list[list[tuple[Tensor, Tensor, Tensor]]] = [[] for _ in range(model.num_layers)]
    scales = set()
    for start in range(0, len(texts), BATCH):
        batch = model.batch(texts[start : start + BATCH])

        def reduce(layer: LayerCapture, mask: Tensor = batch.mask) -> tuple[Tensor, Tensor, Tensor]:
            require_plain(layer, model.name)
            m = layer.prompt_length
            seen = statistics(
                layer.query, layer.key[:, :, m:], layer.value[:, :, m:], scale=layer.scale, mask=layer.mask[..., m:]
            )
            scales.add(layer.scale)
            return _at(layer.query, mask), _at(seen.lse, mask), _at(seen.mean, mask)

        for kept, parts in zip(layers, capture(model, batch, joined, reduce=reduce), strict=True):
            kept.append(parts)
    queries, masses, means = (
        torch.stack([torch.cat([parts[index] for parts in kept], dim=1) for kept in layers]) for index in range(3)
    )
    return PrefixQueries(queries, Statistics(masses, means), scales.pop())


@torch.no_grad()
def text_loss(model: OpenModel, prefix: Prefix | None, texts: Sequence[Sequence[int]]) -> float:
    """Mean next-token loss over the texts behind the prefix, in nats; the first token of each is given."""
    joined = None if prefix is None else Prepended.of(prefix)
    total, count = 0.0, 0
    for start in range(0, len(texts), BATCH):
        batch = model.batch(texts[start : start + BATCH])
        logits = model.vocabulary_logits(model.hidden(batch, joined)[:, :-1]).float()
        asked = batch.mask[:, 1:]
        total += float(cross_entropy(logits[asked], batch.input_ids[:, 1:][asked], reduction="sum"))
        count += int(asked.sum())
    return total / count


def _at(tensor: Tensor, mask: Tensor) -> Tensor:
    """(heads, tokens of the batch that are no padding, ...), one text after the other."""
    return tensor.transpose(1, 2)[mask].transpose(0, 1)


def _text_faults(texts: Sequence[Sequence[int]], name: str) -> list[Fault]:
    if not texts:
        return [Fault(name, "no text", "at least one")]
    return [
        Fault(f"{name}, text {index}", f"{len(text)} tokens", "at least 2")
        for index, text in enumerate(texts)
        if len(text) < 2
    ]
