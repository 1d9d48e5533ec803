"""What the report tells people to copy really runs, and gives the audit's own numbers."""

from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.audit_cases import SETTINGS, rows, trained
from helpers.models import smollm2_file
from helpers.tolerances import assert_close
from promptreach.audit.context import AuditContext
from promptreach.audit.folder import ADAPTER_FOLDER, HEAD_FOLDER
from promptreach.audit.recommendation import classifier_code, recommend
from promptreach.audit.settings import Settings
from promptreach.certificate import Evidence
from promptreach.commands.folder import planned, write_run
from promptreach.commands.reading import read_folder
from promptreach.data import LabelledTexts
from promptreach.diagnosis.verdict import Judgement
from promptreach.hf import load_readout
from promptreach.report.findings import Code
from promptreach.report.result import Recommendation, TuningVerdict
from promptreach.training.task.encoding import encode
from promptreach.training.task.task import prepare
from promptreach.tuning import METHODS, Limits, fit

AGAIN = Code(title="This audit again", language="shell", text="promptreach audit 'a model' data.csv")


def advised(context: AuditContext, chosen: str, folder: Path) -> Recommendation:
    judgement = Judgement(TuningVerdict.FITS, Evidence.MEASURED, "fits", (), chosen, "do it")
    return recommend(context, judgement, folder, AGAIN)


@pytest.mark.parametrize("family", ["bert", "roberta", "llama", "gpt2"])
@pytest.mark.parametrize("method", ["prompt", "prefix", "lora"])
def test_the_loading_lines_give_the_audits_logits(family: str, method: str, tmp_path: Path) -> None:
    context, chosen = trained(tmp_path / "model", family, method)
    advice = advised(context, chosen, tmp_path)
    assert advice.adapter == ADAPTER_FOLDER
    assert advice.peft_config["peft_type"] in ("PROMPT_TUNING", "PREFIX_TUNING", "LORA")
    assert_lines_give_the_audits_logits(context, chosen, advice)


@pytest.mark.parametrize("family", ["gpt2", "qwen3"])
def test_the_loading_lines_open_the_model_as_the_audit_did(family: str, tmp_path: Path) -> None:
    options = {"num_layers": 1, "dtype": torch.float64, "revision": "main"}
    context, chosen = trained(tmp_path / "model", family, "prompt", **options)
    advice = advised(context, chosen, tmp_path)
    assert "revision='main'" in advice.blocks[0].text
    assert_lines_give_the_audits_logits(context, chosen, advice)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_head_that_is_all_it_needs_is_written_and_loads_without_peft(family: str, tmp_path: Path) -> None:
    context, chosen = trained(tmp_path / "model", family, "head")
    advice = advised(context, chosen, tmp_path)
    assert (advice.method, advice.adapter, advice.peft_config) == ("head", None, None)
    assert not any("peft" in block.text for block in advice.blocks)
    found = load_readout(tmp_path / HEAD_FOLDER)
    assert found is not None
    assert found[1]["labels"] == list(context.data.label_names)
    assert_lines_give_the_audits_logits(context, chosen, advice)
    assert advised(context, chosen, tmp_path) == advice  # written over what stands there


def assert_lines_give_the_audits_logits(context: AuditContext, chosen: str, advice: Recommendation) -> None:
    long = "a dog is very awful and it ran " * 3  # longer than the audit reads
    texts = ["the cat is good", long]
    code = next(block.text for block in advice.blocks if block.title == "Load it")
    namespace: dict[str, Any] = {}
    exec(code.replace("['a text to classify']", repr(texts)), namespace)

    run = context.sweeps[chosen].best
    objective = context.task.objective()
    objective.load_head(run.head)
    data = LabelledTexts(tuple(texts), (0, 0), context.data.label_names)
    encoded = encode(context.model, data, SETTINGS.limits.max_length)
    assert encoded.truncated == 1
    batch = context.model.batch(encoded.sequences)
    spec = METHODS[run.config.method]
    with torch.no_grad(), spec.attach(context.model, run.config, [[5, 6, 7]]) as trainable:
        trainable.load(run.state)
        expected = objective.head(context.model.hidden(batch, trainable.joined), batch.mask)
    assert_close(namespace["logits"], expected, "classifier logits")


def test_a_classifiers_lines_give_the_audits_logits_row_by_row(tmp_path: Path) -> None:
    context, _ = trained(tmp_path / "model", "gpt2", "prefix")
    context.task = prepare(context.model, context.data, limits=SETTINGS.limits, longest_prompt=3, pooling="last")
    run = fit(context.model, context.data, "prefix", tokens=3, steps=2, learning_rate=0.1, pooling="last", quiet=True)
    plan = planned(context.model, context.task, run, SETTINGS.limits.max_length)
    assert plan.by == "classifier"
    folder = write_run(tmp_path / "own", context.model, context.task, run, plan)
    namespace: dict[str, Any] = {}
    texts = ["the cat is good", "a dog is very awful and it ran " * 3]
    code = classifier_code(context, plan, str(folder))
    exec(code.replace("['a text to classify']", repr(texts)), namespace)
    cut = [ids[: SETTINGS.limits.max_length] for ids in context.model.tokenize(texts)]
    assert_close(namespace["logits"], read_folder(folder, context.model).outputs(cut), "classifier logits")


def test_the_call_to_repeat_comes_last(tmp_path: Path) -> None:
    context, chosen = trained(tmp_path / "model", "bert", "prompt")
    assert advised(context, chosen, tmp_path).blocks[-1] == AGAIN
    assert advised(context, "nothing", tmp_path).blocks == [AGAIN]


def test_without_a_folder_nothing_is_written(tmp_path: Path) -> None:
    context, chosen = trained(tmp_path / "model", "bert", "prompt")
    judgement = Judgement(TuningVerdict.FITS, Evidence.MEASURED, "fits", (), chosen, "do it")
    advice = recommend(context, judgement, None, AGAIN)
    assert advice.adapter is None
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.slow
def test_smollm2_first_layers_audit_prompts_and_completions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real causal model, its first two layers, from its GGUF file to a verdict and an adapter that loads."""
    import promptreach
    from promptreach.audit.settings import BUDGETS

    monkeypatch.setitem(BUDGETS, "quick", Settings("quick", 0, Limits(48, 16, 16, 32), (2, 4), 2, 4, 8, 4))
    pairs = [{"prompt": f"{row['text']}.\nVerdict:", "completion": f" {row['label']}"} for row in rows(80)]
    result = promptreach.audit(smollm2_file(), pairs, budget="quick", out=tmp_path / "out", num_layers=2)
    assert [finding.reason for finding in result.findings if finding.status == "failed"] == []
    assert result.model["family"] == "llama"
    assert result.exit_status in (0, 1, 3)
