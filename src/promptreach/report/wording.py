"""What the page and the terminal say in the same words: verdicts, kinds of evidence, settings, the table of methods."""

from dataclasses import dataclass

from promptreach.certificate import Evidence
from promptreach.report.findings import Finding, Table
from promptreach.report.formatting import format_number
from promptreach.report.result import AuditVerdict, MethodName, Recommendation, Report


@dataclass(frozen=True)
class VerdictWords:
    """How a verdict is shown.

    Attributes:
        name: the verdict in a few words.
        tone: ``good``, ``caution``, ``bad`` or ``unsure``: the colour, which never stands without the name.
        terminal: the tone as a rich style.
    """

    name: str
    tone: str
    terminal: str


VERDICT_WORDS = {
    AuditVerdict.FITS: VerdictWords("A prompt or prefix fits", "good", "bold green"),
    AuditVerdict.OPTIMISER: VerdictWords("A prompt fits, the training misses it", "caution", "bold yellow"),
    AuditVerdict.MORE_TOKENS: VerdictWords("More tokens are needed", "caution", "bold yellow"),
    AuditVerdict.FORM: VerdictWords("A soft prompt is the wrong form", "bad", "bold red"),
    AuditVerdict.DATA: VerdictWords("The data stands in the way", "bad", "bold red"),
    AuditVerdict.UNDECIDED: VerdictWords("Undecided", "unsure", "bold magenta"),
}

EVIDENCE_MEANING = {
    Evidence.PROVED: "a theorem applies, and every hypothesis of it was checked on these very tensors",
    Evidence.MEASURED: "observed on this model and data, on the sample that is named beside it",
    Evidence.PREDICTED: "estimated from a model of training, not yet observed here",
    Evidence.UNKNOWN: "not decided; the reason is given",
}

METHOD_NAMES: dict[MethodName, str] = {
    "prompt": "prompt tuning",
    "prefix": "prefix tuning",
    "lora": "LoRA",
    "unipelt": "UniPELT",
    "head": "a classification head alone",
    "full": "training all weights",
}


def settings(recommendation: Recommendation) -> list[tuple[str, str]]:
    """The recommended settings that apply, name and value."""
    numbers = [
        ("slots" if recommendation.method == "prefix" else "virtual tokens", recommendation.tokens),
        ("rank", recommendation.rank),
        ("learning rate", recommendation.learning_rate),
    ]
    named = [("method", METHOD_NAMES[recommendation.method])] if recommendation.method else []
    named += [(name, format_number(number)) for name, number in numbers if number is not None]
    return named + ([("initialisation", recommendation.init)] if recommendation.init else [])


def method_table(result: Report) -> tuple[Finding, Table] | None:
    """The table that compares methods, with its finding: the first one whose first column is called "method"."""
    for finding in result.findings:
        for block in finding.blocks:
            if isinstance(block, Table) and block.columns and block.columns[0].lower() == "method":
                return finding, block
    return None


def subject(result: Report) -> str:
    """What was audited, in one line: the model's name and the data's source, as far as they are known."""
    parts = [result.model.get("name"), result.data.get("source")]
    return " on ".join(str(part) for part in parts if part)
