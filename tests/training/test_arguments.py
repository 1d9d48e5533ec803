"""A lone number or name where several are asked for is one fault, in every function that asks for several."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from jaxtyping import config as jaxtyping_config

from helpers.tasks import labelled, model_of
from promptreach.errors import InputError
from promptreach.training.arguments import least_faults, name_faults, rate_faults, repeat_faults, size_faults
from promptreach.tuning import capacity, diagnose, predict

CALLS: list[tuple[Callable[..., Any], str, object, str]] = [
    *((call, "tokens", 16, "16; expected a sequence such as (4, 16)") for call in (predict, diagnose, capacity)),
    *((call, "tokens", "16", "'16'; expected a sequence such as (4, 16)") for call in (predict, diagnose, capacity)),
    (predict, "ranks", 8, "8; expected a sequence such as (4, 16)"),
    (predict, "methods", "prompt", "'prompt'; expected a sequence such as ('prompt', 'prefix')"),
    (capacity, "methods", "prompt", "'prompt'; expected a sequence such as ('prompt', 'prefix')"),
    (capacity, "kinds", "random", "'random'; expected a sequence such as ('natural', 'random')"),
]


@pytest.mark.parametrize(("call", "argument", "given", "told"), CALLS)
def test_a_lone_one_is_one_fault_that_says_what_to_give(
    call: Callable[..., Any], argument: str, given: object, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)  # the library's own message is under test
    data = [] if call is capacity else [labelled()]
    with pytest.raises(InputError) as caught:
        call(model_of("gpt2"), *data, **{argument: given}, quiet=True)
    assert [str(fault) for fault in caught.value.faults] == [f"{argument}: {told}"]


@pytest.mark.parametrize("given", [(4, 16), [1], range(1, 3), (np.int64(4),)])
def test_sequences_of_whole_numbers_pass(given: object) -> None:
    assert size_faults("tokens", given) == []


@pytest.mark.parametrize("given", [4.0, (4.5,), ("4",), {4, 16}, None, "4", (None,)])
def test_what_is_no_sequence_of_whole_numbers_is_refused(given: object) -> None:
    assert [fault.seen for fault in size_faults("tokens", given)] == [repr(given)]
    assert repeat_faults("tokens", "44" if given == "4" else 4.5) == []


def test_every_wrong_element_is_named() -> None:
    assert [fault.seen for fault in size_faults("tokens", (0, 4, -1))] == ["0", "-1"]
    assert [fault.seen for fault in name_faults("methods", ("full", "lora", "x"), ("lora", "head"))] == [
        "'full'",
        "'x'",
    ]
    assert [fault.seen for fault in repeat_faults("tokens", (4, 1, 4, 1, 4))] == ["4 twice", "1 twice"]
    assert [size_faults("tokens", ())[0].seen, name_faults("methods", (), ("lora", "head"))[0].seen] == ["none", "none"]


def test_numbers_that_nothing_counts_with_are_refused() -> None:
    found = least_faults({"steps": 2**31, "rank": 10**400, "tokens": 0, "seeds": 3})
    assert [(fault.where, fault.expected) for fault in found] == [
        ("steps", "1 to 2,147,483,647"),
        ("rank", "1 to 2,147,483,647"),
        ("tokens", "at least 1"),
    ]
    assert all(len(fault.seen) < 30 for fault in found)
    assert [rate_faults("rate", rate)[0].expected for rate in (4e37, float("inf"), 0.0)] == [
        "at most 1e+30",
        "at most 1e+30",
        "a positive number",
    ]
