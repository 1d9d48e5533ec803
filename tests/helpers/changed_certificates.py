"""Certificates changed in one place: every field, and every number, tensor, list and truth value of the witness."""

import dataclasses
import math

import torch

from promptreach.certificate import Assumption, Evidence, Side


def changed_fields(certificate):
    """(what, certificate) with one field changed that the witness decides."""
    side = {Side.LOWER: Side.UPPER, Side.UPPER: Side.EXACT, Side.EXACT: Side.LOWER}[certificate.side]
    measured = certificate.evidence is Evidence.PROVED
    kind = {"evidence": Evidence.MEASURED, "sample": "all"} if measured else {"evidence": Evidence.PROVED, "sample": ""}
    less = certificate.assumptions[1:] if certificate.assumptions else (Assumption("none", True),)
    for what, fields in {
        "claim": {"claim": certificate.claim + " twice"},
        "other numbers": {"claim": "".join(str(9 - int(c)) if c.isdigit() else c for c in certificate.claim)},
        "side": {"side": side},
        "evidence": kind,
        "assumptions": {"assumptions": less},
        "theorem": {"theorem": certificate.theorem + "-2"},
    }.items():
        if what != "other numbers" or fields["claim"] != certificate.claim:
            yield what, dataclasses.replace(certificate, **fields)


def changed_witnesses(certificate):
    """(where, certificate) with one leaf of the witness changed, in either direction."""
    for where, witness in _variants(certificate.witness):
        yield where, dataclasses.replace(certificate, witness=witness)


def _variants(value):
    if isinstance(value, dict):
        for name in value:
            for where, part in _variants(value[name]):
                yield f"{name}.{where}", {**value, name: part}
            yield f"{name} missing", {key: item for key, item in value.items() if key != name}
    elif isinstance(value, list):
        for index, item in enumerate(value):
            for where, part in _variants(item):
                yield f"{index}.{where}", [*value[:index], part, *value[index + 1 :]]
        if value:
            yield "twice", [*value, value[-1]]
            yield "short", value[:-1]
    elif isinstance(value, torch.Tensor):
        for where, factor in (("up", 1.25), ("down", 0.8), ("nan", math.nan), ("inf", math.inf)):
            changed = value.clone()
            changed.view(-1)[0] = changed.view(-1)[0] * factor + (0.1 if where == "up" else -0.1)
            yield where, changed
        yield "short", value[:-1]
        yield "negative", -value
        yield "single", value.float()
        yield "text", "tensor"
    elif isinstance(value, bool):
        yield "flipped", not value
        yield "number", int(value)
    elif isinstance(value, int | float):
        for where, other in {
            "up": value + 1,
            "down": value - 1,
            "negative": -7,
            "inf": math.inf,
            "low": -math.inf,
        }.items():
            yield where, other
        yield "nan", math.nan
        yield "text", str(value)
        yield "huge", 10**300
    elif isinstance(value, str):
        yield "longer", value + "0"
        yield "other", "nan"
    else:
        yield "a number", 1.0
        yield "a tensor", torch.ones(2, 2, dtype=torch.float64)
