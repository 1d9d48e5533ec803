"""The cost of inference as a check: numbers for every option, times that are there, the same report twice."""

import json
from dataclasses import replace

import pytest

from helpers.audit_cases import COST_SETTINGS, FAMILIES, all_trained, cost_of, finding_of, random_adapter, rows, strip
from helpers.models import tiny_model
from promptreach.audit.checks import inference_cost
from promptreach.audit.context import prepared
from promptreach.audit.cost.work import BARE
from promptreach.certificate import Evidence
from promptreach.errors import InputError
from promptreach.hf import precompute
from promptreach.report.findings import Code, Finding, Heatmap, Table, Text
from promptreach.tables import read_task


def table(finding: Finding, title: str) -> Table:
    return next(block for block in finding.blocks if isinstance(block, Table) and block.title == title)


def assert_ratios(seconds: dict[str, dict[str, float]]) -> None:
    """Every time is positive, and every ratio is that of two times."""
    for times in seconds.values():
        for kind in [name for name in times if not name.endswith("_over_bare")]:
            assert times[kind] > 0
            bare = seconds[BARE.name][kind]
            assert times[f"{kind}_over_bare"] == pytest.approx(times[kind] / bare, rel=1e-12)


def test_wrong_ratios_are_seen() -> None:
    good = {"batch": 2.0, "batch_over_bare": 2.0}
    for wrong in ({"batch": 0.0, "batch_over_bare": 0.0}, {"batch": 2.0, "batch_over_bare": 1.0}):
        with pytest.raises(AssertionError):
            assert_ratios({BARE.name: {"batch": 1.0, "batch_over_bare": 1.0}, "good": good, "wrong": wrong})


@pytest.mark.parametrize("family", FAMILIES)
def test_every_option_has_its_numbers(family: str) -> None:
    finding = cost_of(family)
    options, seconds = finding.values["ways"], finding.values["seconds"]
    assert finding.evidence is Evidence.PREDICTED
    assert options.keys() == seconds.keys()
    assert options[BARE.name]["work_over_bare"] == 1.0
    kinds = {name.split()[0] for name in options}
    assert kinds == {"bare", "prompt", "prefix", "LoRA"}
    for name, option in options.items():
        assert (option["work_over_bare"] > 1) == (name != BARE.name)
        assert option["share_of_context"] == option["positions"] / 64
    assert_ratios(seconds)
    causal = family != "bert"
    assert all(("first_token" in times) == causal for times in seconds.values())
    assert any(name.endswith("(precomputed)") for name in options) == causal
    timed = table(finding, "Time of a forward pass")
    assert [row[0] for row in timed.rows] == list(options)
    assert [row[0] for row in table(finding, "Memory and context").rows] == list(options)[1:]
    assert sum(isinstance(block, Heatmap) for block in finding.blocks) >= 2
    assert "only worst cases are hard" in finding.blocks[-1].text


@pytest.mark.parametrize("family", FAMILIES[1:])
def test_precomputed_logits_are_those_of_the_prompt_in_front(family: str) -> None:
    """Issue 5's bound for float32: 1e-5 relative, and the same next tokens."""
    found = [option for option in cost_of(family).values["ways"].values() if option["logits_difference"] is not None]
    assert found
    for option in found:
        assert option["logits_difference"] <= 1e-5
        assert option["same_next_tokens"]


def test_a_shared_cache_is_held_once_and_others_by_every_request() -> None:
    options = cost_of("llama").values["ways"]
    for name, option in options.items():
        if option["cache_bytes"]:
            times = 1 if name.endswith("(precomputed)") else inference_cost.BATCH
            assert option["cache_bytes_of_batch"] == times * option["cache_bytes"]


def test_an_encoder_says_why_nothing_can_be_precomputed() -> None:
    finding = cost_of("bert")
    context = all_trained("bert")
    with pytest.raises(InputError) as refused:
        precompute(context.model, random_adapter("bert", "prompt"))
    assert finding.values["not_precomputed"] == refused.value.faults[0].remedy
    texts = [block.text for block in finding.blocks if isinstance(block, Text)]
    assert any("prompt's positions attend to the input" in text for text in texts)
    assert not any("recompute" in item["what"] for item in finding.values["advice"])
    assert cost_of("llama").values["not_precomputed"] == ""


@pytest.mark.parametrize("kind", ["prompt", "prefix", "LoRA"])
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_the_users_own_adapter_is_shown(family: str, kind: str) -> None:
    finding = finding_of("inference_cost", replace(all_trained(family), user_adapter=random_adapter(family, kind)))
    assert f"your {kind}" in finding.values["ways"]
    assert any(row[0] == f"your {kind}" for row in table(finding, "Time of a forward pass").rows)
    precomputed = "your prompt (precomputed)" in finding.values["ways"]
    assert precomputed == (kind == "prompt" and family == "llama")


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_the_same_twice_times_aside(family: str) -> None:
    found = [finding_of("inference_cost", all_trained(family)) for _ in range(2)]
    first, second = (strip(json.loads(finding.model_dump_json(), parse_constant=str)) for finding in found)
    assert first == second
    assert "seconds" not in first["values"]
    assert first["values"]["ways"]["bare model"]["work_over_bare"] == 1.0


def test_without_an_adapter_there_is_nothing_to_time() -> None:
    finding = finding_of("inference_cost", replace(all_trained("bert"), sweeps={}))
    assert finding.status == "skipped"
    assert finding.reason


def test_completions_are_not_part_of_the_input() -> None:
    pairs = [{"prompt": row["text"], "completion": " good good good"} for row in rows()]
    context = prepared(tiny_model("llama"), read_task(pairs), COST_SETTINGS)
    good = context.model.tokenize([" good"], special_tokens=False)[0]
    whole = context.task.encoded["held_out"].sequences
    assert all(list(ids[-3:]) == 3 * good for ids in whole)
    for ids in inference_cost.typical(context):
        assert list(ids[-3:]) != 3 * good
        assert any(longer[: len(ids)] == ids and len(longer) == len(ids) + 3 for longer in whole)


def test_typical_inputs_are_those_nearest_to_the_median_length() -> None:
    context = all_trained("bert")
    lengths = sorted(map(len, context.task.encoded["held_out"].sequences))
    middle = lengths[(len(lengths) - 1) // 2]
    chosen = [abs(len(ids) - middle) for ids in inference_cost.typical(context)]
    assert chosen == sorted(abs(length - middle) for length in lengths)[: inference_cost.BATCH]


def test_advice_is_ranked_by_the_work_it_saves() -> None:
    context = replace(all_trained("llama"), user_adapter=random_adapter("llama", "prompt", 40))
    finding = finding_of("inference_cost", context)
    advice = finding.values["advice"]
    saved = [item["work_then"] / item["work_now"] for item in advice]
    assert len(saved) >= 3
    assert saved == sorted(saved)
    assert advice[0]["what"].startswith("Precompute your prompt")
    assert sum(isinstance(block, Code) for block in finding.blocks) == len(advice) + 1
