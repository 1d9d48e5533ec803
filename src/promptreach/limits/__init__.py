"""Limits of prompts: exact oracles, bounds and data that no prompt fits, each with a certificate."""

from promptreach.limits.counting.lengths import PromptLength, prompt_length
from promptreach.limits.counting.separation import RankOneSeparation, nearly_one_slot, rank_one_separation
from promptreach.limits.counting.slots_needed import slots_needed
from promptreach.limits.counting.soft_floors import soft_token_floor
from promptreach.limits.counting.token_floors import token_floor, token_floors
from promptreach.limits.counting.tokens import (
    ComparisonRow,
    LowRankFit,
    TokenBound,
    compare_with_lora,
    low_rank_fit,
    token_lower_bound,
    tokens_needed,
)
from promptreach.limits.layers.invert import Inverse, injective_consequence, invert
from promptreach.limits.layers.lipschitz import LayerBound, lipschitz
from promptreach.limits.layers.local_bounds import local_attention_bound
from promptreach.limits.layers.prompt_updates import PromptUpdate, prompt_to_update, update_errors
from promptreach.limits.oracle.memorisable import Memorisation, QueryGroup, memorisable, memorisable_statistics
from promptreach.limits.oracle.pairs import NotCertifiedError, UnmemorisablePair, unmemorisable_pair

__all__ = [
    "ComparisonRow",
    "Inverse",
    "LayerBound",
    "LowRankFit",
    "Memorisation",
    "NotCertifiedError",
    "PromptLength",
    "PromptUpdate",
    "QueryGroup",
    "RankOneSeparation",
    "TokenBound",
    "UnmemorisablePair",
    "compare_with_lora",
    "injective_consequence",
    "invert",
    "lipschitz",
    "local_attention_bound",
    "low_rank_fit",
    "memorisable",
    "memorisable_statistics",
    "nearly_one_slot",
    "prompt_length",
    "prompt_to_update",
    "rank_one_separation",
    "slots_needed",
    "soft_token_floor",
    "token_floor",
    "token_floors",
    "token_lower_bound",
    "tokens_needed",
    "unmemorisable_pair",
    "update_errors",
]
