"""Checkers: the functions that `Certificate.recheck` may call, what each says of itself, and how one is found by name.

A checker comes with the function that makes its kind's `Statement` from a witness. Nothing that a certificate says is
taken from the certificate: its words are made again from its witness and compared, and only then is its number checked.
"""

import pkgutil
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from promptreach.evidence import Independence, Statement
from promptreach.witness import size_of

Checker = Callable[[Any], bool]
"""Whether the witness of a certificate supports its number."""

States = Callable[[Mapping[str, Any]], Statement]
"""All that a certificate with this witness says; an error of any kind where the witness is damaged."""

HAS_EXTENDED = np.finfo(np.longdouble).nmant > 52
"""Whether this platform has floats of more than 53 bits."""


class Facts(NamedTuple):
    """What a mark says of a checker."""

    independence: Independence
    states: States | None
    size: Callable[[Mapping[str, Any]], int]
    quick: int
    most: int
    extended: bool


def rechecks(
    independence: Independence,
    *,
    states: States | None = None,
    size: Callable[[Mapping[str, Any]], int] = size_of,
    quick: int = 65_536,
    most: int = 2**28,
    extended: bool = False,
) -> Callable[[Checker], Checker]:
    """The mark of a function that `Certificate.recheck` may call.

    Args:
        independence: how far it stands from the code that made the certificate.
        states: makes what a certificate of this kind says from its witness, and refuses witnesses that are damaged.
        size: of a witness, in what the time grows with; its bytes unless another measure says more.
        quick: size up to which it takes about a second at most on one core.
        most: size above which it is not run, so that it takes minutes at most on anything.
        extended: whether it needs floats of more than 53 bits, which not every platform has.
    """

    def mark(function: Checker) -> Checker:
        facts = Facts(independence, states, size, quick, most, extended)
        function._rechecks_certificates = facts  # type: ignore[attr-defined]
        return function

    return mark


def facts_of(checker: Checker) -> Facts:
    """What the mark of this checker says."""
    facts: Facts = checker._rechecks_certificates  # type: ignore[attr-defined]
    return facts


def name_of(checker: Checker) -> str:
    """The name under which `find` finds this checker."""
    return f"{checker.__module__.removeprefix('promptreach.')}:{checker.__name__}"


_MOVED = {
    "compiler.interpolation_recheck": "compiler.programmable.multilinear_recheck",
    "compiler.programmable_recheck": "compiler.programmable.programmable_recheck",
    "compiler.deep": "compiler.papers.deep",
    "compiler.kernel": "compiler.papers.kernel",
    "compiler.single_layer": "compiler.papers.single_layer",
    "fast_attention.recheck": "fast_attention.measure",
    "inference.recheck": "fast_attention.measure",
    "limits.invert": "limits.layers.invert",
    "limits.lengths": "limits.counting.lengths",
    "limits.lipschitz": "limits.layers.lipschitz",
    "limits.measured": "limits.oracle.forward",
    "limits.oracle.measured": "limits.oracle.forward",
    "limits.several": "limits.oracle.several",
    "limits.single_head": "limits.oracle.single_head",
    "limits.tokens": "limits.counting.tokens",
    "tuning.diagnosis.floors": "diagnosis.measures.floors",
    "tuning.memory.counting": "capacity.counting",
}
"""Where the checkers of certificates that were written before a room was rebuilt stand today."""


def find(name: str) -> Checker:
    """The marked function behind ``"module:function"``, looked up inside this package only.

    A certificate may come from a file, so a name in it must never reach code outside this package or a function
    that was not written to be called this way.

    Raises:
        ValueError: for any other name.
    """
    module_name, _, function_name = name.partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), function_name]):
        raise ValueError(f"not a checker name: {name!r}; expected 'module:function' inside promptreach")
    module_name = _MOVED.get(module_name, module_name)
    try:
        function = pkgutil.resolve_name(f"promptreach.{module_name}:{function_name}")
    except (ImportError, AttributeError):
        function = None
    if not isinstance(getattr(function, "_rechecks_certificates", None), Facts):
        raise ValueError(f"{name!r} is not marked as a checker")
    return function  # type: ignore[no-any-return]
