"""The share of attention that the trained prompt or prefix takes from the content, per layer and head.

The share is exact for each query: by the mixture identity a head's output is (1 - share) times what the content alone
would give plus share times what the prompt alone would give. A share near zero means that the prompt does not reach the
head; near one, that the content no longer does.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach import attention
from promptreach.audit.check import Outcome, Shown
from promptreach.audit.context import AuditContext
from promptreach.backbone import TokenBatch
from promptreach.diagnosis.experiment import Measured, Skipped
from promptreach.hf import attach, capture
from promptreach.hf.running.capture import REBUILT, LayerCapture
from promptreach.prompt import Adapter
from promptreach.report.findings import Heatmap


def measure(context: AuditContext) -> Outcome:
    """The share for the best trained prompt and prefix, and for the user's adapter."""
    adapters = context.best_adapters("prompt", "prefix")
    if context.user_adapter is not None:
        adapters["your adapter"] = context.user_adapter
    if reason := _unread(context):
        return Skipped(reason)
    measured = {name: _shares(context, adapter) for name, adapter in adapters.items()}
    shares = {name: share for name, share in measured.items() if share is not None}
    if not shares:
        return Skipped("no prompt or prefix was trained")
    means = {name: float(share.mean()) for name, share in shares.items()}
    largest = {name: float(share.max()) for name, share in shares.items()}
    text = "; ".join(
        f"{name} takes {means[name]:.1%} of the attention on average, most in layer "
        f"{_most(share)[0]}, head {_most(share)[1]} ({largest[name]:.1%})"
        for name, share in shares.items()
    )
    blocks = [
        Heatmap(
            title=f"Share of attention that {name} takes",
            values=[[round(value, 5) for value in row] for row in share.tolist()],
            unit="of attention",
            low=0.0,
            high=1.0,
            note="Mean over the content tokens of the sample.",
        )
        for name, share in shares.items()
    ]
    found = Measured({"mean": means, "largest": largest}, f"{len(context.probe_batch.mask)} held-out rows")
    return found, Shown(f"{text[0].upper()}{text[1:]}.", blocks)


def _unread(context: AuditContext) -> str:
    """Why shares of attention cannot be told on this model; empty where attention written out gives its own output."""
    if context.model.row is not None:
        return ""
    if context.model.task == "seq2seq":
        return "an encoder-decoder attends in three places, and a share means something else in each"
    if not context.model.traits.looked_up:
        return "this architecture computes attention where nobody can look on"
    batch = context.probe_batch
    errors = capture(context.model, batch, reduce=lambda layer: layer.rebuilt_error(batch.mask))
    if len(errors) != context.model.num_layers:
        return f"attention is called {len(errors)} times in {context.model.num_layers} layers"
    if max(errors) > REBUILT:
        return "its attention does something beside a softmax of scores that a share could be told of"
    return ""


def _most(share: Tensor) -> tuple[int, int]:
    layer, head = divmod(int(share.argmax()), share.shape[1])
    return layer, head


def _shares(context: AuditContext, adapter: Adapter) -> Float[Tensor, "layer head"] | None:
    """The mean share over content queries, or None for an adapter that adds no positions."""
    batch = context.probe_batch
    with attach(context.model, adapter) as joined:
        if joined.length == 0:
            return None
        rows = capture(context.model, batch, joined, reduce=lambda layer: mean_share(layer, batch))
    return torch.stack(rows)


def mean_share(layer: LayerCapture, batch: TokenBatch) -> Float[Tensor, " head"]:
    """One layer's share of the joined positions, averaged over all content queries of the batch."""
    length = layer.prompt_length
    content = batch.mask.shape[1]
    if layer.beside_scores:
        own = layer.weights()[:, :, -content:, :length].sum(-1)
        seen = batch.mask[:, None, :].to(own.dtype)
        return ((own * seen).sum(dim=(0, 2)) / seen.sum()).cpu()
    split = attention.split(
        layer.query[:, :, -content:],
        layer.key[:, :, length:],
        layer.value[:, :, length:],
        layer.key[:, :, :length],
        layer.value[:, :, :length],
        scale=layer.scale,
        mask=layer.mask[:, :, -content:, length:],
    )
    weight = batch.mask[:, None, :].to(split.share.dtype)
    return ((split.share * weight).sum(dim=(0, 2)) / weight.sum()).cpu()
