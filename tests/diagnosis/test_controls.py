"""The records of the control experiments stand in reports as JSON gives them back."""

import json

import pytest

from promptreach.diagnosis.controls import OneLayerNumbers, PlantedNumbers, SeedNumbers
from promptreach.diagnosis.numbers import as_values


@pytest.mark.parametrize(
    "numbers",
    [
        PlantedNumbers("accuracy", 16, 0.01, 200, 0.5, 0.9, 1.0, 0.8, "finished"),
        SeedNumbers((0, 1), {"lora rank 8": [0.8, 0.7]}, 0.1),
        OneLayerNumbers(1.0, 0.8, 0.8, 200, 4),
    ],
)
def test_values_are_what_json_gives_back(numbers: object) -> None:
    values = as_values(numbers)
    assert json.loads(json.dumps(values)) == values
    assert values.keys() == numbers.__dataclass_fields__.keys()  # type: ignore[attr-defined]
