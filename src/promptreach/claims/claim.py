"""A claim of the papers as an experiment: what it says, what it needs, what was seen, and what follows.

Running a claim and saying what it means are separate: an experiment returns an `Outcome`, numbers and pictures with a
verdict and its reason; `run_claim` adds what every experiment has in common and makes the record that is written. The
records are pydantic models because their JSON is a published format.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from promptreach.certificate import Evidence
from promptreach.progress import Progress
from promptreach.report.findings import Block, Curve, Heatmap

Item = TypeVar("Item")

SCHEMA_VERSION = 1
"""The version of a claim's JSON, raised when a field is renamed, removed or changes its meaning."""


class ClaimVerdict(StrEnum):
    """The answer of a run to a claim; never more than "here", on the sizes and data that were run."""

    HOLDS = "holds here"
    CAVEAT = "holds with caveat"
    NOT_EXECUTABLE = "not executable as stated"
    NOT_REPRODUCED = "not reproduced at this size"
    FAILS = "does not hold here"


class Hypothesis(BaseModel):
    """One thing that the claim takes for granted.

    Attributes:
        text: what has to hold.
        status: CHECKED where the experiment looked at these very tensors; DECLARED where the reader's word, or a
            conjecture such as SETH, stands for it.
        detail: how it was checked, or why it cannot be.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    status: Literal["CHECKED", "DECLARED"]
    detail: str = ""

    @classmethod
    def checked(cls, text: str, detail: str = "") -> "Hypothesis":
        """One that the experiment looked at, and how."""
        return cls(text=text, status="CHECKED", detail=detail)

    @classmethod
    def declared(cls, text: str, detail: str) -> "Hypothesis":
        """One that stands on the reader's word or on a conjecture, and why it cannot be checked."""
        return cls(text=text, status="DECLARED", detail=detail)


@dataclass(frozen=True)
class Setting:
    """The sizes, the seed and the places of one run of an experiment.

    Attributes:
        full: the sizes whose results are committed; otherwise sizes that take seconds.
        seed: of everything drawn.
        folder: where a claim that trains keeps its finished runs, for `promptreach.tuning.fit`: a claim that was
            killed goes on from there. None keeps nothing.
        progress: shows how far it is.
    """

    full: bool = False
    seed: int = 0
    folder: Path | None = None
    progress: Progress = field(default_factory=lambda: Progress(quiet=True))

    def pick(self, quick: Any, full: Any) -> Any:
        """The one of two sizes that this setting asks for."""
        return full if self.full else quick

    def followed(self, items: Sequence[Item], doing: str) -> Iterator[Item]:
        """The items one by one, while a bar on standard error tells how many are done."""
        with self.progress.task(doing, total=len(items)) as step:
            for item in items:
                yield item
                step()


@dataclass(frozen=True)
class Outcome:
    """The findings of an experiment, with the verdict that they carry.

    Attributes:
        verdict, because: the verdict and its reason, one or two sentences with the numbers that carry it; both hold
            where every condition does. Otherwise `run_claim` says what `missed` is, and which did not.
        conditions: what has to be seen for the verdict, and whether it was.
        missed: the verdict where a condition does not hold: NOT_REPRODUCED where what was wanted is a difference
            between trained models, which another size or longer training may show.
        seen: sentences that hold either way, put before the reason.
        evidence: the weakest kind of knowledge that the verdict rests on.
        hypotheses: of the claim, each CHECKED or DECLARED.
        numbers: what was found, by name; JSON types only.
        figure: the picture.
        blocks: tables and remarks below it.
    """

    verdict: ClaimVerdict
    because: str
    evidence: Evidence
    hypotheses: tuple[Hypothesis, ...]
    numbers: dict[str, Any]
    figure: Curve | Heatmap
    blocks: tuple[Block, ...] = field(default_factory=tuple)
    conditions: dict[str, bool] = field(default_factory=dict)
    seen: str = ""
    missed: ClaimVerdict = ClaimVerdict.FAILS

    def judged(self) -> "Outcome":
        """The outcome with its verdict where every condition holds; else that it is missed, with those that do not."""
        missing = [condition for condition, seen in self.conditions.items() if not seen]
        if not missing:
            return replace(self, because=f"{self.seen} {self.because}".strip())
        because = f"{self.seen} Not seen here: {'; '.join(missing)}.".strip()
        return replace(self, verdict=self.missed, because=because, evidence=Evidence.MEASURED)


@dataclass(frozen=True)
class Claim:
    """One claim of the papers.

    Attributes:
        key: A1 to A5 and B1 to B5 for the papers' ten claims, R1 for their rivals, N1 and on for what was derived here.
        title: a few words.
        source: paper and theorem.
        statement: the claim in plain words, with its quantifiers.
        run: the experiment.
        needs: distributions without which it cannot run, by the names that pip knows.
    """

    key: str
    title: str
    source: str
    statement: str
    run: Callable[[Setting], Outcome]
    needs: tuple[str, ...] = ()


class ClaimResult(BaseModel):
    """The record of one run of one claim; its attributes are those of `Claim`, `Setting` and `Outcome`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True, ser_json_inf_nan="strings")

    schema_version: int = SCHEMA_VERSION
    key: str
    title: str
    source: str
    statement: str
    verdict: ClaimVerdict
    because: str
    evidence: Evidence
    hypotheses: list[Hypothesis]
    numbers: dict[str, Any]
    conditions: dict[str, bool] = Field(default_factory=dict)
    figure: Block
    blocks: list[Block] = Field(default_factory=list)
    full: bool
    seed: int
    seconds: float
    environment: dict[str, Any]
