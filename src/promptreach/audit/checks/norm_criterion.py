"""Paper B's norm criterion per layer and head, raw and after the exact centring, with the prompt and without it."""

import torch

from promptreach.audit.context import AuditContext
from promptreach.audit.findings import Finding, Heatmap, Text
from promptreach.certificate import Evidence
from promptreach.hf import attach, capture
from promptreach.hf.capture import LayerCapture
from promptreach.norms import NormCriterion, norm_criterion
from promptreach.prompt import join_mask
from promptreach.tuning.backbone import Joined, TokenBatch


def run(context: AuditContext) -> Finding:
    """Measure how large queries, keys and scores are next to sqrt(log n)."""
    batch = context.probe_batch
    trained = context.best("prompt")
    adapter = trained.adapter if trained is not None else None
    if adapter is None:
        layers = _criteria(context, batch, Joined())
    else:
        with attach(context.model, adapter) as joined:
            layers = _criteria(context, batch, joined)
    ratio = torch.stack([layer.joined.ratio for layer in layers])
    centred = torch.stack([layer.joined.centred_ratio for layer in layers])
    scores = torch.stack([layer.joined.score_max for layer in layers])
    centred_scores = torch.stack([layer.joined.centred_score_max for layer in layers])
    raised = torch.stack([layer.raised_by_prompt for layer in layers])
    length, root = layers[0].joined.length, layers[0].joined.sqrt_log_length
    shrink = float((scores / centred_scores).median())
    summary = (
        f"Centring, which changes no output, shrinks the largest score of a head by a median factor of {shrink:.1f}, "
        f"from {float(scores.median()):.1f} to {float(centred_scores.median()):.1f}. At n = {length} tokens "
        f"sqrt(log n) is {root:.2f}; after centring the median head's largest query or key entry is "
        f"{float(centred.median()):.1f} times that."
    )
    if adapter is not None:
        summary += f" The trained prompt raises the largest score in {int(raised.sum())} of {raised.numel()} heads."
    return Finding(
        check="norm_criterion",
        title="Norm criterion for fast attention",
        evidence=Evidence.MEASURED,
        sample=f"{len(batch.mask)} held-out rows of up to {length} tokens, prompt included",
        summary=summary,
        values={
            "length": length,
            "sqrt_log_length": root,
            "median_ratio": float(ratio.median()),
            "median_centred_ratio": float(centred.median()),
            "median_score": float(scores.median()),
            "median_centred_score": float(centred_scores.median()),
            "heads": ratio.numel(),
            "raised_by_prompt": int(raised.sum()),
        },
        blocks=[
            _heatmap("Largest entry over sqrt(log n), as captured", ratio, "× sqrt(log n)"),
            _heatmap("Largest entry over sqrt(log n), centred", centred, "× sqrt(log n)"),
            _heatmap("Largest score, centred", centred_scores, "nats"),
            Text(
                text="Paper B proves an asymptotic phase transition: for entries growing slower than sqrt(log n) "
                "attention can be approximated in almost linear time, and for entries of that order some inputs "
                "cannot (under SETH). The constants are not specified, so no finite length has a threshold, and "
                "beyond the criterion only worst cases are hard. Read the maps as where fast attention is easier, "
                "not as yes or no. At the lengths measured here exact attention is cheap anyway."
            ),
        ],
    )


def _criteria(context: AuditContext, batch: TokenBatch, joined: Joined) -> list[NormCriterion]:
    def reduce(layer: LayerCapture) -> NormCriterion:
        mask = join_mask(batch.mask, layer.prompt_length)
        return norm_criterion(layer.query, layer.key, layer.prompt_length, mask, layer.scale)

    return capture(context.model, batch, joined, reduce=reduce)


def _heatmap(title: str, values: torch.Tensor, unit: str) -> Heatmap:
    return Heatmap(
        title=title, values=[[round(value, 4) for value in row] for row in values.tolist()], unit=unit, low=0.0
    )
