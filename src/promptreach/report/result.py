"""The verdict and everything that goes with it, the environment included: the record that all writers show.

`SCHEMA_VERSION` names the format of the JSON twin. Adding a field with a default keeps it; renaming or removing one
raises it.
"""

import importlib.metadata
import os
import platform
from typing import Any, Literal

import torch
from pydantic import Field

from promptreach._version import __version__
from promptreach.certificate import Evidence
from promptreach.report.findings import Block, Finding, _Record
from promptreach.report.formatting import format_seconds
from promptreach.report.glance import AtAGlance, View, tables_of
from promptreach.report.verdict import EXIT_STATUS, TuningVerdict
from promptreach.report.verdict import Reason as Reason

SCHEMA_VERSION = 1
MethodName = Literal["prompt", "prefix", "lora", "unipelt", "head", "full"]


class Recommendation(_Record):
    """What to do: a method with its settings, or in words where no method helps.

    Attributes:
        method: a tuning method by the name that `promptreach.tuning.fit` knows it by, or None.
        text: the advice as a sentence.
        tokens, rank, learning_rate, init: the settings, None where they do not apply.
        peft_config: the adapter configuration to paste, or None.
        blocks: commands and code to copy.
        adapter: the recommended adapter's folder, relative to the report, or None.
        serving: the servers that take it, and what those that do not would cost; empty where nothing is advised.
        published: the address at which it was published, or None.
    """

    method: MethodName | None
    text: str
    tokens: int | None = None
    rank: int | None = None
    learning_rate: float | None = None
    init: str | None = None
    peft_config: dict[str, Any] | None = None
    blocks: list[Block] = Field(default_factory=list)
    adapter: str | None = None
    serving: str = ""
    published: str | None = None


class Report(AtAGlance, _Record):
    """A verdict with all that goes with it, as every writer shows it.

    Attributes:
        schema_version: see `SCHEMA_VERSION`.
        verdict, evidence: the conclusion and how sure it is.
        headline: the verdict as one sentence that a person can act on.
        reasons: ranked, the weightiest first.
        recommendation: what to do now.
        findings: in the order of the checks. Writers show the first table whose first column is ``"method"`` before all
            findings, as the comparison of methods.
        model, data, settings, environment: what was audited, how, and where; names to plain values. Writers head the
            report with ``model["name"]`` and ``data["source"]`` where they exist.
        seconds: wall time of the whole audit.
    """

    schema_version: Literal[1] = 1
    verdict: TuningVerdict
    evidence: Evidence
    headline: str
    reasons: list[Reason]
    recommendation: Recommendation
    findings: list[Finding]
    model: dict[str, Any]
    data: dict[str, Any]
    settings: dict[str, Any]
    environment: dict[str, Any]
    seconds: float

    @property
    def exit_status(self) -> int:
        return EXIT_STATUS[self.verdict]

    def view(self) -> View:
        """The verdict, the advice, the reasons, and the methods side by side; the page has the rest."""
        advice, about = self.recommendation, (self.model.get("name"), self.data.get("source"))
        address = f"Published at {advice.published}." if advice.published else ""
        said = [part for part in (advice.text, advice.serving, address) if part]
        reasons = [f"{rank}. {reason.text} [{reason.evidence.value}]" for rank, reason in enumerate(self.reasons, 1)]
        tables = [table for finding in self.findings for table in tables_of(finding.blocks)]
        methods = [table for table in tables if table.columns and table.columns[0].lower() == "method"][:1]
        heading = f"{self.verdict.value}: {self.headline} [{self.evidence.value}]"
        where = " on ".join(str(part) for part in about if part)
        return View(heading, f"{where}; {format_seconds(self.seconds)}", [*said, *reasons], methods)

    def finding(self, check: str) -> Finding | None:
        """The finding of one check, or None if it did not run."""
        return next((finding for finding in self.findings if finding.check == check), None)


_PACKAGES = ("torch", "transformers", "peft", "numpy", "scikit-learn")


def environment() -> dict[str, Any]:
    """What a result depends on besides its inputs: versions, platform and threads, names to plain values."""
    # Of this package the version that runs: metadata of an editable install are as old as that install.
    found: dict[str, Any] = {"python": platform.python_version(), "promptreach": __version__}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    found["platform"] = platform.platform(terse=True)
    found["cores"] = os.cpu_count()
    found["threads"] = torch.get_num_threads()
    found["accelerator"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return found
