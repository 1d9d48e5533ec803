"""The front door of prediction: what comes out, and what is refused."""

import importlib
import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from helpers.tasks import SOFT, completer, completions, config_of, labelled, model_of, no_step, task_of
from promptreach.certificate import Certificate, Evidence
from promptreach.errors import DataError, InputError
from promptreach.prediction.forecast import Prediction
from promptreach.prediction.predict import PREDICTABLE, forecasts, predict
from promptreach.training.methods.methods import METHODS
from promptreach.tuning import Limits, fit

FAST: dict[str, Any] = {"tokens": (3, 1), "ranks": (2, 1), "quiet": True}


def predicted(kind: str, **options: Any) -> tuple[Prediction, ...]:
    if kind == "classification":
        return predict(model_of("bert"), labelled(), **FAST | options)
    return predict(completer(), completions(), **FAST | options)


@pytest.mark.parametrize("kind", ["classification", "completion"])
def test_every_method_and_size_is_predicted(kind: str) -> None:
    found = predicted(kind)
    sizes = [(1, 0), (3, 0), (1, 0), (3, 0), (0, 1), (0, 2), (0, 0)]
    assert [one.method for one in found] == ["prompt"] * 2 + ["prefix"] * 2 + ["lora"] * 2 + ["head"]
    assert [(one.tokens, one.rank) for one in found] == sizes
    for one in found:
        assert one.interval[0] <= one.held_out_loss <= one.interval[1]
        assert 0 <= one.accuracy <= 1
        assert 0 <= one.reachable_share <= 1
        evidence = Evidence.MEASURED if one.method == "head" else Evidence.PREDICTED
        for certificate in one.certificates:
            assert (certificate.evidence, bool(certificate.assumptions)) == (evidence, one.method != "head")
            assert ("interval" in certificate.claim) <= (one.method != "head")
            assert "training" in certificate.sample
            assert "held-out rows" in certificate.sample
            assert Certificate.from_dict(certificate.to_dict()) == certificate
    assert found[0].label == "prompt 1 token"
    assert found[-1].label == "head"
    assert (found[-1].parameters, found[-1].shift) == (0, 0.0)


def test_one_seed_one_prediction() -> None:
    methods = ("prompt", "lora")
    before = torch.random.get_rng_state()
    assert predicted("classification", methods=methods) == predicted("classification", methods=methods)
    assert predicted("classification", methods=methods) != predicted("classification", methods=methods, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_size_is_predicted_alike_among_others_and_on_its_own() -> None:
    """To the longest of several, the others add nothing."""
    (_, among), (alone,) = (predicted("classification", methods=("prompt",), tokens=t) for t in ((1, 3), (3,)))
    assert among.held_out_loss == pytest.approx(alone.held_out_loss, abs=1e-5)
    assert among.reachable_share == pytest.approx(alone.reachable_share, abs=1e-5)


@pytest.mark.parametrize("kind", ["classification", "completion"])
def test_the_head_is_predicted_as_it_is(kind: str) -> None:
    (found,) = predicted(kind, methods=("head",))
    model, data = (model_of("bert"), labelled()) if kind == "classification" else (completer(), completions())
    run = fit(model, data, "head", quiet=True)
    assert run.held_out is not None
    assert found.interval == (found.held_out_loss, found.held_out_loss)
    assert found.start_loss == found.held_out_loss == pytest.approx(run.held_out.mean_loss, abs=1e-4)
    assert found.accuracy == pytest.approx(run.held_out.accuracy)


@pytest.mark.parametrize("method", SOFT)
def test_the_start_is_where_training_starts(method: str) -> None:
    task = task_of("llama")
    for found in forecasts(task, (method,), (2, 3), (1, 2), 0, no_step):
        shape = config_of(method, tokens=found.tokens, rank=found.rank or 1)
        with METHODS[method].attach(task.backbone, shape, task.encoded["train"].sequences) as trainable:
            start = task.evaluate("held_out", task.objective(), trainable.joined)
            assert found.start_loss == pytest.approx(start.mean_loss, abs=1e-4)
            assert found.parameters == trainable.size


def test_held_out_labels_take_part_in_no_choice() -> None:
    task = task_of("bert")
    held_out = task.encoded["held_out"]
    assert held_out.labels is not None
    turned = replace(held_out, targets=1 - held_out.labels)
    other = replace(task, encoded={**task.encoded, "held_out": turned})
    (one,), (two,) = (tuple(forecasts(t, ("prompt",), (3,), (2,), 0, no_step)) for t in (task, other))
    assert one.held_out_loss != two.held_out_loss
    for name in ("shift", "train_loss", "left_out_loss", "reachable_share"):
        assert getattr(one, name) == getattr(two, name)


def test_many_small_classes_are_predicted() -> None:
    data = labelled(60, classes=2)
    data = replace(data, labels=tuple(i // 2 for i in range(60)), label_names=tuple(f"{i:02}" for i in range(30)))
    for found in predict(model_of("gpt2"), data, ("prompt", "head"), (2,), quiet=True):
        assert math.isfinite(found.held_out_loss)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ("prompt", "p-tuning")}, r"methods: 'p-tuning'; expected one of prompt, prefix, lora, head"),
        ({"methods": ()}, "methods: none; expected at least one"),
        ({"methods": ("head", "head")}, "methods: 'head' twice"),
        ({"tokens": ()}, "tokens: none"),
        ({"tokens": (4, 0)}, "tokens: 0; expected at least 1"),
        ({"tokens": (4, 4)}, "tokens: 4 twice"),
        ({"ranks": (-1,)}, "ranks: -1; expected at least 1"),
        ({"ranks": ()}, "ranks: none"),
        ({"tokens": (57,)}, "57 virtual tokens in a context of 64"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("promptreach.prediction.predict")  # the room's `predict` is the function
    monkeypatch.setattr(module, "forecasts", lambda *_: pytest.fail("work began"))
    with pytest.raises(InputError, match=message):
        predicted("classification", **options)


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(InputError) as caught:
        predict(model_of("bert"), labelled(), ("full", "head", "head"), (0,), ranks=(), quiet=True)
    assert len(caught.value.faults) == 4


def test_data_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(DataError, match="3 different inputs"):
        predict(model_of("bert"), [{"text": w, "label": i % 2} for i, w in enumerate(("a", "the", "cat"))], ("head",))
    with pytest.raises(InputError, match="an encoder"):
        predict(model_of("bert"), completions(), quiet=True)


def test_rows_are_limited_as_for_training() -> None:
    (found,) = predicted("classification", methods=("head",), limits=Limits(train=20, held_out=7))
    assert found.sample == "20 training and 7 held-out rows, one start"


def test_progress_counts_the_methods() -> None:
    seen: list[str] = []
    task = task_of("gpt2")

    def step(advance: int = 1, note: str = "") -> None:
        seen.append(note)

    list(forecasts(task, PREDICTABLE, (2,), (1,), 0, step))
    assert seen == list(PREDICTABLE)
