"""The front door of prediction: what comes out, what is refused, and rows whose answer is known by construction."""

import importlib
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.tasks import SOFT, completer, completions, config_of, labelled, model_of, no_step, task_of
from helpers.tolerances import assert_close
from promptreach.backbone import Joined
from promptreach.certificate import Certificate, Evidence
from promptreach.errors import DataError, InputError
from promptreach.prediction.forecast import (
    SHIFTS,
    Kernels,
    Prediction,
    Start,
    accuracy,
    choose,
    forecast,
    gram,
    head_kernel,
    mean_loss,
    standard_error,
)
from promptreach.prediction.kernel_logistic import nats
from promptreach.prediction.ntk import Scores
from promptreach.prediction.predict import PREDICTABLE, _start, forecasts, parts_of, predict
from promptreach.training.methods.methods import METHODS
from promptreach.training.task.task import prepare
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
    assert found[0].label == "prompt 1 tokens"
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
        shape = config_of(method, tokens=found.tokens, rank=found.rank or 1).shape
        with METHODS[method].attach(task.backbone, shape, task.encoded["train"].sequences) as trainable:
            start = task.evaluate("held_out", task.objective(), trainable.joined)
            assert found.start_loss == pytest.approx(start.mean_loss, abs=1e-4)
            assert found.parameters == trainable.size


def test_held_out_labels_take_part_in_no_choice() -> None:
    task = task_of("bert")
    held_out = task.encoded["held_out"]
    assert held_out.labels is not None
    turned = replace(held_out, labels=1 - held_out.labels)
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


def rows_of(log_odds: Tensor, answers: Tensor | None = None) -> Scores:
    """Scores without a head, an example each, answered right where that was likelier than not."""
    answers = torch.ones_like(log_odds) if answers is None else answers
    right = answers * (log_odds > 0)
    return Scores(log_odds, answers, right, torch.arange(len(log_odds)), None, None)


def start_of(train: Tensor, held_out: Tensor) -> Start:
    return Start(rows_of(train), rows_of(train), rows_of(held_out))


def planted_start(strength: float, seed: int = 0) -> tuple[Start, Kernels, float]:
    """Rows whose log odds, given the label, move with 40 features, and the loss of the true direction.

    Labels are drawn from the logistic model itself, so no prediction can be expected below that loss.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(900, 40, generator=generator, dtype=torch.float64)
    truth = strength * torch.randn(40, generator=generator, dtype=torch.float64) / 40**0.5
    labels = 2.0 * (torch.rand(900, generator=generator, dtype=torch.float64) < torch.sigmoid(x @ truth)) - 1
    features = labels[:, None] * x
    zeros = torch.zeros(600, dtype=torch.float64)
    kernels = gram(features[:300], features[:300], features[300:])
    return start_of(zeros[:300], zeros), kernels, float(nats(features[300:] @ truth).mean())


SIZE: dict[str, Any] = {"method": "prompt", "tokens": 1, "rank": 0, "parameters": 40}


@pytest.mark.parametrize("strength", [1.0, 4.0])
def test_a_planted_direction_is_found(strength: float) -> None:
    start, kernels, best = planted_start(strength)
    found = forecast(start, kernels, **SIZE)
    assert found.start_loss == pytest.approx(math.log(2))
    assert best - 0.01 < found.held_out_loss < best + 0.1
    assert found.left_out_loss == pytest.approx(found.held_out_loss, abs=0.07)
    assert found.interval[0] < found.left_out_loss < found.interval[1]
    assert found.shift > 0


def test_pure_noise_is_not_learned() -> None:
    """Labels that have nothing to do with the features: the leave-one-out loss says so, where the fit would not."""
    start, kernels, _ = planted_start(0.0)
    found = forecast(start, kernels, **SIZE)
    assert found.held_out_loss == pytest.approx(math.log(2), abs=0.02)
    assert found.shift <= 0.1


def test_a_form_that_reaches_half_of_the_residual_says_half() -> None:
    """Every second row has no gradient: no change of this form moves it."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(40, 60, generator=generator, dtype=torch.float64)
    features[::2] = 0
    start = start_of(torch.zeros(40).double(), torch.zeros(3).double())
    found = forecast(start, gram(features, features, features[:3]), **SIZE)
    assert found.reachable_share == pytest.approx(0.5, abs=1e-6)


def test_a_form_without_gradients_stays_at_its_start() -> None:
    start = start_of(torch.linspace(-2, 2, 20).double(), torch.linspace(-1, 3, 9).double())
    nothing = gram(torch.zeros(20, 4), torch.zeros(20, 4), torch.zeros(9, 4))
    found = forecast(start, nothing, **SIZE)
    assert (found.shift, found.reachable_share) == (0.0, 0.0)
    assert found.held_out_loss == found.start_loss


def test_accuracy_of_single_answers_is_the_share_of_positive_log_odds() -> None:
    seen = rows_of(torch.linspace(-3, 3, 101).double())
    new = rows_of(torch.tensor([-2.0, -1.0, 0.5, 4.0]).double())
    assert accuracy(new.log_odds, new, seen) == 0.5


def test_an_answer_below_half_the_probability_may_be_right() -> None:
    """As often as among the rows seen with those log odds."""
    seen = replace(rows_of(torch.full((4,), -0.5).double()), right=torch.tensor([1.0, 1.0, 1.0, 0.0]).double())
    new = rows_of(torch.full((2,), -0.5).double())
    assert accuracy(new.log_odds, new, seen) == 0.75


def test_a_small_mean_loss_leaves_few_wrong_answers() -> None:
    """4 answers at 0.2 nats each on average: 0.8 nats pay for one wrong answer and not for two."""
    seen = replace(rows_of(torch.zeros(3).double() - 9), right=torch.zeros(3).double())
    log_odds = -torch.log(torch.expm1(torch.tensor([0.2]).double()))
    new = rows_of(log_odds, torch.tensor([4.0]).double())
    assert accuracy(log_odds, new, seen) == 0.75


def test_losses_count_answers_and_errors_count_examples() -> None:
    log_odds = torch.tensor([0.0, 1.0, -1.0, 2.0]).double()
    scores = replace(rows_of(log_odds, torch.tensor([1.0, 2.0, 1.0, 1.0]).double()), example=torch.tensor([0, 0, 1, 2]))
    losses = nats(log_odds)
    total = losses[0] + 2 * losses[1] + losses[2] + losses[3]
    assert mean_loss(log_odds, scores) == pytest.approx(float(total) / 5)
    residual = torch.stack([losses[0] + 2 * losses[1], losses[2], losses[3]]) - total / 5 * torch.tensor([3.0, 1, 1])
    assert standard_error(log_odds, scores) == pytest.approx(float(residual.std() / (5 / 3) / 3**0.5))


def test_the_shift_is_chosen_by_leaving_out() -> None:
    start, kernels, _ = planted_start(1.0)
    chosen = choose(start, kernels.normalised().scaled, SHIFTS)
    losses = {shift: choose(start, kernels.normalised().scaled, (shift,)).left_out_loss for shift in SHIFTS}
    assert losses[chosen.shift] == min(losses.values()) == chosen.left_out_loss
    assert len(set(losses.values())) == len(SHIFTS)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_heads_kernel_is_autograds(classes: int) -> None:
    task = prepare(model_of("bert"), labelled(classes=classes), longest_prompt=0)
    parts = parts_of(task, 0)
    start = _start(task, parts, Joined())
    rows = []
    for part, scores in zip(parts, (start.train, start.left_out, start.held_out), strict=True):
        assert part.reader is not None
        assert part.data.labels is not None
        assert scores.features is not None
        for i, label in enumerate(part.data.labels.tolist()):
            fold = part.reader.fold[i]
            weight = part.reader.weight[fold].double().requires_grad_()
            bias = part.reader.bias[fold].double().requires_grad_()
            loss = -(weight @ scores.features[i] + bias).log_softmax(0)[label]
            gradients = torch.autograd.grad(-torch.log(torch.expm1(loss)), (weight, bias))
            # The kernel's unit: features of mean square 1, as the bias has.
            rows.append(torch.cat([gradients[0].flatten() / scores.features.shape[1] ** 0.5, gradients[1]]))
    split = torch.stack(rows).split([len(part.data) for part in parts])
    found, expected = head_kernel(start), gram(split[0], split[1], split[2])
    for name in ("train", "left_out", "held_out"):
        assert_close(getattr(found, name), getattr(expected, name), "tangent kernel", torch.float32)


def test_without_a_head_there_is_nothing_to_move_it_with() -> None:
    bare = start_of(torch.zeros(3).double(), torch.zeros(2).double())
    assert not head_kernel(bare).train.any()
    assert head_kernel(bare).held_out.shape == (2, 3)


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
