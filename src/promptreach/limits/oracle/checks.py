"""Faults of weights, sequences and targets, found before the oracle does any work."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from promptreach.errors import Fault
from promptreach.weights import AttentionWeights, NormWeights

MOST_NATS = 600.0
"""The widest spread of log masses that float64 carries through the search of one head."""

_LARGEST = 1e30  # a score has four factors and the scale: even its square, summed, stays far below float64's overflow


def oracle_faults(weights: AttentionWeights, sequences: Sequence[Tensor], targets: Tensor, tol: float) -> list[Fault]:
    """Everything that keeps `memorisable` from starting."""
    return [
        *weight_faults(weights),
        *_sequence_faults(weights, sequences),
        *_target_faults(weights, sequences, targets),
        *tol_faults(tol),
    ]


def weight_faults(weights: AttentionWeights) -> list[Fault]:
    """Rotary weights and numbers that are none, those of the norms on queries and keys included."""
    faults = []
    if weights.rotary:
        remedy = "Capture the rotated queries and keys and use memorisable_statistics"
        faults.append(Fault("weights.rotary", "True", "False: rotary scores depend on positions", remedy))
    for name in ("query", "key", "value", "output", "query_bias", "key_bias", "value_bias", "output_bias"):
        tensor = getattr(weights, name)
        if tensor is not None:
            faults += number_faults(f"weights.{name}", tensor)
    for name in ("query_norm", "key_norm"):
        norm: NormWeights | None = getattr(weights, name)
        if norm is not None:
            faults += number_faults(f"weights.{name}.weight", norm.weight)
            faults += [] if norm.bias is None else number_faults(f"weights.{name}.bias", norm.bias)
            if not 0.0 < norm.eps < math.inf:
                faults.append(Fault(f"weights.{name}.eps", str(norm.eps), "a positive finite number"))
            elif not 1.0 / _LARGEST <= norm.eps <= _LARGEST:
                faults.append(Fault(f"weights.{name}.eps", str(norm.eps), f"{1 / _LARGEST:.0e} to {_LARGEST:.0e}"))
    return [*faults, *scale_faults("weights.scale", weights.scale)]


def scale_faults(where: str, scale: float | None) -> list[Fault]:
    """The factor on q.k: None for the usual one, or a number of ordinary size."""
    if scale is None or abs(scale) <= _LARGEST:
        return []
    return [Fault(where, str(scale), "a finite number" if not math.isfinite(scale) else f"at most {_LARGEST:.0e}")]


def spread_faults(where: str, lse: Tensor) -> list[Fault]:
    """A fault where one head's log masses at one query are too far apart for its search, or no numbers."""
    spread = float(lse.max() - lse.min())
    if spread <= MOST_NATS:
        return []
    seen = f"log masses that spread over {spread:.0f} nats"
    return [Fault(where, seen, f"at most {MOST_NATS:.0f}", "Rescale the weights or the inputs")]


def number_faults(where: str, tensor: Tensor) -> list[Fault]:
    """A fault for a tensor that is not floating, or that holds something other than numbers of ordinary size."""
    if not tensor.is_floating_point():
        return [Fault(where, f"dtype {tensor.dtype}", "a floating dtype", "Convert with .double()")]
    tensor = tensor.detach()
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
