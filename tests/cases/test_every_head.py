"""Every kind of task that is read through a head: fitted, saved, read back, evaluated, predicted and audited."""

import html
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.models import WORDS
from helpers.tasks import TRAINED, model_of, sentences
from promptreach import audit
from promptreach.audit.checks.answers import SHOWN
from promptreach.commands.evaluate import evaluate_adapters
from promptreach.commands.fit import fit_adapter
from promptreach.commands.predict import predict_texts
from promptreach.commands.reading import read_folder
from promptreach.data import TaskData
from promptreach.errors import InputError
from promptreach.tables import read_task
from promptreach.training.fit import fit
from promptreach.training.task.deciding import usual_metric
from promptreach.training.task.encoding import encode
from promptreach.training.task.limits import Limits
from promptreach.training.task.metrics import score
from promptreach.training.task.task import prepare

TEXTS = sentences(48, seed=3)
ROWS: dict[str, list[dict[str, object]]] = {
    "several_labels": [
        {"text": text, "label": [word for word in ("cat", "dog") if word in text.split()]} for text in TEXTS
    ],
    "number": [{"text": text, "label": 0.5 + sum(word in WORDS[:12] for word in text.split())} for text in TEXTS],
    "tags": [
        {"tokens": text.split(), "ner_tags": ["B-PET" if word in ("cat", "dog") else "O" for word in text.split()]}
        for text in TEXTS
    ],
    "span": [
        {"question": "is it good", "context": text, "answers": {"text": [text.split()[0]], "answer_start": [0]}}
        for text in TEXTS
    ],
}
ANSWERS = {"several_labels": "labels", "number": "number", "tags": "tags", "span": "answer"}
METRICS = {"several_labels": "micro F1", "number": "Pearson correlation", "tags": "entity F1", "span": "token F1"}
SHORT: dict[str, Any] = {"steps": 2, "batch_size": 8, "learning_rate": 0.01, "quiet": True}


def rows_of(kind: str) -> TaskData:
    """The rows of a kind of task."""
    return read_task(ROWS[kind])


@pytest.mark.parametrize(
    ("kind", "family"), [("several_labels", "bert"), ("number", "gpt2"), ("tags", "bert"), ("span", "bert")]
)
def test_every_method_trains_it(kind: str, family: str) -> None:
    data, model = rows_of(kind), model_of(family)
    assert data.kind == kind
    for method in TRAINED:
        run = fit(model, data, method, tokens=2, rank=2, bottleneck=2, **SHORT)
        assert (run.status, run.steps, len(run.curve)) == ("finished", 2, 3), method
        assert len({look.validation_loss for look in run.curve}) > 1, method
        assert run.held_out is not None
    deep = fit(model, data, "prefix", tokens=2, reparameterise=True, **SHORT)
    assert deep.adapter is not None


@pytest.mark.parametrize(
    ("kind", "family", "method"),
    [
        ("several_labels", "bert", "prompt"),
        ("number", "gpt2", "lora"),
        ("tags", "bert", "prefix"),
        ("tags", "gpt2", "head"),
        ("span", "bert", "prompt"),
    ],
)
def test_what_was_saved_answers_with_the_same_numbers(kind: str, family: str, method: str, tmp_path: Path) -> None:
    data, model = rows_of(kind), model_of(family)
    folder = tmp_path / "adapter"
    found = fit_adapter(model, data, folder, method=method, tokens=2, rank=2, **SHORT)
    longest = 0 if method in ("lora", "head") else 2
    task = prepare(model, data, limits=Limits(max_length=128), longest_prompt=longest)
    metric = usual_metric(data)
    reader = read_folder(folder, model)
    assert reader.kind == kind
    held = reader.answered(encode(model, task.held_out, 62))
    run = fit(model, data, method, tokens=2, rank=2, limits=Limits(max_length=128), **SHORT)
    assert run.held_out is not None
    assert abs(score(metric, held) - score(metric, run.held_out)) < 1e-4
    assert torch.allclose(held.loss, run.held_out.loss, atol=1e-4)
    name = next(name for name in found.values["metrics"] if name != "the bare model")
    assert "loss" in found.values["metrics"][name]
    there = evaluate_adapters(model, [folder], data)
    assert set(there.values["metrics"]) == {"bare model", "adapter"}
    assert 0 < there.values["metrics"]["adapter"]["loss"]["value"] < 100
    card = (folder / "README.md").read_text()
    assert "print(" in card
    contexts = TEXTS[:2] if kind == "span" else []
    asked = ["is it good"] * 2 if contexts else TEXTS[:2]
    answers = predict_texts(model, folder, asked, contexts=contexts).values["answers"]
    assert len(answers) == 2
    assert ANSWERS[kind] in answers[0]
    if contexts:
        said = [answer["answer"] for answer in answers]
        assert all(one == "none" or one in context for one, context in zip(said, contexts, strict=True))
        with pytest.raises(InputError, match="--context"):
            predict_texts(model, folder, asked)


@pytest.mark.parametrize("kind", ROWS)
def test_an_audit_says_what_it_says_in_the_metric_of_the_task(kind: str, tmp_path: Path) -> None:
    rates = {"prompt": 0.3, "prefix": 0.03, "lora": 0.003}
    result = audit(
        model_of("bert"), ROWS[kind], budget="quick", tokens=(2,), steps=4, rank=2, learning_rates=rates, out=tmp_path
    )
    findings = {finding.check: finding for finding in result.findings}
    assert [check for check, finding in findings.items() if finding.status == "failed"] == []
    assert findings["prediction"].status == "skipped"
    training = findings["training"]
    assert training.values["metric"] == usual_metric(rows_of(kind))
    assert all(run["value"] is not None for run in training.values["methods"].values())
    said = (tmp_path / "report.html").read_text()
    assert "nan" not in json.dumps(training.values).lower()
    assert METRICS[kind] in said
    assert METRICS[kind] in training.summary
    table = said.split("Rows as they were answered")[-1]
    shown = findings["answers"].values["rows"]
    assert len(shown) == SHOWN
    trained = {"head alone", "prompt 2 tokens", "prefix 2 tokens", "lora rank 2"} - set(training.values["not_needed"])
    assert {"head alone", "prompt 2 tokens", "lora rank 2"} <= trained
    for row in shown:
        assert trained == set(row["answers"])
        texts = [row["input"], row["expected"], *row["answers"].values()]
        assert [text for text in texts if html.escape(text) not in table] == []


@pytest.mark.parametrize("kind", ["number"])
def test_answers_without_a_relation_to_the_text_teach_nothing(kind: str) -> None:
    others = ROWS[kind][17:] + ROWS[kind][:17]
    turned = [{**row, "label": other["label"]} for row, other in zip(ROWS[kind], others, strict=True)]
    rates = {"prompt": 0.1, "lora": 0.001}
    result = audit(
        model_of("bert"),
        turned,
        budget="quick",
        tokens=(2,),
        steps=2,
        rank=2,
        methods=("prompt", "lora"),
        learning_rates=rates,
    )
    assert result.verdict.value in ("UNDECIDED", "DATA")


def test_rows_count_as_their_weights_say() -> None:
    model = model_of("bert")
    rows: list[dict[str, object]] = [{**row, "weight": 0.0} for row in ROWS["number"]]
    heavy = [{**row, "weight": 1.0} for row in ROWS["number"]]
    # Rows of weight zero with absurd numbers change nothing of a loss that counts the others alone.
    rows = [{**row, "label": 40.0} if index % 3 == 0 else heavy[index] for index, row in enumerate(rows)]
    data = read_task(rows)
    assert len(data.weights) == 48
    run = fit(model, data, "lora", rank=2, **SHORT)
    assert run.held_out is not None
    assert run.held_out.weight is not None
    counted = run.held_out.weight > 0
    given, true = run.held_out.given, run.held_out.true
    assert given is not None
    assert true is not None
    from scipy.stats import pearsonr

    expected = pearsonr(given[counted].double().numpy(), true[counted].double().numpy()).statistic
    assert score("pearson", run.held_out) == pytest.approx(expected, abs=1e-12)


def test_balanced_classes_raise_the_recall_of_the_rare_one() -> None:
    rare = [{"text": text, "label": "yes" if {"cat", "mat"} & {*text.split()} else "no"} for text in sentences(120, 5)]
    plain = fit(model_of("bert"), rare, "head", quiet=True)
    balanced = fit(model_of("bert"), rare, "head", class_weights="balanced", quiet=True)
    assert plain.held_out is not None
    assert balanced.held_out is not None
    given = [run.held_out.given for run in (plain, balanced)]
    assert given[0] is not None
    assert given[1] is not None
    assert float(given[1].sum()) > float(given[0].sum())
