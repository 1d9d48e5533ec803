"""Every shape of rows is read as meant, or refused with a remedy that, when followed, reads as meant."""

from collections import Counter
from pathlib import Path

import pytest

from helpers.row_shapes import SHAPES
from helpers.row_shapes.shape import RowShape
from promptreach.errors import InputError
from promptreach.tables import read_task


def check(shape: RowShape, folder: Path) -> None:
    path, options = shape.written(folder)
    if shape.refused:
        with pytest.raises(InputError) as caught:
            read_task(path, **options)
        said = str(caught.value)
        assert [part for part in shape.refused if part not in said] == [], said
        assert shape.followed is not None
        check(shape.followed, folder / "followed")
        return
    task = read_task(path, **options)
    assert (task.inputs[0], task.answers[0]) == (shape.input, shape.answer)
    assert (dict(task.columns), task.unused_columns) == (dict(shape.columns), shape.unused)
    assert Counter(task.parts) == Counter(shape.parts)
    assert shape.remark in " ".join(task.remarks)
    assert shape.remark or not task.remarks


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.title)
def test_read_as_meant_or_refused_with_a_remedy_that_leads_there(shape: RowShape, tmp_path: Path) -> None:
    check(shape, tmp_path / "rows")


def test_the_table_is_long_and_says_each_thing_once() -> None:
    titles = [shape.title for shape in SHAPES]
    assert len(titles) == len(set(titles)) >= 40
    assert all(bool(shape.refused) == (shape.followed is not None) for shape in SHAPES)


def test_a_shape_that_is_read_otherwise_is_seen(tmp_path: Path) -> None:
    plain = next(shape for shape in SHAPES if shape.title == "CSV with text and label")
    with pytest.raises(AssertionError):
        check(RowShape("", plain.files, input="fine", answer="neg", columns=plain.columns), tmp_path / "a")
    with pytest.raises(pytest.fail.Exception):
        check(RowShape("", plain.files, refused=("text",), followed=plain), tmp_path / "b")
