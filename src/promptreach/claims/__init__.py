"""Every claim of the two papers as an experiment that runs."""

from promptreach.claims.claim import Claim, ClaimResult, ClaimVerdict
from promptreach.claims.run import CLAIMS, as_finding, read_claim, run_claim, run_claims, write_claim

__all__ = [
    "CLAIMS",
    "Claim",
    "ClaimResult",
    "ClaimVerdict",
    "as_finding",
    "read_claim",
    "run_claim",
    "run_claims",
    "write_claim",
]
