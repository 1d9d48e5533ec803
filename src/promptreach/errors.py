"""The errors of this library, by name.

Bad input is found before work starts and reported all at once, so the input errors carry a list of
`Fault`: where it is, what was seen there, what was expected, and what to do about it.
"""

import importlib.metadata
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

MANY = 4
"""The number of equal faults from which on they are one line."""


_COMMANDS = ("pip", "python", "promptreach")
"""The first words of a remedy that is to be typed as it stands."""


@dataclass(frozen=True)
class Fault:
    """One thing wrong with an input, said so that the reader can mend it.

    Attributes:
        where: the file, row, column or argument, for example ``"reviews.csv, row 17, column 'label'"``.
        seen: what stands there.
        expected: what should stand there.
        remedy: the next thing to try; empty when `expected` already says it.
    """

    where: str
    seen: str
    expected: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.seen}; expected {self.expected}"
        first, _, rest = self.remedy.partition(" ")
        is_word = first.isalpha() and first not in _COMMANDS
        remedy = f"{first[:1].upper()}{first[1:]} {rest}".rstrip() if is_word else self.remedy
        return f"{text}. {remedy}" if remedy else text


class PromptreachError(Exception):
    """Base of every error that this library raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """The error from its finished message and its attributes, so that it can cross processes."""
        return type(self).__new__, (type(self), *self.args), vars(self)


class InputError(PromptreachError, ValueError):
    """The call or its input is wrong. `faults` lists everything found, not only the first."""

    def __init__(self, faults: "Fault | Sequence[Fault]") -> None:
        self.faults: tuple[Fault, ...] = (faults,) if isinstance(faults, Fault) else tuple(faults)
        if not self.faults:
            raise ValueError("an InputError needs at least one fault")
        super().__init__("\n".join(lines_of(self.faults)))


class DataError(InputError):
    """The dataset cannot be used as it is."""


class AdapterError(InputError):
    """An adapter folder is damaged, or was made for another model."""


class OutputError(InputError):
    """The results cannot be written where the caller asked."""


class ModelError(InputError):
    """The model cannot be opened: nothing there, no weights, or weights that cannot be read."""


class FormatError(InputError):
    """A record was written in a version of its format that this release does not read."""


class MissingExtraError(InputError):
    """An optional package is missing that the call needs; the fault says how to install it."""


def install_command(extra: str) -> str:
    """The command that installs what one of this package's extras needs; every shell knows these quotes.

    It names the needed packages themselves, so that it works wherever this package came from: an index, a folder, a
    repository. Run from its source without being installed, that is where the command works.
    """
    try:
        lines = importlib.metadata.requires("promptreach") or []
    except importlib.metadata.PackageNotFoundError:
        return f'pip install -e ".[{extra}]"'
    mark = re.compile(rf"""extra\s*==\s*['"]{re.escape(extra)}['"]""")
    needed = [f'"{line.partition(";")[0].strip()}"' for line in lines if mark.search(line)]
    return " ".join(["pip install", *(needed or ["-e", f'".[{extra}]"'])])  # installed before there was such an extra


class UnsupportedModelError(PromptreachError):
    """The model opened, but its architecture is not one that this library can take apart.

    Attributes:
        found: what the model is.
        supported: the architectures that would have worked.
    """

    def __init__(self, found: str, supported: Sequence[str], reason: str = "") -> None:
        self.found = found
        self.supported = tuple(supported)
        self.reason = reason
        text = f"unsupported model: found {found}; supported are {', '.join(self.supported)}"
        super().__init__(f"{text}. {reason}" if reason else text)


class WorkerError(PromptreachError):
    """The processes or machines that train runs cannot go on. Finished runs are kept."""


class WorkerLostError(WorkerError):
    """A worker died, and so did the one that took over its work.

    Attributes:
        running: labels of the runs that were under way in it.
    """

    def __init__(self, running: Sequence[str], reason: str) -> None:
        self.running = tuple(running)
        self.reason = reason
        super().__init__(
            f"two workers in a row died while they trained {', '.join(self.running)}: {reason}. Finished runs are "
            "kept where a folder was given; call again to go on. Out of memory is the usual cause: use fewer workers."
        )


class WorkerMismatchError(WorkerError):
    """A worker has other software or another model than its caller, so its numbers would not belong to the same runs.

    Attributes:
        differences: one sentence each.
    """

    def __init__(self, worker: str, differences: Sequence[str]) -> None:
        self.worker = worker
        self.differences = tuple(differences)
        super().__init__(f"the worker on {worker} cannot take part: {'; '.join(self.differences)}")


class MemoryShortError(PromptreachError, MemoryError):
    """Memory that cannot be had: what needs it, how much that is, and how much there is."""


class NotContractingError(PromptreachError):
    """An inverse that exists only where layers certainly contract, asked for where that is not certified.

    Attributes:
        wanted: what could not be had, as a sentence.
        reasons: what stands in the way, one sentence each.
    """

    def __init__(self, wanted: str, reasons: Sequence[str]) -> None:
        self.wanted = wanted
        self.reasons = tuple(reasons)
        super().__init__(f"{wanted}: {'; '.join(self.reasons)}")


class SideMismatchError(PromptreachError, ValueError):
    """A lower and an upper bound were combined into one number, which would bound nothing."""


def lines_of(faults: Sequence[Fault]) -> list[str]:
    """One line a fault; `MANY` and more that differ in nothing but their place are one line with their count."""
    alike: dict[tuple[str, str, str], list[Fault]] = {}
    for fault in faults:
        alike.setdefault((fault.seen, fault.expected, fault.remedy), []).append(fault)
    lines = []
    for same in alike.values():
        if len(same) < MANY:
            lines += [str(fault) for fault in same]
        else:
            places = f"{same[0].where}, and {len(same) - 1:,} more places up to {same[-1].where}"
            lines.append(str(replace(same[0], where=places)))
    return lines


def raise_if_any(faults: Sequence[Fault], kind: type[InputError] = InputError) -> None:
    """Raise `kind` with all `faults` if there are any."""
    if faults:
        raise kind(faults)
