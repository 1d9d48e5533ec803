"""Every claim of the two papers as an experiment that runs."""

from promptreach.claims.claim import Claim, ClaimResult, ClaimVerdict
from promptreach.claims.registry import CLAIMS
from promptreach.claims.run import as_finding, claim_named, missing_packages, read_claim, run_claim, write_claim

__all__ = [
    "CLAIMS",
    "Claim",
    "ClaimResult",
    "ClaimVerdict",
    "as_finding",
    "claim_named",
    "missing_packages",
    "read_claim",
    "run_claim",
    "write_claim",
]
