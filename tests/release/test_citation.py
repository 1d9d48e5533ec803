"""CITATION.cff is what its format asks for, and speaks of this release and of the papers that the library rests on."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import promptreach
from promptreach.theorems import THEOREMS

ROOT = Path(__file__).parents[2]
CITATION: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
TYPES = {"article", "book", "conference-paper", "generic", "manual", "report", "software", "thesis", "unpublished"}


def people_faults(people: object, where: str) -> list[str]:
    """What is wrong with a list of persons (family and given names) and bodies (a name)."""
    if not isinstance(people, list) or not people:
        return [f"{where}: no authors"]
    keys = [set(one) for one in people]
    return [f"{where}: an author with {one}" for one in keys if one not in ({"family-names", "given-names"}, {"name"})]


def faults_of(citation: dict[str, Any]) -> list[str]:
    """What the format (cff 1.2.0), as far as it is used here, would refuse."""
    wanted = {"cff-version", "message", "title", "authors"}
    faults = [f"no {key}" for key in sorted(wanted - citation.keys())]
    if citation.get("cff-version") != "1.2.0":
        faults.append("another cff-version")
    faults += people_faults(citation.get("authors"), "authors")
    for number, reference in enumerate(citation.get("references", [])):
        where = f"reference {number}"
        faults += people_faults(reference.get("authors"), where)
        faults += [f"{where}: no {key}" for key in ("title", "year", "type") if not reference.get(key)]
        if reference.get("type") not in TYPES:
            faults.append(f"{where}: type {reference.get('type')!r}")
        if not isinstance(reference.get("year"), int):
            faults.append(f"{where}: a year that is no number")
    return faults


def arxiv_of(citation: dict[str, Any]) -> set[str]:
    return {
        item["value"].removeprefix("arXiv:")
        for reference in citation["references"]
        for item in reference.get("identifiers", [])
    }


def test_it_follows_the_format() -> None:
    assert faults_of(CITATION) == []


def test_it_is_of_this_release() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert CITATION["version"] == promptreach.__version__
    assert CITATION["title"] == project["name"]
    assert CITATION["license"] == project["license"]


def test_the_changelog_begins_with_this_release_on_its_day_behind_what_is_not_released() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    released = [heading for heading in headings if heading != "[Unreleased]"]
    assert headings.index(released[0]) <= 1
    assert released[0] == f"[{promptreach.__version__}] - {CITATION['date-released']}"


def test_the_two_papers_of_the_readme_come_first() -> None:
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    for paper in CITATION["references"][:2]:
        assert paper["title"].partition(":")[0] in readme


def test_every_paper_that_a_theorem_names_by_number_is_cited() -> None:
    numbers = {number for theorem in THEOREMS.values() for number in re.findall(r"\d{4}\.\d{5}", theorem.paper)}
    assert numbers
    # A number's paper is cited, except where only an idea behind our own proof is named.
    assert numbers - arxiv_of(CITATION) <= {"2511.17864", "2605.22223", "2601.05637"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("authors", []),
        ("authors", [{"family-names": "Wang"}]),
        ("message", None),
        ("cff-version", "1.1"),
        ("references", [{"type": "paper", "title": "T", "year": "2023", "authors": [{"name": "A"}]}]),
        ("references", [{"type": "book", "title": "", "year": 2023, "authors": [{"name": "A"}]}]),
    ],
)
def test_what_the_format_refuses_is_seen(key: str, value: object) -> None:
    spoilt = {name: item for name, item in {**CITATION, key: value}.items() if item is not None}
    assert faults_of(spoilt)
