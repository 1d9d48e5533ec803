"""Intervals against scikit-learn, scipy and their own coverage."""

import torch
from scipy.stats import beta
from sklearn.metrics import f1_score

from promptreach.commands.intervals import Interval, metrics_of
from promptreach.training.task.kinds.registry import KINDS
from promptreach.training.task.objective import Outcomes


def outcomes(right: list[float], answers: list[float] | None = None) -> Outcomes:
    """Rows with so many right answers, of one each unless said otherwise."""
    given = torch.tensor(answers or [1.0] * len(right))
    return Outcomes(torch.arange(1.0, len(right) + 1), given, torch.tensor(right))


def macro_f1(answers: torch.Tensor, truth: torch.Tensor, seed: int) -> Interval:
    """The macro F1 of these labels."""
    ones = torch.ones(len(truth))
    found = Outcomes(ones, ones, (answers == truth).float(), given=answers.float(), true=truth.float())
    return metrics_of(found, kind=KINDS["labels"], seed=seed)["macro F1"]


def test_numbers_have_correlations_and_an_error_in_their_unit() -> None:
    true = torch.arange(40.0)
    given = true + torch.tensor([3.0, -3.0] * 20)
    nan = torch.full((40,), torch.nan)
    found = metrics_of(Outcomes(torch.ones(40), torch.ones(40), nan, given=given, true=true), kind=KINDS["number"])
    assert list(found) == ["Pearson correlation", "Spearman correlation", "R²", "root mean square error", "loss"]
    assert found["root mean square error"] == Interval(3.0, 3.0, 3.0)
    assert found["Pearson correlation"].low < found["Pearson correlation"].value < 1


def test_macro_f1_is_scikit_learns_and_inside_its_interval() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(4, (200,), generator=generator)
    answers = torch.where(
        torch.rand(200, generator=generator) < 0.7, truth, torch.randint(5, (200,), generator=generator)
    )
    found = macro_f1(answers, truth, 0)
    assert abs(found.value - f1_score(truth, answers, average="macro")) < 1e-12
    assert found.low < found.value < found.high
    assert found == macro_f1(answers, truth, 0)
    assert found != macro_f1(answers, truth, 1)


def test_all_right_has_no_spread_of_f1_and_none_in_the_binomial_alone() -> None:
    truth = torch.tensor([0, 1] * 10)
    assert macro_f1(truth, truth, 0) == Interval(1.0, 1.0, 1.0)
    share = metrics_of(outcomes([1.0] * 20))["accuracy"]
    assert (share.value, share.high) == (1.0, 1.0)
    assert abs(share.low - beta.ppf(0.05, 20, 1)) < 1e-9


def test_rows_of_several_answers_also_have_the_share_of_whole_rows() -> None:
    found = metrics_of(outcomes([2.0, 1.0, 3.0], [2.0, 2.0, 3.0]))
    assert list(found) == ["accuracy", "every token right", "loss"]
    assert found["accuracy"].value == 6 / 7
    assert found["every token right"].value == 2 / 3
    assert found["loss"].value == 6 / 7


def test_the_interval_of_a_loss_covers_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(1)
    hits = 0
    for _ in range(400):
        loss = torch.randn(40, generator=generator) + 2
        one = metrics_of(Outcomes(loss, torch.ones(40), torch.ones(40)))["loss"]
        hits += one.low <= 2 <= one.high
    assert 340 <= hits <= 380  # 90 % of 400, give or take three standard errors


def test_text() -> None:
    assert str(Interval(0.5, 0.25, 0.75)) == "0.500 (0.250 to 0.750)"
    assert Interval(0.5, -0.25, 0.75).signed() == "+0.500 (-0.250 to +0.750)"
