"""Certificates in findings: what is re-checked, what is kept, and what becomes of a finding behind which one fails."""

import io
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from rich.console import Console

from promptreach.certificate import Certificate, Evidence, Recheck, Side
from promptreach.compiler import build_backbone
from promptreach.limits import memorisable_statistics
from promptreach.norms import max_norm, spectral_upper
from promptreach.report.certificates import WITNESS_BYTES, finished, settled
from promptreach.report.findings import Finding, Text
from promptreach.report.html import render_page
from promptreach.report.json import render_finding
from promptreach.report.text import print_finding


def norm() -> Certificate:
    return spectral_upper(torch.tensor([[3.0, 4.0], [0.0, 1.0]], dtype=torch.float64))


def floor() -> Certificate:
    draw = torch.Generator().manual_seed(0)
    mean, targets = (torch.randn(4, 3, generator=draw, dtype=torch.float64) for _ in range(2))
    query = torch.ones(3, dtype=torch.float64)
    return memorisable_statistics(query, torch.zeros(4, dtype=torch.float64), mean, targets, scale=1.0).floor


def table() -> Certificate:
    certificate = build_backbone(1, 1, 1.0, 0.4).prompt_for(lambda x: x).certificate
    assert certificate is not None
    return certificate


def halved(certificate: Certificate) -> Certificate:
    """The same claim with a number that it cannot keep."""
    factor = 0.5 if certificate.side is Side.UPPER else 2.0
    return replace(certificate, value=certificate.value * factor)


def emptied(certificate: Certificate) -> Certificate:
    """A witness that breaks its checker."""
    return replace(certificate, witness=dict.fromkeys(certificate.witness))


def found(*certificates: Certificate) -> Finding:
    return Finding(
        check="c",
        title="A bound",
        evidence=Evidence.PROVED,
        summary="It is PROVED to be 5.1.",
        values={"bound": 5.1},
        blocks=[Text(text="5.1, PROVED")],
        certificates=list(certificates),
    )


def printed(finding: Finding) -> str:
    out = io.StringIO()
    print_finding(finding, Console(file=out, width=500))
    return out.getvalue()


@pytest.mark.parametrize("make", [norm, floor])
def test_what_is_quick_is_re_checked_when_a_finding_is_finished(make: Callable[[], Certificate]) -> None:
    made = replace(make())  # as if nothing had been asked
    (certificate,) = finished(found(made)).certificates
    assert made.recheck_state is Recheck.OPEN
    assert certificate.recheck_state is Recheck.HELD
    assert (certificate.value, certificate.evidence) == (made.value, Evidence.PROVED)


def test_what_takes_long_is_left_and_the_report_says_that_it_can_be_re_checked(monkeypatch) -> None:
    unasked = replace(table())
    monkeypatch.setattr(Certificate, "is_quickly_rechecked", False)
    finding = finished(found(settled(unasked)))
    (certificate,) = finding.certificates
    assert certificate.recheck_state is Recheck.OPEN
    assert certificate.recheck()
    for text in (printed(finding), render_page("t", "", [finding], {})):
        assert "can be re-checked by another derivation" in text
    assert json.loads(render_finding(finding))["certificates"][0]["recheck"] == "can be re-checked"


@pytest.mark.parametrize("tamper", [halved, emptied])
@pytest.mark.parametrize("make", [norm, floor])
def test_a_certificate_that_fails_is_nowhere_proved(
    make: Callable[[], Certificate], tamper: Callable[[Certificate], Certificate]
) -> None:
    finding = finished(found(tamper(make()), max_norm(torch.eye(2, dtype=torch.float64))))
    assert (finding.status, finding.evidence) == ("failed", Evidence.UNKNOWN)
    assert "the re-check failed of “" in finding.reason
    assert (finding.values, finding.blocks) == ({}, [])
    bad, good = finding.certificates
    assert (bad.evidence, bad.recheck_state) == (Evidence.UNKNOWN, Recheck.FAILED)
    assert good.recheck_state is Recheck.HELD
    alone = finding.model_copy(update={"certificates": [bad]})
    for text in (printed(alone), render_page("t", "", [alone], {}).partition("<body>")[2], render_finding(alone)):
        assert "re-check failed" in text
        assert "PROVED" not in text
    assert "FAILED" in render_page("t", "", [alone], {})


def test_a_certificate_that_failed_before_fails_the_finding() -> None:
    assert finished(found(halved(table()).checked())).status == "failed"


def test_a_large_witness_is_not_kept_and_the_report_says_so() -> None:
    size = WITNESS_BYTES // 8
    small, large = (max_norm(torch.ones(1, count, dtype=torch.float64)) for count in (size, size + 1))
    kept, dropped = finished(found(small, large)).certificates
    assert kept.witness
    assert kept.recheck_state is Recheck.HELD
    assert (dropped.witness, dropped.recheck_state) == ({}, Recheck.IMPOSSIBLE)
    page = render_page("t", "", [finished(found(large))], {})
    assert "cannot be re-checked: the witness is not kept: it has 65,544 bytes" in page


def test_what_was_re_checked_before_its_witness_went_stays_so() -> None:
    certificate = settled(norm(), "it holds weights")
    assert (certificate.witness, certificate.recheck_state) == ({}, Recheck.HELD)
    said = "re-checked by another derivation, in code of its own; the witness is not kept: it holds weights"
    assert said in printed(found(certificate))
    assert finished(found(certificate)).status == "done"


def test_a_certificate_without_a_second_path_says_so() -> None:
    certificate = Certificate("value is 1", 1.0, Side.EXACT, Evidence.PROVED)
    assert "1 PROVED, cannot be re-checked: there is no second path for it" in printed(finished(found(certificate)))


def test_how_independent_a_second_path_is_stands_on_the_page_and_in_json() -> None:
    finding = finished(found(norm(), max_norm(torch.eye(2, dtype=torch.float64)), floor()))
    page = render_page("t", "", [finding], {})
    for words in ("another derivation, in code", "the same formula in other", "shares code with the first"):
        assert f"re-checked by {words}" in page or f"re-checked by a second path that {words}" in page
    record = json.loads(render_finding(finding))
    assert [item["independence"] for item in record["certificates"]] == ["full", "arithmetic", "shared"]


def test_a_claim_says_what_it_is_about() -> None:
    certificate = norm().about("Layer 3")
    assert certificate.claim == f"Layer 3: {norm().claim}"
    assert certificate.recheck()


# Through JSON


def test_a_finding_reads_its_certificates_back() -> None:
    finding = finished(found(norm(), settled(floor(), "it is long")))
    record = json.loads(render_finding(finding))
    del record["schema_version"]
    again = Finding.model_validate(record)
    assert again == finding
    assert again.certificates[0].recheck()
    assert [item.recheck_state for item in again.certificates] == [Recheck.HELD, Recheck.HELD]
    assert again.certificates[1].witness_left_out == "it is long"


def test_records_of_before_have_no_state_and_are_read() -> None:
    record = norm().to_dict()
    for newer in ("recheck", "independence", "witness_left_out"):
        del record[newer]
    (certificate,) = Finding.model_validate({**found().model_dump(), "certificates": [record]}).certificates
    assert certificate.recheck_state is Recheck.OPEN
    assert certificate == norm()


@pytest.mark.parametrize(
    "damage",
    [
        {"version": 99},
        {"side": "SIDEWAYS"},
        {"assumptions": [{"no": 1}]},
        {"recheck": "re-check failed"},
        {"value": {}},
    ],
)
def test_a_damaged_certificate_is_refused_by_its_place(damage: dict[str, object]) -> None:
    record = {**found().model_dump(), "certificates": [norm().to_dict() | damage]}
    with pytest.raises(ValidationError) as refused:
        Finding.model_validate(record)
    assert refused.value.errors()[0]["loc"] == ("certificates", 0)
