"""Fast attention on a model's own heads: the bound of what ran on each head reaches the finding."""

import pytest

from helpers.models import tiny_model
from promptreach.certificate import Recheck
from promptreach.commands.attend import attention_of_model
from promptreach.errors import InputError


def test_the_error_of_every_head_is_a_certificate() -> None:
    finding = attention_of_model(tiny_model("llama"), None, 12)
    rows = finding.values["table"]
    errors, slots = finding.certificates[: len(rows)], finding.certificates[len(rows) :]
    for kind, column in ((errors, "error"), (slots, "at least")):
        assert [item.claim.partition(":")[0] for item in kind] == [
            f"Layer {row['layer']}, head {row['head']}" for row in rows
        ]
        assert [item.value for item in kind] == [row[column] for row in rows]
    assert {item.recheck_state for item in slots} == {Recheck.HELD}
    assert Recheck.FAILED not in {item.recheck_state for item in finding.certificates}


@pytest.mark.parametrize(("tokens", "tol"), [(1, 0.01), (10_000, 0.01), (8, 0.0)])
def test_a_call_that_cannot_be_answered_is_refused(tokens: int, tol: float) -> None:
    with pytest.raises(InputError):
        attention_of_model(tiny_model("llama"), None, tokens, tol=tol)


@pytest.mark.parametrize("relative_to", ["range", "deviation"])
def test_fewer_slots_are_needed_for_a_larger_tolerance_and_none_beyond_the_sizes(relative_to: str) -> None:
    model = tiny_model("llama")
    counts = [
        [
            row["at least"]
            for row in attention_of_model(model, None, 40, tol=tol, relative_to=relative_to).values["table"]
        ]
        for tol in (1e-6, 0.1, 1.0)
    ]
    assert counts[0] == [model.value_dim + 1] * len(counts[0])
    assert all(few <= more for few, more in zip(counts[1], counts[0], strict=True))
    assert set(counts[2]) == {1}
    assert relative_to == "range" or max(counts[1]) > 2
