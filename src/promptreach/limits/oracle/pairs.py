"""Two examples that no prompt fits, for any given weights, and the same two with targets that a prompt does fit.

Two sequences share their last token. A prompt adds the same mass and the same value sum to both, so with one head

    (Z_1 + a) y_1 - (Z_2 + a) y_2 = W (N_1 - N_2)      for every prompt, where y_i is the output on sequence i.

Take y_1 - y_2 and W (N_1 - N_2) on different lines and no a solves it: y_1 = y + c and y_2 = y - c with c at right
angles to what the prompt can change. With several heads the same obstruction needs more examples than there are masses
and value sums to choose; data of that size are drawn and kept only if their floor is certified.

Reference: Wang et al. 2023 (paper A), Theorem 2; theorem key ``unmemorisable-pair``.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.certificate import Certificate, Evidence
from promptreach.errors import Fault, PromptreachError, raise_if_any
from promptreach.limits.oracle.checks import weight_faults
from promptreach.limits.oracle.forward import last_outputs
from promptreach.limits.oracle.memorisable import memorisable
from promptreach.limits.oracle.scales import root_mean_square
from promptreach.prompt import SoftPrompt
from promptreach.weights import AttentionWeights

CONTENT_TOKENS = 3
"""Tokens of each sequence in front of the shared last one."""

_TRIES = 8
_TOKENS = 2  # of the prompt behind the control targets


class NotCertifiedError(PromptreachError):
    """No data were found for these weights whose floor could be certified; that does not mean that there are none."""


class _Pair(NamedTuple):
    sequences: list[Tensor]
    targets: Tensor
    certificate: Certificate


class UnmemorisablePair(_Pair):
    """Data that no prompt fits. Unpacks into its first three parts.

    Attributes:
        sequences: each (tokens, hidden), float64, with a common last token.
        targets: (n, out), in the layer's range: each one alone is reached by some prompt.
        certificate: LOWER and PROVED: the root-mean-square error that every prompt of every length leaves.
        control_targets: (n, out), for the same sequences, which `control_prompt` gives exactly.
        control_prompt: the soft prompt they were made with.
    """

    control_targets: Tensor
    control_prompt: SoftPrompt


def unmemorisable_pair(weights: AttentionWeights, seed: int = 0) -> UnmemorisablePair:
    """Two sequences with a shared last token and targets in the layer's range that no prompt of any length fits.

    For one head with full-rank weights and an output of at least two dimensions. With several heads more examples are
    drawn: as many as leave fewer unknowns than equations.

    Args:
        weights: of one attention layer, without rotation.
        seed: of the tokens; the same seed gives the same data.

    Raises:
        InputError: for an output of one dimension, or weights that are rank deficient or 0.
        NotCertifiedError: when no floor above 1e-6 of the targets' size was certified in a few tries.

    Reference: Wang et al. 2023 (paper A), Theorem 2; theorem key ``unmemorisable-pair``.
    """
    raise_if_any(weight_faults(weights))  # first: there is no rank without numbers
    raise_if_any(_rank_faults(weights))
    weights = weights.detached()
    generator = torch.Generator().manual_seed(seed)
    for _ in range(_TRIES):
        sequences = _sequences(weights, _examples(weights), generator)
        prompts = [SoftPrompt(_normal(_TOKENS, weights.hidden_size, generator)) for _ in range(2)]
        targets = _apart(weights, sequences, prompts[0], generator)
        certificate = memorisable(weights, sequences, targets).floor
        proved = certificate.evidence is Evidence.PROVED
        if proved and certificate.value > 1e-6 * root_mean_square(targets):
            control = last_outputs(weights, sequences, None, prompts[1])
            pair = UnmemorisablePair(sequences, targets, certificate)
            pair.control_targets, pair.control_prompt = control, prompts[1]
            return pair
    raise NotCertifiedError(
        f"no floor was certified in {_TRIES} tries for {weights.num_heads} heads with outputs of size "
        f"{weights.output_size}; try one head of the layer (weights.head(0))"
    )


def _examples(weights: AttentionWeights) -> int:
    """Two for one head; for several, more equations than masses and value sums."""
    if weights.num_heads == 1:
        return 2
    unknowns = weights.num_heads * (weights.value.shape[1] + 1)
    return max(4, weights.num_heads + 3, 2 * unknowns // weights.output_size + 2)


def _sequences(weights: AttentionWeights, count: int, generator: torch.Generator) -> list[Tensor]:
    last = _normal(1, weights.hidden_size, generator)
    return [torch.cat([_normal(CONTENT_TOKENS, weights.hidden_size, generator), last]) for _ in range(count)]


def _apart(
    weights: AttentionWeights, sequences: list[Tensor], prompt: SoftPrompt, generator: torch.Generator
) -> Float[Tensor, "n out"]:
    """Targets around what one prompt gives, moved apart by a step that no prompt makes.

    With one head the outputs under a prompt of infinite values would still differ only along W (N_1 - N_2) and the
    outputs themselves; each target alone stays in the layer's range because a value sum reaches every point of it.
    """
    outputs = last_outputs(weights, sequences, None, prompt)
    bare = last_outputs(weights, sequences)
    middle = outputs.mean(dim=0)
    bias = torch.zeros_like(middle) if weights.output_bias is None else weights.output_bias
    size = (bare - bare.mean(dim=0)).norm(dim=1).mean().clamp(min=1e-3 * (middle - bias).norm())
    matrix = torch.eye(middle.shape[0], dtype=torch.float64) if weights.output is None else weights.output
    basis = torch.linalg.svd(matrix, full_matrices=False)[0]
    if weights.num_heads > 1:
        away: Tensor = size * _normal(len(sequences), basis.shape[1], generator) @ basis.mT
        return middle + away
    # The step away is at right angles to the difference of the outputs, and in the range of the projection.
    line = (bare[0] - bare[1]) @ basis
    step = torch.zeros_like(line)
    smallest = int(line.abs().argmin())
    step[smallest] = 1.0
    step = step - line * (line[smallest] / (line @ line).clamp(min=1e-300))
    step = size * (basis @ (step / step.norm()))
    return torch.stack([middle + step, middle - step])


def _normal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def _rank_faults(weights: AttentionWeights) -> list[Fault]:
    faults = []
    if weights.output_size < 2:
        remedy = "One output dimension has no direction that a prompt cannot follow"
        faults.append(Fault("weights", f"output dimension {weights.output_size}", "at least 2", remedy))
    named = {"query": weights.query, "key": weights.key, "value": weights.value}
    if weights.output is not None:
        named["output"] = weights.output[None]
    for name, tensor in named.items():
        for head, matrix in enumerate(tensor.detach().to("cpu", torch.float64)):
            rank, full = int(torch.linalg.matrix_rank(matrix)), min(matrix.shape)
            if rank < full:
                faults.append(Fault(f"weights.{name}[{head}]", f"rank {rank}", f"full rank, {full}"))
    if not faults and weights.value.shape[1] < 2 and weights.num_heads == 1:
        faults.append(Fault("weights.value", "one value dimension", "at least 2", "Targets in its range lie on a line"))
    return faults
