"""The parts of every compiled transformer: a stream of named blocks, relu layers and softmax layers.

Layers say which blocks of the stream they read and write, so none slices by offsets of its own. Both
kinds are ordinary residual sublayers, x -> x + F(x), and treat prompt and content rows by the same weights. F reads and
writes few coordinates of a wide stream, so its matrices are kept for those coordinates alone, and diagonal ones as a
vector.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from promptreach.compiler.parts import relu


class Stream:
    """The layout of a hidden state: blocks of coordinates, in order, each with a name.

    Args:
        sizes: the number of coordinates of each block; a block of size 0 is allowed and holds nothing.
    """

    def __init__(self, **sizes: int) -> None:
        self.blocks: dict[str, slice] = {}
        start = 0
        for name, size in sizes.items():
            self.blocks[name] = slice(start, start + size)
            start += size
        self.size = start

    def width(self, *names: str) -> int:
        """How many coordinates the blocks have together."""
        return sum(self.blocks[name].stop - self.blocks[name].start for name in names)

    def indices(self, names: Sequence[str]) -> list[int]:
        """The coordinates of the blocks, in the order of `names`."""
        return [index for name in names for index in range(self.blocks[name].start, self.blocks[name].stop)]

    def read(self, states: Float[Tensor, "*batch hidden"], names: Sequence[str]) -> Float[Tensor, "*batch read"]:
        """The blocks side by side."""
        parts = [states[..., self.blocks[name]] for name in names]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def add(
        self, states: Float[Tensor, "*batch hidden"], names: Sequence[str], delta: Float[Tensor, "*batch written"]
    ) -> None:
        """Add `delta` to the blocks, in place."""
        start = 0
        for name in names:
            width = self.width(name)
            states[..., self.blocks[name]] += delta[..., start : start + width]
            start += width


class FeedForward(nn.Module):
    """x[writes] += down relu(up x[reads] + up_bias) + down_bias, token by token.

    Args:
        name: of the layer, as documentation and certificates call it.
        stream: the layout of the hidden state.
        reads, writes: names of blocks, in the order of the matrices' columns and rows.
        up: (width, read), or the diagonal (width,).
        up_bias: (width,), or None.
        down: (written, width), or the diagonal (width,).
        down_bias: (written,), or None.
    """

    def __init__(
        self,
        name: str,
        stream: Stream,
        reads: Sequence[str],
        writes: Sequence[str],
        up: Float[Tensor, "width read"] | Float[Tensor, " width"],
        up_bias: Float[Tensor, " width"] | None,
        down: Float[Tensor, "written width"] | Float[Tensor, " width"],
        down_bias: Float[Tensor, " written"] | None = None,
    ) -> None:
        super().__init__()
        self.name, self.stream, self.reads, self.writes = name, stream, tuple(reads), tuple(writes)
        self.up, self.down = _frozen(up), _frozen(down)
        self.up_bias = None if up_bias is None else _frozen(up_bias)
        self.down_bias = None if down_bias is None else _frozen(down_bias)

    @property
    def width(self) -> int:
        """The number of relu units."""
        return self.up.shape[0]

    def forward(self, states: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch hidden"]:
        """The states after this layer; the same tensor, changed in place."""
        hidden = _affine(self.stream.read(states, self.reads), self.up, self.up_bias).relu()
        self.stream.add(states, self.writes, _affine(hidden, self.down, self.down_bias))
        return states


def own_entries(
    name: str, stream: Stream, reads: str, writes: str, height: float | int, dtype: torch.dtype
) -> FeedForward:
    """writes_j += sum_i relu(reads_ij - height (1 - flag_i)): of entries of all tokens, up to `height`, the own one's.

    The flags stand in the block "position".
    """
    size, tokens, dim = (stream.width(block) for block in (reads, "position", writes))
    up, bias = relu.gated_units(torch.eye(size, dtype=dtype), tokens, height)
    down = torch.eye(dim, dtype=dtype).repeat(1, tokens)
    return FeedForward(name, stream, [reads, "position"], [writes], up, bias, down)


class Projection(NamedTuple):
    """A linear map from or to named blocks of the stream.

    Attributes:
        blocks: in the order of the matrix's columns where they are read, of its rows where they are written.
        matrix: (written, read), or the diagonal of a square one.
        bias: (written,), or None.
    """

    blocks: Sequence[str]
    matrix: Tensor
    bias: Tensor | None = None


class Attention(nn.Module):
    """One softmax head: x[writes] += output sum_j softmax_j(scale q.k_j) v_j over prompt and content together.

    Args:
        name: of the layer.
        stream: the layout of the hidden state.
        query, key: (head_dim, read) matrices, with or without biases.
        value, output: (value_dim, read) and (written, value_dim), or diagonals (value_dim,); both without bias.
        scale: the factor on q.k; papers A and B have none, which is 1.
    """

    def __init__(
        self,
        name: str,
        stream: Stream,
        *,
        query: Projection,
        key: Projection,
        value: Projection,
        output: Projection,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.name, self.stream, self.scale = name, stream, scale
        parts = (query, key, value, output)
        self.query_reads, self.key_reads, self.value_reads, self.writes = (tuple(part.blocks) for part in parts)
        self.query, self.key, self.value, self.output = (_frozen(part.matrix) for part in parts)
        self.query_bias, self.key_bias = (None if part.bias is None else _frozen(part.bias) for part in (query, key))

    def forward(
        self,
        content: Float[Tensor, "batch tokens hidden"],
        prompt: Float[Tensor, "copies prompt hidden"] | None,
        update_prompt: bool = False,
    ) -> tuple[Float[Tensor, "batch tokens hidden"], Float[Tensor, "_ prompt hidden"] | None]:
        """Content and prompt rows after this layer.

        Args:
            content: changed in place.
            prompt: the rows in front; one copy while no row has seen any content. None where there are none.
            update_prompt: True when a later layer reads, of the prompt rows, what this one writes into them.
        """
        keys, values = self._keys(content), self._values(content)
        front = None if prompt is None else (self._keys(prompt), self._values(prompt))
        written = self._attend(content, keys, values, front)
        if prompt is not None and update_prompt:
            # From here on each input has prompt rows of its own.
            prompt = prompt.expand(len(content), -1, -1).clone()
            self.stream.add(prompt, self.writes, self._attend(prompt, keys, values, front))
        self.stream.add(content, self.writes, written)
        return content, prompt

    def _keys(self, states: Tensor) -> Tensor:
        return _affine(self.stream.read(states, self.key_reads), self.key, self.key_bias)

    def _values(self, states: Tensor) -> Tensor:
        return _affine(self.stream.read(states, self.value_reads), self.value, None)

    def _attend(self, states: Tensor, keys: Tensor, values: Tensor, front: tuple[Tensor, Tensor] | None) -> Tensor:
        query = _affine(self.stream.read(states, self.query_reads), self.query, self.query_bias)
        query = query if self.scale == 1 else self.scale * query
        scores = query @ keys.mT
        if front is None:
            mixed = scores.softmax(dim=-1) @ values
        else:
            prompt_keys, prompt_values = front
            length = prompt_keys.shape[1]
            shares = torch.cat([query @ prompt_keys.mT, scores], dim=-1).softmax(dim=-1)
            mixed = shares[..., :length] @ prompt_values + shares[..., length:] @ values
        return _affine(mixed, self.output, None)


def _affine(states: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    if matrix.ndim == 2:
        return nn.functional.linear(states, matrix, bias)
    return states * matrix if bias is None else states * matrix + bias


def _frozen(tensor: Tensor) -> nn.Parameter:
    """A weight that is fixed before any function is seen: training never moves it."""
    return nn.Parameter(tensor.clone(), requires_grad=False)
