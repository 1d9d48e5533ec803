"""The budgets: larger models get smaller batches, short contexts fewer lengths."""

import pytest

from promptreach.audit.settings import BUDGETS, BudgetName, settings_for
from promptreach.errors import InputError
from promptreach.training.choices import choices_of


def test_larger_models_get_smaller_batches_and_never_none() -> None:
    sizes = [settings_for("quick", 0, count, 512).batch_size for count in (10**6, 10**7, 10**8, 10**10)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 32
    assert sizes[-1] == 4


def test_a_short_context_drops_the_prompts_that_do_not_fit() -> None:
    assert settings_for("quick", 0, 1000, 15).tokens == (4,)


def test_what_is_chosen_takes_the_place_of_the_budget_and_nothing_else_does() -> None:
    chosen = choices_of(
        methods=("lora", "prompt"), tokens=(2, 8), rank=3, steps=7, batch_size=5, max_length=20, learning_rates=0.1
    )
    settings = settings_for("quick", 1, 10**6, 512, chosen)
    assert (settings.methods, settings.tokens, settings.rank, settings.steps) == (("lora", "prompt"), (2, 8), 3, 7)
    assert (settings.batch_size, settings.limits.max_length) == (5, 20)
    usual = settings_for("quick", 1, 10**6, 512)
    assert settings.limits.train == usual.limits.train
    assert usual.methods == ("prompt", "prefix", "lora")


def test_a_chosen_length_that_does_not_fit_is_refused_not_dropped() -> None:
    with pytest.raises(InputError, match="tokens: 60 virtual tokens in a context of 64; expected at most 56"):
        settings_for("quick", 0, 1000, 64, choices_of(tokens=(4, 60)))


@pytest.mark.parametrize(("budget", "most"), [("quick", 1), ("standard", 4), ("thorough", 4)])
def test_a_quick_audit_trains_no_longer_than_it_says(budget: BudgetName, most: int) -> None:
    assert BUDGETS[budget].longest_training == most
