"""Rules judge synthetic findings: each verdict is reached by the numbers that should reach it, and by no others."""

from typing import Any

import pytest

from promptreach.audit.findings import Finding
from promptreach.audit.result import EXIT_STATUS, AuditVerdict
from promptreach.audit.rules import RULES, Judgement, judge
from promptreach.certificate import Evidence


def method(kind: str, **numbers: Any) -> dict[str, Any]:
    return {
        "method": kind,
        "tokens": 0,
        "rank": 0,
        "init": "vocabulary",
        "learning_rate": 0.01,
        "status": "finished",
        "accuracy": 0.80,
        "accuracy_error": 0.01,
        "loss": 0.5,
        "validation_loss": 0.5,
        "train_loss": 0.4,
        "still_falling": 0.0,
        "rate_at_edge": False,
    } | numbers


def compared(gain: float, error: float = 0.01) -> dict[str, float]:
    return {"gain": gain, "low": gain - 1.6449 * error, "high": gain + 1.6449 * error, "error": error}


def judged(
    prompt_gain: float = -0.10,
    error: float = 0.01,
    metric: str = "accuracy",
    yours: float | None = None,
    data: dict[str, Any] | None = None,
    methods: dict[str, dict[str, Any]] | None = None,
    head_gain: float = 0.05,
    lora_over_head: float = 0.05,
    prefix_gain: float | None = None,
    train_rows: int = 1000,
) -> Judgement:
    """The judgement on one prompt of 4 and one of 16 tokens, a prefix and LoRA, with these gains over LoRA."""
    runs = {
        "head": method("head"),
        "prompt 4 tokens": method("prompt", tokens=4),
        "prompt 16 tokens": method("prompt", tokens=16),
        "prefix 16 tokens": method("prefix", tokens=16, init="text"),
        "lora rank 8": method("lora", rank=8, init="zero"),
    }
    for name, numbers in (methods or {}).items():
        runs[name] |= numbers
    against_lora = {name: compared(prompt_gain, error) for name in runs if name != "lora rank 8"}
    against_lora["prefix 16 tokens"] = compared(prompt_gain if prefix_gain is None else prefix_gain, error)
    if yours is not None:
        against_lora["yours"] = compared(yours, error)
    against_head = {name: compared(head_gain) for name in [*runs, "yours"] if name != "head"}
    against_head["lora rank 8"] = compared(lora_over_head)
    training = {
        "metric": metric,
        "train_rows": train_rows,
        "held_out_rows": 1000,
        "methods": runs,
        "against_lora": against_lora,
        "against_head": against_head,
        "lora": "lora rank 8",
        "yours": None if yours is None else {"accuracy": 0.6, "loss": 0.9},
    }
    base = {
        "rows": 2000,
        "majority_share": 0.5 if metric == "accuracy" else None,
        "best_accuracy": 1.0,
        "conflicting_rows": 0,
    }
    values = {
        "data": base | (data or {}),
        "bare_model": {"majority_accuracy": 0.5},
        "training": training,
        "initialisation": {
            "prompt_start_loss": {"random (start)": 0.9, "vocabulary (start)": 0.6},
            "far_out": ["your prompt"],
            "geometry": {"your prompt": {"norm_ratio": 7.5}},
        },
    }
    return judge(
        [
            Finding(check=name, title=name, evidence=Evidence.MEASURED, summary="", values=v)
            for name, v in values.items()
        ]
    )


def test_a_prompt_within_the_margin_fits_and_is_chosen() -> None:
    judgement = judged(prompt_gain=-0.01)
    assert judgement.verdict is AuditVerdict.FITS
    assert judgement.chosen == "prompt 4 tokens"
    assert "80.0%" in judgement.headline


def test_among_fitting_prompts_the_better_validation_loss_is_chosen() -> None:
    judgement = judged(prompt_gain=0.0, methods={"prompt 16 tokens": {"validation_loss": 0.4}})
    assert judgement.chosen == "prompt 16 tokens"


def test_a_prefix_fits_where_no_prompt_does() -> None:
    judgement = judged(prompt_gain=-0.2, prefix_gain=0.0)
    assert judgement.verdict is AuditVerdict.FITS
    assert judgement.chosen == "prefix 16 tokens"
    assert any("falls short" in reason.text for reason in judgement.reasons)


@pytest.mark.parametrize(("lora_over_head", "told"), [(0.0, "neither"), (0.03, "LoRA if that gain matters")])
def test_a_prompt_no_better_than_the_head_is_not_recommended(lora_over_head: float, told: str) -> None:
    judgement = judged(prompt_gain=0.0, head_gain=0.0, lora_over_head=lora_over_head)
    assert judgement.verdict is AuditVerdict.FITS
    assert judgement.chosen == "head"
    assert told in judgement.headline + judgement.advice


def test_an_interval_that_allows_both_is_undecided_and_says_how_many_rows_decide() -> None:
    judgement = judged(prompt_gain=-0.03, error=0.03)
    assert judgement.verdict is AuditVerdict.UNDECIDED
    assert judgement.evidence is Evidence.UNKNOWN
    assert "held-out rows" in judgement.advice


def test_a_gap_while_training_still_improves_is_undecided() -> None:
    falling = {name: {"still_falling": 0.1} for name in ("prompt 4 tokens", "prompt 16 tokens", "prefix 16 tokens")}
    judgement = judged(methods=falling)
    assert judgement.verdict is AuditVerdict.UNDECIDED
    assert "last stretch" in judgement.reasons[0].text
    assert judgement.chosen == "lora rank 8"


def test_a_gap_at_the_edge_of_the_rates_tried_is_undecided() -> None:
    edge = {name: {"rate_at_edge": True} for name in ("prompt 4 tokens", "prompt 16 tokens", "prefix 16 tokens")}
    judgement = judged(methods=edge)
    assert judgement.verdict is AuditVerdict.UNDECIDED
    assert "largest tried" in judgement.reasons[0].text


def test_a_gap_that_length_still_narrows_asks_for_more_tokens() -> None:
    longer = {"prompt 16 tokens": {"validation_loss": 0.4, "train_loss": 0.3}}
    judgement = judged(methods=longer)
    assert judgement.verdict is AuditVerdict.MORE_TOKENS
    assert "64 virtual tokens" in judgement.advice


def test_a_lower_validation_loss_without_a_better_fit_is_no_capacity() -> None:
    assert judged(methods={"prompt 16 tokens": {"validation_loss": 0.4}}).verdict is AuditVerdict.FORM


def test_a_settled_gap_at_every_length_is_the_form_and_only_measured() -> None:
    judgement = judged()
    assert judgement.verdict is AuditVerdict.FORM
    assert judgement.evidence is Evidence.MEASURED
    assert judgement.chosen == "lora rank 8"
    assert "not a proof" in judgement.advice


def test_your_adapter_short_of_a_fitting_prompt_is_the_optimiser() -> None:
    judgement = judged(prompt_gain=0.0, yours=-0.2)
    assert judgement.verdict is AuditVerdict.OPTIMISER
    assert any("7.5 times" in reason.text for reason in judgement.reasons)


def test_your_adapter_that_keeps_up_changes_nothing() -> None:
    assert judged(prompt_gain=0.0, yours=0.0).verdict is AuditVerdict.FITS


def test_your_adapter_is_not_blamed_where_no_prompt_fits() -> None:
    assert judged(prompt_gain=-0.2, yours=-0.2).verdict is AuditVerdict.FORM


def test_contradicting_labels_are_proved_before_anything_else() -> None:
    judgement = judged(prompt_gain=0.0, data={"best_accuracy": 0.52, "conflicting_rows": 1900})
    assert judgement.verdict is AuditVerdict.DATA
    assert judgement.evidence is Evidence.PROVED


@pytest.mark.parametrize(("rows", "verdict"), [(1000, AuditVerdict.DATA), (100, AuditVerdict.UNDECIDED)])
def test_nothing_learnt_blames_the_data_only_with_enough_rows(rows: int, verdict: AuditVerdict) -> None:
    names = ("head", "prompt 4 tokens", "prompt 16 tokens", "prefix 16 tokens", "lora rank 8")
    judgement = judged(methods={name: {"accuracy": 0.5} for name in names}, train_rows=rows)
    assert judgement.verdict is verdict


def test_completions_are_judged_in_nats() -> None:
    judgement = judged(prompt_gain=-0.04, metric="loss")
    assert judgement.verdict is AuditVerdict.UNDECIDED
    assert judged(prompt_gain=-0.02, metric="loss").verdict is AuditVerdict.FITS
    assert judged(prompt_gain=-0.30, metric="loss").verdict is AuditVerdict.FORM
    assert "nats" in judged(prompt_gain=-0.30, metric="loss").reasons[0].text


def test_diverged_prompts_are_not_compared() -> None:
    lost = {name: {"status": "diverged"} for name in ("prompt 4 tokens", "prompt 16 tokens", "prefix 16 tokens")}
    judgement = judged(prompt_gain=0.0, methods=lost)
    assert judgement.verdict is AuditVerdict.UNDECIDED


def test_a_broken_check_is_undecided_with_its_reason() -> None:
    findings = [
        Finding(
            check="training",
            title="Matched training",
            status="failed",
            evidence=Evidence.UNKNOWN,
            summary="",
            reason="boom",
        )
    ]
    judgement = judge(findings)
    assert judgement.verdict is AuditVerdict.UNDECIDED
    assert "boom" in judgement.reasons[0].text


def test_the_last_rule_always_decides() -> None:
    assert RULES[-1].__name__ == "form_falls_short"


def test_every_verdict_has_an_exit_status() -> None:
    assert {verdict: EXIT_STATUS[verdict] for verdict in AuditVerdict}.keys() == set(AuditVerdict)
    assert EXIT_STATUS[AuditVerdict.FITS] == 0
    assert EXIT_STATUS[AuditVerdict.FORM] == 1
    assert EXIT_STATUS[AuditVerdict.UNDECIDED] == 3
