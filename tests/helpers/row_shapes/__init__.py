"""The table of the shapes that rows come in: each is read as meant, or refused with a remedy that leads to what is."""

from helpers.row_shapes import answers, datasets, labels, sources, writing
from helpers.row_shapes.shape import RowShape

SHAPES: tuple[RowShape, ...] = (
    *labels.SHAPES,
    *writing.SHAPES,
    *answers.SHAPES,
    *sources.SHAPES,
    *datasets.SHAPES,
)
