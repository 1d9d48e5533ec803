"""The budgets: larger models get smaller batches, short contexts fewer lengths."""

from promptreach.audit.settings import settings_for


def test_larger_models_get_smaller_batches_and_never_none() -> None:
    sizes = [settings_for("quick", 0, count, 512).batch_size for count in (10**6, 10**7, 10**8, 10**10)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 32
    assert sizes[-1] == 4


def test_a_short_context_drops_the_prompts_that_do_not_fit() -> None:
    assert settings_for("quick", 0, 1000, 15).tokens == (4,)
