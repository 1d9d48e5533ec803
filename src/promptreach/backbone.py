"""The protocol that training and measuring ask of a frozen model: `promptreach.hf.OpenModel` fulfils.

Training knows no Hugging Face object. It sees token ids going in, hidden states at the content positions coming out,
and three places where something trainable may be joined: in front of the input (a prompt), at every layer (a prefix),
or inside the model (LoRA, UniPELT, the weights themselves).
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from promptreach.prompt import Prefix, SoftPrompt

ModelTask = Literal["encoder", "causal", "seq2seq"]
"""The purposes of a model: hidden states alone; next tokens too; or next tokens of a decoder behind an encoder, which
reads the prompt and is where virtual tokens stand."""

UNBOUNDED = 2**40
"""`Backbone.max_positions` of a model in which nothing bounds the length of a sequence: longer than any."""


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Tokenized inputs, padded on the right.

    Attributes:
        input_ids: token ids; padding holds the tokenizer's padding id, or 0 where it has none.
        mask: True at content tokens, special tokens such as [CLS] included; False at padding.
        written: how many tokens at the end of each row are written rather than read, which makes a difference to an
            encoder-decoder alone; None where all are read.
    """

    input_ids: Int[Tensor, "batch seq"]
    mask: Bool[Tensor, "batch seq"]
    written: Int[Tensor, " batch"] | None = None

    def rows(self, own: slice) -> "TokenBatch":
        """A stretch of the rows, padding as it is."""
        written = None if self.written is None else self.written[own]
        return TokenBatch(self.input_ids[own], self.mask[own], written)


@dataclass(frozen=True)
class Prepended:
    """The prompt or prefix that one forward pass joins to the frozen model; tensors may require gradients.

    Attributes:
        prompt: (prompt, embedding), shared by the batch, or None; (batch, prompt, embedding) gives every example its
            own.
        prefix_keys, prefix_values: (layer, kv_head, prompt, size), shared by the batch, or None;
            (layer, batch, kv_head, prompt, size) gives every example its own. The size is `Backbone.head_dim` for keys
            and `Backbone.value_dim` for values.
        blank: (embedding,) or (batch, embedding), or None: what the model gets, beside a prompt, in place of every
            content token behind the first, so that none of these is read.
    """

    prompt: Tensor | None = None
    prefix_keys: Tensor | None = None
    prefix_values: Tensor | None = None
    blank: Tensor | None = None

    @classmethod
    def of(cls, prompt: SoftPrompt | Prefix) -> "Prepended":
        """A prompt in front of the input, or a prefix at every layer."""
        if isinstance(prompt, SoftPrompt):
            return cls(prompt=prompt.embeddings)
        return cls(prefix_keys=prompt.keys, prefix_values=prompt.values)

    def blanked(self, content: Float[Tensor, "batch seq embedding"]) -> Float[Tensor, "batch seq embedding"]:
        """Embedded content as the model gets it: with the blank, if there is one, behind the first token."""
        if self.blank is None:
            return content
        blank = self.blank.to(content).unsqueeze(-2).expand(len(content), content.shape[1] - 1, -1)
        return torch.cat([content[:, :1], blank], dim=1)

    @property
    def length(self) -> int:
        """The number of positions in front of the content."""
        if self.prompt is not None:
            return self.prompt.shape[-2:][0]
        return self.prefix_keys.shape[-2] if self.prefix_keys is not None else 0


@dataclass(frozen=True)
class Origin:
    """The way a model was opened: all that another process needs to open the same one.

    Attributes:
        source: a hub id, or the absolute path of a folder or file.
        options: what else `promptreach.hf.open_model` was told; its type and device are those that were taken.
        chosen: why the weights are of that type, where it was left open.
    """

    source: str
    options: Mapping[str, Any]
    chosen: str = ""


@runtime_checkable
class Attachment(Protocol):
    """Something trainable inside the model for the length of a `with` block."""

    def parameters(self) -> list[nn.Parameter]:
        """The trainable tensors."""

    def state(self) -> dict[str, Tensor]:
        """A detached copy of what they have become; for LoRA, by PEFT's key."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put a copy made by `state` back."""


@runtime_checkable
class Backbone(Protocol):
    """A frozen model with its tokenizer."""

    name: str
    family: str
    task: ModelTask
    hidden_size: int
    """Of the last hidden states, which a head reads."""
    embedding_size: int
    """Of an input embedding, and so of a virtual token; a few encoders have narrower ones than their states."""
    num_layers: int
    """The layers that have keys and values of their own, where the model takes a prefix."""
    num_heads: int
    num_kv_heads: int
    head_dim: int
    """Of a query and a key."""
    value_dim: int
    """Of a value: another size than a key's under latent attention only."""
    max_positions: int
    """The longest sequence the model accepts, prompt included; `UNBOUNDED` where nothing bounds it."""
    origin: Origin | None
    """Where it was opened from; None for a model that exists only in this process."""

    @property
    def fingerprint(self) -> str:
        """Changes when the weights change: part of the key under which finished runs are kept."""

    @property
    def end_token(self) -> int | None:
        """The token that every completion ends with; None where the tokenizer has none."""

    @property
    def vocabulary(self) -> Float[Tensor, "vocab embedding"]:
        """The embedding of every token as the model's first layer gets it, detached."""

    def lacks(self, method: str, init: str = "") -> str:
        """Why a tuning method, or that start of it, is not to be had on this architecture; empty where it is."""

    def tokenize(self, texts: Sequence[str], special_tokens: bool = True) -> list[list[int]]:
        """Token ids of each text, not truncated, with the special tokens the model expects around a text."""

    def tokenize_pairs(
        self, prompts: Sequence[str], completions: Sequence[str]
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids of each prompt, without special tokens at its end, and of each completion right behind it; for an
        encoder-decoder both as its family reads them, special tokens at either end."""

    def batch(self, sequences: Sequence[Sequence[int]], written: Sequence[int] | None = None) -> TokenBatch:
        """The sequences padded to the longest, on the model's device; of each, so many tokens at its end are written
        rather than read (None: none)."""

    def hidden(self, batch: TokenBatch, joined: Prepended | None = None) -> Float[Tensor, "batch seq hidden"]:
        """The last hidden states (after the final norm) at the batch's own positions, the joined ones cut off.

        Where the model writes, the state at a position is the one that the next token is read off. Positions follow
        PEFT's convention: what is joined comes first and shifts the content's positions by its length.
        """

    def front_of(self, call: int, joined: Prepended | None) -> int:
        """How many of the first keys of a forward pass's so-manieth call of attention are joined ones."""

    def vocabulary_logits(self, hidden: Float[Tensor, "... hidden"]) -> Float[Tensor, "... vocab"]:
        """Next-token logits from last hidden states; of models that write."""

    def cache_of(self, token_ids: Sequence[int]) -> Prefix:
        """The keys and values that these tokens leave at every layer: a prefix that the model has seen before."""

    def low_rank(
        self, rank: int, alpha: float, seed: int, targets: Sequence[str] = ()
    ) -> AbstractContextManager[Attachment]:
        """Attach LoRA to the projections whose paths end in one of `targets`; without any, to the query and value
        projections of every layer, or to all projections where these have no name of their own. It starts at zero."""

    def unipelt(self, start: Prefix, rank: int, bottleneck: int, seed: int) -> AbstractContextManager[Attachment]:
        """Attach a gated prefix that starts as `start`, gated LoRA and gated adapters; the last two start at zero."""

    def release(self) -> nn.Module:
        """The Hugging Face module itself."""


Classifier = Callable[[Sequence[Sequence[int]]], Float[Tensor, "examples classes"]]
"""Class logits of token sequences, in their order."""
