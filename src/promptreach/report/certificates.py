"""Certificates on their way into a report: re-checked where that is quick, and kept with or without their witness.

A report says of each certificate whether a second code path was run on it. So whoever makes a finding hands it to
`finished`, which runs those that are quick. A certificate that fails takes the whole finding with it: what was computed
beside a number that is wrong is not shown.
"""

from promptreach.certificate import Certificate, Evidence, Recheck
from promptreach.report.findings import Finding

WITNESS_BYTES = 65_536
"""A larger witness is not kept in a report; its JSON would take more than twice that."""


def settled(certificate: Certificate, leave_out: str = "") -> Certificate:
    """`certificate` as a report keeps it: re-checked where that is quick, and without a witness that is too large.

    Args:
        leave_out: why the witness is not kept whatever its size; empty where its size decides.
    """
    certificate = certificate.confirmed()
    if certificate.witness_bytes > WITNESS_BYTES and not leave_out:
        leave_out = f"it has {certificate.witness_bytes:,} bytes, more than {WITNESS_BYTES:,}"
    return certificate.without_witness(leave_out) if leave_out and certificate.witness else certificate


def finished(finding: Finding) -> Finding:
    """`finding` with settled certificates; failed, without its numbers, where one of them does not hold."""
    certificates = [settled(certificate) for certificate in finding.certificates]
    refuted = [item for item in certificates if item.recheck_state is Recheck.FAILED]
    if not refuted:
        return finding.model_copy(update={"certificates": certificates})
    return finding.model_copy(
        update={
            "status": "failed",
            "evidence": Evidence.UNKNOWN,
            "summary": "A second code path did not confirm what stands behind this finding, so no number of it is "
            "shown.",
            "reason": "; ".join(f"the re-check failed of “{item.claim}”: {item.reason}" for item in refuted),
            "values": {},
            "blocks": [],
            "certificates": certificates,
        }
    )
