"""The read-out against plain loops, scikit-learn called by hand, and a planted rule."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import PredefinedSplit
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from helpers.tolerances import assert_close
from promptreach.training.task.readout import PENALTIES, POOLED, LinearHead, Pooling, Probe, fit_probe, folds, pool


def random_hidden(lengths: list[int], hidden_size: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Hidden states with huge numbers at the padding, which nothing may read, and the mask."""
    states = torch.randn(len(lengths), max(lengths), hidden_size, generator=torch.Generator().manual_seed(seed))
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.where(mask[..., None], states, 1e6), mask


@given(st.lists(st.integers(1, 7), min_size=1, max_size=5), st.sampled_from(POOLED))
def test_pooling_is_the_plain_loop(lengths: list[int], pooling: Pooling) -> None:
    hidden, mask = random_hidden(lengths)
    for row, length, pooled in zip(hidden, lengths, pool(hidden, mask, pooling), strict=True):
        content = [row[position] for position in range(length)]
        expected = {"mean": sum(content) / length, "first": content[0], "last": content[-1]}[pooling]
        assert_close(pooled, expected, "pooled states")


def drawn(count: int, classes: int, seed: int = 0, hidden_size: int = 6) -> tuple[Tensor, Tensor]:
    """Features of uneven size and centre, labelled by a noisy linear rule."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, hidden_size, generator=generator)
    rule = torch.randn(classes, hidden_size, generator=generator)
    labels = (features @ rule.T + torch.randn(count, classes, generator=generator)).argmax(1)
    return 3.0 + features * torch.logspace(-1, 1, hidden_size), labels


def logits(probe: Probe, features: Tensor) -> Tensor:
    """The probe's head on features that are already pooled."""
    mask = torch.ones(len(features), 1, dtype=torch.bool)
    return probe.head()(features[:, None], mask).detach()


def ridge(rows: int, penalty: float) -> LogisticRegression:
    """scikit-learn sums the loss over the rows where the probe takes its mean."""
    return LogisticRegression(C=1 / (penalty * rows), max_iter=1000)


def cross_validated(x: np.ndarray, y: np.ndarray, fold_of: np.ndarray, penalty: float) -> tuple[float, float]:
    """Loss and accuracy over the folds, all from scikit-learn."""
    scaled = StandardScaler().fit_transform(x)
    found = np.empty((len(y), len(set(y))))
    for train, test in PredefinedSplit(fold_of).split():
        found[test] = ridge(len(train), penalty).fit(scaled[train], y[train]).predict_proba(scaled[test])
    return log_loss(y, found), accuracy_score(y, np.unique(y)[found.argmax(1)])


@pytest.mark.parametrize(
    ("classes", "kept", "num_classes"),
    [
        pytest.param(2, (0, 1), 2, id="binary"),
        pytest.param(4, (0, 1, 2, 3), 4, id="multinomial"),
        pytest.param(3, (0, 2), 3, id="binary with a class between that is absent"),
        pytest.param(4, (0, 1, 3), 6, id="multinomial with absent classes"),
    ],
)
def test_the_probe_is_scikit_learns_by_hand(classes: int, kept: tuple[int, ...], num_classes: int) -> None:
    features, labels = drawn(90, classes)
    is_kept = torch.isin(labels, torch.tensor(kept))
    features, labels = features[is_kept], labels[is_kept]
    probe = fit_probe(features, labels, num_classes, "mean", seed=0)

    x, y = features.double().numpy(), labels.numpy()
    scores = {penalty: cross_validated(x, y, folds(y, 0), penalty) for penalty in PENALTIES}
    assert probe.penalty == min(scores, key=scores.__getitem__)
    loss, accuracy = scores[probe.penalty]
    # The absent classes cost a probability of e^-10 each, or less.
    slack = np.log1p((num_classes - len(kept)) * np.exp(-10.0))
    assert loss - 1e-9 <= probe.loss <= loss + slack + 1e-9
    assert probe.accuracy == accuracy

    whole = ridge(len(y), probe.penalty).fit(StandardScaler().fit_transform(x), y)
    expected = whole.predict_proba(StandardScaler().fit_transform(x))
    ours = logits(probe, features)[:, list(kept)].softmax(1)
    assert_close(ours, torch.from_numpy(expected), "probe probabilities")


def test_a_planted_rule_is_found() -> None:
    generator = torch.Generator().manual_seed(3)
    rule = torch.randn(12, generator=generator)
    features = torch.randn(600, 12, generator=generator)
    labels = (features @ rule > 0).long()
    probe = fit_probe(features[:400], labels[:400], 2, "mean", seed=0)
    assert (logits(probe, features[400:]).argmax(1) == labels[400:]).float().mean() > 0.96
    weight, _ = LinearHead.folded(probe.head())
    assert torch.cosine_similarity(weight[1] - weight[0], rule, dim=0) > 0.98
    assert abs(probe.accuracy - 0.98) < 0.02


def test_no_rule_scores_like_guessing() -> None:
    """The score is cross-validated: with as many features as rows, the training score would be perfect."""
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(60, 60, generator=generator), torch.randint(2, (60,), generator=generator)
    probe = fit_probe(features, labels, 2, "mean", seed=0)
    assert (logits(probe, features).argmax(1) == labels).float().mean() > 0.9
    assert 0.3 < probe.accuracy < 0.7
    assert probe.loss > 0.6


def test_a_class_with_one_row_does_not_end_cross_validation() -> None:
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(60, 60, generator=generator), torch.randint(2, (60,), generator=generator)
    labels[0] = 2
    assert fit_probe(features, labels, 3, "mean", seed=0).accuracy < 0.7


@given(st.lists(st.integers(0, 4), min_size=4, max_size=40), st.integers(0, 100))
def test_folds_spread_every_class_evenly(labels: list[int], seed: int) -> None:
    y = np.array(labels)
    fold_of = folds(y, seed)
    assert set(fold_of) == set(range(4))
    for label in set(labels):
        counts = np.bincount(fold_of[y == label], minlength=4)
        assert counts.max() - counts.min() <= 1
    assert np.array_equal(fold_of, folds(y, seed))


@settings(max_examples=25)
@given(
    pooling=st.sampled_from(POOLED),
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    classes=st.integers(2, 4),
    seed=st.integers(0, 1000),
)
def test_the_folded_head_gives_the_same_logits(pooling: Pooling, lengths: list[int], classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    centre, spread = torch.randn(6, generator=generator), 0.1 + torch.rand(6, generator=generator)
    weight, bias = torch.randn(classes, 6, generator=generator), torch.randn(classes, generator=generator)
    head = LinearHead(pooling, centre, spread, weight, bias)
    hidden, mask = random_hidden(lengths, seed=seed)
    folded_weight, folded_bias = head.folded()
    assert not folded_weight.requires_grad
    assert not folded_bias.requires_grad
    expected = pool(hidden, mask, pooling) @ folded_weight.T + folded_bias
    assert_close(head(hidden, mask).detach(), expected, "folded logits")


@settings(max_examples=12)
@given(
    seen=st.sets(st.integers(0, 4), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
    size=st.floats(0.0, 1e3),
)
def test_an_absent_class_is_never_named(seen: set[int], seed: int, size: float) -> None:
    features, labels = drawn(24, len(seen), seed)
    labels = torch.tensor(sorted(seen))[labels]
    probe = fit_probe(features, labels, 5, "mean", seed)
    absent = [label for label in range(5) if label not in labels]
    assert (probe.weight[absent] == 0).all()
    anywhere = size * torch.randn(50, 6, generator=torch.Generator().manual_seed(seed))
    assert logits(probe, anywhere).softmax(1)[:, absent].le(np.exp(-10.0)).all()


def test_a_single_class_is_named_always() -> None:
    features, _ = drawn(9, 2)
    probe = fit_probe(features, torch.ones(9, dtype=torch.int64), 3, "last", seed=0)
    assert (probe.accuracy, probe.pooling) == (1.0, "last")
    assert (logits(probe, 100 * features).argmax(1) == 1).all()


def test_a_feature_that_hardly_varies_is_not_blown_up() -> None:
    features, labels = drawn(60, 2)
    features[:, 0] = 1.0
    features[:, 1] = 1.0 + 1e-9 * torch.arange(60)
    probe = fit_probe(features, labels, 2, "mean", seed=0)
    widest = features.std(0, correction=0).max()
    assert_close(probe.spread[:2], 1e-3 * widest.expand(2), "pooled states")
    alike = fit_probe(torch.ones(8, 3), torch.arange(8) % 2, 2, "mean", seed=0)
    assert alike.weight.isfinite().all()
    assert (alike.spread > 0).all()


def test_training_a_head_leaves_the_probe_alone() -> None:
    features, labels = drawn(30, 2)
    probe = fit_probe(features, labels, 2, "mean", seed=0)
    before = probe.weight.clone()
    head = probe.head()
    with torch.no_grad():
        head.weight.add_(1.0)
        head.bias.add_(1.0)
    assert torch.equal(probe.weight, before)
    assert torch.equal(probe.head().weight, before)
    assert {name for name, _ in head.named_parameters()} == {"weight", "bias"}
