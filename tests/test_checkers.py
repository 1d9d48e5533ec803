"""Checkers: what is compared before one is run, what is never run, and which names lead to one."""

import ast
import dataclasses
import math
from pathlib import Path

import pytest
import torch

from helpers.tampering import damaged, said_otherwise
from promptreach import checkers
from promptreach.certificate import Certificate, Evidence, Independence, Recheck, Side, Statement, rechecks
from promptreach.norms import frobenius, max_norm, product_upper, spectral_lower, spectral_upper
from promptreach.witness import whole

MATRIX = torch.tensor([[3.0, 1.0], [0.5, -2.0], [1.0, 1.0]], dtype=torch.float64)
MADE = {
    "max_norm": max_norm(MATRIX),
    "frobenius": frobenius(MATRIX),
    "spectral_upper": spectral_upper(MATRIX),
    "spectral_lower": spectral_lower(MATRIX),
    "product_upper": product_upper(MATRIX, MATRIX.mT),
}


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_what_is_said_otherwise_is_refused(made: Certificate) -> None:
    assert made.recheck()
    assert [name for name, changed in said_otherwise(made) if changed.recheck()] == []


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_a_damaged_witness_is_refused_and_breaks_nothing(made: Certificate) -> None:
    assert [name for name, changed in damaged(made) if changed.recheck()] == []


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_what_was_changed_is_no_longer_proved(made: Certificate) -> None:
    changed = dataclasses.replace(made, claim=made.claim + " and more").checked()
    assert (changed.evidence, changed.recheck_state) == (Evidence.UNKNOWN, Recheck.FAILED)
    assert "claim" in changed.reason


def test_a_subject_in_front_is_no_part_of_what_is_compared() -> None:
    named = MADE["frobenius"].about("Head 1").about("Layer 3")
    assert named.claim.startswith("Layer 3: Head 1: the Frobenius norm")
    assert named.recheck()
    assert Certificate.from_dict(named.to_dict()).recheck()
    assert not dataclasses.replace(named, subject="").recheck()


# --- with a kind of its own


def count(witness) -> Statement:
    return Statement(f"value is at least {whole(witness, 'count')}", Side.EXACT)


def probed(monkeypatch, answer, **mark) -> Certificate:
    import promptreach.norms

    def probe(certificate: Certificate) -> bool:
        return answer(certificate)

    probe.__module__ = "promptreach.norms"
    marked = rechecks(Independence.FULL, states=count, **mark)(probe)
    monkeypatch.setattr(promptreach.norms, "probe", marked, raising=False)
    return Certificate.stated(marked, 3.0, {"count": 2})


def test_a_statement_is_made_from_the_witness(monkeypatch) -> None:
    made = probed(monkeypatch, lambda certificate: True)
    assert (made.claim, made.checker) == ("value is at least 2", "norms:probe")
    assert made.recheck()
    assert not dataclasses.replace(made, witness={"count": 3}).recheck()
    assert dataclasses.replace(made, witness={"count": 3}, claim="value is at least 3").recheck()


@pytest.mark.parametrize("answer", [1, "yes", None])
def test_only_true_is_true(monkeypatch, answer) -> None:
    assert not probed(monkeypatch, lambda certificate: answer).recheck()


def test_a_path_that_breaks_or_recurses_without_end_answers_no(monkeypatch) -> None:
    def endless(certificate):
        return endless(certificate)

    assert not probed(monkeypatch, endless).recheck()


def test_a_witness_that_is_too_large_is_not_looked_at(monkeypatch) -> None:
    made = probed(monkeypatch, lambda certificate: True, most=7)
    assert not made.recheck()
    assert made.recheck_state is Recheck.IMPOSSIBLE
    assert "size 8," in made.no_recheck


def test_an_older_witness_that_lacks_something_cannot_be_re_checked(monkeypatch) -> None:
    older = dataclasses.replace(probed(monkeypatch, lambda certificate: True), witness={"number": 2})
    assert not older.recheck()
    assert older.recheck_state is Recheck.IMPOSSIBLE
    assert "holds no 'count'" in older.no_recheck
    assert older.checked() is older


def test_a_witness_that_the_kind_does_not_accept_makes_no_certificate(monkeypatch) -> None:
    marked = checkers.find(probed(monkeypatch, lambda certificate: True).checker)
    for count in (0, -1, 1.0, True, math.nan):
        with pytest.raises(ValueError, match="a whole number"):
            Certificate.stated(marked, 1.0, {"count": count})


def test_every_checker_states_what_its_certificates_say() -> None:
    """Without that a changed claim would pass."""
    silent = []
    for path in Path(checkers.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            marks = node.decorator_list if isinstance(node, ast.FunctionDef) else ()
            for mark in marks:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "rechecks":
                    silent += [node.name] * ("states" not in {key.arg for key in mark.keywords})
    assert silent == []
