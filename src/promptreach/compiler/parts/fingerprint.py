"""The weight fingerprint check: a backbone still has the weights of its plan.

The weights follow from the plan alone, with no randomness left, so a certificate names the plan and a fingerprint of
the weights, and its second path builds the backbone again.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from promptreach.compiler.plan import EXTREME, ITEM_BYTES, Plan, question_faults
from promptreach.errors import Fault, raise_if_any
from promptreach.witness import choice, number, tensor, whole


def fingerprint_of(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of all names, shapes, dtypes and bytes, in order of names."""
    digest = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def question_of(plan: Plan) -> dict[str, Any]:
    """The arguments of the construction's own `plan`, as plain values for a witness."""
    asked = plan.question._asdict()
    del asked["construction"]
    return {**asked, **plan.options}


def witnessed_question(witness: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments of a construction's own `plan`, as `question_of` wrote them into a witness.

    Raises:
        InputError: where they are none, or the rest of such a witness is damaged.
    """
    question = witness["question"]
    kind = getattr(torch, choice(question, "dtype", list(ITEM_BYTES)))
    columns = tensor(witness, "prompt", None, None, dtype=kind).shape[1]
    # Each entry of an input has its place in the stream, each token its own position feature.
    whole(question, "dim", 1, columns)
    whole(question, "tokens", 1, columns)
    number(witness, "lipschitz", 0, EXTREME)
    faults = question_faults(*(question[name] for name in ("dim", "tokens", "lipschitz", "tol")))
    for name, wanted in (("everywhere", bool), ("weights", str)):
        faults += [] if type(witness[name]) is wanted else [Fault(name, repr(witness[name]), wanted.__name__)]
    raise_if_any(faults)
    return question  # type: ignore[no-any-return]


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
