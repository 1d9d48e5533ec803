"""Files that installed distributions carry."""

import pytest

from promptreach.claims.packaged import file_of
from promptreach.errors import InputError


def test_a_file_is_found_where_its_distribution_put_it() -> None:
    assert file_of("pytest", "METADATA").is_file()


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match=r"package pytest: no file reviews\.csv"):
        file_of("pytest", "reviews.csv")
