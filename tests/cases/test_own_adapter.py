"""What the user brought stays in the answer: the best there is comes first, and one that does nothing is told."""

from dataclasses import replace
from typing import Any

import pytest

from helpers.rule_cases import NAMES, START, changed, numbers
from promptreach.diagnosis.numbers import BroughtNumbers, TrainingNumbers
from promptreach.diagnosis.rules.rules import judge
from promptreach.report.verdict import TuningVerdict

LORA = {"method": "lora", "tokens": 0, "rank": 8, "kind": "adapter"}
PROMPT = {"method": "prompt", "tokens": 16, "rank": 0, "kind": "adapter"}
PREFIX = {"method": "prefix", "tokens": 16, "rank": 0, "kind": "adapter"}


@pytest.mark.parametrize("own", [LORA, PROMPT, PREFIX], ids=["lora", "prompt", "prefix"])
@pytest.mark.parametrize("metric", ["accuracy", "loss"])
@pytest.mark.parametrize("soft", [0.02, -0.10, -0.30])
def test_one_that_beats_all_that_was_trained_is_kept(own: dict[str, Any], metric: Any, soft: float) -> None:
    found = numbers(soft, user=0.2, own=own, metric=metric)
    judgement = judge(found)
    assert judgement.verdict is TuningVerdict.UNDECIDED
    assert judgement.headline.startswith("Your adapter")
    assert "better than everything that was trained here" in judgement.headline
    assert judgement.advice.startswith("Keep it")
    assert judgement.chosen is None
    said = judgement.advice + judgement.headline + "".join(reason.text for reason in judgement.reasons)
    assert "rain again" not in said


@pytest.mark.parametrize(
    ("own", "soft", "verdict"), [(LORA, -0.2, TuningVerdict.FORM), (PROMPT, 0.0, TuningVerdict.FITS)]
)
def test_one_that_equals_the_best_comes_first(own: dict[str, Any], soft: float, verdict: TuningVerdict) -> None:
    judgement = judge(numbers(soft, user=0.0, own=own, head_gain=0.1))
    assert judgement.headline.startswith("Your adapter")
    assert judgement.advice.startswith("Keep it")
    assert judgement.chosen is None
    assert judgement.verdict in (verdict, TuningVerdict.UNDECIDED)


@pytest.mark.parametrize("user", [-0.05, -0.1, -0.3])
def test_one_that_falls_short_does_not_come_first(user: float) -> None:
    judgement = judge(numbers(0.0, user=user, own=PROMPT))
    assert not judgement.advice.startswith("Keep it")


def test_one_that_equals_the_control_is_not_kept_for_that() -> None:
    found = numbers(-0.1, user=0.0, own=LORA)
    training = next(record for record in found if isinstance(record, TrainingNumbers))
    control = {**training.against_head, "yours": replace(training.against_head["prompt 4 tokens"], gain=0.0, low=-0.02)}
    assert "is as good as anything" not in judge(changed(found, TrainingNumbers, against_head=control)).headline


@pytest.mark.parametrize(("zeros", "updates", "said"), [(8, 8, "8 of its 8 updates are zero"), (0, 0, "without it")])
@pytest.mark.parametrize("user", [-0.3, -0.05, -0.01])
def test_one_that_changes_nothing_is_told_first(zeros: int, updates: int, said: str, user: float) -> None:
    brought = BroughtNumbers(unchanged=True, zero_updates=zeros, updates=updates)
    judgement = judge([*numbers(-0.02, user=user, own=LORA), brought])
    assert judgement.headline.startswith("Your adapter changes nothing")
    assert said in judgement.headline
    assert judgement.reasons[0].check == "brought"


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"numbering": {"output 1": "bad", "output 0": "good"}}, "output 1 for 'bad', output 0 for 'good'"),
        ({"extra_outputs": 2}, "2 of its classifier's outputs stand for no label"),
        ({"missing_outputs": 1}, "1 outputs too few"),
        ({"other_base": "somebody/other-7b"}, "names another base model, somebody/other-7b"),
        ({"added_tokens": ("<q>", "<a>")}, "(<q>, <a>)"),
        ({"zero_updates": 3, "updates": 8}, "3 of its 8 updates are zero"),
    ],
)
def test_what_was_done_about_it_is_told(facts: dict[str, Any], said: str) -> None:
    judgement = judge([*numbers(-0.02, user=-0.1, own=LORA), BroughtNumbers(unchanged=False, **facts)])
    assert any(said in reason.text for reason in judgement.reasons)


@pytest.mark.parametrize(("user", "told"), [(0.2, False), (0.0, False), (-0.2, True)])
def test_long_virtual_tokens_alone_are_no_fault(user: float, told: bool) -> None:
    found = [record for record in numbers(0.0, user=user, own=PROMPT) if record is not START]
    judgement = judge([*found, START])
    assert any("times as long" in reason.text for reason in judgement.reasons) is told
    assert set(NAMES) > set(START.far_out) or START.far_out
