"""Data that cost a prompt a token an example while one change of rank one fits them all.

Let a_i be what one head gives on example i without a prompt and the targets a_i + d_i. A prompt of m tokens reaches
them only if all d_i + (1 - lambda_i) a_i, for some lambda_i in [0, 1), lie in a space of dimension m (`tokens`). If no
combination of the a_i lies in the span of the d_i, these vectors are independent for all such lambda: a combination of
them that is 0 has sum c_i (1 - lambda_i) a_i in that span, so that every c_i is 0. Hence n tokens are needed.

1. Head alone, d_i = s_i v: a_1, .., a_n and v independent. The change v b^T of the output projection with b.c_i = s_i,
   c_i what the projection is given, fits all of them: its rows and columns in numbers.
2. Head and a feed-forward network F that contracts: the layer gives z + F(z) at z = x_i + a_i, and its targets are that
   plus s_i v. There is one stream that gives each, x_i + a_i + d_i. The change v b^T of the network's second matrix
   with b.f_i = s_i, f_i the hidden units at x_i + a_i, fits all of them.

Nothing is taken from rounded targets: they are defined as what the layer gives, in exact arithmetic, plus s_i v. The
first kind is an artefact of exactness for free slots, see `nearly_one_slot`, but not for soft tokens whose keys follow
from their values, see `soft_floors`.

Reference: after Wang et al. 2023 (paper A), Theorems 3 and 4; theorem key ``rank-one-separation``.
"""

import math
from collections.abc import Mapping, Sequence
from decimal import localcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from promptreach import blocks
from promptreach.balls import Ball
from promptreach.certificate import Assumption, Certificate, Evidence, Independence, Side, Statement, rechecks
from promptreach.errors import Fault, InputError, raise_if_any
from promptreach.limits.layers import enclosure
from promptreach.limits.layers.attention_bounds import Reading
from promptreach.limits.layers.feed_forward_bounds import feed_forward_bound
from promptreach.limits.layers.inputs import layer_faults
from promptreach.limits.layers.norm_routines import FAST, THOROUGH, NormRoutines
from promptreach.limits.oracle.checks import oracle_faults, weight_faults
from promptreach.limits.oracle.forward import last_outputs
from promptreach.limits.oracle.pairs import NotCertifiedError
from promptreach.limits.oracle.scales import row_norms
from promptreach.limits.oracle.statistics import head_statistics
from promptreach.limits.oracle.wide_statistics import wide_statistics
from promptreach.prompt import Prefix, SoftPrompt
from promptreach.rounding import WIDE, gamma
from promptreach.weights import AttentionWeights, LayerWeights
from promptreach.witness import tensor

_CANDIDATES = 6  # drawn for each example that is kept
_STEPS = 14  # of Newton's method
_FITTED = 1e-10  # of the difference that the prompt makes
_MOST_BYTES = 2**24


class RankOneSeparation(NamedTuple):
    """Data that need n tokens, with n tokens and a change of rank one that give them.

    Attributes:
        sequences: each (2, hidden), float64, every one with a last token of its own.
        direction: (out,), v; sizes: (n,), s_i > 0: the targets are what comes without a prompt plus s_i v.
        targets: (n, out), these in float64.
        tokens: LOWER, PROVED: the tokens or slots that every prompt or prefix needs that gives them exactly.
        numbers: UPPER, PROVED: the numbers of a change of rank one that gives them exactly.
        prompt: n soft tokens; left, right: that change is outer(left, right).
        prompt_error, update_error: the largest error of each over all entries, beside the largest change wanted;
            measured, rounding.
    """

    sequences: list[Tensor]
    direction: Float[Tensor, " out"]
    sizes: Float[Tensor, " n"]
    targets: Float[Tensor, "n out"]
    tokens: Certificate
    numbers: Certificate
    prompt: SoftPrompt
    left: Float[Tensor, " out"]
    right: Float[Tensor, " units"]
    prompt_error: float
    update_error: float


def rank_one_separation(layer: LayerWeights, examples: int, seed: int = 0) -> RankOneSeparation:
    """Data for this layer that need a token each, n times the hidden size in numbers, and one change of rank one.

    Args:
        layer: one attention head without norms in front, and a feed-forward network or none. With none the data are at
            the head's output, without the residual stream, and the change is one of its output projection (of the
            identity where there is none). With one they are at the layer's output and the change is one of `down`.
        examples: n.
        seed: of the tokens.

    Raises:
        InputError: for several heads, rotary weights, norms in front, a network that is gated or not certified to
            contract, and more examples than the value dimension (half of it, in front of a network) has room for.
        NotCertifiedError: where too few data were found, or what they need could not be certified.

    Reference: theorem key ``rank-one-separation``.
    """
    raise_if_any(_faults(layer, examples))
    layer = layer.detached()
    generator = torch.Generator().manual_seed(seed)
    sequences, prompt, direction, sizes = _found(layer, examples, generator)
    wanted = sizes[:, None] * direction
    targets = torch.stack([_layer_output(layer, item) for item in sequences]) + wanted
    witness = {"layer": layer.packed(), "sequences": sequences, "direction": direction, "sizes": sizes}
    tokens = Certificate.stated(recheck_tokens_needed, float(examples), witness).checked()
    units = _units(layer, sequences).centre
    right = torch.linalg.lstsq(units, sizes[:, None], driver="gelsd").solution[:, 0]
    numbers = Certificate.stated(recheck_update, float(len(direction) + len(right)), witness).checked()
    for found in (tokens, numbers):
        if found.evidence is not Evidence.PROVED:
            raise NotCertifiedError(f"{found.claim}: {found.reason}; try another seed or fewer examples")
    reached = torch.stack([_layer_output(layer, torch.cat([prompt.embeddings, item])) for item in sequences])
    size = float(wanted.abs().max())
    return RankOneSeparation(
        sequences,
        direction,
        sizes,
        targets,
        tokens,
        numbers,
        prompt,
        direction,
        right,
        float((reached - targets).abs().max()) / size,
        float(((units @ right - sizes)[:, None] * direction).abs().max()) / size,
    )


def nearly_one_slot(weights: AttentionWeights, data: RankOneSeparation, size: float) -> tuple[Prefix, float]:
    """One free key/value slot that comes near the data of a head alone, and its root-mean-square error, measured.

    The slot's value is about `size` times v behind the projection and its mass s_i Z_i / size, so that it hardly takes
    attention from the content: the error falls like 1 / size. It is the honest limit of the separation: what is
    impossible is exactness, and a soft token can do the same where its key is free of its value.

    Raises:
        InputError: for data of other weights, queries too few or too dependent for such a key, or a size not positive.
    """
    if not 0 < size < math.inf:
        raise InputError(Fault("size", str(size), "a positive number"))
    if len(data.direction) != weights.output_size or len(data.sequences[0][0]) != weights.hidden_size:
        raise InputError(Fault("data", "of another layer", "data that were made for these weights"))
    found = [head_statistics(weights.detached(), [item]) for item in data.sequences]
    queries = torch.stack([item.known_query for item in found]) * weights.softmax_scale
    masses = torch.cat([item.lse for item in found])
    scores = data.sizes.log() + masses - math.log(size)
    key = torch.linalg.lstsq(queries, scores[:, None], driver="gelsd").solution[:, 0]
    if float((queries @ key - scores).abs().max()) > 1e-6:
        raise InputError(Fault("weights", "queries that no key tells apart", "as many dimensions as examples"))
    value = data.direction
    if weights.output is not None:
        output = weights.output.detach().to("cpu", torch.float64)
        value = torch.linalg.lstsq(output, value[:, None], driver="gelsd").solution[:, 0]
    prefix = Prefix(key[None, None, None], size * value[None, None, None])
    reached = last_outputs(weights.detached(), data.sequences, prefix)
    return prefix, float((reached - data.targets).square().mean().sqrt())


def _layer_output(layer: LayerWeights, inputs: Float[Tensor, "tokens hidden"]) -> Float[Tensor, " out"]:
    """What stands at the last token: of the head alone, or of the layer with its residual connections."""
    attended = blocks.attend(layer.attention, inputs)[-1]
    if layer.feed_forward is None:
        return attended
    stream = inputs[-1] + attended
    return stream + blocks.feed_forward(layer.feed_forward, stream[None])[0]


def _found(
    layer: LayerWeights, examples: int, generator: torch.Generator
) -> tuple[list[Tensor], SoftPrompt, Tensor, Tensor]:
    """Sequences of two tokens at which one prompt adds positive multiples of one vector, by Newton's method."""
    weights = layer.attention
    draw = torch.randn(2, _CANDIDATES * examples, weights.hidden_size, generator=generator, dtype=torch.float64)
    turned = draw[1] @ weights.query[0].mT @ weights.key[0] * weights.softmax_scale
    spread = 2.0 / max(float(turned.norm(dim=1).mean()), 1e-300)  # scores then differ by about two nats
    prompt = torch.randn(examples, weights.hidden_size, generator=generator, dtype=torch.float64) * spread

    def added(content: Tensor, last: Tensor) -> Tensor:
        inputs = torch.stack([content, last])
        return _layer_output(layer, torch.cat([prompt, inputs])) - _layer_output(layer, inputs)

    def missed(unknown: Tensor, last: Tensor) -> Tensor:
        rest: Tensor = added(unknown[:-1], last) - unknown[-1] * direction
        return rest

    changes: Tensor = torch.func.vmap(added)(*draw)
    direction = changes.mean(0) / changes.mean(0).norm().clamp(min=1e-300)
    unknown = torch.cat([draw[0], (changes @ direction)[:, None]], dim=1)
    for _ in range(_STEPS):
        slopes = torch.func.vmap(torch.func.jacrev(missed))(unknown, draw[1])
        rest = torch.func.vmap(missed)(unknown, draw[1])
        step = torch.linalg.lstsq(slopes, rest[..., None], driver="gelsd").solution[..., 0]
        longest = unknown.norm(dim=1, keepdim=True)
        unknown = unknown - step * (longest / step.norm(dim=1, keepdim=True).clamp(min=1e-300)).clamp(max=1.0)
    size = float(changes.norm(dim=1).mean())
    rest = torch.func.vmap(missed)(unknown, draw[1]).norm(dim=1)
    good = (rest <= _FITTED * size) & (unknown[:, -1] > 0.02 * size) & unknown.isfinite().all(dim=1)
    if int(good.sum()) < examples:
        raise NotCertifiedError(
            f"{int(good.sum())} of {examples} examples were found for these weights; try another seed or fewer examples"
        )
    kept = good.nonzero()[:examples, 0]
    sequences = [torch.stack([unknown[index, :-1], draw[1, index]]) for index in kept]
    return sequences, SoftPrompt(prompt), direction, unknown[kept, -1].clone()


def _bare(weights: AttentionWeights, sequences: Sequence[Tensor]) -> Ball:
    """What the head gives at each last token without a prompt and without its output bias."""
    found = [head_statistics(weights, [item]) for item in sequences]
    mean, error = (torch.cat([getattr(item, name) for item in found]) for name in ("mean", "mean_error"))
    heads = Ball(mean, error[:, None].expand_as(mean))
    return heads if weights.output is None else heads @ Ball.exact(weights.output.mT)


def _streams(layer: LayerWeights, sequences: Sequence[Tensor]) -> Ball:
    stream = _bare(layer.attention, sequences) + Ball.exact(torch.stack([item[-1] for item in sequences]))
    bias = layer.attention.output_bias
    return stream if bias is None else stream + Ball.exact(bias)


def _units(layer: LayerWeights, sequences: Sequence[Tensor]) -> Ball:
    """What the changed matrix is given at each last token without a prompt: heads, or hidden units."""
    if layer.feed_forward is None:
        return _bare(_projected_by_identity(layer.attention), sequences)
    return enclosure.hidden_units(layer.feed_forward, _streams(layer, sequences))


def _projected_by_identity(weights: AttentionWeights) -> AttentionWeights:
    fields = {name: getattr(weights, name) for name in weights.__dataclass_fields__}
    return AttentionWeights(**{**fields, "output": None, "output_bias": None})


def _vectors(layer: LayerWeights, witness: Mapping[str, Any], routines: NormRoutines) -> Ball:
    """What has to be independent: the outputs a_i, and v or the d_i."""
    sequences, direction, sizes = (witness[name] for name in ("sequences", "direction", "sizes"))
    bare = _bare(layer.attention, sequences)
    if layer.feed_forward is None:
        return Ball(torch.cat([bare.centre, direction[None]]), torch.cat([bare.radius, 0 * direction[None]]))
    contraction = _contraction(layer, routines)
    streams = _streams(layer, sequences)
    wanted = Ball.exact(sizes[:, None]) * Ball.exact(direction)
    target = streams + enclosure.feed_forward(layer.feed_forward, streams) + wanted
    solved = target.centre
    for _ in range(200):
        moved = target.centre - blocks.feed_forward(layer.feed_forward, solved)
        solved, before = moved, solved
        if torch.equal(solved, before):
            break
    point = Ball.exact(solved)
    missed = target - point - enclosure.feed_forward(layer.feed_forward, point)
    # z -> z + F(z) moves apart what is apart by at least 1 - contraction of it.
    off = torch.tensor([Ball(*pair).norm() for pair in zip(missed.centre, missed.radius, strict=True)])
    off = off.double() / (1 - contraction) * (1 + gamma(8))
    moves = Ball(solved, off[:, None].expand_as(solved)) - streams
    return Ball(torch.cat([bare.centre, moves.centre]), torch.cat([bare.radius, moves.radius]))


def _contraction(layer: LayerWeights, routines: NormRoutines) -> float:
    """At least the Lipschitz constant of the network, by a share that a second path's norms stay below."""
    with localcontext(WIDE):
        whole = Reading(WIDE.create_decimal(1), WIDE.create_decimal(1), WIDE.create_decimal(1))
        bound = feed_forward_bound(layer.feed_forward, None, whole, routines).lipschitz
        return float(bound * WIDE.create_decimal("1.000000001"))


def _independent(vectors: Ball) -> bool:
    """Whether the rows are independent, whatever member of the ball they are.

    A matrix P with |M P - I| < 1 shows that the rows of M are; for M + E it has to be below 1 - |E| |P|.
    """
    sizes = row_norms(vectors.centre)
    if len(vectors.centre) > vectors.centre.shape[1] or not bool((sizes > 0).all()):
        return False
    unit, off = vectors.centre / sizes[:, None], vectors.radius / sizes[:, None]
    inverse = torch.linalg.pinv(unit)
    if not bool(inverse.isfinite().all()):
        return False
    rows, back = unit.numpy().astype(np.longdouble), inverse.numpy().astype(np.longdouble)
    rounded = float(np.finfo(np.longdouble).eps) * 4 * (sum(unit.shape) + 4)
    missed = np.abs(rows @ back - np.eye(len(rows))) + rounded * (np.abs(rows) @ np.abs(back))
    # Dividing by the sizes rounded each entry once.
    moved = (off.numpy() + gamma(4) * np.abs(unit.numpy())) @ np.abs(inverse.numpy())
    return bool(float(np.sqrt(((missed + moved) ** 2).sum())) * (1 + 1e-9) < 1)


def _layer_of(witness: Mapping[str, Any]) -> LayerWeights:
    layer = LayerWeights.unpacked(witness["layer"])
    sequences, direction = list(witness["sequences"]), tensor(witness, "direction", layer.attention.output_size)
    sizes = tensor(witness, "sizes", len(sequences))
    room = torch.zeros(len(sequences), layer.attention.output_size, dtype=torch.float64)
    faults = [*_faults(layer, None), *oracle_faults(layer.attention, sequences, room, 0.5)]
    if faults or not bool((sizes != 0).all()) or not bool(direction.any()):
        raise InputError(faults or [Fault("sizes", "0", "other than 0")])
    if any(item.dtype != torch.float64 for item in [*sequences, layer.attention.query]):
        raise ValueError("the layer or a sequence is not float64")
    return layer


def _what(layer: LayerWeights) -> str:
    return "attention head" if layer.feed_forward is None else "layer of one head and a feed-forward network"


def _states_tokens(witness: Mapping[str, Any]) -> Statement:
    layer = _layer_of(witness)
    return Statement(
        claim=f"every prompt or prefix has at least value tokens or slots that makes this {_what(layer)} give exactly "
        f"what it gives without one plus s_i v, at the last tokens of these {len(witness['sequences'])} sequences",
        side=Side.LOWER,
        theorem="rank-one-separation",
        assumptions=(
            Assumption("what the head gives and the changes wanted of it are independent", True, "by an inverse"),
            *([] if layer.feed_forward is None else [Assumption("the network contracts", True, "by its norms")]),
        ),
    )


def _states_update(witness: Mapping[str, Any]) -> Statement:
    layer = _layer_of(witness)
    matrix = "output projection" if layer.feed_forward is None else "feed-forward network's second matrix"
    return Statement(
        claim=f"some change v b^T of the {matrix}, which value numbers state, makes this {_what(layer)} give exactly "
        f"what it gives without a prompt plus s_i v, at the last tokens of these {len(witness['sequences'])} sequences",
        side=Side.UPPER,
        theorem="rank-one-separation",
        assumptions=(Assumption("what the matrix is given at these tokens is independent", True, "by an inverse"),),
    )


@rechecks(Independence.SHARED, states=_states_tokens, quick=2**20, most=_MOST_BYTES, extended=True)
def recheck_tokens_needed(certificate: Certificate) -> bool:
    """Second path: what the head gives is formed again in extended precision and lies where the account says.

    Norms from singular values; the network and the inverse are those of the first path.
    """
    layer, witness = _layer_of(certificate.witness), certificate.witness
    count = len(witness["sequences"])
    if not 0 <= certificate.value <= count or not _agrees(layer.attention, witness["sequences"]):
        return False
    if layer.feed_forward is not None and not _contraction(layer, THOROUGH) < 1:
        return False
    return _independent(_vectors(layer, witness, THOROUGH))


@rechecks(Independence.SHARED, states=_states_update, quick=2**20, most=_MOST_BYTES, extended=True)
def recheck_update(certificate: Certificate) -> bool:
    """Second path: what the head gives is formed again in extended precision and lies where the account says."""
    layer, witness = _layer_of(certificate.witness), certificate.witness
    units = _units(layer, witness["sequences"])
    numbers = units.centre.shape[1] + len(witness["direction"])
    if not numbers <= certificate.value < math.inf or not _agrees(layer.attention, witness["sequences"]):
        return False
    return _independent(units)


def _agrees(weights: AttentionWeights, sequences: Sequence[Tensor]) -> bool:
    """Whether the head's outputs lie within half their account of what extended precision gives."""
    for item in sequences:
        found = head_statistics(weights, [item])
        off = np.sqrt(((wide_statistics(weights, [item], 0)[1] - found.mean.numpy()) ** 2).sum())
        if not off <= float(found.mean_error[0]) / 2:
            return False
    return True


def _faults(layer: LayerWeights, examples: int | None) -> list[Fault]:
    weights, network = layer.attention, layer.feed_forward
    faults = weight_faults(weights)
    if weights.num_heads != 1:
        faults.append(
            Fault("layer.attention", f"{weights.num_heads} heads", "one", "Take one with weights.head(index)")
        )
    if layer.norm_position != "none":
        remedy = "Pass LayerWeights(attention=weights) for the head alone, on states that went through its norm"
        faults.append(Fault("layer", f"norms ({layer.norm_position})", "none", remedy))
    room = min(weights.value.shape[1], weights.output_size, weights.hidden_size) - 1
    if network is not None and not faults:
        faults += layer_faults([layer])
        room = min(weights.value.shape[1], weights.output_size) // 2
        if network.gate is not None:
            faults.append(Fault("layer.feed_forward", "a gate", "none: a gated network has no Lipschitz constant"))
        elif not faults and not (bound := _contraction(layer, FAST)) < 1:
            remedy = "Pass LayerWeights(attention=weights) for the head alone"
            seen = f"a Lipschitz constant of up to {bound:.3g}"
            faults.append(Fault("layer.feed_forward", seen, "below 1, so that its outputs tell its inputs", remedy))
        if min(weights.value.shape[1:]) < weights.output_size:
            span = f"values of {min(weights.value.shape[1:])} dimensions"
            faults.append(Fault("layer.attention", span, f"{weights.output_size}: a head that spans the stream"))
    if examples is not None and not 1 <= examples <= room:
        faults.append(Fault("examples", str(examples), f"1 to {room}"))
    return faults
