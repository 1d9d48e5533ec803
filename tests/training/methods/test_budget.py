"""Equal parameters: what is promised is what is attached, and one more unit would be too much."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.tasks import FAMILIES, model_of
from promptreach.errors import InputError
from promptreach.training.arguments import MIN_CONTENT
from promptreach.training.methods.budget import equal_sizes, parameter_count
from promptreach.training.methods.methods import UNIPELT_SIZES
from promptreach.tuning import METHODS

GROWING = tuple(method for method, spec in METHODS.items() if spec.sizes)
FIXED = tuple(method for method in METHODS if method not in GROWING)


@settings(max_examples=12)
@given(family=st.sampled_from(FAMILIES), parameters=st.integers(1, 6000))
def test_the_largest_that_is_not_larger(family: str, parameters: int) -> None:
    model = model_of(family)
    found = equal_sizes(model, parameters)
    assert tuple(found) == tuple(METHODS)
    for method in GROWING:
        size = found[method]
        if size is None:
            assert parameter_count(model, method, **dict.fromkeys(METHODS[method].sizes, 1)) > parameters
            continue
        assert set(size.arguments) == set(METHODS[method].sizes)
        assert min(size.arguments.values()) >= 1
        assert parameter_count(model, method, **size.arguments) == size.parameters <= parameters
        if size.tokens < model.max_positions - MIN_CONTENT:
            for name, value in size.arguments.items():
                assert parameter_count(model, method, **size.arguments | {name: value + 1}) > parameters


@pytest.mark.parametrize("family", FAMILIES)
def test_what_has_no_size_is_taken_where_it_fits(family: str) -> None:
    model = model_of(family)
    whole = sum(parameter.numel() for parameter in model.release().parameters())
    assert equal_sizes(model, whole - 1, FIXED)["full"] is None
    found = equal_sizes(model, whole, FIXED)
    assert [(size.method, size.parameters, size.arguments) for size in found.values() if size] == [
        ("head", 0, {}),
        ("full", whole, {}),
    ]


def test_virtual_tokens_leave_room_for_content() -> None:
    size = equal_sizes(model_of("gpt2"), 10**9, ("prompt",))["prompt"]
    assert size is not None
    assert size.tokens == 64 - MIN_CONTENT


@pytest.mark.parametrize("name", UNIPELT_SIZES)
def test_a_named_size_is_a_size(name: str) -> None:
    assert set(UNIPELT_SIZES[name]) == set(METHODS["unipelt"].sizes)


def test_unipelt_grows_in_the_published_proportion() -> None:
    model, published = model_of("bert"), UNIPELT_SIZES["published"]
    parameters = parameter_count(model, "unipelt", **published)
    size = equal_sizes(model, parameters, ("unipelt",))["unipelt"]
    assert size is not None
    assert size.arguments == published
    assert size.parameters == parameters


def test_what_makes_no_sense_is_named() -> None:
    with pytest.raises(InputError, match="parameters: 0; expected at least 1"):
        equal_sizes(model_of("bert"), 0)
    with pytest.raises(InputError, match="method: 'adapter'"):
        equal_sizes(model_of("bert"), 5, ("adapter",))
