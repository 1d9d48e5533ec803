"""What no prompt can do: exact oracles, bounds and data that no prompt fits, each with a certificate."""

from promptreach.limits.invert import Inverse, injective_consequence, invert
from promptreach.limits.lengths import PromptLength, prompt_length
from promptreach.limits.lipschitz import LayerBound, lipschitz
from promptreach.limits.memorisable import Memorisation, QueryGroup, memorisable, memorisable_statistics
from promptreach.limits.pairs import NotCertifiedError, UnmemorisablePair, unmemorisable_pair
from promptreach.limits.tokens import (
    ComparisonRow,
    LowRankFit,
    TokenBound,
    compare_with_lora,
    low_rank_fit,
    token_lower_bound,
    tokens_needed,
)

__all__ = [
    "ComparisonRow",
    "Inverse",
    "LayerBound",
    "LowRankFit",
    "Memorisation",
    "NotCertifiedError",
    "PromptLength",
    "QueryGroup",
    "TokenBound",
    "UnmemorisablePair",
    "compare_with_lora",
    "injective_consequence",
    "invert",
    "lipschitz",
    "low_rank_fit",
    "memorisable",
    "memorisable_statistics",
    "prompt_length",
    "token_lower_bound",
    "tokens_needed",
    "unmemorisable_pair",
]
