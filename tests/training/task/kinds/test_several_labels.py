"""Several labels a text against torch and scikit-learn called by hand."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from torch.nn.functional import binary_cross_entropy_with_logits

from helpers.tolerances import assert_close
from promptreach.data import SeveralLabels
from promptreach.training.task.encoding import Encoded
from promptreach.training.task.kinds.several_labels import LabelSets, SetsOfLabels
from promptreach.training.task.metrics import score
from promptreach.training.task.readout import blank_head

HEAD = blank_head()


def sets(rows: int, labels: int, seed: int = 0) -> Encoded:
    """Texts of one token with random sets of labels; the last label on none."""
    drawn = torch.rand(rows, labels, generator=torch.Generator().manual_seed(seed)) < 0.4
    drawn[:, -1] = False
    return Encoded(tuple((row,) for row in range(rows)), drawn.float(), None, 0)


def test_the_loss_is_the_mean_over_labels_and_an_answer_the_whole_set() -> None:
    data, outputs = sets(6, 3), torch.randn(2, 3, generator=torch.Generator().manual_seed(1))
    assert data.targets is not None
    true = data.targets[[4, 1]]
    outputs[0] = 2 * true[0] - 1
    found = LabelSets(HEAD).answered(outputs, data, [4, 1])
    assert_close(found.loss, binary_cross_entropy_with_logits(outputs, true, reduction="none").mean(1), "loss")
    assert found.right.tolist() == [1.0, float(torch.equal(outputs[1] > 0, true[1] > 0))]
    heavy = LabelSets(HEAD, torch.tensor([1.0, 5.0, 1.0])).answered(outputs, data, [4, 1])
    weight = torch.tensor([1.0, 5.0, 1.0])
    expected = binary_cross_entropy_with_logits(outputs, true, reduction="none", pos_weight=weight).mean(1)
    assert_close(heavy.loss, expected, "loss")


def test_the_probe_is_a_logistic_regression_a_label() -> None:
    data, x = sets(40, 3), np.random.default_rng(0).normal(size=(40, 4))
    assert data.targets is not None
    problem = SetsOfLabels().problem(data, None, 3, 0, None)
    weight, bias = problem.solve(x, np.arange(40), 0.1)
    for label in range(2):
        own = LogisticRegression(C=1 / (0.1 * 40), max_iter=1000).fit(x, data.targets[:, label].numpy())
        assert np.allclose(weight[label], own.coef_[0], atol=1e-6)
        assert np.allclose(bias[label], own.intercept_[0], atol=1e-6)
    assert (x @ weight.T + bias)[:, 2].max() < 0, "a label that no text has is given to none"
    loss, right = problem.judge(x @ weight.T + bias)
    logits = torch.from_numpy(x @ weight.T + bias)
    assert np.isclose(loss, float(binary_cross_entropy_with_logits(logits, data.targets.double())))
    assert right == float(((logits > 0) == (data.targets > 0)).all(1).double().mean())


def test_the_best_constant_answer_is_found_among_the_most_frequent_labels() -> None:
    data = sets(50, 4)
    assert data.targets is not None
    true = data.targets.numpy()
    constants = SetsOfLabels().constants(data, data)
    every = [np.array([[int(code >> label & 1) for label in range(4)]] * 50) for code in range(16)]
    best = max(f1_score(true, given, average="micro", zero_division=0) for given in every)
    assert np.isclose(max(score("micro_f1", one) for one in constants), best)


def test_a_head_has_an_output_a_label() -> None:
    data = SeveralLabels(("a", "b"), ((0,), (0, 1)), ("x", "y"))
    assert (SetsOfLabels().outputs(data), data.answers) == (2, ("x", "x, y"))
    assert SetsOfLabels().counts(sets(10, 2), 2).tolist() == [sets(10, 2).targets[:, 0].sum(), 0]  # type: ignore[index]
