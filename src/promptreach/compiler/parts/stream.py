"""The residual stream of a compiled transformer: every coordinate belongs to a named block.

Passes say which blocks they read and which they write, so no pass slices by offsets of its own.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


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
