"""What the oracle accepts: every fault of weights, sequences and targets, found before any work."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from promptreach.errors import Fault
from promptreach.weights import AttentionWeights

_LARGEST = 1e100  # beyond which float64 sums of squares overflow


def oracle_faults(weights: AttentionWeights, sequences: Sequence[Tensor], targets: Tensor, tol: float) -> list[Fault]:
    """Everything that keeps `memorisable` from starting."""
    return [
        *weight_faults(weights),
        *_sequence_faults(weights, sequences),
        *_target_faults(weights, sequences, targets),
        *tol_faults(tol),
    ]


def weight_faults(weights: AttentionWeights) -> list[Fault]:
    """Rotary weights and numbers that are none."""
    faults = []
    if weights.rotary:
        remedy = "Capture the rotated queries and keys and use memorisable_statistics"
        faults.append(Fault("weights.rotary", "True", "False: rotary scores depend on positions", remedy))
    for name in ("query", "key", "value", "output", "query_bias", "key_bias", "value_bias", "output_bias"):
        tensor = getattr(weights, name)
        if tensor is not None:
            faults += number_faults(f"weights.{name}", tensor)
    if not math.isfinite(weights.softmax_scale):
        faults.append(Fault("weights.scale", str(weights.scale), "a finite number"))
    return faults


def number_faults(where: str, tensor: Tensor) -> list[Fault]:
    """A fault for a tensor that is not floating, or that holds something other than numbers of ordinary size."""
    if not tensor.is_floating_point():
        return [Fault(where, f"dtype {tensor.dtype}", "a floating dtype", "Convert with .double()")]
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        return [Fault(where, f"{bad} entries that are NaN or infinite", "finite numbers")]
    if tensor.numel() and float(tensor.abs().max()) > _LARGEST:
        return [Fault(where, f"an entry of size {float(tensor.abs().max()):.3g}", f"at most {_LARGEST:.0e}")]
    return []


def tol_faults(tol: float) -> list[Fault]:
    """A tolerance has to be a small positive number."""
    return [] if 0.0 < tol < 1.0 else [Fault("tol", str(tol), "a number between 0 and 1")]


def _sequence_faults(weights: AttentionWeights, sequences: Sequence[Tensor]) -> list[Fault]:
    if not len(sequences):
        return [Fault("sequences", "none", "at least one (tokens, hidden) tensor")]
    faults = []
    for index, sequence in enumerate(sequences):
        where = f"sequences[{index}]"
        if sequence.ndim != 2 or not len(sequence) or sequence.shape[1] != weights.hidden_size:
            expected = f"(tokens, {weights.hidden_size}), at least one token"
            faults.append(Fault(where, f"shape {tuple(sequence.shape)}", expected))
        else:
            faults += number_faults(where, sequence)
    return faults


def _target_faults(weights: AttentionWeights, sequences: Sequence[Tensor], targets: Tensor) -> list[Fault]:
    wanted = (len(sequences), weights.output_size)
    if tuple(targets.shape) != wanted:
        return [Fault("targets", f"shape {tuple(targets.shape)}", f"{wanted}, one row a sequence")]
    return number_faults("targets", targets)
