"""The records of parts and of what was brought, as reports hold them."""

import json

from promptreach.diagnosis.circumstances import BroughtNumbers, PartsNumbers
from promptreach.diagnosis.numbers import as_values


def test_values_are_what_json_gives_back() -> None:
    parts = PartsNumbers({"no": 3, "yes": 0}, {"no": 2, "yes": 1}, 3, 1, "end", 24, 64, ("A remark.",))
    brought = BroughtNumbers(False, 1, 8, {"output 1": "no"}, 2, 0, "other", ("<q>",))
    for numbers in (parts, brought):
        values = as_values(numbers)
        assert json.loads(json.dumps(values)) == values


def test_an_adapter_of_which_nothing_is_told() -> None:
    assert as_values(BroughtNumbers(unchanged=False))["numbering"] == {}
    assert BroughtNumbers(unchanged=False).other_base == ""
