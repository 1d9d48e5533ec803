"""The output of `deep` in fractions and plain loops, layer by layer: its module must agree exactly."""

from fractions import Fraction

from torch import Tensor

from promptreach.compiler.papers import tabulated
from promptreach.compiler.papers.codebook import Codebook
from promptreach.compiler.papers.deep import Deep, base_of, id_heights, lift_of


def exact_output(backbone: Deep, x: list[list[Fraction]], table: Tensor) -> list[list[Fraction]]:
    """The output for one input, (tokens, dim), in fractions and plain loops, layer by layer.

    Args:
        backbone: whose layers these are.
        x: entries in [0, 1].
        table: (cells, entries), the levels that the prompt stores.
    """
    codebook, base = backbone.codebook, base_of(backbone.codebook)
    edges = tabulated.starts(codebook, backbone.plan.torch_dtype).tolist()
    codes = tabulated.prompt_codes(codebook, table[None])[0].tolist()
    codes += [_exact_code(row, edges, codebook) for row in x]
    rows = [Fraction(code + base * row) for row, code in enumerate(codes)]
    for value in range(len(rows) * base):
        rows = _exact_shift(rows, value, base + 1)
    top = max(rows)
    ids, heights = id_heights(codebook)
    outputs = []
    for row in rows[codebook.prompt_length :]:
        level = _exact_step(row + lift_of(codebook) * top, ids.tolist(), heights.tolist())
        outputs.append([(entry + Fraction(1, 2)) / codebook.levels for entry in level])
    return outputs


def _exact_code(row: list[Fraction], starts: list[float], codebook: Codebook) -> Fraction:
    """The code of one content token: whole outside the ramps, on them a fraction."""
    ramp, code = Fraction(codebook.ramp), Fraction(0)
    for axis, entry in enumerate(row):
        digit = sum(
            (min(max((entry - Fraction(start)) / ramp, Fraction(0)), Fraction(1)) for start in starts), Fraction(0)
        )
        code += digit * codebook.cells**axis
    return code


def _exact_shift(rows: list[Fraction], value: int, factor: int) -> list[Fraction]:
    moved = []
    for own in rows:
        heads = []
        for threshold in (value - Fraction(1, 2), value + Fraction(1, 2)):
            scores = [(own - threshold) * other for other in rows]
            chosen = [other for other, score in zip(rows, scores, strict=True) if score == max(scores)]
            heads.append(sum(chosen, Fraction(0)) / len(chosen))
        moved.append(own + factor * (heads[0] - heads[1]))
    return moved


def _exact_step(at: Fraction, ids: list[int], heights: list[list[int]]) -> list[Fraction]:
    """The step function at one id, on a ramp its interpolant."""
    level = [Fraction(entry) for entry in heights[0]]
    for left, before, after in zip(ids, heights, heights[1:], strict=False):
        if at <= left:
            break
        climbed = min(at - left, Fraction(1))
        level = [entry + climbed * (b - a) for entry, a, b in zip(level, before, after, strict=True)]
    return level
