"""The server's part of an advice: its numbers are paired differences of the audit's own runs."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
from peft import IA3Config

from helpers.audit_cases import COST_SETTINGS, all_trained
from helpers.models import tiny_model
from promptreach.audit import audit
from promptreach.audit.context import AuditContext, prepared
from promptreach.audit.recommendation import recommend
from promptreach.audit.serving import for_server, serving_line
from promptreach.certificate import Evidence
from promptreach.commands.serving import SERVERS
from promptreach.diagnosis.measures.comparison import held_out
from promptreach.diagnosis.verdict import Judgement
from promptreach.errors import InputError
from promptreach.report.findings import Code
from promptreach.report.verdict import TuningVerdict
from promptreach.tables import read_task
from promptreach.training.search.sweep import Sweep
from promptreach.tuning import fit

AGAIN = Code(title="This audit again", language="shell", text="promptreach audit MODEL DATA")
WORDS = ("cat", "dog", "mat", "tree", "film", "book")
ROWS = [
    {"prompt": f"the {one} sat on the {other}", "completion": f"and the {other} was good"}
    for one in WORDS
    for other in WORDS
]


@lru_cache
def written() -> AuditContext:
    """Completions, with a prompt, a prefix and LoRA trained on them."""
    limits = replace(COST_SETTINGS.limits, train=16, validation=8, held_out=8)
    context = prepared(tiny_model("llama"), read_task(ROWS), replace(COST_SETTINGS, limits=limits))
    for method in ("prompt", "prefix", "lora"):
        run = fit(
            context.model,
            context.data,
            method,
            tokens=4,
            rank=2,
            learning_rate=0.01,
            steps=4,
            batch_size=8,
            limits=limits,
            quiet=True,
        )
        context.sweeps[run.config.label] = Sweep((), run)
    return context


def advised(chosen: str | None) -> Judgement:
    return Judgement(TuningVerdict.FITS, Evidence.MEASURED, "fits", (), chosen, "do it")


def loses(other: str, run: str) -> str:
    runs = written().runs
    found = written().compare(held_out(runs[other]), held_out(runs[run]))
    return f"{'gains' if found.gain > 0 else 'loses'} {abs(found.gain):.3f} nats a token against {run}"


def test_a_prefix_is_served_by_nobody_and_its_rivals_cost_what_was_measured() -> None:
    line = serving_line(written(), written().runs["prefix 4 tokens"])
    assert line.startswith("No server takes this prefix, neither vLLM, SGLang,")
    cost = {name: loses(name, "prefix 4 tokens") for name in ("prompt 4 tokens", "lora rank 2")}
    some = "which vLLM, SGLang, llama.cpp and TensorRT-LLM would take"
    assert f"A prompt of 4 tokens, {some}, {cost['prompt 4 tokens']}" in line
    assert "LoRA of rank 2, which vLLM, SGLang, llama.cpp, TensorRT-LLM and transformers serve would take" in line
    assert cost["lora rank 2"] in line


def test_a_prompt_goes_where_embeddings_are_taken() -> None:
    line = serving_line(written(), written().runs["prompt 4 tokens"])
    assert "as embeddings (promptreach export); not by transformers serve." in line
    assert f"LoRA of rank 2, which transformers serve would take, {loses('lora rank 2', 'prompt 4 tokens')}" in line


def test_lora_is_taken_by_all() -> None:
    line = serving_line(written(), written().runs["lora rank 2"])
    assert line == "Served by vLLM, SGLang, llama.cpp, TensorRT-LLM and transformers serve."


@pytest.mark.parametrize(("family", "said"), [("bert", "was not looked up"), ("llama", "knows the head")])
def test_where_a_head_reads_transformers_alone_runs_it(family: str, said: str) -> None:
    context = all_trained(family)
    assert said in serving_line(context, context.runs["prompt 4 tokens"])


def test_a_server_restricts_the_advice_and_says_what_was_left_out() -> None:
    judgement = for_server(written(), advised("prefix 4 tokens"), "vllm")
    best = written().best("prompt", "lora")
    assert best is not None
    assert judgement.chosen == best.config.label
    assert "prefix 4 tokens is left out, since vLLM takes no prefix" in judgement.advice
    assert loses(best.config.label, "prefix 4 tokens") in judgement.advice
    assert (judgement.verdict, judgement.headline) == (TuningVerdict.FITS, "fits")
    assert for_server(written(), advised("prompt 4 tokens"), "transformers").chosen == "lora rank 2"


@pytest.mark.parametrize("server", ["", *SERVERS])
def test_what_is_taken_stays(server: str) -> None:
    assert for_server(written(), advised("lora rank 2"), server) == advised("lora rank 2")
    assert for_server(written(), advised(None), server) == advised(None)


def test_where_nothing_that_it_takes_was_trained_nothing_is_advised() -> None:
    context = replace(written(), sweeps={"prefix 4 tokens": written().sweeps["prefix 4 tokens"]})
    judgement = for_server(context, advised("prefix 4 tokens"), "vllm")
    assert judgement.chosen is None
    assert judgement.advice.startswith("Nothing that vLLM takes was trained")


def test_the_line_stands_in_the_recommendation(tmp_path: Path) -> None:
    assert recommend(written(), advised("lora rank 2"), None, AGAIN).serving.startswith("Served by vLLM")
    assert recommend(written(), advised(None), None, AGAIN).serving == ""


def test_what_a_server_cannot_answer_is_refused_before_any_work() -> None:
    labels = [{"text": f"the {word} is {mood}", "label": mood} for word in WORDS for mood in ("good", "bad")]
    for model, rows, options, said in (
        (tiny_model("llama"), labels, {}, "labels that a head reads"),
        (tiny_model("bert"), labels, {}, "a model that writes no text"),
        (tiny_model("llama"), ROWS, {"methods": "prefix"}, "a method that it takes: prompt or lora"),
        (tiny_model("llama"), ROWS, {"serve_with": "tgi"}, "one of vllm"),
        (tiny_model("llama"), ROWS, {"methods": "prompt", "method_config": IA3Config()}, "vLLM, and IA3"),
    ):
        with pytest.raises(InputError, match=said):
            audit(model, rows, **{"serve_with": "vllm", **options})
