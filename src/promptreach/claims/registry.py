"""The claims, one file each, in the papers' order. A new claim is one file and one line here."""

from promptreach.claims import (
    hardness,
    injective_stacks,
    linear_time,
    parameter_counts,
    phase_transition,
    prompt_lengths,
    rivals,
    saturation,
    single_layer,
    universality,
    unmemorisable,
)

CLAIMS = (
    universality.CLAIM,
    unmemorisable.CLAIM,
    parameter_counts.CLAIM,
    injective_stacks.CLAIM,
    saturation.CLAIM,
    single_layer.CLAIM,
    prompt_lengths.CLAIM,
    phase_transition.CLAIM,
    hardness.CLAIM,
    linear_time.CLAIM,
    rivals.CLAIM,
)
"""Every claim, in the papers' order; `promptreach claims` lists them."""
