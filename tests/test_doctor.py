"""The examination of an installation: what is broken is named with its remedy, what is only missing breaks nothing."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from transformers import AttentionInterface

from promptreach.doctor import EXTRAS, KNOWN_BAD, OPTIONAL_PACKAGES, Examination, examine, installed_version
from promptreach.hf.running.attention_interface import NAME, is_registered

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIRED = [Requirement(line) for line in PROJECT["dependencies"]]


def versions(**changed: str | None) -> Callable[[str], str | None]:
    """Everything is there in a version far in the future, except what is `changed`."""
    return lambda name: changed.get(name.replace("-", "_"), "9999.0")


def opens() -> bool:
    return True


def extra_of(found: Examination, name: str) -> Any:
    return next(extra for extra in found.extras if extra.name == name)


def test_with_everything_there_everything_works() -> None:
    found = examine(versions(), opens)
    assert found.works
    assert found.problems == ()
    assert found.attention_registered is True
    assert {package.name for package in found.packages} == {item.name for item in REQUIRED}
    assert all(extra.works for extra in found.extras)
    assert set(found.material.values()) == {"9999.0"}


def test_here_it_works() -> None:
    found = examine()
    assert [str(problem) for problem in found.problems] == []
    assert found.attention_registered is True
    assert "cpu" in found.machine.devices
    assert (found.machine.usable_cores or 0) >= 1
    assert (found.machine.memory or 2**40) >= (found.machine.free_memory or 0) > 0


@pytest.mark.parametrize("name", [item.name for item in REQUIRED])
def test_a_missing_package_is_named_with_its_remedy(name: str) -> None:
    found = examine(versions(**{name.replace("-", "_"): None}), opens)
    assert not found.works
    (problem,) = found.problems
    assert problem.where == name
    assert "not installed" in problem.seen
    assert problem.remedy.startswith(f'pip install "{name}>=')


def test_all_that_is_broken_is_named_and_nothing_heavy_is_imported_then() -> None:
    found = examine(versions(torch=None, peft="0.1"), lambda: pytest.fail("the rooms were opened"))
    assert [problem.where for problem in found.problems] == ["peft", "torch"]
    assert found.attention_registered is None


@pytest.mark.parametrize(("version", "works", "why"), [("4.57.0", False, True), ("5.3.1", False, False)])
def test_a_version_that_is_too_old_is_refused_with_its_reason(version: str, works: bool, why: bool) -> None:
    found = examine(versions(transformers=version), opens)
    assert found.works == works
    (problem,) = found.problems
    assert problem.seen.startswith(version)
    assert problem.expected == ">=5.4"
    assert ("registered function" in problem.seen) == why


def test_the_oldest_version_that_does_is_accepted() -> None:
    assert examine(versions(transformers="5.4.0"), opens).works


def test_a_package_that_cannot_be_imported_is_a_problem() -> None:
    def breaks() -> bool:
        raise OSError("libtorch_cpu.so: undefined symbol\nand more")

    (problem,) = examine(versions(), breaks).problems
    assert "OSError: libtorch_cpu.so: undefined symbol" in problem.seen
    assert "and more" not in problem.seen


def test_attention_under_our_name_by_somebody_else_is_a_problem() -> None:
    found = examine(versions(), lambda: False)
    assert (found.works, found.attention_registered) == (False, False)
    assert "attn_implementation" in found.problems[0].where


def test_our_name_in_other_hands_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_registered()
    monkeypatch.setitem(AttentionInterface._global_mapping, NAME, print)
    assert not is_registered()


def test_a_missing_extra_breaks_nothing_and_says_how_to_get_it() -> None:
    found = examine(versions(ray=None, datasets="3.6.0", torchao=None, tensorboard=None, trackio=None), opens)
    assert found.works
    assert {extra.name: extra.works for extra in found.extras} == {name: name in ("gguf", "parquet") for name in EXTRAS}
    assert extra_of(found, "ray").command == 'pip install "ray>=2.40"'
    assert "code" in extra_of(found, "data").packages[0].why


def test_the_tables_are_those_of_the_project() -> None:
    assert set(EXTRAS) == set(PROJECT["optional-dependencies"])
    lines = (ROOT / "models.txt").read_text(encoding="utf-8").splitlines()
    assert set(OPTIONAL_PACKAGES) == {line.partition("==")[0] for line in lines if not line.startswith("#")}
    needed = {item.name: item.specifier for item in REQUIRED}
    needed |= {
        item.name: item.specifier
        for item in (Requirement(line) for lines in PROJECT["optional-dependencies"].values() for line in lines)
    }
    for bad in map(Requirement, KNOWN_BAD):
        (edge,) = bad.specifier
        assert edge.operator == "<"
        (least,) = needed[bad.name]
        assert Version(edge.version) <= Version(least.version), f"{bad} is allowed"


def test_versions_are_those_that_are_installed() -> None:
    assert installed_version("no-such-distribution") is None
    assert installed_version("pytest") == pytest.__version__
