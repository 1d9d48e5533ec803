"""The change of weights that stands for a prompt at one attention layer, and the rank that many tokens need together.

A prompt changes what the heads of a layer hand to the output projection W: c'_i instead of c_i at token i. Without the
prompt the same comes from W + u_i v_i^T, with u_i = W (c'_i - c_i) and v_i = c_i / |c_i|^2: a change of rank one, exact
for this token and, since nothing behind W sees the prompt otherwise, for all that the layer does after it, norms,
residual connections and feed-forward network included. No one change of rank one serves two tokens in general. With
rows c_i of C and W (c'_i - c_i) of R, a change that serves all has C (change)^T = R, so its rank is at least that of R;
and where the c_i are independent, (C^+ R)^T is one of exactly that rank, which LoRA of that rank can hold. Where they
are not, or the rank is to be smaller, the least error is known all the same: with P the projection on the columns of C,
C (change)^T is some matrix of that rank within them, so |C (change)^T - R|^2 = |R - P R|^2 + |C (change)^T - P R|^2,
whose least is |R - P R|^2 and the squared distance of P R from all matrices of the rank (`update_errors`).

Reference: theorem key ``prompt-as-update``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.blocks import Rotation, feed_forward, normed, projected
from promptreach.errors import Fault, raise_if_any
from promptreach.limits.oracle.checks import number_faults
from promptreach.prompt import Prefix, SoftPrompt
from promptreach.weights import AttentionWeights, LayerWeights


@dataclass(frozen=True, eq=False)
class PromptUpdate:
    """The changes of one layer's output projection that stand for a prompt; MEASURED in float64, tokens in their order.

    Attributes:
        left, right: u_i and v_i: for token i alone, `output + outer(left[i], right[i])` stands for the prompt.
        residual: the largest error over tokens of the layer's output with each token's own change, beside the largest
            output; rounding.
        rank: of the changes that all tokens need together: singular values above `tol` times the largest. LoRA of
            lower rank on this projection does not do what the prompt does, up to that tolerance.
        singular_values: those of the rows W (c'_i - c_i), largest first.
        down, up: (out, rank) and (rank, concatenated): the change down @ up, for all tokens at once.
        shared_residual: as `residual`, with that change; large where tokens ask for different things of equal states.
        tol: the tolerance of the rank.
    """

    left: Float[Tensor, "tokens out"]
    right: Float[Tensor, "tokens concatenated"]
    residual: float
    rank: int
    singular_values: Float[Tensor, " least"]
    down: Float[Tensor, "out rank"]
    up: Float[Tensor, "rank concatenated"]
    shared_residual: float
    tol: float


def prompt_to_update(
    layer: LayerWeights,
    prompt: SoftPrompt | Prefix,
    inputs: Sequence[Tensor],
    rotate: Rotation | None = None,
    tol: float = 1e-9,
) -> PromptUpdate:
    """What a prompt is worth at one layer as a change of its output projection: rank one for a token, a rank for all.

    Args:
        layer: its weights; converted to float64.
        prompt: soft tokens in front of this layer's input, or a prefix of keys (as they stand in the cache, after any
            rotation) and values for one layer.
        inputs: one (tokens, hidden) tensor per sequence, the states at the layer's input. Every token counts.
        rotate: turns queries and keys of all positions, prompt first, where `layer.attention.rotary`.
        tol: singular values up to this share of the largest count as 0; 0 < tol < 1.

    Raises:
        InputError: listing every sequence or prompt that does not fit the layer; for rotary weights without `rotate`;
            where one head output is exactly 0, for which no change of the projection can stand.

    Reference: theorem key ``prompt-as-update``; the equivalence is that of arXiv 2511.17864, stated there for the
    feed-forward network's first matrix, where the residual stream needs a shift beside it.
    """
    raise_if_any(_faults(layer, prompt, inputs, rotate, tol))
    layer = layer.detached()
    weights = layer.attention
    states = [item.detach().to("cpu", torch.float64) for item in inputs]
    passes = [_heads(layer, prompt, item, rotate) for item in states]
    bare, full = torch.cat([item[0] for item in passes]), torch.cat([item[1] for item in passes])
    sizes = bare.square().sum(1, keepdim=True)
    raise_if_any([] if bool((sizes > 0).all()) else [Fault("inputs", "a token at which all heads give 0", "none")])
    output = torch.eye(bare.shape[1], dtype=torch.float64) if weights.output is None else weights.output
    left, right = (full - bare) @ output.mT, bare / sizes
    stream = torch.cat(states)
    wanted = _after(layer, stream, full @ output.mT)
    scale = float(wanted.norm(dim=1).max())

    def missed(change: Tensor) -> float:
        return float((_after(layer, stream, bare @ output.mT + change) - wanted).norm(dim=1).max()) / (scale or 1.0)

    turned, found, across = torch.linalg.svd(left, full_matrices=False)
    rank = int((found > tol * found[0]).sum()) if float(found[0]) else 0
    up = (torch.linalg.pinv(bare, rtol=1e-13) @ (turned[:, :rank] * found[:rank])).mT
    down = across[:rank].mT
    return PromptUpdate(
        left=left,
        right=right,
        residual=missed((bare * right).sum(1, keepdim=True) * left),
        rank=rank,
        singular_values=found,
        down=down,
        up=up,
        shared_residual=missed(bare @ up.mT @ down.mT),
        tol=tol,
    )


def update_errors(heads: Tensor, changes: Tensor, rtol: float = 1e-9) -> Float[Tensor, " ranks"]:
    """The least error with which one change of an output projection of rank 0, 1, 2, ... stands for a prompt.

    Entry r is the least of |C (change)^T - R| / |R| over all changes of rank r at most, in Frobenius norms. The rows of
    C are c_i, what the heads hand over at token i without the prompt, those of R what the prompt adds behind the
    projection: no LoRA of rank r on it does better at these tokens and states. MEASURED in float64. The last entry is
    what no rank does, above 0 only where the c_i depend on each other. All are 0 where the prompt adds nothing.

    Args:
        heads: C, (tokens, concatenated), finite; converted to float64.
        changes: R, (tokens, out), finite.
        rtol: directions of the heads below this share of their largest singular value count as none: 1e-6 for what was
            captured in float32.

    Raises:
        InputError: for shapes that do not agree, no tokens, numbers that are none, or an `rtol` outside (0, 1).

    Reference: theorem key ``prompt-as-update``.
    """
    raise_if_any(_row_faults(heads, changes, rtol))
    known, wanted = (item.detach().to("cpu", torch.float64) for item in (heads, changes))
    size = wanted.norm()
    basis, found, _ = torch.linalg.svd(known, full_matrices=False)
    basis = basis[:, found > rtol * found[0]]
    inside = basis.mT @ wanted
    tail = torch.linalg.svdvals(inside).square().flip(0).cumsum(0).flip(0)
    beyond = (wanted - basis @ inside).square().sum()
    errors = (torch.cat([tail, tail.new_zeros(1)]) + beyond).sqrt()
    return errors / size if float(size) else torch.zeros_like(errors)


def _heads(
    layer: LayerWeights, prompt: SoftPrompt | Prefix, states: Tensor, rotate: Rotation | None
) -> tuple[Tensor, Tensor]:
    """The heads' outputs side by side at each token, without and with the prompt, at the positions behind it."""
    weights = layer.attention
    length = prompt.length
    if isinstance(prompt, SoftPrompt):
        joined = torch.cat([prompt.embeddings.detach().to("cpu", torch.float64), states])
    else:
        joined = torch.cat([torch.zeros(length, states.shape[1], dtype=torch.float64), states])
    seen = normed(layer.attention_norm, joined) if layer.norm_position == "pre" else joined
    query = normed(weights.query_norm, projected(weights.query, weights.query_bias, seen))
    key = normed(weights.key_norm, projected(weights.key, weights.key_bias, seen))
    value = projected(weights.value, weights.value_bias, seen)
    if rotate is not None:
        query, key = rotate(query), rotate(key)
    if isinstance(prompt, Prefix):
        own = (item[0].detach().to("cpu", torch.float64) for item in (prompt.keys, prompt.values))
        key, value = (torch.cat([first, item[:, length:]], 1) for first, item in zip(own, (key, value), strict=True))
    groups = weights.num_heads // weights.num_kv_heads
    key, value = (item.repeat_interleave(groups, dim=0) for item in (key, value))
    scores = weights.softmax_scale * query[:, length:] @ key.mT
    if weights.causal:
        later = torch.ones(scores.shape[1:], dtype=torch.bool).triu(length + 1)
        scores = scores.masked_fill(later, float("-inf"))
    alone = scores[..., length:].softmax(-1) @ value[:, length:]
    together = scores.softmax(-1) @ value
    return alone.permute(1, 0, 2).flatten(1), together.permute(1, 0, 2).flatten(1)


def _after(layer: LayerWeights, stream: Tensor, attended: Tensor) -> Tensor:
    """The layer's output at each token from its input and what the output projection gives there, without its bias."""
    bias = layer.attention.output_bias
    after = stream + (attended if bias is None else attended + bias)
    after = normed(layer.attention_norm, after) if layer.norm_position == "post" else after
    if layer.feed_forward is None:
        return after
    if layer.norm_position == "pre":
        return after + feed_forward(layer.feed_forward, normed(layer.feed_forward_norm, after))
    added = after + feed_forward(layer.feed_forward, after)
    return normed(layer.feed_forward_norm, added) if layer.norm_position == "post" else added


def _row_faults(heads: Tensor, changes: Tensor, rtol: float) -> list[Fault]:
    faults = [] if 0 < rtol < 1 else [Fault("rtol", str(rtol), "a share between 0 and 1")]
    faults += [*number_faults("heads", heads), *number_faults("changes", changes)]
    if heads.ndim != 2 or not heads.numel():
        faults.append(Fault("heads", f"shape {tuple(heads.shape)}", "(tokens, concatenated), not empty"))
    elif changes.ndim != 2 or len(changes) != len(heads) or not changes.numel():
        faults.append(Fault("changes", f"shape {tuple(changes.shape)}", f"({len(heads)}, out), one row a token"))
    return faults


def _faults(
    layer: LayerWeights, prompt: SoftPrompt | Prefix, inputs: Sequence[Tensor], rotate: Rotation | None, tol: float
) -> list[Fault]:
    weights = layer.attention
    faults = [] if 0 < tol < 1 else [Fault("tol", str(tol), "a share between 0 and 1")]
    faults += [] if inputs else [Fault("inputs", "no sequences", "at least one")]
    for index, item in enumerate(inputs):
        faults += number_faults(f"inputs[{index}]", item)
        if item.ndim != 2 or item.shape[-1] != weights.hidden_size or not len(item):
            faults.append(Fault(f"inputs[{index}]", f"shape {tuple(item.shape)}", f"(tokens, {weights.hidden_size})"))
    if weights.rotary and rotate is None:
        faults.append(Fault("rotate", "None", "a rotation by position: these weights are rotary"))
    return faults + _prompt_faults(weights, prompt)


def _prompt_faults(weights: AttentionWeights, prompt: SoftPrompt | Prefix) -> list[Fault]:
    if isinstance(prompt, SoftPrompt):
        if prompt.hidden_size == weights.hidden_size:
            return []
        return [Fault("prompt", f"tokens of size {prompt.hidden_size}", f"{weights.hidden_size}, as the layer's input")]
    faults = []
    for name, tensor, size in (
        ("keys", prompt.keys, weights.head_dim),
        ("values", prompt.values, weights.value.shape[1]),
    ):
        wanted = (1, weights.num_kv_heads, prompt.length, size)
        if tuple(tensor.shape) != wanted:
            faults.append(Fault(f"prompt.{name}", f"shape {tuple(tensor.shape)}", f"{wanted}: one layer's"))
    return faults
