"""The work of a forward pass with an adapter, counted from shapes: multiplications, bytes, positions.

Counts are PREDICTED costs: a machine may be bound by memory or by overhead instead, which is why times are measured
beside them. What they leave out: embeddings, norms, the head, sliding windows.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from promptreach.fast_attention.norm_report import EXPONENTIAL
from promptreach.hf import OpenModel, PromptCache, save_adapter
from promptreach.hf.adapters.places import WEIGHTS
from promptreach.prompt import Adapter, LowRankUpdate


@dataclass(frozen=True, eq=False)
class DeploymentOption:
    """One way to run the model in use: bare, with an adapter, or with what was computed of it beforehand.

    Attributes:
        name: what tables call it.
        adapter: None is the bare model.
        cache: the adapter's keys and values where they are precomputed; None runs the adapter as PEFT does.
    """

    name: str
    adapter: Adapter | None = None
    cache: PromptCache | None = None

    @property
    def positions(self) -> int:
        """The positions of the context that it takes from the content."""
        return 0 if self.adapter is None else self.adapter.positions

    @property
    def runs_prompt(self) -> bool:
        """Whether every pass runs virtual tokens through the layers."""
        return self.adapter is not None and self.adapter.kind == "prompt" and self.cache is None


BARE = DeploymentOption("bare model")


@dataclass(frozen=True)
class ForwardWork:
    """Multiplications of a forward pass through a model's layers, for one input.

    Attributes:
        parameters: entries of all layers' matrices, one multiplication each for every position that runs.
        heads: query heads in all layers together.
        head_dim: their size.
        causal: whether a position sees only what stands before it.
    """

    parameters: int
    heads: int
    head_dim: int
    causal: bool

    @staticmethod
    def of(model: OpenModel) -> "ForwardWork":
        """The counts of a model without an adapter attached."""
        heads = model.num_layers * model.num_heads
        return ForwardWork(model.inner_entries(least_dims=2), heads, model.head_dim, not model.both_ways)

    def attention(self, queries: int, cached: int = 0) -> float:
        """Attention of `queries` positions to each other and to `cached` keys before; exponentials as `norm_report`."""
        among = queries * (queries + 1) / 2 if self.causal else float(queries * queries)
        return self.heads * (among + queries * cached) * (2 * self.head_dim + EXPONENTIAL)

    def of_option(self, option: DeploymentOption, length: int) -> float:
        """All multiplications for `length` content positions."""
        queries, cached, extra = length, option.positions, 0
        if option.runs_prompt:
            queries, cached = length + option.positions, 0
        if isinstance(option.adapter, LowRankUpdate):
            extra = sum(part.numel() for part in option.adapter.state.values())
        return queries * (self.parameters + extra) + self.attention(queries, cached)

    def attention_share(self, length: int) -> float:
        """The bare model's attention as a share of the whole pass."""
        return self.attention(length) / self.of_option(BARE, length)

    def polynomial_over_exact(self, rank: int, length: int) -> float:
        """The polynomial method with so many features over exact attention, for one head; as in `norm_report`."""
        return 2 * rank * (self.head_dim + 2) / (length * (2 * self.head_dim + EXPONENTIAL))


def cache_bytes(model: OpenModel, positions: int) -> int:
    """Bytes of the keys and values of so many positions, all layers together."""
    size = model.head_dim + model.value_dim
    return model.num_layers * model.num_kv_heads * size * model.vocabulary.element_size() * positions


def adapter_bytes(model: OpenModel, adapter: Adapter) -> int:
    """Bytes of the weights file of the adapter's PEFT folder."""
    with tempfile.TemporaryDirectory() as folder:
        return (save_adapter(Path(folder) / "adapter", model, adapter) / WEIGHTS).stat().st_size
