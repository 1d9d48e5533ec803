"""Answers in a context: loss, the best pair of ends, and the probe against torch called by hand."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from helpers.tasks import model_of
from helpers.tolerances import assert_close
from promptreach.data import ContextSpans
from promptreach.training.task.deciding import metrics_for
from promptreach.training.task.encoding import encode
from promptreach.training.task.kinds.span_scores import spans_given
from promptreach.training.task.kinds.spans import ContextAnswers, Spans
from promptreach.training.task.metrics import score
from promptreach.training.task.readout import blank_head

DATA = ContextSpans(
    ("is it good", "is it bad", "was it good", "was it"),
    ("the cat sat on the mat", "a dog ran under the tree", "the cat ran", "a book and a film"),
    (((4, "cat"),), ((2, "dog"),), (), ((11, "a film"), (13, "film"))),
)
ENCODED = encode(model_of("bert"), DATA, 32)


@torch.no_grad()
def test_sure_outputs_are_right_and_doubtful_ones_cost_what_cross_entropy_says() -> None:
    assert ENCODED.targets is not None
    longest = max(map(len, ENCODED.sequences))
    outputs = torch.zeros(4, longest, 2)
    for row, (first, last) in enumerate(ENCODED.targets.tolist()):
        outputs[row, first, 0] = outputs[row, last, 1] = 9.0
    found = ContextAnswers(blank_head()).answered(outputs, ENCODED, range(4))
    assert found.right.tolist() == [1, 1, 1, 1]
    assert score("token_f1", found) == score("accuracy", found) == 1.0
    flat = ContextAnswers(blank_head()).answered(torch.zeros(4, longest, 2), ENCODED, range(4))
    counts = torch.tensor([1 + len(truth.readable) for truth in ENCODED.truths], dtype=torch.float32)
    assert_close(flat.loss, counts.log(), "loss")


def test_the_best_pair_of_ends_is_the_best_of_all_that_fit() -> None:
    for seed in range(30):
        scores = torch.randn(1, 7, 2, generator=torch.Generator().manual_seed(seed))
        fits = [(0, 0), *((one, other) for one, other in itertools.product(range(1, 7), repeat=2) if one <= other)]
        best = max(fits, key=lambda pair: float(scores[0, pair[0], 0] + scores[0, pair[1], 1]))
        assert tuple(spans_given(scores)[0].tolist()) == best


def test_the_probe_is_two_penalised_softmaxes() -> None:
    kind = Spans()
    places = kind.places(ENCODED, 0)
    problem = kind.problem(ENCODED, places, 2, 0, None)
    x = np.random.default_rng(0).normal(size=(len(problem.question), 3))
    weight, bias = problem.solve(x, np.arange(len(x)), 0.1)
    assert bias.tolist() == [0, 0]
    for end in (0, 1):
        own = torch.tensor(weight[end], requires_grad=True)
        scores = torch.from_numpy(x) @ own
        loss = sum(
            cross_entropy(
                scores[problem.question == row][None], torch.tensor([at - int((problem.question < row).sum())])
            )
            for row, at in enumerate(problem.ends[:, end].tolist())
        )
        total = loss / 4 + 0.05 * own.square().sum()
        (slope,) = torch.autograd.grad(total, own)
        assert float(slope.abs().max()) < 1e-4
    nats, right = problem.judge(x @ weight.T)
    assert 0 < nats < np.log(20)
    assert 0 <= right <= 1


def test_constant_answers_and_words() -> None:
    kind = Spans()
    found = kind.constants(ENCODED, ENCODED)
    assert found[0].accuracy == 0.25, "no answer is right once"
    assert 0 < max(score("token_f1", one) for one in found) < 1
    assert metrics_for(DATA) == (("token_f1", "accuracy"), "spans")
    outputs = torch.zeros(1, max(map(len, ENCODED.sequences)), 2)
    outputs[0, 0] = 5.0
    assert kind.said(outputs, ENCODED, [1], (), (0.0, 1.0)) == ["none"]
    assert kind.outputs(DATA) == 2


def test_gradients_reach_the_head_without_texts() -> None:
    outputs = torch.randn(2, max(map(len, ENCODED.sequences)), 2, requires_grad=True)
    found = ContextAnswers(blank_head()).answered(outputs, ENCODED, [0, 1])
    assert found.judged is None
    found.loss.sum().backward()  # type: ignore[no-untyped-call]
    assert outputs.grad is not None
    assert float(outputs.grad.abs().sum()) > 0
    assert pytest.approx(0, abs=1e-6) == float(outputs.grad.sum())
