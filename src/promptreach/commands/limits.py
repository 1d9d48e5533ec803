"""Lipschitz bounds of a model's layers as a finding: how steep they are, and whether that proves them injective.

Shared by the audit's check, which looks at the user's own texts, and by ``promptreach limits``, which needs no data.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from promptreach.backbone import TokenBatch
from promptreach.certificate import Certificate, Evidence, Verdict
from promptreach.errors import Fault, InputError
from promptreach.evidence import Side
from promptreach.hf import OpenModel, layer_inputs, layer_weights
from promptreach.limits import LayerBound, lipschitz
from promptreach.report.certificates import finished, settled
from promptreach.report.findings import Cell, Finding, Table, Text

_POWER_STEPS = 6
_SEQUENCES = 4


def layer_bounds(model: OpenModel, batch: TokenBatch, tokens: int) -> tuple[list[LayerBound], list[float]]:
    """Each layer's Lipschitz bounds on the ball that its own inputs need, and that ball's radius.

    The radius is the longest token that enters the layer on `batch`; the first sequence serves for local numbers.

    Args:
        model: BERT, GPT-2 or Llama family.
        batch: real or random text.
        tokens: the sequence length that the bounds allow, prompt included.
    """
    bounds, radii = [], []
    for index, states in enumerate(layer_inputs(model, batch)):
        content = states[batch.mask].double()
        radius = float(content.norm(dim=-1).max())
        first = states[0][batch.mask[0]][:tokens]
        bounds += lipschitz([layer_weights(model, index)], radius, tokens, [first], iterations=_POWER_STEPS, seed=index)
        radii.append(radius)
    return bounds, radii


def lipschitz_finding(model: OpenModel, batch: TokenBatch, tokens: int, sample: str) -> Finding:
    """The bounds of every layer as a finding."""
    with _one_thread():
        bounds, radii = layer_bounds(model, batch, tokens)
        certificates = [
            settled(part.about(f"Layer {index}"), "it holds the layer's weights")
            for index, bound in enumerate(bounds)
            for part in _parts(bound)
        ]
    certified = sum(bound.invertible is Verdict.POSSIBLE for bound in bounds)
    ratios = [bound.attention.value / bound.attention_lower.value for bound in bounds]
    median = sorted(ratios)[len(ratios) // 2]
    summary = (
        f"{certified} of {len(bounds)} layers are certified injective by contraction (paper A, Theorem 5, asks for a "
        "Lipschitz constant below 1 in every block). "
        + ("" if certified else "So the theorem says nothing against prompts on this model. ")
        + f"The certified attention bounds are a median {median:,.0f} times the steepest direction found."
    )
    return Finding(
        check="lipschitz",
        title="How steep the layers are",
        evidence=Evidence.MEASURED,
        sample=sample,
        summary=summary,
        values={
            "certified_layers": certified,
            "layers": len(bounds),
            "radius": radii,
            "attention_upper": [bound.attention.value for bound in bounds],
            "attention_lower": [bound.attention_lower.value for bound in bounds],
            "mlp_upper": [bound.mlp.value for bound in bounds],
            "mlp_lower": [bound.mlp_lower.value for bound in bounds],
            "median_ratio": median,
        },
        blocks=[_table(bounds, radii, tokens), Text(text=_meaning(bounds))],
        certificates=certificates,
    )


def _parts(bound: LayerBound) -> list[Certificate]:
    """The certificates of one layer: of the ball from above and below, then at the point that was looked at."""
    parts = (bound.attention, bound.mlp, bound.total, bound.attention_lower, bound.mlp_lower)
    local = (part for part in (bound.attention_local, bound.mlp_local) if part is not None)
    return [*parts, *local]


def _table(bounds: Sequence[LayerBound], radii: Sequence[float], tokens: int) -> Table:
    records: list[dict[str, Cell]] = [
        {
            "layer": index,
            "radius": radius,
            "attention ≥": bound.attention_lower.value,
            "attention ≤": bound.attention.value,
            "feed-forward ≥": bound.mlp_lower.value,
            "feed-forward ≤": bound.mlp.value,
            "injective": "certified" if bound.invertible is Verdict.POSSIBLE else "not certified",
        }
        for index, (bound, radius) in enumerate(zip(bounds, radii, strict=True))
    ]
    return Table.of(
        "Lipschitz constants of each layer's branches",
        records,
        note=f"For up to {tokens} tokens, prompt included, each at most “radius” long. ≤ is PROVED for that ball, ≥ is "
        "MEASURED by power iteration on one sequence. Frobenius norm over stacked tokens; the norms in front of a "
        "branch are included.",
        sides={"attention ≤": Side.UPPER, "feed-forward ≤": Side.UPPER},
    )


def _meaning(bounds: Sequence[LayerBound]) -> str:
    uncovered = list(dict.fromkeys(reason for bound in bounds for reason in bound.not_covered))
    text = (
        "“Not certified” never means “not injective”: the bound is sufficient only. Where every layer of a causal "
        "model is certified, two different inputs cannot be given the same target by any prompt; for bidirectional "
        "encoders that conclusion does not follow even then, since the prompt's own states move with the input."
    )
    return text + (f" Not covered: {'; '.join(uncovered)}." if uncovered else "")


def limits_of_model(model: OpenModel, tokens: int, seed: int) -> Finding:
    """`lipschitz_finding` without data, on sequences of uniformly drawn vocabulary tokens.

    Raises:
        InputError: when the model has not that much context.
    """
    if not 2 <= tokens <= model.max_positions:
        raise InputError(Fault("tokens", str(tokens), f"2 to {model.max_positions}, the model's context"))
    generator = torch.Generator().manual_seed(seed)
    vocabulary = model.vocabulary.shape[0]
    batch = model.batch(torch.randint(vocabulary, (_SEQUENCES, tokens), generator=generator).tolist())
    return finished(lipschitz_finding(model, batch, tokens, f"{_SEQUENCES} sequences of {tokens} random tokens"))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Many small float64 products run slower on several threads than on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
