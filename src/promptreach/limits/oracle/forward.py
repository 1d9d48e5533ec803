"""Forward passes with a prompt: the outputs at the last tokens, and their error as a certificate that can run again."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach import attention, blocks, reference
from promptreach.certificate import Certificate, Evidence, Independence, Side, Statement, rechecks
from promptreach.limits.oracle.checks import oracle_faults
from promptreach.limits.oracle.scales import root_mean_square
from promptreach.prompt import Prefix, SoftPrompt
from promptreach.weights import AttentionWeights

_LOOPS = 10**8  # multiplications for which the reference, in plain loops, answers in a second or two
_MOST = 60  # times as many in a re-check
_PAIRS = 10**5  # pairs of positions, likewise


def last_outputs(
    weights: AttentionWeights,
    sequences: Sequence[Tensor],
    prefix: Prefix | None = None,
    prompt: SoftPrompt | None = None,
    loops: bool | None = None,
) -> Float[Tensor, "n out"]:
    """The attention block's output at the last token of every sequence, by an ordinary forward pass.

    Small problems go through `reference`, the plain loops that define attention here; for larger ones the same numbers
    come from `attention.split` on explicit keys and values. `loops` overrides the choice.
    """
    length = prompt.length if prompt is not None else 0
    pairs = sum((len(sequence) + length) ** 2 for sequence in sequences) * weights.num_heads
    small = pairs <= _PAIRS and _work(weights, sequences, prompt) <= _LOOPS
    forward = _by_reference if (small if loops is None else loops) else _by_split
    return torch.stack([forward(weights, sequence.double(), prefix, prompt) for sequence in sequences])


def _work(weights: AttentionWeights, sequences: Sequence[Tensor], prompt: SoftPrompt | None) -> int:
    """Multiplications in the projections of a pass."""
    length = prompt.length if prompt is not None else 0
    tokens = sum((len(sequence) + length) for sequence in sequences)
    return tokens * weights.hidden_size * weights.head_dim * (weights.num_heads + 2 * weights.num_kv_heads)


def _by_reference(
    weights: AttentionWeights, inputs: Tensor, prefix: Prefix | None, prompt: SoftPrompt | None
) -> Tensor:
    if prompt is not None:
        inputs = torch.cat([prompt.embeddings.double(), inputs])
    seen = torch.zeros(len(inputs), len(inputs), dtype=torch.bool)
    seen[-1] = True
    keys, values = (None, None) if prefix is None else (prefix.keys[0], prefix.values[0])
    return reference.attend(weights, inputs, keys, values, seen)[-1]


def _by_split(weights: AttentionWeights, inputs: Tensor, prefix: Prefix | None, prompt: SoftPrompt | None) -> Tensor:
    query = blocks.normed(weights.query_norm, blocks.projected(weights.query, weights.query_bias, inputs[-1:]))
    keys, values = _keys_and_values(weights, inputs)
    prompt_keys, prompt_values = keys[:, :0], values[:, :0]
    if prompt is not None:
        prompt_keys, prompt_values = _keys_and_values(weights, prompt.embeddings.double())
    elif prefix is not None:
        prompt_keys, prompt_values = prefix.keys[0].double(), prefix.values[0].double()
    heads = attention.split(query, keys, values, prompt_keys, prompt_values, weights.softmax_scale).output
    joined = heads[:, 0].flatten()
    out = joined if weights.output is None else weights.output @ joined
    return out if weights.output_bias is None else out + weights.output_bias


def _keys_and_values(weights: AttentionWeights, inputs: Tensor) -> tuple[Tensor, Tensor]:
    keys = blocks.normed(weights.key_norm, blocks.projected(weights.key, weights.key_bias, inputs))
    return keys, blocks.projected(weights.value, weights.value_bias, inputs)


def measured_error(
    weights: AttentionWeights,
    sequences: Sequence[Tensor],
    targets: Tensor,
    prefix: Prefix | None,
    prompt: SoftPrompt | None,
) -> Certificate:
    """UPPER, MEASURED: the root-mean-square error over all target entries with this prompt, by a forward pass."""
    witness = {
        "weights": weights.packed(),
        "sequences": list(sequences),
        "targets": targets,
        "keys": None if prefix is None else prefix.keys,
        "values": None if prefix is None else prefix.values,
        "embeddings": None if prompt is None else prompt.embeddings,
    }
    return Certificate.stated(recheck_error, _error(weights, sequences, targets, prefix, prompt), witness)


class _Run(NamedTuple):
    weights: AttentionWeights
    sequences: list[Tensor]
    targets: Tensor
    prefix: Prefix | None
    prompt: SoftPrompt | None


def _unpacked(witness: Mapping[str, Any]) -> _Run:
    keys, embeddings = witness["keys"], witness["embeddings"]
    weights, sequences = AttentionWeights.unpacked(witness["weights"]).detached(), list(witness["sequences"])
    if oracle_faults(weights, sequences, witness["targets"], 0.5) or (keys is not None and embeddings is not None):
        raise ValueError("the layer does not fit its data")
    prefix = None if keys is None else Prefix(keys, witness["values"])
    prompt = None if embeddings is None else SoftPrompt(embeddings)
    return _Run(weights, sequences, witness["targets"], prefix, prompt)


def _states(witness: Mapping[str, Any]) -> Statement:
    run = _unpacked(witness)
    what = f"a prefix of {run.prefix.length} slots" if run.prefix else "no prompt"
    what = f"{run.prompt.length} soft tokens" if run.prompt else what
    return Statement(
        claim=f"with {what}, the root-mean-square error over all {run.targets.numel()} target entries is at most value",
        side=Side.UPPER,
        evidence=Evidence.MEASURED,
        sample=f"a float64 forward pass over all {len(run.sequences)} examples",
    )


def _error(
    weights: AttentionWeights,
    sequences: Sequence[Tensor],
    targets: Tensor,
    prefix: Prefix | None,
    prompt: SoftPrompt | None,
    loops: bool | None = None,
) -> float:
    return root_mean_square(last_outputs(weights, sequences, prefix, prompt, loops) - targets)


@rechecks(Independence.ARITHMETIC, states=_states, quick=0)
def recheck_error(certificate: Certificate) -> bool:
    """Second path: the pass by plain loops and by matrix products.

    Both may be over by a part in 1e11 of the targets and of the outputs without a prompt, which are what they round.
    Plain loops take seconds for what `last_outputs` gives them; larger passes, up to minutes, are refused.
    """
    weights, sequences, targets, prefix, prompt = _unpacked(certificate.witness)
    if _work(weights, sequences, prompt) > _MOST * _LOOPS:
        return False
    bare = last_outputs(weights, sequences, loops=False)
    slack = 1e-11 * (root_mean_square(targets) + root_mean_square(bare))
    paths = [_error(weights, sequences, targets, prefix, prompt, loops) for loops in (True, False)]
    return bool(max(paths) <= certificate.value + slack < math.inf)
