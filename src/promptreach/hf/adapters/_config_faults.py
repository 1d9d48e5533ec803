"""The kinds of the settings in an adapter's config, judged before anything is computed with them.

Only kinds and signs: what a setting means, and whether it fits the model, is judged by the readers of each adapter.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from promptreach.errors import Fault


def _is_count(value: Any) -> bool:
    return type(value) is int and 1 <= value < 2**31


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _maps_to(kind: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(_is_text(key) and kind(item) for key, item in value.items())


_COUNT = (_is_count, "a whole number of at least 1")
_SWITCH = (lambda value: isinstance(value, bool), "true or false")
_TEXT = (_is_text, "a text")
_KINDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("num_virtual_tokens", "num_layers", "num_attention_heads", "token_dim", "r"), _COUNT),
    **dict.fromkeys(("num_transformer_submodules", "encoder_hidden_size"), _COUNT),
    **dict.fromkeys(("use_rslora", "use_dora", "fan_in_fan_out", "inference_mode"), _SWITCH),
    **dict.fromkeys(("peft_type", "base_model_name_or_path", "revision", "task_type"), _TEXT),
    "lora_alpha": (_is_number, "a number"),
    "rank_pattern": (_maps_to(_is_count), "whole numbers of at least 1 by module"),
    "alpha_pattern": (_maps_to(_is_number), "numbers by module"),
}
"""Fields by name, with what they hold where they are given; null leaves a field to its default."""
_OTHERWISE = ("r", "rank_pattern")
"""Fields of LoRA that mean something else elsewhere: OFT has r 0 beside a block's size, AdaLoRA lists of switches."""


def config_faults(config: Mapping[str, Any], where: str) -> list[Fault]:
    """The settings of a kind that they cannot have, one fault each.

    Args:
        config: a JSON object.
        where: its file, for messages.
    """
    passed = () if config.get("peft_type", "LORA") == "LORA" else _OTHERWISE
    return [
        Fault(where, f"{name} {repr(config[name])[:60]}", expected)
        for name, (fits, expected) in _KINDS.items()
        if name not in passed and config.get(name) is not None and not fits(config[name])
    ]
