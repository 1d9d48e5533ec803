"""Fast attention on a model's own heads: the bound of what ran on each head reaches the finding."""

import pytest

from helpers.models import tiny_model
from promptreach.certificate import Recheck
from promptreach.commands.attend import attention_of_model
from promptreach.errors import InputError


def test_the_error_of_every_head_is_a_certificate() -> None:
    finding = attention_of_model(tiny_model("llama"), None, 12)
    rows = finding.values["table"]
    assert [item.claim.partition(":")[0] for item in finding.certificates] == [
        f"Layer {row['layer']}, head {row['head']}" for row in rows
    ]
    assert [item.value for item in finding.certificates] == [row["error"] for row in rows]
    assert Recheck.FAILED not in {item.recheck_state for item in finding.certificates}


@pytest.mark.parametrize(("tokens", "tol"), [(1, 0.01), (10_000, 0.01), (8, 0.0)])
def test_a_call_that_cannot_be_answered_is_refused(tokens: int, tol: float) -> None:
    with pytest.raises(InputError):
        attention_of_model(tiny_model("llama"), None, tokens, tol=tol)
