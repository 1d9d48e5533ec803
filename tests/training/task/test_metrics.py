"""Metrics of labels against scikit-learn's, their weightings against repeated rows, and their paired bootstrap."""

import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sklearn

from promptreach.diagnosis.measures.comparison import paired
from promptreach.training.task.metric_names import SCORE_METRICS, TEXT_METRICS, ScoreMetric, TextMetric
from promptreach.training.task.metrics import score, weighted
from promptreach.training.task.objective import Outcomes
from promptreach.training.task.text_metrics import statistics

SKLEARN: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": sklearn.accuracy_score,
    "balanced_accuracy": sklearn.balanced_accuracy_score,
    "macro_f1": lambda true, given: sklearn.f1_score(true, given, average="macro", zero_division=0),
    "f1": lambda true, given: sklearn.f1_score(true, given, zero_division=0),
    "mcc": sklearn.matthews_corrcoef,
}


def outcomes_of(true: torch.Tensor, given: torch.Tensor, scores: torch.Tensor | None = None) -> Outcomes:
    ones = torch.ones(len(true))
    return Outcomes(ones, ones, (true == given).float(), given.float(), true.float(), scores)


def drawn(seed: int, rows: int, classes: int) -> Outcomes:
    generator = torch.Generator().manual_seed(seed)
    true = torch.randint(classes, (rows,), generator=generator)
    other = torch.randint(classes, (rows,), generator=generator)
    given = torch.where(torch.rand(rows, generator=generator) < 0.6, true, other)
    # Coarse, so that several rows have the same score.
    scores = ((2 * given - 1) + torch.randn(rows, generator=generator)).mul(2).round() if classes == 2 else None
    return outcomes_of(true, given, scores)


@pytest.mark.parametrize("metric", sorted(SKLEARN))
@pytest.mark.parametrize(("rows", "classes"), [(1, 2), (7, 2), (50, 2), (40, 3), (300, 7)])
def test_metrics_are_those_of_scikit_learn(metric: ScoreMetric, rows: int, classes: int) -> None:
    if metric == "f1" and classes > 2:
        pytest.skip("of two labels")
    for seed in range(20):
        found = drawn(seed, rows, classes)
        assert found.true is not None
        assert found.given is not None
        true, given = found.true.long().numpy(), found.given.long().numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = SKLEARN[metric](true, given)
        assert math.isclose(score(metric, found), expected, rel_tol=1e-12, abs_tol=1e-12)


@pytest.mark.parametrize("rows", [3, 20, 200])
def test_average_precision_is_that_of_scikit_learn(rows: int) -> None:
    for seed in range(20):
        found = drawn(seed, rows, 2)
        assert found.true is not None
        assert found.score is not None
        for positive, scores in ((1, found.score), (0, -found.score)):
            true = (found.true.long() == positive).numpy()
            if true.any():
                expected = sklearn.average_precision_score(true, scores.numpy())
                assert math.isclose(score("average_precision", found, positive), expected, rel_tol=1e-12)


def sets(seed: int, rows: int, labels: int = 4) -> Outcomes:
    """Several labels a row, and as many given."""
    generator = torch.Generator().manual_seed(seed)
    true, given = ((torch.rand(rows, labels, generator=generator) < 0.3).float() for _ in range(2))
    ones = torch.ones(rows)
    return Outcomes(ones, ones, (true == given).all(1).float(), given, true)


def numbers(seed: int, rows: int) -> Outcomes:
    """Numbers of which some are equal, and guesses at them."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.randn(rows, generator=generator).mul(2).round()
    given = (true + torch.randn(rows, generator=generator)).mul(2).round()
    ones = torch.ones(rows)
    return Outcomes(ones, ones, ones * torch.nan, given, true)


@pytest.mark.parametrize("average", ["micro", "macro"])
@pytest.mark.parametrize("weighted_rows", [False, True])
def test_metrics_of_several_labels_are_those_of_scikit_learn(average: str, weighted_rows: bool) -> None:
    for seed in range(20):
        found = sets(seed, 30)
        weight = torch.arange(30.0) % 3 if weighted_rows else None
        expected = sklearn.f1_score(found.true, found.given, average=average, zero_division=0, sample_weight=weight)
        metric: ScoreMetric = "micro_f1" if average == "micro" else "macro_f1"
        assert math.isclose(score(metric, found.weighted(weight)), expected, rel_tol=1e-12, abs_tol=1e-12)
        share = sklearn.accuracy_score(found.true, found.given, sample_weight=weight)
        assert math.isclose(score("accuracy", found.weighted(weight)), share, rel_tol=1e-6, abs_tol=1e-6)


@pytest.mark.parametrize("rows", [3, 20, 200])
def test_metrics_of_numbers_are_those_of_scipy_and_scikit_learn(rows: int) -> None:
    for seed in range(20):
        found = numbers(seed, rows)
        assert found.true is not None
        assert found.given is not None
        true, given = found.true.double().numpy(), found.given.double().numpy()
        if len(set(true)) < 2 or len(set(given)) < 2:
            assert score("pearson", found) == score("spearman", found) == 0.0
            continue
        for metric, expected in (
            ("pearson", stats.pearsonr(true, given).statistic),
            ("spearman", stats.spearmanr(true, given).statistic),
            ("r2", sklearn.r2_score(true, given)),
        ):
            assert math.isclose(score(metric, found), expected, rel_tol=1e-12, abs_tol=1e-12)


TEXTS = [f"a cat {'sat ' * (row % 3)}on mat {row % 7}" for row in range(30)]


@pytest.mark.parametrize("metric", SCORE_METRICS)
def test_a_weight_counts_a_row_so_often(metric: ScoreMetric) -> None:
    counted = Outcomes(*(torch.ones(30),) * 3, parts=torch.tensor([[row % 2, row % 3 + 1, 2.0] for row in range(30)]))
    found = {
        "micro_f1": sets(1, 30),
        "entity_f1": counted,
        **dict.fromkeys(("pearson", "spearman", "r2"), numbers(1, 30)),
        **{name: written(name, TEXTS, TEXTS[::-1]) for name in TEXT_METRICS},
    }.get(metric, drawn(1, 30, 2))
    counts = torch.randint(4, (30,), generator=torch.Generator().manual_seed(2))
    repeated = Outcomes(**{name: tensor.repeat_interleave(counts, dim=0) for name, tensor in found.tensors.items()})
    assert math.isclose(
        float(weighted(metric, found, counts[None].double())[0]), score(metric, repeated), rel_tol=1e-12
    )


def test_the_first_label_can_be_the_positive_one() -> None:
    found = drawn(3, 40, 2)
    assert found.true is not None
    assert found.given is not None
    expected = sklearn.f1_score(found.true.long().numpy(), found.given.long().numpy(), pos_label=0)
    assert math.isclose(score("f1", found, 0), expected, rel_tol=1e-12)


def test_a_paired_interval_holds_the_gain_and_is_the_same_every_time() -> None:
    better, worse = drawn(4, 200, 2), drawn(4, 200, 2)
    assert paired(better, worse, "macro_f1").gain == 0.0
    assert better.true is not None
    worse = outcomes_of(better.true, torch.zeros(200))
    found = paired(better, worse, "macro_f1")
    assert found.low < found.gain < found.high
    assert found == paired(better, worse, "macro_f1")
    assert found.gain == score("macro_f1", better) - score("macro_f1", worse)
    every = paired(better, worse, "macro_f1", every_row=True)
    assert (every.low, every.high) == (every.gain, every.gain)


def test_paired_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    # The whole of it, over 2,000 tables a metric, is benchmarks/diagnosis/metric_intervals.py.
    population = _pair(99, 200_000)
    truth = score("f1", population[0]) - score("f1", population[1])
    held = [paired(*_pair(seed, 250), "f1") for seed in range(60)]
    assert sum(found.low <= truth <= found.high for found in held) >= 48


def _pair(seed: int, rows: int) -> tuple[Outcomes, Outcomes]:
    generator = torch.Generator().manual_seed(seed)
    true = (torch.rand(rows, generator=generator) < 0.3).long()
    wrong = [torch.rand(rows, generator=generator) < share for share in (0.15, 0.25)]
    first, second = (outcomes_of(true, true ^ flips.long()) for flips in wrong)
    return first, second


def written(metric: TextMetric, texts: list[str], wanted: list[str]) -> Outcomes:
    ones = torch.ones(len(texts))
    return Outcomes(ones, ones, ones, judged=statistics(metric, texts, wanted))


def test_exact_match_has_the_interval_of_accuracy() -> None:
    wanted = ["yes"] * 40
    first, second = ["yes"] * 30 + ["no"] * 10, ["yes"] * 24 + ["no"] * 16
    found = paired(written("exact_match", first, wanted), written("exact_match", second, wanted), "exact_match")
    right = [torch.tensor([float(text == "yes") for text in texts]) for texts in (first, second)]
    ones = torch.ones(40)
    assert found == paired(Outcomes(ones, ones, right[0]), Outcomes(ones, ones, right[1]), "accuracy")


@pytest.mark.parametrize("metric", ["token_f1", "rouge_l", "chrf"])
def test_the_gain_of_a_text_metric_is_that_of_the_scores_and_lies_in_its_interval(metric: TextMetric) -> None:
    wanted = [f"word{row} and word{row + 1}" for row in range(60)]
    first = [text if row % 3 else "nothing" for row, text in enumerate(wanted)]
    second = [text.split()[0] for text in wanted]
    one, other = written(metric, first, wanted), written(metric, second, wanted)
    found = paired(one, other, metric)
    assert found.gain == pytest.approx(score(metric, one) - score(metric, other))
    assert found.low < found.gain < found.high
    assert paired(one, other, metric, every_row=True).error == 0.0
