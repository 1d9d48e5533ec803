"""The weight fingerprint check: a backbone still has the weights of its plan.

The weights follow from the plan alone, with no randomness left, so a certificate names the plan and a fingerprint of
the weights, and its second path builds the backbone again.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from promptreach.compiler.plan import Plan
from promptreach.errors import Fault


def fingerprint_of(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of all names, shapes, dtypes and bytes, in order of names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def question_of(plan: Plan) -> dict[str, Any]:
    """The arguments of the construction's own `plan`, as plain values for a witness."""
    asked = plan.question._asdict()
    del asked["construction"]
    return {**asked, **plan.options}


def frame_faults(embeddings: Tensor, frame: Tensor, free: slice) -> list[Fault]:
    """What keeps prompt rows from being `frame` everywhere but in the block `free`, whose entries lie in [0, 1]."""
    if embeddings.shape != frame.shape or embeddings.dtype != frame.dtype:
        seen, expected = f"shape {tuple(embeddings.shape)}, {embeddings.dtype}", f"{tuple(frame.shape)}, {frame.dtype}"
        return [Fault("prompt", seen, expected, "Compile it for this backbone")]
    rest = embeddings.detach().cpu().clone()
    entries = rest[:, free].clone()
    rest[:, free] = frame[:, free]
    faults = []
    if not torch.equal(rest, frame):
        row = int((rest != frame).any(dim=1).nonzero()[0])
        faults.append(Fault(f"prompt, row {row}", "not the position encoding of its slot", "rows that `rows` made"))
    if not bool(((entries >= 0) & (entries <= 1)).all()):
        faults.append(Fault("prompt", "entries outside [0, 1]", "entries in [0, 1]"))
    return faults


def weight_faults(weights: Mapping[str, Tensor], expected: str) -> list[Fault]:
    """A fault when a backbone's weights are not those that its plan led to."""
    if fingerprint_of(weights) == expected:
        return []
    return [
        Fault("backbone", "weights that its plan does not lead to", "the weights as they were built", "Build it again")
    ]
