"""The options of ``promptreach audit`` that are more than one word: lists, and all of them from a YAML file."""

from collections import Counter
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, no_type_check

import typer

from promptreach.cli._command import exit_status
from promptreach.errors import Fault, InputError, raise_if_any
from promptreach.formats import read_text
from promptreach.training.arguments import repeat_faults

Number = TypeVar("Number", int, float)
Rates = tuple[float, ...] | dict[str, tuple[float, ...]]


def listed(given: Sequence[str] | None) -> tuple[str, ...] | None:
    """The words of an option that may be given several times, or once with commas; None where it was not given."""
    words = [word for one in given or () for word in one.replace(",", " ").split()]
    return tuple(words) if given else None


def whole_numbers(option: str, given: Sequence[str] | None) -> tuple[int, ...] | None:
    """Such an option's words as whole numbers.

    Raises:
        InputError: naming each that is none.
    """
    words = listed(given)
    return None if words is None else _numbers(option, words, int, "whole numbers such as 4,16")


def rates(option: str, given: Sequence[str] | None) -> Rates | None:
    """Learning rates for every method, such as ``1e-3,3e-3``, or of single ones, such as ``prompt=0.3,lora=1e-3``.

    Raises:
        InputError: naming each word that is neither, or all where some are for every method and some are not.
    """
    words, expected = listed(given), "numbers such as 1e-3,3e-3, or one method's such as lora=1e-3"
    if words is None:
        return None
    if not any("=" in word for word in words):
        return _numbers(option, words, float, expected)
    if not all("=" in word for word in words):
        raise InputError(Fault(option, repr(",".join(words)), "rates for every method, or each with its method"))
    pairs = [word.partition("=") for word in words]
    found = _numbers(option, [number for _, _, number in pairs], float, expected)
    by_method: dict[str, tuple[float, ...]] = {}
    for (method, _, _), rate in zip(pairs, found, strict=True):
        by_method[method] = (*by_method.get(method, ()), rate)
    return by_method


def class_weights(option: str, given: str | None) -> str | dict[str, float] | None:
    """``balanced``, or the weights of classes by name, such as ``neg=1,pos=5``; None where it was not given.

    Raises:
        InputError: naming each word that is neither.
    """
    if given is None or given.strip() == "balanced":
        return given and given.strip()
    pairs = [word.strip().rpartition("=") for word in given.split(",")]
    raise_if_any(repeat_faults(option, [name for name, _, _ in pairs]))
    found = _numbers(option, [number for _, _, number in pairs], float, "balanced, or weights such as neg=1,pos=5")
    return {name: weight for (name, _, _), weight in zip(pairs, found, strict=True)}


def _numbers(option: str, words: Sequence[str], kind: Callable[[str], Number], expected: str) -> tuple[Number, ...]:
    found, faults = [], []
    for word in words:
        try:
            found.append(kind(word))
        except ValueError:
            faults.append(Fault(option, repr(word), expected))
    if faults:
        raise InputError(faults)
    return tuple(found)


@no_type_check  # typer hands over a context of its own that is none of `typer.Context`
def from_file(context: typer.Context, file: Path | None) -> Path | None:
    """The callback of ``--config``: what the file says is the default of what the command line does not say."""
    if file is not None and not context.resilient_parsing:
        with exit_status():
            context.default_map = {**(context.default_map or {}), **read_config(file)}
    return file


def read_config(file: Path) -> dict[str, Any]:
    """The options in a YAML file, by their names with underscores, in the form that the command line has them in.

    Raises:
        InputError: listing every unknown key and every value that does not fit, or saying what keeps the file from
            being read.
    """
    import yaml

    text = read_text(file.expanduser(), kind="YAML")
    try:
        # A few lines of aliases to aliases would unfold to gigabytes as soon as anything shows or copies them.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise InputError(Fault(str(file), "an alias (*name)", "every value written out where it belongs"))
        found, repeated = yaml.safe_load(text), _repeated(yaml.compose(text, yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(Fault(str(file), f"no YAML ({reason})", "a YAML file of options")) from None
    if found is None:
        return {}
    if repeated:
        raise InputError([Fault(str(file), f"{key!r} twice", "each key once") for key in repeated])
    if not isinstance(found, dict):
        expected = "keys and values such as 'budget: quick'"
        raise InputError(Fault(str(file), f"a {type(found).__name__}", expected))
    return _checked(file, {str(key).replace("-", "_"): value for key, value in found.items()})


def _repeated(node: Any) -> list[str]:
    """The keys that stand twice in one mapping of a YAML document, of which YAML itself keeps the last."""
    if getattr(node, "id", "") != "mapping":
        return []
    keys = [str(key.value).replace("-", "_") for key, _ in node.value]
    within = [key for _, value in node.value for key in _repeated(value)]
    return [key for key, count in Counter(keys).items() if count > 1] + within


def _checked(file: Path, found: dict[str, Any]) -> dict[str, Any]:
    from pydantic import ValidationError

    from promptreach.cli.audit_config import AuditConfig

    try:
        config = AuditConfig.model_validate(found)
    except ValidationError as error:
        faults: dict[str, Fault] = {}
        for one in error.errors():
            key = str(one["loc"][0])
            if key in faults:
                continue  # of a choice between types, the first says it
            if one["type"] == "extra_forbidden":
                near = get_close_matches(key, AuditConfig.model_fields, 1)
                remedy = f"Did you mean {near[0]!r}?" if near else "See promptreach audit --help for the options."
                faults[key] = Fault(str(file), f"the unknown key {key!r}", "an option of audit", remedy)
            else:
                expected = one["msg"].removeprefix("Input should be ")
                faults[key] = Fault(f"{file}, {key}", repr(found[key])[:80], expected)
        raise InputError(list(faults.values())) from None
    return {name: _words(value) for name, value in config if name in config.model_fields_set and value is not None}


def _words(value: Any) -> Any:
    """A value as the command line would have it: lists of words."""
    if isinstance(value, dict):
        return [
            f"{key}={one}" for key, given in value.items() for one in (given if isinstance(given, list) else [given])
        ]
    return [str(one) for one in value] if isinstance(value, list) else value
