"""Certificates that somebody changed: what they say, and what stands in their witness."""

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from promptreach.certificate import Assumption, Certificate, Evidence, Side

OTHER = Assumption("the moon is full", checked=True)


def said_otherwise(certificate: Certificate) -> Iterator[tuple[str, Certificate]]:
    """Every way to change what a certificate says beside its number; none may pass."""
    said: dict[str, list[Any]] = {
        "claim": [certificate.claim + " ", f"Always: {certificate.claim}", *other_numbers(certificate.claim)],
        "side": [side for side in Side if side is not certificate.side],
        "evidence": [kind for kind in Evidence if kind is not certificate.evidence],
        "assumptions": [(*certificate.assumptions, OTHER), certificate.assumptions[1:], (OTHER,)],
        "theorem": ["", "max-norm" if certificate.theorem != "max-norm" else "stored-bits"],
        "sample": ["all there are"],
        "confidence": [0.99],
        "reason": ["so it is"],
        "subject": ["Layer 3"],
    }
    for name, others in said.items():
        for other in others:
            # An evidence that needs a sample or a reason gets one: it must not be the constructor that refuses.
            needed = {"sample": "some", "reason": "out of time"} if name == "evidence" else {}
            if other != getattr(certificate, name):
                yield f"{name} {other!r}", dataclasses.replace(certificate, **{**needed, name: other})


def other_numbers(claim: str) -> list[str]:
    """The claim with one of its digits one higher: the last of each number in it."""
    places = [found.end() - 1 for found in re.finditer(r"\d+", claim)]
    return [f"{claim[:place]}{(int(claim[place]) + 1) % 10}{claim[place + 1 :]}" for place in places]


def damaged(certificate: Certificate) -> Iterator[tuple[str, Certificate]]:
    """Every leaf of the witness turned into nonsense of several kinds; none may pass, raise, or run on."""
    for path, leaf in leaves(certificate.witness):
        for nonsense in nonsense_for(leaf):
            name = f"{'.'.join(map(str, path))} = {nonsense!r:.60}"
            yield name, dataclasses.replace(certificate, witness=put(certificate.witness, path, nonsense))


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The innermost values of a witness with the keys that lead to them."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value[:2]):  # two of a kind do
            yield from leaves(item, (*path, index))
    else:
        yield path, value


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy of a witness with another value at one place."""
    if not path:
        return new
    if isinstance(value, dict):
        return {**value, path[0]: put(value[path[0]], path[1:], new)}
    return [put(item, path[1:], new) if index == path[0] else item for index, item in enumerate(value)]


def nonsense_for(leaf: Any) -> list[Any]:
    """Values that no witness may have where this one has `leaf`."""
    if isinstance(leaf, Tensor):
        if not leaf.numel():
            return ["x", 1.0, leaf.to(torch.complex64)]
        bad = leaf.double().clone(memory_format=torch.contiguous_format)
        bad.view(-1)[:1] = math.nan
        infinite = torch.full_like(leaf.double(), -math.inf)
        return [
            "x",
            1.0,
            bad,
            infinite,
            leaf[:0] if leaf.ndim else "x",
            leaf.flatten()[None, None],
            leaf.to(torch.complex64),
        ]
    if isinstance(leaf, bool):
        return [None, "x", math.nan, 7]
    if isinstance(leaf, int):
        return [None, "x", math.nan, -math.inf, math.inf, -leaf - 1, leaf + 0.5, 10**30, True, [leaf]]
    if isinstance(leaf, float):
        return [None, "x", math.nan, -math.inf, -abs(leaf) - 1, [leaf], torch.tensor(leaf)]
    return [7, "no such thing", [leaf]]
