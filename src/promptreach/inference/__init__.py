"""Running prompts fast: almost-linear attention with a stated error, precomputed prompts, shorter prefixes."""

from promptreach.inference.attend import attend
from promptreach.inference.norm_report import NormReport, norm_report
from promptreach.inference.precompute import SharedPrompt, precompute
from promptreach.inference.report import AttentionReport, ToleranceNotReachedError
from promptreach.inference.shrink import Shrunk, shrink

__all__ = [
    "AttentionReport",
    "NormReport",
    "SharedPrompt",
    "Shrunk",
    "ToleranceNotReachedError",
    "attend",
    "norm_report",
    "precompute",
    "shrink",
]
