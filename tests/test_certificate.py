"""Certificates: what they refuse to say, how they travel through files, and whom `recheck` is willing to call."""

import dataclasses
import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from promptreach import checkers
from promptreach.certificate import (
    CERTIFICATE_VERSION,
    Assumption,
    Certificate,
    Evidence,
    Independence,
    Recheck,
    Side,
    rechecks,
)
from promptreach.errors import FormatError


def certificate(**changes) -> Certificate:
    fields = {"claim": "value is 1", "value": 1.0, "side": Side.EXACT, "evidence": Evidence.PROVED, **changes}
    return Certificate(**fields)


# --- what a certificate refuses to say


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"claim": ""}, "needs a claim"),
        ({"value": math.nan}, "value is NaN"),
        ({"assumptions": (Assumption("the moon is full", checked=False),)}, "only declared: .*moon"),
        ({"evidence": Evidence.MEASURED}, "MEASURED needs the sample"),
        ({"evidence": Evidence.PREDICTED}, "PREDICTED needs the sample"),
        ({"evidence": Evidence.UNKNOWN}, "UNKNOWN needs a reason"),
    ],
)
def test_empty_claims_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        certificate(**changes)


def test_full_claims_are_accepted():
    declared = (Assumption("the moon is full", checked=False),)
    certificate(assumptions=(Assumption("x > 0", checked=True),))
    certificate(evidence=Evidence.MEASURED, sample="3 rows", assumptions=declared)
    certificate(evidence=Evidence.UNKNOWN, reason="out of time", value=math.nan)
    assert certificate(value=math.inf).value == math.inf


# --- through a file and back


def same(one, other) -> bool:
    """Equality that tells NaN from nothing else, -0.0 from 0.0 and dtypes apart; lists stand for tuples."""
    if isinstance(one, torch.Tensor):
        return (
            isinstance(other, torch.Tensor)
            and (one.dtype, one.shape) == (other.dtype, other.shape)
            and same(one.tolist(), other.tolist())
        )
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return isinstance(other, float) and repr(one) == repr(other)
    return type(one) is type(other) and one == other


FLOATS = st.floats(allow_nan=True, allow_infinity=True)
TENSORS = st.one_of(
    st.lists(FLOATS, max_size=6).map(lambda x: torch.tensor(x, dtype=torch.float64)),
    st.lists(st.floats(width=32), min_size=4, max_size=4).map(lambda x: torch.tensor(x).reshape(2, 1, 2)),
    st.lists(st.integers(-(2**60), 2**60), max_size=3).map(lambda x: torch.tensor(x, dtype=torch.int64)),
    st.lists(st.booleans(), max_size=3).map(lambda x: torch.tensor(x, dtype=torch.bool)),
    st.just(torch.zeros(0, 3)),
    st.just(torch.tensor(2.5, dtype=torch.bfloat16)),
)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), FLOATS, st.text(max_size=5), TENSORS)
# Keys that look like the file format's own tags must survive too.
KEYS = st.one_of(st.sampled_from(["tensor", "float", "dict", "data"]), st.text(max_size=4))
WITNESSES = st.dictionaries(
    KEYS,
    st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)),
    max_size=3,
)


@settings(max_examples=200)
@given(WITNESSES, FLOATS, st.none() | st.floats(0, 1), st.text(min_size=1))
def test_json_restores_every_certificate_exactly(witness, value, confidence, claim):
    original = certificate(
        claim=claim,
        value=value,
        side=Side.LOWER,
        evidence=Evidence.UNKNOWN,
        assumptions=(Assumption("a", checked=True, detail="d"), Assumption("b", checked=False)),
        theorem="mixture-identity",
        witness=witness,
        checker="norms:recheck_max_norm",
        sample="s",
        confidence=confidence,
        reason="r",
    )
    text = json.dumps(original.to_dict(), allow_nan=False)  # strict JSON: NaN would stop another reader
    restored = Certificate.from_dict(json.loads(text))
    for name in ("claim", "value", "theorem", "checker", "sample", "confidence", "reason", "witness"):
        assert same(getattr(original, name), getattr(restored, name)), name
    assert (restored.side, restored.evidence, restored.assumptions) == (
        Side.LOWER,
        Evidence.UNKNOWN,
        original.assumptions,
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (0.0, -0.0),
        (math.nan, math.inf),
        (1, 1.0),
        (True, 1),
        (torch.zeros(2), torch.zeros(2, 1)),
        (torch.zeros(2), torch.zeros(2).double()),
        (torch.tensor([math.nan]), torch.tensor([0.0])),
        ({"a": 1}, {"b": 1}),
        ([1], [1, 1]),
    ],
)
def test_the_comparison_can_fail(one, other):
    assert same(one, one)
    assert not same(one, other)


def test_a_witness_that_no_file_can_hold_is_named():
    with pytest.raises(TypeError, match="cannot hold a object"):
        certificate(witness={"x": object()}).to_dict()


def test_unknown_versions_are_refused():
    record = certificate().to_dict()
    assert record["version"] == CERTIFICATE_VERSION
    with pytest.raises(ValueError, match="version 99"):
        Certificate.from_dict({**record, "version": 99})


def test_every_missing_field_is_named():
    record = certificate().to_dict()
    del record["side"], record["witness"]
    with pytest.raises(FormatError) as caught:
        Certificate.from_dict(record)
    assert [fault.seen for fault in caught.value.faults] == ["no 'side'", "no 'witness'"]


# --- whom recheck calls


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "subprocess:run",
        "builtins:eval",
        "norms:spectral_upper",  # inside, but not marked
        "certificate:torch",  # an import of an inside module
        "norms:no_such_function",
        "norms",
        "norms:",
        ":recheck_max_norm",
        "norms:recheck_max_norm.__globals__",
        "..os:system",
        ".os:system",
        "norms/../os:system",
    ],
)
def test_names_outside_the_package_and_unmarked_functions_are_refused(name):
    with pytest.raises((ValueError, ModuleNotFoundError)):
        certificate(checker=name).recheck()


def test_no_checker_is_no_recheck():
    assert certificate().recheck() is False


def test_marked_functions_are_called_with_the_certificate(monkeypatch):
    import promptreach.norms

    seen = []
    monkeypatch.setattr(
        promptreach.norms, "probe", rechecks(Independence.FULL)(lambda c: seen.append(c) or True), raising=False
    )
    asked = certificate(checker="norms:probe")
    assert asked.recheck() is True
    assert seen == [asked]


# --- whether it was re-checked, and by what


def with_checker(monkeypatch, answer, **mark) -> Certificate:
    import promptreach.norms

    def probe(certificate: Certificate) -> bool:
        if isinstance(answer, Exception):
            raise answer
        return answer

    marked = rechecks(mark.pop("independence", Independence.FULL), **mark)(probe)
    monkeypatch.setattr(promptreach.norms, "probe", marked, raising=False)
    return certificate(checker="norms:probe", witness={"x": 1})


def test_a_re_check_is_said_only_after_it_was_done(monkeypatch):
    made = with_checker(monkeypatch, True)
    assert made.recheck_state is Recheck.OPEN
    held = made.checked()
    assert (held.recheck_state, held.evidence) == (Recheck.HELD, Evidence.PROVED)
    assert dataclasses.replace(held, value=2.0).recheck_state is Recheck.OPEN  # another certificate


@pytest.mark.parametrize("answer", [False, KeyError("boxes")])
def test_what_fails_its_re_check_is_no_longer_proved(monkeypatch, answer):
    failed = with_checker(monkeypatch, answer).checked()
    assert (failed.recheck_state, failed.evidence) == (Recheck.FAILED, Evidence.UNKNOWN)
    assert "second code path" in failed.reason
    with pytest.raises(ValueError, match="cannot be PROVED"):
        Certificate.from_dict(failed.to_dict() | {"evidence": "PROVED"})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"checker": ""}, "no second path"),
        ({"checker": "norms:gone"}, "no checker 'norms:gone'"),
        ({"witness": {}}, "witness is not kept"),
    ],
)
def test_what_cannot_be_re_checked_says_why(monkeypatch, changes, why):
    made = dataclasses.replace(with_checker(monkeypatch, True), **changes)
    assert made.recheck_state is Recheck.IMPOSSIBLE
    assert why in made.no_recheck
    assert made.checked() is made


def test_a_path_that_needs_more_than_the_platform_has_refutes_nothing(monkeypatch):
    made = with_checker(monkeypatch, False, extended=True)
    monkeypatch.setattr(checkers, "HAS_EXTENDED", False)
    assert made.recheck_state is Recheck.IMPOSSIBLE
    assert made.checked().evidence is Evidence.PROVED


@pytest.mark.parametrize(("quick", "is_quick"), [(0, False), (7, False), (8, True)])
def test_a_checker_states_up_to_which_witness_it_is_quick(monkeypatch, quick, is_quick):
    assert with_checker(monkeypatch, True, quick=quick).is_quickly_rechecked is is_quick


@pytest.mark.parametrize("independence", Independence)
def test_a_checker_states_how_far_it_stands_from_the_first_path(monkeypatch, independence):
    assert with_checker(monkeypatch, True, independence=independence).independence is independence
    assert certificate().independence is None


def test_equal_certificates_have_equal_records():
    one, other = (certificate(witness={"x": torch.tensor([1.0, math.nan]), "y": (1, 2)}) for _ in range(2))
    assert one == other
    assert one != dataclasses.replace(one, value=2.0)
    assert one == Certificate.from_dict(one.to_dict())
