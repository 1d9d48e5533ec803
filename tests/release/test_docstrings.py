"""Every public name says what it is, in words of its own."""

import ast
import importlib
import inspect
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import BaseModel

import promptreach

ROOMS = [
    "promptreach",
    *(f"promptreach.{name}" for name in promptreach._ROOMS),
    *("promptreach.report", "promptreach.claims", "promptreach.errors"),
]


def tree_of(module: ModuleType) -> ast.Module:
    return ast.parse(Path(inspect.getfile(module)).read_text(encoding="utf-8"))


def public_names(module: ModuleType) -> list[str]:
    """What a module offers: its `__all__`, or else what it makes and, by `X as X`, names again."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    body = tree_of(module).body
    again = [alias for node in body if isinstance(node, ast.ImportFrom) for alias in node.names]
    names = [alias.name for alias in again if alias.asname == alias.name]
    names += [node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    names += [target for node in body for target in targets_of(node)]
    return [name for name in names if not name.startswith("_")]


def targets_of(node: ast.stmt) -> list[str]:
    """The names that a statement assigns to."""
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [node.target.id] if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else []


def text_below(module: ModuleType, name: str) -> str:
    """The string below a constant, in the module where it is made."""
    body = tree_of(module).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if name in targets_of(node):
            is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            return str(after.value.value) if is_text else ""  # type: ignore[union-attr]
        if isinstance(node, ast.ImportFrom) and name in [alias.asname or alias.name for alias in node.names]:
            package = (module.__package__ or "") if node.level else None
            origin = importlib.import_module("." * node.level + (node.module or ""), package)
            return text_below(origin, next(a.name for a in node.names if (a.asname or a.name) == name))
    return ""


def own_text(module: ModuleType, name: str) -> str:
    """The docstring that was written for this name, not for a class above it, nor made up by a decorator."""
    thing = getattr(module, name)
    if isinstance(thing, ModuleType) or inspect.isroutine(thing):
        return (thing.__doc__ or "").strip()
    if not isinstance(thing, type):
        return text_below(module, name).strip()
    text = (vars(thing).get("__doc__") or "").strip()
    return "" if text.startswith(f"{thing.__name__}(") else text  # what dataclass writes


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_documented(room: str) -> None:
    module = importlib.import_module(room)
    names = public_names(module)
    assert names
    assert [name for name in names if len(own_text(module, name).split()) < 3] == []


def test_no_two_names_share_their_words() -> None:
    seen: dict[str, object] = {}
    for room in ROOMS:
        module = importlib.import_module(room)
        for name in public_names(module):
            thing, text = getattr(module, name), own_text(module, name)
            assert seen.setdefault(text, thing) is thing, f"{room}.{name}"


class Above(Exception):
    """A class with words of its own."""


class Silent(Above):
    pass


@dataclass
class SilentRecord:
    x: int


class SilentModel(BaseModel):
    x: int


class SilentEnum(Enum):
    x = 1


def silent() -> None:
    pass


SILENT = 1
SPOKEN = 2
"""It says something."""


@pytest.mark.parametrize("name", ["Silent", "SilentRecord", "SilentModel", "SilentEnum", "silent", "SILENT"])
def test_silence_is_seen(name: str) -> None:
    assert own_text(importlib.import_module(__name__), name) == ""


@pytest.mark.parametrize("name", ["Above", "SPOKEN", "own_text"])
def test_words_are_seen(name: str) -> None:
    assert own_text(importlib.import_module(__name__), name)
