"""The public names for running prompts fast: attention with a stated error, precomputed prompts, shorter prefixes."""

from promptreach.compression.shrink import Shrunk, shrink
from promptreach.fast_attention.attend import attend
from promptreach.fast_attention.norm_criterion import NormCriterion, norm_criterion
from promptreach.fast_attention.norm_report import NormReport, norm_report
from promptreach.fast_attention.report import AttentionReport, ToleranceNotReachedError
from promptreach.hf.running.cache import PromptCache, precompute

__all__ = [
    "AttentionReport",
    "NormCriterion",
    "NormReport",
    "PromptCache",
    "Shrunk",
    "ToleranceNotReachedError",
    "attend",
    "norm_criterion",
    "norm_report",
    "precompute",
    "shrink",
]
