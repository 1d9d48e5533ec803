"""Words that the page and the terminal share: kinds of evidence, re-checks, settings, the table of methods."""

from collections import Counter
from collections.abc import Iterable

from promptreach.certificate import Certificate, Evidence, Independence, Recheck
from promptreach.report.findings import Finding, Table
from promptreach.report.formatting import format_number
from promptreach.report.result import MethodName, Recommendation, Report

EVIDENCE_MEANING = {
    Evidence.PROVED: "a theorem applies, and every hypothesis of it was checked on these very tensors",
    Evidence.MEASURED: "observed on this model and data, on the sample that is named beside it",
    Evidence.PREDICTED: "estimated from a model of training, not yet observed here",
    Evidence.UNKNOWN: "not decided; the reason is given",
}

INDEPENDENCE_WORDS = {
    Independence.FULL: "another derivation, in code of its own",
    Independence.ARITHMETIC: "the same formula in other arithmetic",
    Independence.SHARED: "a second path that shares code with the first",
}

METHOD_NAMES: dict[MethodName, str] = {
    "prompt": "prompt tuning",
    "prefix": "prefix tuning",
    "lora": "LoRA",
    "unipelt": "UniPELT",
    "head": "a linear head alone",
    "full": "training all weights",
}


def recheck_words(certificate: Certificate) -> str:
    """Whether `certificate` was re-checked, or can be, and how far the second path stands from the first."""
    state, independence = certificate.recheck_state, certificate.independence
    if state is Recheck.IMPOSSIBLE:
        return f"{state.value}: {certificate.no_recheck}"
    if state is Recheck.FAILED:
        return f"{state.value}: {certificate.reason}"
    text = f"{state.value} by {INDEPENDENCE_WORDS[independence]}" if independence else state.value
    return text + (f"; the witness is not kept: {certificate.witness_left_out}" if certificate.witness_left_out else "")


def certificate_lines(certificates: Iterable[Certificate]) -> list[str]:
    """How many certificates there are of each kind, the surest first: their evidence, and whether they were re-checked.

    Those that claim no proof and have no second path need no word on it.
    """
    order = list(Evidence)
    kinds = Counter(
        (order.index(item.evidence), recheck_words(item) if item.checker or item.evidence is Evidence.PROVED else "")
        for item in certificates
    )
    return [
        f"{count:,} {order[evidence].value}{f', {words}' if words else ''}"
        for (evidence, words), count in sorted(kinds.items())
    ]


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
