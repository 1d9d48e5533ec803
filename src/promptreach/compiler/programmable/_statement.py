"""The statement that both table transformers make of a prompt, from the witness alone."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from promptreach.certificate import Assumption, Side, Statement
from promptreach.compiler.plan import EXTREME, ITEM_BYTES
from promptreach.compiler.programmable.error_budget import sample_clause
from promptreach.errors import Fault, InputError
from promptreach.rounding import EXP_UNITS, shown
from promptreach.witness import choice, number, size_of, tensor, whole


def table_statement(
    witness: Mapping[str, Any], *, theorem: str, where: str, rechecked: str, condition: str = ""
) -> Statement:
    """The statement about all functions whose table the prompt's rows hold.

    Args:
        witness: the sizes, the weights, the prompt, the functions' constant, and which error is meant.
        theorem: its key.
        where: the points of the table, in words.
        rechecked: what the second path does with each layer.
        condition: what is asked of a function beside its constant.

    Raises:
        InputError: for a witness that is damaged.
    """
    dim, tokens, cells, dtype = _sizes(witness)
    lipschitz = number(witness, "lipschitz", 0, EXTREME)
    steepness = witness["weights"]["passes.0.up"].abs()
    ramps = tokens * dim * (cells - 1) * 5 / 4 / float(steepness.max()) if steepness.numel() else 0.0
    what = (
        "|backbone(X) - f(X)| is at most value at every X with no coordinate inside a ramp"
        if choice(witness, "part", ("sup", "mean")) == "sup"
        else "the root of the mean of |backbone(X) - f(X)|^2 over X uniform in the cube is at most value. "
        + sample_clause(ramps).removesuffix(".")
    )
    return Statement(
        claim=(
            f"For every f from [0,1]^({tokens} x {dim}) into itself with |f(X) - f(X')| <= {shown(lipschitz)} "
            f"|X - X'|{condition} whose values at {where} round to the table in the prompt's rows, "
            f"{what}. 2-norms over all entries; X is rounded to {dtype} first; arithmetic is IEEE "
            f"{dtype} with an exponential right to {EXP_UNITS} units in the last place."
        ),
        side=Side.UPPER,
        theorem=theorem,
        assumptions=(
            Assumption("slots are numbered and hold entries in [0, 1]", True, "looked at each row"),
            Assumption("the passes are those of the construction", True, f"weights compared; recheck {rechecked}"),
        ),
    )


def _sizes(witness: Mapping[str, Any]) -> tuple[int, int, int, str]:
    """Entries, tokens, cells and dtype, none of them larger than the prompt has room for."""
    dtype = choice(witness, "dtype", list(ITEM_BYTES))
    kind = getattr(torch, dtype)
    rows, columns = tensor(witness, "prompt", None, None, dtype=kind).shape
    dim, tokens = whole(witness, "dim", 1, columns), whole(witness, "tokens", 1, columns)
    cells = whole(witness, "cells", 1, rows)
    for name, weight in witness["weights"].items():
        if not isinstance(weight, Tensor) or weight.dtype != kind or not bool(weight.isfinite().all()):
            raise InputError(Fault(f"weights, {name}", f"{weight!r:.60}", f"a finite tensor of {dtype}"))
    # One slot or one block of a row for each cell of a token: what is listed below is no longer than the witness.
    axis = dim * math.log(cells)
    if axis > math.log(rows) + 1e-9 or (tokens - 1) * axis > math.log(max(rows, columns)) + 1e-9:
        raise InputError(Fault("prompt", f"{rows} rows of {columns}", f"a table of {cells} cells on each axis"))
    return dim, tokens, cells, dtype


def steps_of(witness: Mapping[str, Any]) -> int:
    """Numbers that the second path looks at: each weight for each digit, and each pair of slots."""
    rows = witness["prompt"].shape[0]
    digits = int(witness["cells"]) + int(witness["dim"]) * int(witness["tokens"])
    return int(rows) * (int(rows) * (digits + 10) + 10_000) + size_of(witness) * digits


QUICK_STEPS, MOST_STEPS = 10**8, 10**11
"""Numbers that are looked at in about a second, and in about a quarter of an hour."""
