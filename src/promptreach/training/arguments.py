"""Faults of the arguments that `fit`, `predict`, `diagnose` and `capacity` take and refuse alike.

Every function gives all that is wrong with one argument, and nothing for None where None leaves the choice to the
library. `fit` takes one number of tokens and one method where others take several, so a lone one is a likely mistake; a
lone name would even pass for a sequence of letters.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from numbers import Integral
from typing import Any

from promptreach.errors import Fault

MIN_CONTENT = 8
"""Fewer content tokens than this leave nothing to read."""

MOST_SEED = 2**32 - 1
"""The largest seed that every generator takes."""

MOST_COUNT = 2**31 - 1
"""Counts beyond this are slips of the hand, and too large for what counts with them."""

MOST_RATE = 1e30
"""Rates beyond this leave what an optimiser can reckon with; that far smaller ones diverge is a result."""


def least_faults(values: Mapping[str, int | None], least: int = 1, most: int | None = None) -> list[Fault]:
    """Faults of whole numbers, by name, that are to be at least `least` and at most `most`, or `MOST_COUNT`."""
    limit = MOST_COUNT if most is None else most
    given = {where: one for where, one in values.items() if one is not None and not least <= one <= limit}
    return [
        Fault(
            where, str(one) if abs(one) < 10**18 else f"a number of {one.bit_length():,} bits", _whole(least, most, one)
        )
        for where, one in given.items()
    ]


def choice_faults(where: str, given: str | None, known: Collection[str], whose: str = "") -> list[Fault]:
    """Faults of `given` as one of the `known` names; `whose` names they are stands behind them in the message."""
    return [] if given is None or given in known else [Fault(where, repr(given), f"one of {', '.join(known)}{whose}")]


def seed_faults(seed: Any) -> list[Fault]:
    """Faults of `seed` as a seed of every generator that is used."""
    good = isinstance(seed, Integral) and not isinstance(seed, bool) and 0 <= int(seed) <= MOST_SEED
    return [] if good else [Fault("seed", repr(seed)[:60], f"a whole number from 0 to {MOST_SEED:,}")]


def rate_faults(where: str, given: float | None) -> list[Fault]:
    """Faults of `given` as a learning rate."""
    expected = "a positive number" if given is None or given <= MOST_RATE else f"at most {MOST_RATE:g}"
    return [] if given is None or 0 < given <= MOST_RATE else [Fault(where, str(given), expected)]


def size_faults(where: str, given: Any) -> list[Fault]:
    """Faults of `given` as one or more whole numbers, each at least 1."""
    if not _is_sequence(given, Integral):
        return [Fault(where, repr(given), "a sequence such as (4, 16)")]
    if not given:
        return [Fault(where, "none", "at least one")]
    return [fault for one in given for fault in least_faults({where: int(one)})]


def name_faults(where: str, given: Any, known: Sequence[str]) -> list[Fault]:
    """Faults of `given` as one or more of the `known` names, of which there are at least two."""
    if not _is_sequence(given, str):
        return [Fault(where, repr(given), f"a sequence such as {tuple(known[:2])}")]
    if not given:
        return [Fault(where, "none", f"at least one of {', '.join(known)}")]
    return [fault for one in given for fault in choice_faults(where, one, known)]


def repeat_faults(where: str, given: Any) -> list[Fault]:
    """Faults of `given` as names or numbers that differ; none where it is no sequence, which the two above tell."""
    counts = Counter(given) if _is_sequence(given, Integral | str) else {}
    return [Fault(where, f"{one!r} twice", "each once") for one, count in counts.items() if count > 1]


def _whole(least: int, most: int | None, seen: int) -> str:
    """What is expected where `seen` was given; the limit of all counts is named where it is passed alone."""
    return f"at least {least}" if most is None and seen < least else f"{least} to {most or MOST_COUNT:,}"


def _is_sequence(given: Any, kind: Any) -> bool:
    """Whether `given` is a sequence of `kind`, be it empty; a string is none."""
    return isinstance(given, Sequence) and not isinstance(given, str) and all(isinstance(one, kind) for one in given)
