"""Arguments that several functions here take and refuse alike: several sizes, several names.

`fit` takes one number of tokens and one method where others take several, so a lone one is a likely mistake; a lone
name would even pass for a sequence of letters.
"""

from collections import Counter
from collections.abc import Sequence
from numbers import Integral
from typing import Any

from promptreach.errors import Fault


def size_faults(where: str, given: Any) -> list[Fault]:
    """What is wrong with `given` as one or more whole numbers, each at least 1."""
    if not _is_sequence(given, Integral):
        return [Fault(where, repr(given), "a sequence such as (4, 16)")]
    if not given:
        return [Fault(where, "none", "at least one")]
    return [Fault(where, str(one), "at least 1") for one in given if one < 1]


def name_faults(where: str, given: Any, known: Sequence[str]) -> list[Fault]:
    """What is wrong with `given` as one or more of the `known` names, of which there are at least two."""
    if not _is_sequence(given, str):
        return [Fault(where, repr(given), f"a sequence such as {tuple(known[:2])}")]
    if not given:
        return [Fault(where, "none", f"at least one of {', '.join(known)}")]
    return [Fault(where, repr(one), f"one of {', '.join(known)}") for one in given if one not in known]


def repeat_faults(where: str, given: Any) -> list[Fault]:
    """What `given` names more than once; nothing where it is no sequence, which the two above tell."""
    counts = Counter(given) if _is_sequence(given, Integral | str) else {}
    return [Fault(where, f"{one!r} twice", "each once") for one, count in counts.items() if count > 1]


def _is_sequence(given: Any, kind: Any) -> bool:
    """Whether `given` is a sequence of `kind`, be it empty; a string is none."""
    return isinstance(given, Sequence) and not isinstance(given, str) and all(isinstance(one, kind) for one in given)
