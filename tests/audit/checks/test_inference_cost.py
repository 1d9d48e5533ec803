"""What inference will cost: counts against oracles, times that are there, advice that holds, and commands that run."""

import json
import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from helpers.audit_cases import finding_of, rows, strip
from helpers.models import tiny_model
from promptreach import cli
from promptreach.audit.checks import inference_cost
from promptreach.audit.context import AuditContext, prepared
from promptreach.audit.cost import times as inference_times
from promptreach.audit.cost.advice import LONG, suggestions
from promptreach.audit.cost.heads import cost_at_length, head_blocks, norm_reports
from promptreach.audit.cost.times import answers, difference, median_seconds, running
from promptreach.audit.cost.work import BARE, DeploymentOption, ForwardWork, adapter_bytes, cache_bytes
from promptreach.audit.settings import BUDGETS
from promptreach.certificate import Evidence
from promptreach.diagnosis.numbers import SAME, Comparison
from promptreach.errors import InputError
from promptreach.hf import open_model, precompute, save_adapter
from promptreach.prompt import LowRankUpdate, Prefix, SoftPrompt
from promptreach.report.findings import Code, Finding, Heatmap, Table, Text
from promptreach.tables import read_task
from promptreach.training.search.sweep import Sweep
from promptreach.tuning import Limits, fit

FAMILIES = ["bert", "gpt2", "llama", "mistral"]
SETTINGS = replace(BUDGETS["quick"], limits=Limits(48, 24, 24, 16), tokens=(2, 4), steps=4, batch_size=8, probe_rows=6)


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference_times, "MOST_ROUNDS", inference_times.LEAST_ROUNDS)


@lru_cache
def trained(family: str) -> AuditContext:
    """A context with everything trained that an audit trains."""
    context = prepared(tiny_model(family), read_task(rows()), SETTINGS)
    for method, tokens in (("prompt", 4), ("prompt", 2), ("prefix", 4), ("lora", 0)):
        run = fit(
            context.model,
            context.data,
            method,
            tokens=max(1, tokens),
            rank=2,
            learning_rate=0.01,
            steps=4,
            batch_size=8,
            limits=SETTINGS.limits,
            quiet=True,
        )
        context.sweeps[run.config.label] = Sweep((), run)
    return context


@lru_cache
def cost_of(family: str) -> Finding:
    return finding_of("inference_cost", trained(family))


def random_adapter(family: str, kind: str, length: int = 3) -> SoftPrompt | Prefix | LowRankUpdate:
    model, generator = trained(family).model, torch.Generator().manual_seed(5)
    if kind == "prompt":
        return SoftPrompt(torch.randn(length, model.hidden_size, generator=generator))
    if kind == "LoRA":
        run = trained(family).best("lora")
        assert run is not None
        assert isinstance(run.adapter, LowRankUpdate)
        return run.adapter
    shape = (model.num_layers, model.num_kv_heads, length, model.head_dim)
    return Prefix(*(torch.randn(shape, generator=generator) for _ in range(2)))


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


def test_the_keys_of_another_prompt_are_seen() -> None:
    context = trained("llama")
    mine, other = random_adapter("llama", "prompt", 3), random_adapter("llama", "prompt", 4)
    batch = context.model.batch(inference_cost.typical(context))
    wrong = DeploymentOption("wrong", mine, precompute(context.model, other))
    gap, _ = difference(answers(context.model, wrong, batch), answers(context.model, DeploymentOption("", mine), batch))
    assert gap > 1e-3


def test_a_different_next_token_is_seen() -> None:
    gap, same = difference(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]]))
    assert gap == pytest.approx(2**0.5)
    assert not same


@pytest.mark.parametrize("family", FAMILIES)
def test_linear_work_is_what_a_counter_of_multiplications_sees(family: str) -> None:
    """Everything but attention: torch's own counter on the layers' matrix products, two operations a multiplication."""
    context = trained(family)
    model, work = context.model, ForwardWork.of(context.model)
    batch = model.batch([inference_cost.typical(context)[0]])
    length = batch.input_ids.shape[1]
    for kind in ("bare", "prompt", "prefix"):
        option = BARE if kind == "bare" else DeploymentOption(kind, random_adapter(family, kind))
        with FlopCounterMode(display=False) as counter, torch.no_grad(), running(model, option) as hidden:
            hidden(batch)
        counted = counter.get_flop_counts()["Global"]
        products = sum(count for name, count in counted.items() if str(name) in ("aten.mm", "aten.addmm"))
        queries = length + option.positions if option.runs_prompt else length
        attention = work.attention(queries, 0 if option.runs_prompt else option.positions)
        assert products == 2 * (work.of_option(option, length) - attention)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_attention_counts_the_pairs_that_a_mask_leaves(family: str) -> None:
    work = ForwardWork.of(trained(family).model)
    queries, cached = 5, 3
    mask = torch.ones(queries, cached + queries)
    if family == "llama":
        mask = mask.tril(cached)
    assert work.attention(queries, cached) == float(mask.sum()) * work.attention(1)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_bytes_are_those_of_the_tensors_and_of_the_file(family: str, tmp_path: Path) -> None:
    model = trained(family).model
    prompt = random_adapter(family, "prompt")
    prefix = precompute(model, prompt).prefix
    assert cache_bytes(model, 3) == prefix.keys.nbytes + prefix.values.nbytes
    written = save_adapter(tmp_path / "adapter", model, prompt) / "adapter_model.safetensors"
    assert adapter_bytes(model, prompt) == written.stat().st_size


def test_a_shared_cache_is_held_once_and_others_by_every_request() -> None:
    options = cost_of("llama").values["ways"]
    for name, option in options.items():
        if option["cache_bytes"]:
            times = 1 if name.endswith("(precomputed)") else inference_cost.BATCH
            assert option["cache_bytes_of_batch"] == times * option["cache_bytes"]


def test_an_encoder_says_why_nothing_can_be_precomputed() -> None:
    finding = cost_of("bert")
    context = trained("bert")
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
    finding = finding_of("inference_cost", replace(trained(family), user_adapter=random_adapter(family, kind)))
    assert f"your {kind}" in finding.values["ways"]
    assert any(row[0] == f"your {kind}" for row in table(finding, "Time of a forward pass").rows)
    precomputed = "your prompt (precomputed)" in finding.values["ways"]
    assert precomputed == (kind == "prompt" and family == "llama")


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_the_same_twice_times_aside(family: str) -> None:
    found = [finding_of("inference_cost", trained(family)) for _ in range(2)]
    first, second = (strip(json.loads(finding.model_dump_json(), parse_constant=str)) for finding in found)
    assert first == second
    assert "seconds" not in first["values"]
    assert first["values"]["ways"]["bare model"]["work_over_bare"] == 1.0


def test_without_an_adapter_there_is_nothing_to_time() -> None:
    finding = finding_of("inference_cost", replace(trained("bert"), sweeps={}))
    assert finding.status == "skipped"
    assert finding.reason


def test_completions_are_not_part_of_the_input() -> None:
    pairs = [{"prompt": row["text"], "completion": " good good good"} for row in rows()]
    context = prepared(tiny_model("llama"), read_task(pairs), SETTINGS)
    good = context.model.tokenize([" good"], special_tokens=False)[0]
    whole = context.task.encoded["held_out"].sequences
    assert all(list(ids[-3:]) == 3 * good for ids in whole)
    for ids in inference_cost.typical(context):
        assert list(ids[-3:]) != 3 * good
        assert any(longer[: len(ids)] == ids and len(longer) == len(ids) + 3 for longer in whole)


def test_typical_inputs_are_those_nearest_to_the_median_length() -> None:
    context = trained("bert")
    lengths = sorted(map(len, context.task.encoded["held_out"].sequences))
    middle = lengths[(len(lengths) - 1) // 2]
    chosen = [abs(len(ids) - middle) for ids in inference_cost.typical(context)]
    assert chosen == sorted(abs(length - middle) for length in lengths)[: inference_cost.BATCH]


def advised(family: str, options: list[DeploymentOption], low: float) -> list[str]:
    """What is suggested where every comparison of two trained runs has `low` as its lower end."""
    differences = {option.name: (1e-7, True) for option in options}
    found = suggestions(
        trained(family), options, differences, lambda run, best: (Comparison(low, low, low, 0.0), "words")
    )
    return [item.what for item in found]


@pytest.mark.parametrize(("low", "as_good"), [(0.0, True), (-0.039, True), (-0.041, False)])
def test_fewer_tokens_only_where_the_interval_says_as_good(low: float, as_good: bool) -> None:
    longest = trained("bert").sweeps["prompt 4 tokens"].best
    options = [BARE, DeploymentOption("prompt 4 tokens", longest.adapter)]
    expected = ["Use prompt 2 tokens: as good as prompt 4 tokens", "Use prefix 4 tokens: as good as prompt 4 tokens"]
    assert advised("bert", options, low) == (expected if as_good else [])
    shortest = DeploymentOption("prompt 2 tokens", trained("bert").sweeps["prompt 2 tokens"].best.adapter)
    assert len(advised("bert", [BARE, shortest], 0.0)) == 1  # no shorter prompt, but the prefix


@pytest.mark.parametrize("length", [LONG - 1, LONG])
def test_only_long_prefixes_of_causal_models_are_worth_shrinking(length: int) -> None:
    for family in ("bert", "llama"):
        prefix = random_adapter(family, "prefix", length)
        shrunk = [what for what in advised(family, [BARE, DeploymentOption("prefix", prefix)], 0.0) if "Shrink" in what]
        assert bool(shrunk) == (family == "llama" and length == LONG)


def test_advice_is_ranked_by_the_work_it_saves() -> None:
    context = replace(trained("llama"), user_adapter=random_adapter("llama", "prompt", 40))
    finding = finding_of("inference_cost", context)
    advice = finding.values["advice"]
    saved = [item["work_then"] / item["work_now"] for item in advice]
    assert len(saved) >= 3
    assert saved == sorted(saved)
    assert advice[0]["what"].startswith("Precompute your prompt")
    assert sum(isinstance(block, Code) for block in finding.blocks) == len(advice) + 1


def test_polynomials_are_found_where_scores_are_small_and_pay_where_texts_are_long() -> None:
    context = trained("bert")
    quiet = tiny_model("bert")
    with torch.no_grad():
        for layer in quiet.layers:
            for part in (layer.attention.self.query, layer.attention.self.key):
                part.weight.mul_(0.2)
                part.bias.mul_(0.2)
    work = ForwardWork.of(quiet)
    reports = norm_reports(replace(context, model=quiet))
    heads = sum(len(report.joined.rank) for report in reports)
    long = cost_at_length(work, reports, [BARE], 65536)
    loud = norm_reports(context)
    short = cost_at_length(work, loud, [BARE], 8)
    assert (short.polynomial_heads, long.polynomial_heads) == (0, heads)
    assert long.at_best < short.at_best == 1.0
    assert short.attention_share < long.attention_share < 1
    needed = [rank for report in loud for rank in report.joined.rank]
    assert min(rank for rank in needed if rank is not None) > 8


def test_an_adapter_leaves_the_model_as_it_was() -> None:
    context = trained("llama")
    batch = context.model.batch(inference_cost.typical(context))
    before = answers(context.model, BARE, batch)
    options = [BARE, *(DeploymentOption(kind, random_adapter("llama", kind)) for kind in ("prompt", "prefix", "LoRA"))]
    assert median_seconds(context.model, options, batch, next_token=True).keys() == {option.name for option in options}
    assert torch.equal(answers(context.model, BARE, batch), before)


@pytest.mark.filterwarnings("ignore")
def test_the_code_to_copy_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block with a PEFT folder `adapter` of the kind that it names, in a folder with the model and the data."""
    monkeypatch.chdir(tmp_path)
    made = tiny_model("llama")
    made.release().save_pretrained("model")
    made.tokenizer.save_pretrained("model")
    with open("data.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows())
    (tmp_path / "texts.txt").write_text(" ".join(row["text"] for row in rows()), encoding="utf-8")
    model = open_model("model", task="causal")  # an option that the code has to repeat
    context = replace(trained("llama"), model=model, data=read_task("data.jsonl"))
    prompt, lora = random_adapter("llama", "prompt", LONG), random_adapter("llama", "LoRA")
    best = trained("llama").sweeps["prompt 4 tokens"].best
    options = [
        BARE,
        DeploymentOption("prompt 4 tokens", best.adapter),
        DeploymentOption("prompt", prompt),
        DeploymentOption("prompt (precomputed)", prompt, precompute(model, prompt)),
        DeploymentOption("LoRA", lora),
    ]
    found = suggestions(context, options, {"prompt (precomputed)": (0.0, True)}, lambda run, best: (SAME, ""))
    assert [item.what.split()[0] for item in found] == ["Precompute", "Use", "Shrink", "Merge"]
    assert any("open_model('model', task='causal')" in item.code.text for item in found)
    scope: dict[str, Any] = {"input_ids": torch.tensor([[4, 5, 6]]), "base": model.release()}
    for item, adapter in zip(found, (prompt, None, prompt, lora), strict=True):
        if adapter is not None:
            save_adapter("adapter", model, adapter)
        if item.code.language == "python":
            exec(item.code.text, scope)
        else:
            outcome = CliRunner().invoke(cli.app, [*item.code.text.split()[1:], "--steps", "1"])
            assert outcome.exit_code == 0, outcome.output
    reports = norm_reports(context)
    at = {8: cost_at_length(ForwardWork.of(model), reports, [BARE], 8)}
    look = next(block for block in head_blocks(model, reports, [BARE], at, 8) if isinstance(block, Code))
    outcome = CliRunner().invoke(cli.app, look.text.split()[1:])
    assert outcome.exit_code == 0, outcome.output
    assert scope["output"].shape[1] > 3
    assert scope["run"].config.tokens == 2
    assert os.path.isdir("adapter-4")
