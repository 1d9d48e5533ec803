"""The choices that a user may make of an audit's work; what is left open follows the budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any

from promptreach.errors import Fault, InputError, raise_if_any
from promptreach.training.arguments import (
    MIN_CONTENT,
    least_faults,
    name_faults,
    rate_faults,
    repeat_faults,
    size_faults,
)

TRAINABLE = ("prompt", "prefix", "lora", "lora_all", "unipelt", "full")
"""The methods that may be chosen; the head alone, or the bare model, is always the control."""
WIDE = "lora_all"
"""LoRA on all linear layers, beside the usual one: the stronger of the two is the rival."""
ALL_LINEAR = ("all-linear",)
"""The targets of `WIDE`."""


def method_of(choice: str) -> str:
    """The tuning method of a choice: two choices are LoRA, on other layers."""
    return "lora" if choice == WIDE else choice


Rates = Mapping[str, tuple[float, ...]]
_USUAL = (("seeds", 1), ("accumulate", 1))
"""What is not shown, since it is so without a choice."""


@dataclass(frozen=True)
class Choices:
    """The choices of one audit; None, or nothing, where the budget decides.

    Attributes:
        methods: of `TRAINABLE`, in the order to train them.
        tokens: lengths of the prompts, ascending; prefixes get the middle one.
        rank: of the LoRA update.
        lora_targets: ends of the paths of the projections that LoRA adapts, or ``all-linear``.
        steps, batch_size: of a full training run.
        max_length: tokens of an example that are read.
        seeds: how many seeds the winners are trained with.
        learning_rates: by method, absolute; a single one is taken as it is.
        accumulate: slices that a step's rows are cut into, whose gradients are added up; it decides no number.
    """

    methods: tuple[str, ...] | None = None
    tokens: tuple[int, ...] | None = None
    rank: int | None = None
    lora_targets: tuple[str, ...] | None = None
    steps: int | None = None
    batch_size: int | None = None
    max_length: int | None = None
    seeds: int = 1
    learning_rates: Rates = field(default_factory=dict)
    accumulate: int = 1

    @property
    def given(self) -> dict[str, object]:
        """The choices that were made, by the name of the argument, as the call shows them."""
        shown = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in shown.items() if value and (name, value) not in _USUAL}


def choices_of(
    *,
    methods: Any = None,
    tokens: Any = None,
    rank: int | None = None,
    lora_targets: Any = None,
    steps: int | None = None,
    batch_size: int | None = None,
    max_length: int | None = None,
    seeds: int = 1,
    learning_rates: Any = None,
    accumulate: int = 1,
) -> Choices:
    """The choices as one record; a lone name or number stands for a sequence of one.

    Args:
        methods, tokens, rank, lora_targets, steps, batch_size, max_length, seeds, accumulate: as in `Choices`.
        learning_rates: numbers for every method, or a mapping from a method to its own.

    Raises:
        InputError: listing every fault of them.
    """
    methods, tokens, lora_targets = _listed(methods), _listed(tokens), _listed(lora_targets)
    counts = {"rank": rank, "steps": steps, "batch_size": batch_size, "seeds": seeds, "max_length": max_length}
    counts["accumulate"] = accumulate
    faults = [
        Fault(name, repr(value), "a whole number")
        for name, value in counts.items()
        if value is not None and not _is_number(value, Integral)
    ]
    if not faults:
        least = {name: value for name, value in counts.items() if name != "max_length"}
        faults += least_faults(least) + least_faults({"max_length": max_length}, MIN_CONTENT)
    if methods is not None:
        faults += name_faults("methods", methods, TRAINABLE) + repeat_faults("methods", methods)
    if tokens is not None:
        faults += size_faults("tokens", tokens) + repeat_faults("tokens", tokens)
    named = lora_targets is None or (lora_targets and all(isinstance(name, str) and name for name in lora_targets))
    if not named:
        faults.append(Fault("lora_targets", repr(lora_targets), "names such as ('q_proj', 'v_proj'), or 'all-linear'"))
    rates, rate_errors = _rates(learning_rates, methods)
    raise_if_any(faults + rate_errors, InputError)
    return Choices(
        methods=None if methods is None else tuple(methods),
        tokens=None if tokens is None else tuple(sorted(tokens)),
        rank=rank,
        lora_targets=None if lora_targets is None else tuple(lora_targets),
        steps=steps,
        batch_size=batch_size,
        max_length=max_length,
        seeds=seeds,
        learning_rates=rates,
        accumulate=accumulate,
    )


def _rates(given: Any, methods: Any) -> tuple[dict[str, tuple[float, ...]], list[Fault]]:
    """The learning rates by method, and their faults."""
    if given is None:
        return {}, []
    trained = tuple(methods) if isinstance(methods, list | tuple) and methods else TRAINABLE
    by_method = given if isinstance(given, Mapping) else dict.fromkeys(trained, given)
    faults, rates = [], {}
    for method, value in by_method.items():
        where = f"learning_rates, {method}" if isinstance(given, Mapping) else "learning_rates"
        if method not in TRAINABLE:
            faults.append(Fault(where, repr(method), f"one of {', '.join(TRAINABLE)}"))
        numbers = _listed(value)
        if not isinstance(numbers, list | tuple) or not numbers or not all(_is_number(one, Real) for one in numbers):
            faults.append(Fault(where, repr(value), "numbers such as (0.001, 0.003)"))
            continue
        faults += [fault for one in numbers for fault in rate_faults(where, float(one))]
        rates[str(method)] = tuple(sorted({float(one) for one in numbers}))
    return rates, list(dict.fromkeys(faults))


def _listed(given: Any) -> Any:
    """A lone name or number as a sequence of one."""
    return (given,) if isinstance(given, str) or _is_number(given, Real) else given


def _is_number(given: object, kind: Any) -> bool:
    return isinstance(given, kind) and not isinstance(given, bool)


def shown_choice(value: object) -> str:
    """A choice as the command line takes it."""
    if isinstance(value, Mapping):
        return ",".join(f"{method}={rate:g}" for method, rates in value.items() for rate in rates)
    return ",".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
