"""The registry of constructions, and building: plan, refuse what will not fit, freeze the weights."""

import inspect
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from promptreach.compiler.backbone import CompiledBackbone
from promptreach.compiler.papers import deep, kernel, single_layer
from promptreach.compiler.plan import (
    ITEM_BYTES,
    MEMORY,
    Plan,
    Question,
    is_number,
    question_faults,
    refuse_if_too_large,
)
from promptreach.compiler.programmable import multilinear, one_for_all, programmable
from promptreach.errors import Fault, InputError, raise_if_any
from promptreach.evidence import Side
from promptreach.rounding import shown_bound


@dataclass(frozen=True)
class Construction:
    """One way to make a promptable backbone.

    Attributes:
        plan: (dim, tokens, lipschitz, tol, dtype, **options) -> Plan, without building anything; "single_layer" and
            "deep" list their table for it, where that has at most `codebook.MOST_ENTRIES` entries.
        build: the plan -> the backbone.
        source: where the construction comes from.
        about: one sentence.
    """

    plan: Callable[..., Plan]
    build: Callable[[Plan], CompiledBackbone]
    source: str
    about: str


CONSTRUCTIONS: dict[str, Construction] = {
    "programmable": Construction(
        plan=programmable.plan,
        build=programmable.Programmable,
        source="here",
        about="One softmax head over a quantiser reads the prompt as a table: one slot for each cell of a token.",
    ),
    "multilinear": Construction(
        plan=multilinear.plan,
        build=multilinear.Multilinear,
        source="here",
        about="Softmax weights that interpolate between grid nodes: for functions with bounded second derivatives.",
    ),
    "single_layer": Construction(
        plan=single_layer.plan,
        build=single_layer.SingleLayer,
        source="Hu et al. 2025, Theorems 2.3 and 2.4",
        about="A quantiser, one softmax head of any rank as a contextual map, and a table over (prompt, input) pairs.",
    ),
    "deep": Construction(
        plan=deep.plan,
        build=deep.Deep,
        source="Wang et al. 2023, Theorem 1, after Yun et al. 2020",
        about="Selective hardmax shifts give each (prompt, input) pair a whole number, and a deep table reads it.",
    ),
    "kernel": Construction(
        plan=kernel.plan,
        build=kernel.Kernel,
        source="Petrov et al. 2024 (2402.14753)",
        about="Softmax over the prompt is a kernel smoother: keys are centres, values the function there.",
    ),
    "one_for_all": Construction(
        plan=one_for_all.plan,
        build=one_for_all.OneForAll,
        source="here",
        about="A kernel smoother whose weights know no tolerance: the prompt brings resolution and sharpness.",
    ),
}
"""Every way to build a backbone, by the name that `build_backbone` takes."""


def build_backbone(
    dim: int,
    tokens: int,
    lipschitz: float | int,
    tol: float | int,
    construction: str = "programmable",
    *,
    dtype: torch.dtype = torch.float64,
    memory: int = MEMORY,
    **options: float | int | str,
) -> CompiledBackbone:
    """The frozen transformer that prompts turn into every Lipschitz function, each within `tol`.

    For every f from [0,1]^(tokens x dim) into itself with |f(X) - f(X')| <= lipschitz |X - X'| (2-norm over all
    entries), the backbone with the prompt `prompt_for(f)` has d_2 error at most `tol`:
    sqrt(mean over uniform X of |backbone(X) - f(X)|^2) <= tol.

    Args:
        dim: size of one token.
        tokens: of one input.
        lipschitz: of the functions to come.
        tol: the d_2 error wanted.
        construction: a key of `CONSTRUCTIONS`.
        dtype: float64, or float32, which is refused where rounding leaves no certificate within `tol`.
        memory: bytes granted to weights, prompt and working memory.
        options: the construction's own.

    Raises:
        InputError: listing every argument out of range, or naming a dtype that leaves no certificate within `tol`.
        PlanTooLargeError: when the plan takes more than `memory`, before any weight is made.
    """
    plan = plan_backbone(dim, tokens, lipschitz, tol, construction, dtype=dtype, memory=memory, **options)
    return CONSTRUCTIONS[construction].build(plan)


def plan_backbone(
    dim: int,
    tokens: int,
    lipschitz: float | int,
    tol: float | int,
    construction: str = "programmable",
    *,
    dtype: torch.dtype = torch.float64,
    memory: int = MEMORY,
    **options: float | int | str,
) -> Plan:
    """The plan of `build_backbone`, without building it. Same arguments and errors."""
    faults = question_faults(dim, tokens, lipschitz, tol)
    if construction not in CONSTRUCTIONS:
        faults.append(Fault("construction", repr(construction), f"one of {', '.join(CONSTRUCTIONS)}"))
    else:
        own = list(inspect.signature(CONSTRUCTIONS[construction].plan).parameters)[len(Question._fields) - 1 :]
        expected = f"options of {construction}: {', '.join(own) or 'none'}"
        faults += [Fault("option", repr(option), expected) for option in options if option not in own]
    name = str(dtype).removeprefix("torch.")
    if name not in ITEM_BYTES:
        faults.append(Fault("dtype", str(dtype), "torch.float64 or torch.float32"))
    if not is_number(memory) or not 1 <= memory < math.inf:
        faults.append(Fault("memory", repr(memory), "a finite number of bytes above 0"))
    raise_if_any(faults)

    def planned(wanted: float) -> Plan:
        return CONSTRUCTIONS[construction].plan(dim, tokens, float(lipschitz), wanted, name, **options)

    plan = planned(float(tol))
    refuse_if_too_large(plan, memory, planned)
    if not plan.bound <= tol:
        left = "no certificate" if math.isinf(plan.bound) else f"a certificate of {shown_bound(plan.bound, Side.UPPER)}"
        seen = f"{name}, whose rounding leaves {left}"
        raise InputError(Fault("dtype", seen, f"at most tol={tol:g}", "Use float64, or a larger tol"))
    return plan


def load_backbone(path: str | Path, memory: int = MEMORY) -> CompiledBackbone:
    """The backbone that `CompiledBackbone.save` wrote, with the weights of the file.

    Raises:
        InputError: when the file is not a backbone, or its weights are not those of its plan.
        PlanTooLargeError: when the plan in the file takes more than `memory`.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            question = json.loads((file.metadata() or {})["promptreach"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        dtype, options = getattr(torch, question.pop("dtype")), question.pop("options")
        backbone = build_backbone(**question, dtype=dtype, memory=memory, **options)
    except (OSError, SafetensorError, KeyError, TypeError, AttributeError, json.JSONDecodeError) as refusal:
        seen = f"{type(refusal).__name__}: {refusal}"
        raise InputError(Fault(str(path), seen, "a file that CompiledBackbone.save wrote")) from refusal
    expected = backbone.state_dict()
    if expected.keys() != tensors.keys() or any(not torch.equal(expected[name], tensors[name]) for name in tensors):
        raise InputError(Fault(str(path), "weights that the plan does not lead to", "the file as it was saved"))
    return backbone
