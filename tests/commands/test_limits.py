"""The layers of a model without data: bounds that keep their sides, and certificates that reach the finding."""

from dataclasses import replace

import pytest

from helpers.models import tiny_model
from promptreach.certificate import Evidence, Recheck
from promptreach.commands import limits
from promptreach.commands.limits import limits_of_model, lipschitz_finding
from promptreach.errors import InputError


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_steepness_found_is_never_above_steepness_certified(family: str) -> None:
    model = tiny_model(family)
    batch = model.batch(model.tokenize(["the cat sat on the mat", "a dog ran"]))
    values = lipschitz_finding(model, batch, 12, "two sentences").values
    for part in ("attention", "mlp"):
        pairs = zip(values[f"{part}_lower"], values[f"{part}_upper"], strict=True)
        assert all(lower <= upper for lower, upper in pairs)


def test_the_same_seed_gives_the_same_table() -> None:
    model = tiny_model("llama")
    assert limits_of_model(model, 8, 3) == limits_of_model(model, 8, 3)
    assert limits_of_model(model, 8, 3) != limits_of_model(model, 8, 4)


@pytest.mark.parametrize("tokens", [1, 65])
def test_a_length_outside_the_context_is_refused(tokens: int) -> None:
    with pytest.raises(InputError, match="context"):
        limits_of_model(tiny_model("llama"), tokens, 0)


def test_every_bound_of_a_layer_is_there_re_checked_and_without_the_weights() -> None:
    finding = limits_of_model(tiny_model("llama"), 8, 0)
    proved = [item for item in finding.certificates if item.evidence is Evidence.PROVED]
    assert [item.claim.partition(":")[0] for item in proved] == ["Layer 0"] * 3 + ["Layer 1"] * 3
    assert len(finding.certificates) == 14
    assert {(item.recheck_state, item.witness_left_out) for item in proved} == {
        (Recheck.HELD, "it holds the layer's weights")
    }
    assert not any(item.witness for item in finding.certificates)


def test_a_bound_that_does_not_hold_takes_the_numbers_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds = limits.layer_bounds

    def halved(*args):
        found, radii = bounds(*args)
        wrong = replace(found[0].attention, value=found[0].attention.value / 1e6)
        return [replace(found[0], attention=wrong), *found[1:]], radii

    monkeypatch.setattr(limits, "layer_bounds", halved)
    finding = limits_of_model(tiny_model("llama"), 8, 0)
    assert (finding.status, finding.values, finding.blocks) == ("failed", {}, [])
    assert "Layer 0: " in finding.reason
